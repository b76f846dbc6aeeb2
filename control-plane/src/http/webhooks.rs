//! Admission webhooks: who is asked about a write, and what they say.
//!
//! Owns: the hooks in force, compiled again when a configuration changes; the calls.
//! Called by: create, update and delete. Never: asks about webhook configurations themselves.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::auth::User;
use super::status::Status;
use super::steps::Steps;
use crate::plane::Plane;
use crate::registry::meta::text;
use crate::registry::rules::Condition;
use crate::registry::selectors::LabelSelector;
use crate::registry::{Part, Resource};
use crate::store::Key;

const GROUP: &str = "admissionregistration.k8s.io";
const TABLES: [&str; 2] = [
    "admissionregistration.k8s.io/mutatingwebhookconfigurations",
    "admissionregistration.k8s.io/validatingwebhookconfigurations",
];
/// An answer is not larger.
const ANSWER_LIMIT: usize = 4 << 20;

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A write, as hooks are asked about it.
#[derive(Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) user: &'a User,
    pub(crate) resource: &'a Resource,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) operation: Operation,
    pub(crate) part: Part,
    pub(crate) dry_run: bool,
    pub(crate) old: Option<&'a Value>,
}

struct Hook {
    name: String,
    rules: Vec<Value>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    ignore_failure: bool,
    again: bool,
    patience: Duration,
    client: Value,
    /// `(name, condition)`; one that does not parse comes with the reason.
    conditions: Vec<(String, Result<Condition, String>)>,
}

#[derive(Default)]
struct Compiled {
    mutating: Vec<Hook>,
    validating: Vec<Hook>,
}

/// The hooks in force, and the state of the tables that they are of.
#[derive(Default)]
pub(crate) struct Webhooks {
    compiled: RwLock<Option<([u64; 2], Arc<Compiled>)>>,
}

impl Webhooks {
    fn current(&self, plane: &Plane) -> Arc<Compiled> {
        let state = TABLES.map(|t| plane.store.last_change(t) + 1);
        if let Some((at, compiled)) = &*self.compiled.read()
            && *at == state
        {
            return Arc::clone(compiled);
        }
        let [mutating, validating] = TABLES.map(|t| {
            let all = plane.store.list(t, "", None).objects;
            all.iter().flat_map(|(_, o)| hooks(&o.value())).collect::<Vec<_>>()
        });
        let compiled = Arc::new(Compiled { mutating, validating });
        *self.compiled.write() = Some((state, Arc::clone(&compiled)));
        compiled
    }
}

fn hooks(configuration: &Value) -> Vec<Hook> {
    let read = |v: &Value| Hook {
        name: text(v, "/name").to_owned(),
        rules: v["rules"].as_array().cloned().unwrap_or_default(),
        namespaces: LabelSelector::from_value(&v["namespaceSelector"]).unwrap_or_default(),
        objects: LabelSelector::from_value(&v["objectSelector"]).unwrap_or_default(),
        ignore_failure: v["failurePolicy"] == "Ignore",
        again: v["reinvocationPolicy"] == "IfNeeded",
        patience: Duration::from_secs(v["timeoutSeconds"].as_u64().unwrap_or(10)),
        client: v["clientConfig"].clone(),
        conditions: v["matchConditions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| (text(c, "/name").to_owned(), Condition::read(text(c, "/expression"))))
            .collect(),
    };
    configuration["webhooks"].as_array().into_iter().flatten().map(read).collect()
}

/// Whether a rule is about the write. Pure.
fn rule_fits(rule: &Value, write: &Write<'_>) -> bool {
    let has = |field: &str, want: &str| {
        let list = rule[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).any(|v| v == "*" || v == want)
    };
    let r = write.resource;
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => r.namespaced,
        Some("Cluster") => !r.namespaced,
        _ => true,
    };
    let sub = write.part.subresource();
    let mut resources =
        rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let resource = resources.any(|v| match v.split_once('/') {
        None => sub.is_empty() && (v == "*" || v == r.plural),
        Some((main, s)) => (main == "*" || main == r.plural) && (s == "*" || s == sub),
    });
    scope
        && resource
        && has("operations", write.operation.name())
        && has("apiGroups", &r.group)
        && has("apiVersions", &r.version)
}

