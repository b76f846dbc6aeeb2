//! What may be a name, a label or an annotation, in Kubernetes' words.
//!
//! Owns: the formats and their error texts. Called by: validation, selectors.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NO_NAME: &str = "name part must be non-empty";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn label_form(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty()
        && lower(b[0])
        && lower(b[b.len() - 1])
        && b.iter().all(|c| lower(*c) || *c == b'-')
}

fn qualified_form(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty()
        && b[0].is_ascii_alphanumeric()
        && b[b.len() - 1].is_ascii_alphanumeric()
        && b.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

fn at_most(s: &str, max: usize) -> Result<(), String> {
    if s.len() > max { Err(format!("must be no more than {max} characters")) } else { Ok(()) }
}

/// A DNS-1123 label.
pub(crate) fn dns_label(s: &str) -> Result<(), String> {
    at_most(s, 63)?;
    if label_form(s) {
        Ok(())
    } else if dns_subdomain(s).is_ok() {
        Err("must not contain dots".to_owned())
    } else {
        Err(LABEL.to_owned())
    }
}

/// A DNS-1123 subdomain, the form of most names.
pub(crate) fn dns_subdomain(s: &str) -> Result<(), String> {
    at_most(s, 253)?;
    if !s.is_empty() && s.split('.').all(label_form) { Ok(()) } else { Err(SUBDOMAIN.to_owned()) }
}

/// A domain to search in: a subdomain whose parts may have underscores, too.
pub(crate) fn dns_search(s: &str) -> Result<(), String> {
    at_most(s, 253)?;
    let part = |p: &str| {
        let b = p.strip_prefix('_').unwrap_or(p).as_bytes();
        !b.is_empty()
            && lower(b[0])
            && lower(b[b.len() - 1])
            && b.iter().all(|c| lower(*c) || b"-_".contains(c))
    };
    if s.split('.').all(part) {
        Ok(())
    } else {
        Err(SUBDOMAIN.replacen("characters, '-'", "characters, '_', '-'", 1))
    }
}

/// A DNS-1035 label, the form of service names.
pub(crate) fn dns_1035_label(s: &str) -> Result<(), String> {
    at_most(s, 63)?;
    if label_form(s) && s.as_bytes()[0].is_ascii_lowercase() {
        Ok(())
    } else {
        Err(LABEL_1035.to_owned())
    }
}

/// Anything that can stand in a path: the names of RBAC objects.
pub(crate) fn path_segment(s: &str) -> Result<(), String> {
    match s {
        "." | ".." => Err(format!("may not be '{s}'")),
        s if s.contains('/') => Err("may not contain '/'".to_owned()),
        s if s.contains('%') => Err("may not contain '%'".to_owned()),
        _ => Ok(()),
    }
}

/// A label's or annotation's key: an optional prefix and a name.
pub(crate) fn label_key(s: &str) -> Result<(), String> {
    if s.matches('/').count() > 1 {
        let form = QUALIFIED.trim_start_matches("name part ");
        return Err(format!(
            "a qualified name {form} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ));
    }
    let name = match s.split_once('/') {
        None => s,
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Err("prefix part must be non-empty".into());
            }
            dns_subdomain(prefix).map_err(|e| format!("prefix part {e}"))?;
            name
        }
    };
    if name.is_empty() {
        return Err(NO_NAME.into());
    }
    if name.len() > 63 {
        return Err("name part must be no more than 63 characters".into());
    }
    if qualified_form(name) { Ok(()) } else { Err(QUALIFIED.to_owned()) }
}

/// All that is wrong with a label's or annotation's key: to a key without a name, two things are said.
pub(crate) fn label_key_faults(s: &str) -> Vec<String> {
    let first = label_key(s).err();
    let more = first.as_deref() == Some(NO_NAME);
    first.into_iter().chain(more.then(|| QUALIFIED.to_owned())).collect()
}

/// A label's value.
pub(crate) fn label_value(s: &str) -> Result<(), String> {
    at_most(s, 63)?;
    if s.is_empty() || qualified_form(s) { Ok(()) } else { Err(VALUE.to_owned()) }
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(s: &str) -> Result<(), String> {
    at_most(s, 253)?;
    if s == "." || s == ".." {
        return Err(format!("must not be '{s}'"));
    }
    if s.starts_with("..") {
        return Err("must not start with '..'".into());
    }
    let good = !s.is_empty() && s.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    if good { Ok(()) } else { Err(CONFIG_KEY.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_documented_forms() {
        assert!(dns_subdomain("a.b-c").is_ok());
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a"] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
        assert!(dns_label("a.b").is_err());
        assert!(dns_1035_label("1a").is_err());
        assert!(label_key("example.com/Name_1").is_ok());
        for bad in ["", "/a", "a/", "a/b/c", "Upper.com/a", "a b"] {
            assert!(label_key(bad).is_err(), "{bad}");
        }
        assert_eq!(label_key_faults(""), [NO_NAME, QUALIFIED]);
        assert_eq!(label_key_faults("a b"), [QUALIFIED]);
        assert!(label_key_faults("a").is_empty());
        assert!(label_value("").is_ok());
        assert!(label_value("-a").is_err());
        assert!(config_key("a.b_C").is_ok());
        assert!(config_key("a/b").is_err());
    }
}
