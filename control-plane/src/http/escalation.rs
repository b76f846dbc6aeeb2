//! Nobody grants what they do not hold.
//!
//! Owns: the check of new and changed roles and bindings against the caller's own rules.
//! Called by: admission, for the four kinds of RBAC. Never: decides a request by itself.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use std::collections::BTreeSet;

use serde_json::Value;

use super::auth::User;
use super::get;
use super::rbac::{self, Attributes, Rule};
use super::status::Status;
use crate::plane::Plane;
use crate::registry::Resource;
use crate::registry::meta::{self, text};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a role or binding that is to be stored. Other kinds pass.
///
/// # Errors
/// `Forbidden` when it grants more than the caller holds; `NotFound` when the role is missing.
pub(crate) fn check(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    namespace: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if resource.group != GROUP || user.is_master() {
        return Ok(());
    }
    if old.is_some_and(|old| same_but_for_bookkeeping(new, old)) {
        return Ok(());
    }
    let forbidden = |why: &str| Status::forbidden(resource.group_resource(), meta::name(new), why);
    let rules = if resource.plural.ends_with("bindings") {
        let (kind, role) = (text(new, "/roleRef/kind"), text(new, "/roleRef/name"));
        let plural = if kind == "Role" { "roles" } else { "clusterroles" };
        if may(plane, user, "bind", plural, namespace, role) {
            return Ok(());
        }
        let roles = plane.registry.builtin(GROUP, plural);
        let at = if kind == "Role" { namespace } else { "" };
        get::find(plane, &roles, at, role)?.value()["rules"].clone()
    } else {
        if may(plane, user, "escalate", &resource.plural, namespace, meta::name(new)) {
            return Ok(());
        }
        let aggregates = |v: &Value| v.get("aggregationRule").is_some_and(|a| !a.is_null());
        if (aggregates(new) || old.is_some_and(aggregates))
            && !missing(&rbac::held(plane, user, namespace), &everything()).is_empty()
        {
            return Err(forbidden("must have cluster-admin privileges to use an aggregationRule"));
        }
        new["rules"].clone()
    };
    let rules: Vec<Rule> = rules.as_array().into_iter().flatten().map(Rule::read).collect();
    let lacking = missing(&rbac::held(plane, user, namespace), &rules);
    if lacking.is_empty() {
        return Ok(());
    }
    let lines: BTreeSet<String> = compact(lacking).iter().map(shown).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    Err(forbidden(&format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    )))
}

fn may(plane: &Plane, user: &User, verb: &str, plural: &str, namespace: &str, name: &str) -> bool {
    let a = Attributes {
        verb,
        group: GROUP,
        resource: plural,
        namespace,
        name,
        ..Attributes::default()
    };
    rbac::allowed(plane, user, &a)
}

/// Whether a change leaves alone what a role or binding says; the garbage collector's must pass.
fn same_but_for_bookkeeping(new: &Value, old: &Value) -> bool {
    let stripped = |v: &Value| {
        let mut v = v.clone();
        for f in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"]
        {
            meta::metadata(&mut v).remove(f);
        }
        v
    };
    stripped(new) == stripped(old)
}

/// What a cluster administrator holds.
fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), groups: all(), resources: all(), names: vec![], paths: vec![] },
        Rule { verbs: all(), groups: vec![], resources: vec![], names: vec![], paths: all() },
    ]
}

/// The smallest parts of rules: one verb on one resource, or on one path.
fn parts(rule: &Rule) -> Vec<Rule> {
    let mut out = Vec::new();
    let empty =
        || Rule { verbs: vec![], groups: vec![], resources: vec![], names: vec![], paths: vec![] };
    for verb in &rule.verbs {
        for group in &rule.groups {
            for resource in &rule.resources {
                let one = Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..empty()
                };
                if rule.names.is_empty() {
                    out.push(one);
                } else {
                    let named = |n: &String| Rule { names: vec![n.clone()], ..one.clone() };
                    out.extend(rule.names.iter().map(named));
                }
            }
        }
        let path =
            |p: &String| Rule { verbs: vec![verb.clone()], paths: vec![p.clone()], ..empty() };
        out.extend(rule.paths.iter().map(path));
    }
    out
}

fn has(list: &[String], want: &str) -> bool {
    list.iter().any(|x| x == "*" || x == want)
}

/// Whether a held rule covers one part.
fn covers(held: &Rule, part: &Rule) -> bool {
    let all = |list: &[String], wanted: &[String]| wanted.iter().all(|w| has(list, w));
    let resource = |want: &String| {
        has(&held.resources, want)
            || want.split_once('/').is_some_and(|(_, sub)| {
                held.resources.iter().any(|r| r.strip_prefix("*/") == Some(sub))
            })
    };
    let path = |want: &String| {
        held.paths.iter().any(|p| {
            p == want || p.strip_suffix('*').is_some_and(|prefix| want.starts_with(prefix))
        })
    };
    // No names are all names.
    let names = held.names.is_empty()
        || (!part.names.is_empty() && part.names.iter().all(|n| held.names.contains(n)));
    all(&held.verbs, &part.verbs)
        && all(&held.groups, &part.groups)
        && part.resources.iter().all(resource)
        && part.paths.iter().all(path)
        && names
}

/// The parts of `wanted` that nothing in `held` covers.
pub(crate) fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut out = Vec::new();
    for part in wanted.iter().flat_map(parts) {
        if !held.iter().any(|h| covers(h, &part)) {
            out.push(part);
        }
    }
    out
}

/// Puts the verbs of the same resource together, for people.
fn compact(parts: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for p in parts {
        let same = |o: &&mut Rule| {
            p.paths.is_empty()
                && o.groups == p.groups
                && o.resources == p.resources
                && o.names == p.names
                && o.paths.is_empty()
        };
        match out.iter_mut().find(same) {
            Some(o) => o.verbs.extend(p.verbs),
            None => out.push(p),
        }
    }
    out
}

fn quoted(list: &[String]) -> String {
    let all: Vec<String> = list.iter().map(|x| format!("{x:?}")).collect();
    format!("[{}]", all.join(" "))
}

fn shown(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.paths),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let said: Vec<String> = fields
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
    format!("{{{}}}", said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(v: Value) -> Rule {
        Rule::read(&v)
    }

    #[test]
    fn what_is_held_covers_parts_of_itself_and_nothing_more() {
        let held = [
            rule(
                json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/log"]}),
            ),
            rule(
                json!({"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "resourceNames": ["x"]}),
            ),
            rule(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics/*"]})),
        ];
        let ok = |v: Value| missing(&held, &[rule(v)]).is_empty();
        assert!(ok(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})));
        assert!(ok(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]})
        ));
        assert!(ok(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["nodes/log"]})));
        assert!(!ok(json!({"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"]})));
        assert!(!ok(json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]})));
        assert!(!ok(json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]})));
        assert!(ok(
            json!({"verbs": ["delete"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["x"]})
        ));
        assert!(!ok(
            json!({"verbs": ["delete"], "apiGroups": ["apps"], "resources": ["deployments"]})
        ));
        assert!(ok(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics/a"]})));
        assert!(!ok(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]})));
        assert!(missing(&everything(), &held).is_empty());
    }

    #[test]
    fn what_is_lacking_is_named_as_kubernetes_names_it() {
        let wanted =
            [rule(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["secrets"]}))];
        let lines: Vec<String> = compact(missing(&[], &wanted)).iter().map(shown).collect();
        assert_eq!(
            lines,
            ["{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"]
        );
    }
}