fn fits(plane: &Plane, hook: &Hook, write: &Write<'_>, object: Option<&Value>) -> bool {
    if !hook.rules.iter().any(|r| rule_fits(r, write)) {
        return false;
    }
    let selected = |v: Option<&Value>| v.is_some_and(|v| hook.objects.matches_object(v));
    if !hook.objects.is_empty() && !selected(object) && !selected(write.old) {
        return false;
    }
    if hook.namespaces.is_empty() {
        return true;
    }
    if write.resource.table.as_ref() == "core/namespaces" {
        return selected_namespace(hook, object.or(write.old));
    }
    if write.namespace.is_empty() {
        return true;
    }
    let key = Key::new(&"core/namespaces".into(), "", write.namespace);
    let namespace = plane.store.get(&key).map(|n| n.value());
    selected_namespace(hook, namespace.as_ref())
}

fn selected_namespace(hook: &Hook, namespace: Option<&Value>) -> bool {
    namespace.is_some_and(|n| hook.namespaces.matches_object(n))
}

/// Whether all conditions of a hook hold for a write that it is about.
///
/// # Errors
/// When one cannot be evaluated, none is false, and the hook must not fail.
fn conditions_hold(hook: &Hook, write: &Write<'_>, object: Option<&Value>) -> Result<bool, Status> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let (object, old) = (object.unwrap_or(&Value::Null), write.old.unwrap_or(&Value::Null));
    let request = &review("", write, None)["request"];
    let variables = [("object", object), ("oldObject", old), ("request", request)];
    let mut problem = None;
    for (name, condition) in &hook.conditions {
        let holds = condition.as_ref().map_err(Clone::clone).and_then(|c| c.holds(&variables));
        match holds {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(e) => problem = Some(format!("match condition \"{name}\" of {}: {e}", hook.name)),
        }
    }
    match problem {
        None => Ok(true),
        Some(why) if hook.ignore_failure => {
            tracing::warn!(webhook = hook.name, "a condition failed and is ignored: {why}");
            Ok(false)
        }
        Some(why) => Err(Status::forbidden(write.resource.group_resource(), write.name, &why)),
    }
}

/// Whether anybody might be asked about writes of the resource at all.
fn exempt(plane: &Plane, resource: &Resource) -> bool {
    resource.group == GROUP || !plane.started.load(std::sync::atomic::Ordering::Relaxed)
}

/// Lets hooks change a new state. Returns whether one did.
///
/// # Errors
/// When a hook denies, or fails and must not.
pub(crate) async fn mutate(
    plane: &Plane,
    write: &Write<'_>,
    object: &mut Value,
) -> Result<bool, Status> {
    if exempt(plane, write.resource) {
        return Ok(false);
    }
    let compiled = plane.webhooks.current(plane);
    if compiled.mutating.is_empty() {
        return Ok(false);
    }
    let before = object.clone();
    let mut asked: Vec<(&Hook, Value)> = Vec::new();
    for hook in &compiled.mutating {
        if fits(plane, hook, write, Some(object)) && conditions_hold(hook, write, Some(object))? {
            change(plane, hook, write, object).await?;
            if hook.again {
                asked.push((hook, object.clone()));
            }
        }
    }
    // Once more for those that asked for it and whose result somebody changed after them.
    for (hook, left) in asked {
        if left != *object && fits(plane, hook, write, Some(object)) {
            change(plane, hook, write, object).await?;
        }
    }
    Ok(before != *object)
}

