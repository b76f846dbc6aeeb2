//! The environment of a container: literals, objects, fields, `$(VAR)`. Pure, apart from reading
//! the objects.
//!
//! Owns: the order in which variables are set and what they may refer to.
//! Called by: `make.rs`. Never: logs a value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

use super::cluster::Cluster;
use super::podspec;
use super::resources::{self, Machine};

/// Why a container's configuration cannot be made; kubelet's `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

impl ConfigError {
    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Self(format!("{kind} \"{name}\" not found"))
    }
}

/// What a `fieldRef` may need beyond the pod itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// The pod's addresses.
    pub(crate) pod_ips: Vec<String>,
    /// The node's addresses.
    pub(crate) host_ips: Vec<String>,
}

/// Reads what `env` and `envFrom` of a container refer to and puts it together.
pub(crate) async fn environment(
    cluster: &dyn Cluster,
    pod: &Pod,
    c: &Container,
    facts: &Facts,
    machine: &Machine,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut env = Environment::default();
    let mut objects =
        Objects { cluster, namespace: podspec::namespace(pod), read: BTreeMap::new() };
    for source in c.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let found = if let Some(r) = &source.config_map_ref {
            objects.get(ObjectKind::ConfigMap, &r.name, r.optional == Some(true)).await?
        } else if let Some(r) = &source.secret_ref {
            objects.get(ObjectKind::Secret, &r.name, r.optional == Some(true)).await?
        } else {
            None
        };
        for (key, value) in found.into_iter().flatten() {
            let name = format!("{prefix}{key}");
            if is_env_name(&name) {
                env.set(name, text(value));
            }
        }
    }
    for var in c.env.iter().flatten() {
        if let Some(value) = value_of(var, &mut objects, &env, pod, c, facts, machine).await? {
            env.set(var.name.clone(), value);
        }
    }
    Ok(env.list)
}

async fn value_of(
    var: &EnvVar,
    objects: &mut Objects<'_>,
    env: &Environment,
    pod: &Pod,
    c: &Container,
    facts: &Facts,
    machine: &Machine,
) -> Result<Option<String>, ConfigError> {
    let Some(source) = &var.value_from else {
        return Ok(Some(expand(var.value.as_deref().unwrap_or_default(), &env.by_name)));
    };
    let EnvVarSource { config_map_key_ref, secret_key_ref, field_ref, resource_field_ref, .. } =
        source;
    if let Some(r) = config_map_key_ref {
        let optional = r.optional == Some(true);
        return objects.key(ObjectKind::ConfigMap, &r.name, &r.key, optional).await;
    }
    if let Some(r) = secret_key_ref {
        let optional = r.optional == Some(true);
        return objects.key(ObjectKind::Secret, &r.name, &r.key, optional).await;
    }
    if let Some(r) = field_ref {
        return field(pod, &r.field_path, facts).map(Some);
    }
    if let Some(r) = resource_field_ref {
        let c = match r.container_name.as_deref() {
            Some(name) if !name.is_empty() => podspec::container(pod, name)
                .map(|(c, _)| c)
                .ok_or_else(|| ConfigError(format!("container {name} not found")))?,
            _ => Cow::Borrowed(c),
        };
        let divisor = r.divisor.as_ref();
        return resource(&c, &r.resource, divisor, machine).map(Some);
    }
    Err(ConfigError(format!("env `{}` has a source that this edge does not know", var.name)))
}

