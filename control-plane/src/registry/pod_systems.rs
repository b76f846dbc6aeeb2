//! The operating system that a pod is for, and what only one of them has.
//!
//! Owns: what Kubernetes refuses in a pod for Windows or for Linux, and beside user namespaces.
//! Called by: `pods`, for pods and templates.
//!
//! <https://kubernetes.io/docs/concepts/windows/intro/#compatibility-v1-pod-spec-containers-securitycontext>
//! and <https://kubernetes.io/docs/concepts/workloads/pods/user-namespaces/>

use serde_json::{Value, json};

use super::names;
use super::pod_fields::{Errors, each, text};
use crate::http::status::FieldError;

/// All containers of a pod with where they stand.
fn containers<'a>(
    spec: &'a Value,
    at: &'a str,
) -> impl Iterator<Item = (String, &'a Value)> + use<'a> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |f| each(spec, f).map(move |(i, c)| (format!("{at}.{f}[{i}]"), c)))
}

/// Whether a field says something: an empty list says as much as none.
fn is_set(v: &Value) -> bool {
    !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty())
}

/// A pod with users of its own shares nothing else with the host.
pub(crate) fn host_users(spec: &Value, at: &str, errors: &mut Errors) {
    if spec["hostUsers"] != false {
        return;
    }
    for (field, shown) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if spec[field] == true {
            let why = "when `pod.Spec.HostUsers` is false";
            errors.push(FieldError::forbidden(format!("{at}.{shown}"), why));
        }
    }
}

/// What a pod for one system says of another.
pub(crate) fn system(spec: &Value, at: &str, errors: &mut Errors) {
    let name = &spec["os"]["name"];
    if !spec["os"].is_object() {
        return;
    }
    match name.as_str().unwrap_or_default() {
        "" => errors.push(FieldError::required(format!("{at}.os.name"), "cannot be empty")),
        "linux" => linux(spec, at, errors),
        "windows" => windows(spec, at, errors),
        _ => errors.push(FieldError::unsupported(format!("{at}.os"), name, &["linux", "windows"])),
    }
}

fn linux(spec: &Value, at: &str, errors: &mut Errors) {
    let why = "windows options cannot be set for a linux pod";
    let own = (at.to_owned(), spec);
    for (at, v) in std::iter::once(own).chain(containers(spec, at)) {
        if v["securityContext"]["windowsOptions"].is_object() {
            let at = format!("{at}.securityContext.windowsOptions");
            errors.push(FieldError::forbidden(at, why));
        }
    }
}

fn windows(spec: &Value, at: &str, errors: &mut Errors) {
    const WHY: &str = "cannot be set for a windows pod";
    let mut refuse = |v: &Value, field: &str, at: &str| {
        // Only what is switched on is told of the namespaces of the host.
        let on = if matches!(field, "hostPID" | "hostIPC") {
            v[field] == true
        } else {
            is_set(&v[field])
        };
        if on {
            errors.push(FieldError::forbidden(format!("{at}.{field}"), WHY));
        }
    };
    let own = format!("{at}.securityContext");
    for field in ["appArmorProfile", "seLinuxOptions"] {
        refuse(&spec["securityContext"], field, &own);
    }
    for field in ["hostUsers", "hostPID", "hostIPC"] {
        refuse(spec, field, at);
    }
    for field in ["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"] {
        refuse(&spec["securityContext"], field, &own);
    }
    refuse(spec, "shareProcessNamespace", at);
    for field in [
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ] {
        refuse(&spec["securityContext"], field, &own);
    }
    for (at, c) in containers(spec, at) {
        for field in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            refuse(&c["securityContext"], field, &format!("{at}.securityContext"));
        }
    }
}

/// Containers that run as processes of a Windows host: all of a pod's or none, and in its network.
pub(crate) fn host_processes(spec: &Value, at: &str, errors: &mut Errors) {
    let said = |v: &Value| v["securityContext"]["windowsOptions"]["hostProcess"].as_bool();
    let pod = said(spec);
    let (mut all, mut of_host) = (0, 0);
    for (at, c) in containers(spec, at) {
        all += 1;
        let own = said(c);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let at = format!("{at}.securityContext.windowsOptions.hostProcess");
            let why =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(FieldError::invalid(at, &json!(own), &why));
        }
        of_host += usize::from(own.or(pod) == Some(true));
    }
    if of_host == 0 {
        return;
    }
    if of_host != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(at, &json!(""), why));
    }
    if spec["hostNetwork"] != true {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(format!("{at}.hostNetwork"), &json!(false), why));
    }
}

/// Who a container on Windows runs as.
pub(crate) fn windows_options(security: &Value, at: &str, errors: &mut Errors) {
    const CREDENTIALS: usize = 64;
    let o = &security["windowsOptions"];
    let at = format!("{at}.windowsOptions");
    if let Some(name) = o["gmsaCredentialSpecName"].as_str()
        && let Err(e) = names::dns_subdomain(name)
    {
        let at = format!("{at}.gmsaCredentialSpecName");
        errors.push(FieldError::invalid(at, &json!(name), &e));
    }
    let why = match text(o, "gmsaCredentialSpec").len() {
        0 => "gmsaCredentialSpec cannot be an empty string".to_owned(),
        _ => format!("gmsaCredentialSpec size must be under {CREDENTIALS} KiB"),
    };
    if o["gmsaCredentialSpec"].as_str().is_some_and(|s| s.is_empty() || s.len() > CREDENTIALS << 10)
    {
        let at = format!("{at}.gmsaCredentialSpec");
        errors.push(FieldError::invalid(at, &o["gmsaCredentialSpec"], &why));
    }
    if let Some(name) = o["runAsUserName"].as_str() {
        for why in user_name(name) {
            let at = format!("{at}.runAsUserName");
            errors.push(FieldError::invalid(at, &json!(name), &format!("runAsUserName{why}")));
        }
    }
}

