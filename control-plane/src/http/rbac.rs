//! What a caller may do: roles and bindings.
//!
//! Owns: the rules in force, compiled again when one of the four tables changes.
//! Called by: the router for each request, impersonation, the access reviews, the escalation check.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::auth::User;
use super::nodes;
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
    /// The node that a field selector asks for: `spec.nodeName=..`.
    pub(crate) node: &'a str,
}

/// What a role allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) paths: Vec<String>,
}

/// Whether something is allowed, and why (not), as far as there is something to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

fn any(list: &[String], want: &str) -> bool {
    list.iter().any(|x| x == "*" || x == want)
}

impl Rule {
    pub(crate) fn read(v: &Value) -> Self {
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

/// What a binding gives to a subject.
#[derive(Debug, Clone)]
struct Grant {
    /// In one namespace, or everywhere.
    scope: Option<String>,
    rules: Arc<Vec<Rule>>,
    /// Who gives it, or that the role is missing.
    why: String,
    missing: bool,
}

impl Grant {
    fn counts_in(&self, namespace: &str) -> bool {
        self.scope.as_deref().is_none_or(|s| s == namespace)
    }
}

/// Rules by subject.
#[derive(Debug, Default)]
struct Rules {
    by_subject: HashMap<Subject, Vec<Grant>>,
}

const TABLES: [&str; 4] = [
    "rbac.authorization.k8s.io/clusterroles",
    "rbac.authorization.k8s.io/clusterrolebindings",
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/rolebindings",
];

/// The compiled rules and the state they are of, and what nodes may read.
#[derive(Default)]
pub(crate) struct Authorizer {
    compiled: RwLock<Option<([u64; 4], Arc<Rules>)>>,
    graph: nodes::Graph,
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
        let (kind, role) = (text(b, "/roleRef/kind"), text(b, "/roleRef/name"));
        let found =
            if kind == "Role" { local.get(&(ns, role)) } else { cluster.get(role) }.map(Arc::clone);
        let missing = found.is_none();
        let by = if ns.is_empty() {
            format!("ClusterRoleBinding \"{}\"", name(b))
        } else {
            format!("RoleBinding \"{}/{ns}\"", name(b))
        };
        let rules = found.unwrap_or_default();
        let scope = (!ns.is_empty()).then(|| ns.to_owned());
        for s in b["subjects"].as_array().into_iter().flatten() {
            let subject_name = s["name"].as_str().unwrap_or_default();
            let mut shown = format!("{} \"{subject_name}\"", text(s, "/kind"));
            let subject = match text(s, "/kind") {
                "User" => Subject::User(subject_name.to_owned()),
                "Group" => Subject::Group(subject_name.to_owned()),
                "ServiceAccount" => {
                    let account_ns = s["namespace"].as_str().unwrap_or(ns);
                    shown = format!("ServiceAccount \"{subject_name}/{account_ns}\"");
                    Subject::User(format!("system:serviceaccount:{account_ns}:{subject_name}"))
                }
                _ => continue,
            };
            let why = if missing {
                format!("{}.rbac.authorization.k8s.io \"{role}\" not found", kind.to_lowercase())
            } else {
                format!("{by} of {kind} \"{role}\" to {shown}")
            };
            let grant = Grant { scope: scope.clone(), rules: Arc::clone(&rules), why, missing };
            out.by_subject.entry(subject).or_default().push(grant);
        }
    }
    out
}

impl Rules {
    fn of(&self, user: &User) -> impl Iterator<Item = &Grant> {
        let own = self.by_subject.get(&Subject::User(user.name.clone())).into_iter().flatten();
        let groups = user
            .groups
            .iter()
            .filter_map(|g| self.by_subject.get(&Subject::Group(g.clone())))
            .flatten();
        own.chain(groups)
    }

