//! What a caller may do: roles and bindings.
//!
//! Owns: the rules in force, compiled again when one of the four tables changes.
//! Called by: the router for each request, impersonation, the access reviews.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::auth::User;
use super::status::{GroupResource, Status};
use crate::plane::Plane;
use crate::registry::meta::{name, namespace, text};

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// For what is no resource: its path.
    pub(crate) path: &'a str,
}

#[derive(Debug)]
struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    paths: Vec<String>,
}

fn any(list: &[String], want: &str) -> bool {
    list.iter().any(|x| x == "*" || x == want)
}

impl Rule {
    fn read(v: &Value) -> Self {
        let of = |f: &str| {
            v[f].as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Self {
            verbs: of("verbs"),
            groups: of("apiGroups"),
            resources: of("resources"),
            names: of("resourceNames"),
            paths: of("nonResourceURLs"),
        }
    }

    fn allows(&self, a: &Attributes<'_>) -> bool {
        if !any(&self.verbs, a.verb) {
            return false;
        }
        if !a.path.is_empty() {
            return self.paths.iter().any(|p| {
                p == a.path || p.strip_suffix('*').is_some_and(|prefix| a.path.starts_with(prefix))
            });
        }
        let resource = self.resources.iter().any(|r| match r.split_once('/') {
            _ if r == "*" => true,
            None => a.subresource.is_empty() && r == a.resource,
            Some((main, sub)) => {
                !a.subresource.is_empty()
                    && (main == "*" || main == a.resource)
                    && sub == a.subresource
            }
        });
        resource
            && any(&self.groups, a.group)
            && (self.names.is_empty() || self.names.iter().any(|n| n == a.name))
    }

    fn to_value(&self) -> Value {
        let mut v = serde_json::json!({"verbs": self.verbs});
        for (f, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if !list.is_empty() {
                v[f] = serde_json::json!(list);
            }
        }
        v
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// Rules that count in one namespace, or everywhere.
type Scoped = (Option<String>, Arc<Vec<Rule>>);

/// Rules by subject.
#[derive(Debug, Default)]
struct Rules {
    by_subject: HashMap<Subject, Vec<Scoped>>,
}

const TABLES: [&str; 4] = [
    "rbac.authorization.k8s.io/clusterroles",
    "rbac.authorization.k8s.io/clusterrolebindings",
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/rolebindings",
];

/// The compiled rules and the state they are of.
#[derive(Default)]
pub(crate) struct Authorizer {
    compiled: RwLock<Option<([u64; 4], Arc<Rules>)>>,
}

impl Authorizer {
    fn rules(&self, plane: &Plane) -> Arc<Rules> {
        let state = TABLES.map(|t| plane.store.last_change(t) + 1);
        if let Some((at, rules)) = &*self.compiled.read()
            && *at == state
        {
            return Arc::clone(rules);
        }
        let rules = Arc::new(compile(&TABLES.map(|t| {
            plane.store.list(t, "", None).objects.iter().map(|(_, o)| o.value()).collect()
        })));
        *self.compiled.write() = Some((state, Arc::clone(&rules)));
        rules
    }
}

fn compile([cluster_roles, cluster_bindings, roles, bindings]: &[Vec<Value>; 4]) -> Rules {
    let read = |v: &Value| {
        Arc::new(v["rules"].as_array().into_iter().flatten().map(Rule::read).collect::<Vec<_>>())
    };
    let cluster: HashMap<&str, Arc<Vec<Rule>>> =
        cluster_roles.iter().map(|r| (name(r), read(r))).collect();
    let local: HashMap<(&str, &str), Arc<Vec<Rule>>> =
        roles.iter().map(|r| ((namespace(r), name(r)), read(r))).collect();
    let mut out = Rules::default();
    for b in cluster_bindings.iter().chain(bindings) {
        let ns = namespace(b);
        let role = text(b, "/roleRef/name");
        let found = if text(b, "/roleRef/kind") == "Role" {
            local.get(&(ns, role))
        } else {
            cluster.get(role)
        };
        let Some(rules) = found else { continue };
        let scope = (!ns.is_empty()).then(|| ns.to_owned());
        for s in b["subjects"].as_array().into_iter().flatten() {
            let subject_name = s["name"].as_str().unwrap_or_default();
            let subject = match s["kind"].as_str().unwrap_or_default() {
                "User" => Subject::User(subject_name.to_owned()),
                "Group" => Subject::Group(subject_name.to_owned()),
                "ServiceAccount" => {
                    let account_ns = s["namespace"].as_str().unwrap_or(ns);
                    Subject::User(format!("system:serviceaccount:{account_ns}:{subject_name}"))
                }
                _ => continue,
            };
            out.by_subject.entry(subject).or_default().push((scope.clone(), Arc::clone(rules)));
        }
    }
    out
}

impl Rules {
    fn of(&self, user: &User) -> impl Iterator<Item = &Scoped> {
        let own = self.by_subject.get(&Subject::User(user.name.clone())).into_iter().flatten();
        let groups = user
            .groups
            .iter()
            .filter_map(|g| self.by_subject.get(&Subject::Group(g.clone())))
            .flatten();
        own.chain(groups)
    }

    fn allow(&self, user: &User, a: &Attributes<'_>) -> bool {
        self.of(user).any(|(scope, rules)| {
            let fits = scope
                .as_deref()
                .is_none_or(|ns| a.path.is_empty() && !a.namespace.is_empty() && ns == a.namespace);
            fits && rules.iter().any(|r| r.allows(a))
        })
    }
}

/// Whether the caller may do it.
pub(crate) fn allowed(plane: &Plane, user: &User, a: &Attributes<'_>) -> bool {
    user.is_master() || plane.authorizer.rules(plane).allow(user, a)
}

/// All rules of a caller in a namespace, for `kubectl auth can-i --list`.
pub(crate) fn rules_of(plane: &Plane, user: &User, ns: &str) -> Vec<Value> {
    let rules = plane.authorizer.rules(plane);
    let mut out: Vec<Value> = Vec::new();
    if user.is_master() {
        out.push(serde_json::json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        out.push(serde_json::json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for (_, list) in rules.of(user).filter(|(scope, _)| scope.as_deref().is_none_or(|s| s == ns)) {
        out.extend(list.iter().map(Rule::to_value));
    }
    out
}

/// Refuses what the caller may not do.
///
/// # Errors
/// `Forbidden`, in Kubernetes' words.
pub(crate) fn require(plane: &Plane, user: &User, a: &Attributes<'_>) -> Result<(), Status> {
    if allowed(plane, user, a) {
        return Ok(());
    }
    if !a.path.is_empty() {
        return Err(Status::forbidden_path(&format!(
            "User \"{}\" cannot {} path \"{}\"",
            user.name, a.verb, a.path
        )));
    }
    let full = if a.subresource.is_empty() {
        a.resource.to_owned()
    } else {
        format!("{}/{}", a.resource, a.subresource)
    };
    let place = if a.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", a.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{full}\" in API group \"{}\" {place}",
        user.name, a.verb, a.group
    );
    Err(Status::forbidden(GroupResource { group: a.group, resource: a.resource }, a.name, &why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_allow_what_they_name_and_nothing_else() {
        let role = |n: &str, rules: Value| json!({"metadata": {"name": n}, "rules": rules});
        let pods = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}]);
        let one = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["configmaps"], "resourceNames": ["x"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/healthz/*"]}]);
        let rules = compile(&[
            vec![role("pods", pods), role("one", one)],
            vec![
                json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "one"}, "subjects": [{"kind": "Group", "name": "g"}]}),
            ],
            vec![],
            vec![
                json!({"metadata": {"name": "b", "namespace": "ns"}, "roleRef": {"kind": "ClusterRole", "name": "pods"},
                "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}),
            ],
        ]);
        let sa = User { name: "system:serviceaccount:ns:sa".into(), ..User::default() };
        let g = User { name: "u".into(), groups: vec!["g".into()], ..User::default() };
        let pod =
            Attributes { verb: "get", resource: "pods", namespace: "ns", ..Attributes::default() };
        assert!(rules.allow(&sa, &pod));
        assert!(rules.allow(&sa, &Attributes { subresource: "log", ..pod }));
        assert!(!rules.allow(&sa, &Attributes { subresource: "exec", ..pod }));
        assert!(!rules.allow(&sa, &Attributes { namespace: "other", ..pod }));
        assert!(!rules.allow(&sa, &Attributes { namespace: "", ..pod }));
        assert!(!rules.allow(&sa, &Attributes { verb: "delete", ..pod }));
        assert!(!rules.allow(&g, &pod));
        let map = Attributes {
            verb: "delete",
            resource: "configmaps",
            namespace: "any",
            name: "x",
            ..Attributes::default()
        };
        assert!(rules.allow(&g, &map));
        assert!(!rules.allow(&g, &Attributes { name: "y", ..map }));
        let path = Attributes { verb: "get", path: "/healthz/etcd", ..Attributes::default() };
        assert!(rules.allow(&g, &path));
        assert!(!rules.allow(&g, &Attributes { path: "/logs", ..path }));
    }
}