/// Why a text is no name of a user of Windows, with or without a domain.
fn user_name(name: &str) -> Vec<String> {
    const DOMAIN: usize = 256;
    const USER: usize = 104;
    const NOT_IN_USER: &str = "\"/\\:;|=,+*?<>@[]";
    if name.is_empty() {
        return vec![" cannot be an empty string".to_owned()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec![" cannot contain control characters".to_owned()];
    }
    if name.matches('\\').count() > 1 {
        return vec![" cannot contain more than one backslash".to_owned()];
    }
    let mut why = Vec::new();
    let (domain, user) = name.split_once('\\').map_or((None, name), |(d, u)| (Some(d), u));
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN {
            why.push(format!("'s Domain length must be under {DOMAIN} characters"));
        }
        let netbios = !domain.is_empty()
            && domain.len() <= 15
            && !domain.starts_with('.')
            && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|']);
        let part =
            |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !netbios && !domain.split('.').all(part) {
            why.push("'s Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    match user.len() {
        0 => why.push("'s User cannot be empty".to_owned()),
        n if n > USER => {
            why.push(format!("'s User length must not be longer than {USER} characters"));
        }
        _ => {}
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        why.push("'s User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c| NOT_IN_USER.contains(c)) {
        why.push(format!("'s User cannot contain the following characters: {NOT_IN_USER}"));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::pod_placement::tests::told;

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn a_pod_with_users_of_its_own_shares_nothing_with_the_host() {
        let spec =
            json!({"hostUsers": false, "hostNetwork": true, "hostPID": true, "hostIPC": true});
        let why = "Forbidden: when `pod.Spec.HostUsers` is false";
        assert_eq!(
            told(host_users, spec),
            ["hostNetwork", "HostPID", "HostIPC"].map(|f| format!("spec.{f}: {why}"))
        );
        assert_eq!(
            told(host_users, json!({"hostUsers": true, "hostPID": true})),
            Vec::<String>::new()
        );
    }

    // The same.
    #[test]
    fn a_pod_for_one_system_says_nothing_of_another() {
        let context = json!({"windowsOptions": {}});
        let spec = json!({"os": {"name": "linux"}, "securityContext": context,
            "containers": [{"name": "c", "securityContext": context}]});
        let why = "Forbidden: windows options cannot be set for a linux pod";
        assert_eq!(
            told(system, spec),
            ["spec.securityContext", "spec.containers[0].securityContext"]
                .map(|at| format!("{at}.windowsOptions: {why}"))
        );
        let spec = json!({"os": {"name": "windows"}, "hostPID": true, "hostIPC": false, "hostUsers": true,
            "securityContext": {"runAsUser": 1, "seLinuxOptions": {}, "sysctls": []},
            "containers": [{"name": "c", "securityContext": {"privileged": false, "capabilities": {}}}]});
        let why = "Forbidden: cannot be set for a windows pod";
        assert_eq!(
            told(system, spec),
            [
                "spec.securityContext.seLinuxOptions",
                "spec.hostUsers",
                "spec.hostPID",
                "spec.securityContext.runAsUser",
                "spec.containers[0].securityContext.capabilities",
                "spec.containers[0].securityContext.privileged",
            ]
            .map(|at| format!("{at}: {why}"))
        );
    }

    // The same.
    #[test]
    fn processes_of_a_windows_host_are_all_of_a_pods_containers_and_in_its_network() {
        let c = |on: Value| json!({"name": "c", "securityContext": {"windowsOptions": {"hostProcess": on}}});
        assert_eq!(
            told(host_processes, json!({"containers": [c(json!(true)), {"name": "d"}]})),
            [
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be HostProcess containers",
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"
            ]
        );
        let mut spec = json!({"hostNetwork": true, "containers": [c(Value::Null)],
            "securityContext": {"windowsOptions": {"hostProcess": true}}});
        assert_eq!(told(host_processes, spec.clone()), Vec::<String>::new());
        spec["containers"] = json!([c(json!(false))]);
        assert_eq!(
            told(host_processes, spec)[0],
            "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value must be identical if both are specified, was true"
        );
    }

    // The same, and "Configure RunAsUserName":
    // https://kubernetes.io/docs/tasks/configure-pod-container/configure-runasusername/#windows-username-limitations
    #[test]
    fn a_user_of_windows_has_a_name_that_can_be() {
        let name = |s: &str| told(windows_options, json!({"windowsOptions": {"runAsUserName": s}}));
        for good in ["ContainerUser", "NT AUTHORITY\\NETWORK SERVICE", "corp.example.com\\a.b"] {
            assert_eq!(name(good), Vec::<String>::new(), "{good}");
        }
        for (bad, why) in [
            ("", " cannot be an empty string"),
            ("a\\b\\c", " cannot contain more than one backslash"),
            ("a\tb", " cannot contain control characters"),
            ("a\\", "'s User cannot be empty"),
            ("..", "'s User cannot contain only periods or spaces"),
            ("a.\\b:", "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"),
            (".a\\b", "'s Domain doesn't match the NetBios nor the DNS format"),
        ] {
            let shown = json!(bad);
            assert_eq!(
                name(bad),
                [format!(
                    "spec.windowsOptions.runAsUserName: Invalid value: {shown}: runAsUserName{why}"
                )]
            );
        }
        let options =
            json!({"windowsOptions": {"gmsaCredentialSpec": "", "gmsaCredentialSpecName": "A_"}});
        assert_eq!(told(windows_options, options).len(), 2);
    }
}
