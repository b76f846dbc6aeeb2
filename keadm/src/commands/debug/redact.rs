//! What leaves this machine in a bug report, and what does not. Pure.
//!
//! Owns: the list of what is secret.
//! Called by: `debug get`, `debug collect`.
//! Never: lets a private key, a token or a secret's value through.

use serde_json::Value;

/// In place of what was taken out.
pub(super) const GONE: &str = "<redacted>";

/// Names of fields whose value is taken out, in lower case. Parts of a name count.
const SECRET: [&str; 9] = [
    "token",
    "password",
    "passwd",
    "secret",
    "privatekey",
    "private_key",
    "keydata",
    "credential",
    "auth",
];
/// Names that contain one of these and are harmless.
const HARMLESS: [&str; 6] = [
    "tlsprivatekeyfile",
    "secretname",
    "secretref",
    "tokenrefreshduration",
    "automountserviceaccounttoken",
    "requireauthorization",
];

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|part| name.contains(part)) && !HARMLESS.iter().any(|h| name.contains(h))
}

/// An object without its secrets: the values of a Secret, and of fields with telling names.
pub(super) fn object(kind: &str, value: &mut Value) {
    if kind.eq_ignore_ascii_case("secret") {
        for part in ["data", "stringData"] {
            for value in value[part].as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
                *value = GONE.into();
            }
        }
        // kubectl keeps a copy of what was applied there.
        if let Some(annotations) = value["metadata"]["annotations"].as_object_mut() {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    fields(value);
}

fn fields(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // `env: [{name: DB_PASSWORD, value: x}]`
            let named = map.get("name").and_then(Value::as_str).is_some_and(is_secret);
            for (name, value) in map.iter_mut() {
                let hides = (is_secret(name) && (value.is_string() || value.is_number()))
                    || (named && name == "value");
                if hides { *value = GONE.into() } else { fields(value) }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(fields),
        _ => {}
    }
}

/// Text (a log, a configuration file) without what looks like a secret.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut key = false;
    for line in text.lines() {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            key = true;
            out.push_str(GONE);
            out.push('\n');
        }
        if !key {
            out.push_str(&words(line));
            out.push('\n');
        }
        if line.contains("-----END") {
            key = false;
        }
    }
    out
}

/// A line: `token: abc` loses its value, and so do words that are tokens by their form.
fn words(line: &str) -> String {
    if let Some((name, value)) = line.split_once([':', '='])
        && is_secret(
            name.trim_end()
                .rsplit([' ', '"', '\'', '-', '.'])
                .find(|w| !w.is_empty())
                .unwrap_or(""),
        )
        && !value.trim().is_empty()
        && !value.trim_start().starts_with(['/', '[', '{'])
    {
        let at = line.len() - value.len();
        return format!("{} {GONE}", &line[..at]);
    }
    let mut out = String::new();
    for (n, word) in line.split(' ').enumerate() {
        if n > 0 {
            out.push(' ');
        }
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        out.push_str(if is_token(bare) { GONE } else { word });
    }
    out
}

/// A JSON Web Token, also with a hash in front, as a join's token is.
fn is_token(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let base64 = |part: &&str| {
        part.len() >= 10
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'='))
    };
    parts.len() >= 3 && parts.iter().any(|part| part.starts_with("eyJ")) && parts.iter().all(base64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secrets_values_and_passwords_in_the_environment_are_taken_out() {
        let mut secret = json!({"metadata": {"name": "s"}, "data": {"a": "aGk=", "b": "eA=="}});
        object("secret", &mut secret);
        assert_eq!(secret["data"], json!({"a": GONE, "b": GONE}));
        let mut pod = json!({"spec": {"containers": [{"env": [
            {"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "LEVEL", "value": "info"}]}],
            "volumes": [{"secret": {"secretName": "s"}}]}});
        object("pod", &mut pod);
        let text = pod.to_string();
        assert!(!text.contains("hunter2") && text.contains("info"), "{text}");
        assert_eq!(pod["spec"]["volumes"][0]["secret"]["secretName"], "s");
    }

    #[test]
    fn configuration_and_logs_lose_tokens_and_keys_and_keep_the_rest() {
        let token = "77c3a1b2c3d4.eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3OTU0MDc1NzR9.c2lnbmF0dXJl";
        let given = format!(
            "modules:\n  edgeHub:\n    token: \"{token}\"\n    tlsPrivateKeyFile: /etc/kubeedge/certs/server.key\n\
             INFO joined with {token}, all is well\nmqtt password=hunter2\n\
             -----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----\nport: 10000\n"
        );
        let shown = text(&given);
        assert!(
            !shown.contains("eyJ") && !shown.contains("hunter2") && !shown.contains("MHcCAQ"),
            "{shown}"
        );
        for kept in ["/etc/kubeedge/certs/server.key", "all is well", "port: 10000", "modules:"] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }
}