#[derive(Default)]
struct Environment {
    list: Vec<(String, String)>,
    by_name: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        if self.by_name.insert(name.clone(), value.clone()).is_some() {
            self.list.retain(|(n, _)| *n != name);
        }
        self.list.push((name, value));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ObjectKind {
    ConfigMap,
    Secret,
}

impl ObjectKind {
    fn lower(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    fn upper(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

type Data = BTreeMap<String, Vec<u8>>;

/// Each object is read once for a container.
struct Objects<'a> {
    cluster: &'a dyn Cluster,
    namespace: &'a str,
    read: BTreeMap<(ObjectKind, String), Option<Data>>,
}

impl Objects<'_> {
    async fn get(
        &mut self,
        kind: ObjectKind,
        name: &str,
        optional: bool,
    ) -> Result<Option<Data>, ConfigError> {
        let key = (kind, name.to_owned());
        if !self.read.contains_key(&key) {
            let found = match kind {
                ObjectKind::ConfigMap => self
                    .cluster
                    .config_map(self.namespace, name)
                    .await
                    .map(|found| found.map(super::volumes::config_map_data)),
                ObjectKind::Secret => self
                    .cluster
                    .secret(self.namespace, name)
                    .await
                    .map(|found| found.map(super::volumes::secret_data)),
            };
            let found = match found {
                Ok(found) => found,
                Err(_) if optional => None,
                Err(e) => return Err(ConfigError(e.0)),
            };
            self.read.insert(key.clone(), found);
        }
        match self.read.get(&key).cloned().flatten() {
            None if !optional => Err(ConfigError::not_found(kind.lower(), name)),
            found => Ok(found),
        }
    }

    async fn key(
        &mut self,
        kind: ObjectKind,
        name: &str,
        key: &str,
        optional: bool,
    ) -> Result<Option<String>, ConfigError> {
        let data = self.get(kind, name, optional).await?;
        match data.and_then(|mut d| d.remove(key)) {
            Some(value) => Ok(Some(text(value))),
            None if optional => Ok(None),
            None => Err(ConfigError(format!(
                "couldn't find key {key} in {} {}/{name}",
                kind.upper(),
                self.namespace
            ))),
        }
    }
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8(value).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// What the API server accepts as the name of a variable: printable ASCII without `=`.
fn is_env_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && b != b'=')
}

/// Replaces `$(NAME)` by the value of a variable set before, leaves unknown names as they are,
/// and turns `$$` into `$`.
pub(crate) fn expand(text: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match vars.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The value of a `fieldRef`.
pub(crate) fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, ConfigError> {
    let meta = &pod.metadata;
    let text = |s: Option<&str>| s.unwrap_or_default().to_owned();
    let subscript = |map: Option<&BTreeMap<String, String>>, key: &str| {
        let key = key.trim_start_matches(['\'', '"']).trim_end_matches(['\'', '"']);
        text(map.and_then(|m| m.get(key)).map(String::as_str))
    };
    if let Some((map, key)) = path.strip_suffix(']').and_then(|p| p.split_once('[')) {
        match map {
            "metadata.labels" => return Ok(subscript(meta.labels.as_ref(), key)),
            "metadata.annotations" => return Ok(subscript(meta.annotations.as_ref(), key)),
            _ => {}
        }
    }
    let spec = podspec::spec(pod);
    Ok(match path {
        "metadata.name" => text(meta.name.as_deref()),
        "metadata.namespace" => podspec::namespace(pod).to_owned(),
        "metadata.uid" => text(meta.uid.as_deref()),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => text(spec.node_name.as_deref()),
        "spec.serviceAccountName" => text(spec.service_account_name.as_deref()),
        "status.hostIP" => text(facts.host_ips.first().map(String::as_str)),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => text(facts.pod_ips.first().map(String::as_str)),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(ConfigError(format!("unsupported fieldPath: {path}"))),
    })
}

/// Labels and annotations as a file shows them: `key="value"`, a line each.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(k, v)| format!("{k}={}", quote(v))).collect();
    lines.join("\n")
}

/// A string as Go's `%q` writes it.
fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef`.
pub(crate) fn resource(
    c: &Container,
    what: &str,
    divisor: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    machine: &Machine,
) -> Result<String, ConfigError> {
    let unsupported = || ConfigError(format!("unsupported container resource : {what}"));
    let (of, name) = what.split_once('.').ok_or_else(unsupported)?;
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let value = match of {
        "limits" => resources::limit(c, name).or(match name {
            // Without a limit it is what the machine has.
            "memory" => Some(i128::from(machine.memory) * 1000),
            "cpu" => std::thread::available_parallelism().ok().map(|n| n.get() as i128 * 1000),
            _ => None,
        }),
        "requests" => resources::request(c, name),
        _ => return Err(unsupported()),
    };
    let divisor = divisor.and_then(resources::milli).filter(|d| *d > 0).unwrap_or(1000);
    let value = value.unwrap_or(0);
    Ok((value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)).to_string())
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