    fn decide(&self, user: &User, a: &Attributes<'_>) -> Verdict {
        let mut missing: Vec<&str> = Vec::new();
        let fits = |g: &Grant| match &g.scope {
            None => true,
            Some(ns) => a.path.is_empty() && !a.namespace.is_empty() && ns == a.namespace,
        };
        for grant in self.of(user).filter(|g| fits(g)) {
            if grant.rules.iter().any(|r| r.allows(a)) {
                return Verdict {
                    allowed: true,
                    reason: format!("RBAC: allowed by {}", grant.why),
                };
            }
            if grant.missing && !missing.contains(&grant.why.as_str()) {
                missing.push(&grant.why);
            }
        }
        let reason = match missing[..] {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            _ => format!("RBAC: [{}]", missing.join(", ")),
        };
        Verdict { allowed: false, reason }
    }
}

/// Whether the caller may do it, and why.
pub(crate) fn decide(plane: &Plane, user: &User, a: &Attributes<'_>) -> Verdict {
    if user.is_master() {
        return Verdict { allowed: true, reason: String::new() };
    }
    let node = nodes::decide(plane, &plane.authorizer.graph, user, a);
    if node.allowed {
        return node;
    }
    let mut verdict = plane.authorizer.rules(plane).decide(user, a);
    if !verdict.allowed && !node.reason.is_empty() {
        let reasons = [node.reason, verdict.reason];
        verdict.reason =
            reasons.into_iter().filter(|r| !r.is_empty()).collect::<Vec<_>>().join("\n");
    }
    verdict
}

/// The rules that a caller has in a namespace, or everywhere.
pub(crate) fn held(plane: &Plane, user: &User, ns: &str) -> Vec<Rule> {
    let rules = plane.authorizer.rules(plane);
    rules.of(user).filter(|g| g.counts_in(ns)).flat_map(|g| g.rules.iter().cloned()).collect()
}

/// Whether the caller may do it.
pub(crate) fn allowed(plane: &Plane, user: &User, a: &Attributes<'_>) -> bool {
    decide(plane, user, a).allowed
}

/// All rules of a caller in a namespace, for `kubectl auth can-i --list`.
pub(crate) fn rules_of(plane: &Plane, user: &User, ns: &str) -> Vec<Value> {
    let rules = plane.authorizer.rules(plane);
    let mut out: Vec<Value> = Vec::new();
    if user.is_master() {
        out.push(serde_json::json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        out.push(serde_json::json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for grant in rules.of(user).filter(|g| g.counts_in(ns)) {
        out.extend(grant.rules.iter().map(Rule::to_value));
    }
    out
}

/// Refuses what the caller may not do.
///
/// # Errors
/// `Forbidden`, in Kubernetes' words.
pub(crate) fn require(plane: &Plane, user: &User, a: &Attributes<'_>) -> Result<(), Status> {
    let verdict = decide(plane, user, a);
    if verdict.allowed {
        return Ok(());
    }
    let because =
        if verdict.reason.is_empty() { String::new() } else { format!(": {}", verdict.reason) };
    if !a.path.is_empty() {
        return Err(Status::forbidden_path(&format!(
            "User \"{}\" cannot {} path \"{}\"{because}",
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
        "User \"{}\" cannot {} resource \"{full}\" in API group \"{}\" {place}{because}",
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
        assert!(rules.decide(&sa, &pod).allowed);
        assert!(rules.decide(&sa, &Attributes { subresource: "log", ..pod }).allowed);
        assert!(!rules.decide(&sa, &Attributes { subresource: "exec", ..pod }).allowed);
        assert!(!rules.decide(&sa, &Attributes { namespace: "other", ..pod }).allowed);
        assert!(!rules.decide(&sa, &Attributes { namespace: "", ..pod }).allowed);
        assert!(!rules.decide(&sa, &Attributes { verb: "delete", ..pod }).allowed);
        assert!(!rules.decide(&g, &pod).allowed);
        let map = Attributes {
            verb: "delete",
            resource: "configmaps",
            namespace: "any",
            name: "x",
            ..Attributes::default()
        };
        assert!(rules.decide(&g, &map).allowed);
        assert!(!rules.decide(&g, &Attributes { name: "y", ..map }).allowed);
        let path = Attributes { verb: "get", path: "/healthz/etcd", ..Attributes::default() };
        assert!(rules.decide(&g, &path).allowed);
        assert!(!rules.decide(&g, &Attributes { path: "/logs", ..path }).allowed);
    }
}