async fn change(
    plane: &Plane,
    hook: &Hook,
    write: &Write<'_>,
    object: &mut Value,
) -> Result<(), Status> {
    let Some(answer) = ask(plane, hook, write, Some(object)).await? else { return Ok(()) };
    let Some(patch) = answer["patch"].as_str().filter(|p| !p.is_empty()) else { return Ok(()) };
    if object.is_null() {
        return Err(Status::internal(&format!(
            "admission webhook \"{}\" attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    match patched(&answer, patch, object) {
        Ok(new) => *object = new,
        Err(_) if hook.ignore_failure => {}
        Err(why) => return Err(Status::internal(&format!("webhook \"{}\": {why}", hook.name))),
    }
    Ok(())
}

/// The object as a hook's patch leaves it.
///
/// # Errors
/// When the patch cannot be read or does not fit.
pub(crate) fn patched(answer: &Value, patch: &str, object: &Value) -> Result<Value, String> {
    if answer["patchType"] != "JSONPatch" {
        return Err(format!("webhook returned unsupported patchType {}", answer["patchType"]));
    }
    let raw = STANDARD.decode(patch).map_err(|e| e.to_string())?;
    let steps = Steps::read(serde_json::from_slice(&raw).map_err(|e| e.to_string())?)?;
    let mut new = object.clone();
    steps.take(&mut new)?;
    Ok(new)
}

/// Asks the validating hooks, all at once.
///
/// # Errors
/// When a hook denies, or fails and must not.
pub(crate) async fn validate(
    plane: &Plane,
    write: &Write<'_>,
    object: Option<&Value>,
) -> Result<(), Status> {
    if exempt(plane, write.resource) {
        return Ok(());
    }
    let compiled = plane.webhooks.current(plane);
    let mut asked = Vec::new();
    for hook in compiled.validating.iter().filter(|h| fits(plane, h, write, object)) {
        if conditions_hold(hook, write, object)? {
            asked.push(hook);
        }
    }
    let answers = asked.into_iter().map(|hook| ask(plane, hook, write, object));
    for answer in futures::future::join_all(answers).await {
        answer?;
    }
    Ok(())
}

/// Asks one hook. Its answer, if it allows; none if it failed and may.
async fn ask(
    plane: &Plane,
    hook: &Hook,
    write: &Write<'_>,
    object: Option<&Value>,
) -> Result<Option<Value>, Status> {
    let uid = uuid::Uuid::new_v4().to_string();
    let request = review(&uid, write, object);
    let called = tokio::time::timeout(hook.patience, call(plane, &hook.client, &request)).await;
    let result = match called {
        Ok(Ok(answer)) if answer["response"]["uid"] == uid.as_str() => {
            Ok(answer["response"].clone())
        }
        Ok(Ok(_)) => Err("webhook response uid does not match the request's".to_owned()),
        Ok(Err(why)) => Err(why),
        Err(_) => Err("context deadline exceeded".to_owned()),
    };
    match result {
        Ok(response) if response["allowed"] == true => Ok(Some(response)),
        Ok(response) => Err(denied(&hook.name, &response["status"])),
        Err(why) if hook.ignore_failure => {
            tracing::warn!(webhook = hook.name, "a webhook failed and is ignored: {why}");
            Ok(None)
        }
        Err(why) => Err(Status::internal(&format!(
            "failed calling webhook \"{}\": failed to call webhook: {why}",
            hook.name
        ))),
    }
}

fn review(uid: &str, write: &Write<'_>, object: Option<&Value>) -> Value {
    let r = write.resource;
    let kind = json!({"group": r.group, "version": r.version, "kind": r.kind});
    let resource = json!({"group": r.group, "version": r.version, "resource": r.plural});
    let options = match write.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
    };
    let mut request = json!({
        "uid": uid, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "operation": write.operation.name(), "userInfo": write.user.to_value(), "dryRun": write.dry_run,
        "object": object, "oldObject": write.old,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    for (field, value) in [
        ("name", write.name),
        ("namespace", write.namespace),
        ("subResource", write.part.subresource()),
        ("requestSubResource", write.part.subresource()),
    ] {
        if !value.is_empty() {
            request[field] = value.into();
        }
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// What a denial tells the client.
pub(crate) fn denied(hook: &str, status: &Value) -> Status {
    let by = format!("admission webhook \"{hook}\" denied the request");
    let (message, reason) = (text(status, "/message"), text(status, "/reason"));
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", r) => format!("{by}: {r}"),
        (m, _) => format!("{by}: {m}"),
    };
    let code = status["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(400);
    let mut s = Status::bad_request(message);
    s.code = if (400..600).contains(&code) { code } else { 400 };
    const REASONS: [&str; 6] =
        ["BadRequest", "Forbidden", "Invalid", "Conflict", "NotFound", "Unauthorized"];
    s.reason = REASONS.into_iter().find(|r| *r == reason).unwrap_or_default();
    s
}

/// Where a hook is reached: address, the name in its certificate, path.
fn place(plane: &Plane, client: &Value) -> Result<(String, String, String), String> {
    if let Some(url) = client["url"].as_str() {
        let uri: http::Uri = url.parse().map_err(|e| format!("{e}"))?;
        let host = uri.host().ok_or("the URL has no host")?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let address =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        return Ok((address, host, path));
    }
    let s = &client["service"];
    let (namespace, name) = (text(s, "/namespace"), text(s, "/name"));
    let port = s["port"].as_u64().unwrap_or(443);
    let path = match s["path"].as_str() {
        Some(p) if p.starts_with('/') => p.to_owned(),
        Some(p) => format!("/{p}"),
        None => "/".to_owned(),
    };
    let address = endpoint(plane, namespace, name, port)?;
    Ok((address, format!("{name}.{namespace}.svc"), path))
}

/// A ready address of a service. There is no service network on this machine to go through.
fn endpoint(plane: &Plane, namespace: &str, name: &str, port: u64) -> Result<String, String> {
    let service = plane
        .store
        .get(&Key::new(&"core/services".into(), namespace, name))
        .ok_or_else(|| format!("service \"{name}\" not found"))?
        .value();
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let wanted = ports.iter().find(|p| p["port"] == port);
    let wanted = wanted.ok_or_else(|| format!("service \"{name}\" has no port {port}"))?;
    let name_of = |p: &Value| p["name"].as_str().unwrap_or_default().to_owned();
    let slices =
        plane.store.list("discovery.k8s.io/endpointslices", &format!("{namespace}/"), None);
    for (_, slice) in &slices.objects {
        let slice = slice.value();
        if text(&slice, "/metadata/labels/kubernetes.io~1service-name") != name {
            continue;
        }
        let mut open = slice["ports"].as_array().into_iter().flatten();
        let Some(port) =
            open.find(|p| name_of(p) == name_of(wanted)).and_then(|p| p["port"].as_u64())
        else {
            continue;
        };
        let mut ready = slice["endpoints"].as_array().into_iter().flatten();
        let found = ready.find(|e| e["conditions"]["ready"] != false);
        if let Some(address) = found.and_then(|e| e["addresses"][0].as_str()) {
            return Ok(std::net::SocketAddr::new(
                address.parse().map_err(|_| format!("`{address}` is no address"))?,
                u16::try_from(port).map_err(|_| "no such port")?,
            )
            .to_string());
        }
    }
    Err(format!("no endpoints available for service \"{name}\""))
}

async fn call(plane: &Plane, client: &Value, review: &Value) -> Result<Value, String> {
    let (address, name, path) = place(plane, client)?;
    let said = |e: &dyn std::fmt::Display| format!("Post \"https://{name}{path}\": {e}");
    let tls = tls(plane, client["caBundle"].as_str())?;
    let tcp = TcpStream::connect(&address).await.map_err(|e| said(&e))?;
    let server = ServerName::try_from(name.clone()).map_err(|e| said(&e))?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(server, tcp).await;
    let stream = stream.map_err(|e| said(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| said(&e))?;
    let request = http::Request::post(&path)
        .header(http::header::HOST, &name)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(review.to_string())))
        .map_err(|e| said(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| said(&e))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the server answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        let body = body.map_err(|e| said(&e))?.to_bytes();
        serde_json::from_slice(&body).map_err(|e| format!("the answer is no AdmissionReview: {e}"))
    };
    // The connection lives as long as the exchange and goes with it.
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Err(e) => Err(said(&e)),
            Ok(()) => exchange.await,
        },
    }
}

/// Trusts the hook's own bundle, or the cluster's CA where it has none.
fn tls(plane: &Plane, bundle: Option<&str>) -> Result<Arc<rustls::ClientConfig>, String> {
    let pem = match bundle.filter(|b| !b.is_empty()) {
        Some(b) => STANDARD.decode(b).map_err(|e| format!("caBundle: {e}"))?,
        None => plane.ca_pem.clone().into_bytes(),
    };
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&pem) {
        let cert = cert.map_err(|e| format!("caBundle: {e}"))?;
        roots.add(cert).map_err(|e| format!("caBundle: {e}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn rule(operations: &[&str], groups: &[&str], resources: &[&str], scope: &str) -> Value {
        json!({"operations": operations, "apiGroups": groups, "apiVersions": ["*"], "resources": resources, "scope": scope})
    }

    // The table of "Matching requests: rules" in the page named above.
    #[test]
    fn rules_fit_as_documented() {
        let pods = Registry::new().builtin("", "pods");
        let user = User::internal("x");
        let write = |part| Write {
            user: &user,
            resource: &pods,
            namespace: "n",
            name: "p",
            operation: Operation::Create,
            part,
            dry_run: false,
            old: None,
        };
        let main = write(Part::Main);
        assert!(rule_fits(&rule(&["CREATE"], &[""], &["pods"], "*"), &main));
        assert!(rule_fits(&rule(&["*"], &["*"], &["*"], "Namespaced"), &main));
        assert!(rule_fits(&rule(&["*"], &["*"], &["*/*"], "*"), &write(Part::Status)));
        assert!(rule_fits(&rule(&["*"], &["*"], &["pods/*"], "*"), &write(Part::Status)));
        assert!(!rule_fits(&rule(&["*"], &["*"], &["*"], "*"), &write(Part::Status)));
        assert!(!rule_fits(&rule(&["*"], &["*"], &["*"], "Cluster"), &main));
        assert!(!rule_fits(&rule(&["UPDATE"], &[""], &["pods"], "*"), &main));
        assert!(!rule_fits(&rule(&["CREATE"], &["apps"], &["pods"], "*"), &main));
        assert!(!rule_fits(&rule(&["CREATE"], &[""], &["services"], "*"), &main));
    }

    #[test]
    fn a_denial_says_who_denied_and_is_never_a_success() {
        let d = denied("a.b.c", &json!({"message": "no", "code": 403, "reason": "Forbidden"}));
        assert_eq!((d.code, d.reason), (403, "Forbidden"));
        assert_eq!(d.message, "admission webhook \"a.b.c\" denied the request: no");
        let d = denied("a.b.c", &json!({"code": 200}));
        assert_eq!(d.code, 400);
        assert_eq!(d.message, "admission webhook \"a.b.c\" denied the request without explanation");
    }

    #[test]
    fn a_patch_of_another_kind_or_that_does_not_fit_is_an_error() {
        let object = json!({"a": 1});
        let b64 = |s: &str| STANDARD.encode(s);
        let kind = json!({"patchType": "JSONPatch"});
        let good = b64(r#"[{"op":"add","path":"/b","value":2}]"#);
        assert_eq!(patched(&kind, &good, &object), Ok(json!({"a": 1, "b": 2})));
        assert!(patched(&json!({}), &good, &object).is_err());
        for bad in ["!", &b64("{"), &b64(r#"[{"op":"remove","path":"/x"}]"#)] {
            assert!(patched(&kind, bad, &object).is_err());
        }
    }
}
