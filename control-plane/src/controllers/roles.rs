//! Cluster roles that are made of others.
//!
//! Owns: the rules of cluster roles with an `aggregationRule`. Called by: `controllers::spawn`, and
//! once at the start.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Follower;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::selectors::LabelSelector;
use crate::registry::{Part, meta};

const TABLE: &str = "rbac.authorization.k8s.io/clusterroles";
/// How often all roles are looked at, for writes that failed.
const REPAIR: Duration = Duration::from_secs(60);

/// The rules that an aggregated role should have; none if it is not one.
pub(super) fn aggregated(role: &Value, all: &[Value]) -> Option<Vec<Value>> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let mut out: Vec<Value> = Vec::new();
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_value(selector) else { continue };
        // `all` is in the order of names.
        for other in all.iter().filter(|o| meta::name(o) != meta::name(role)) {
            if !selector.matches_object(other) {
                continue;
            }
            for rule in other["rules"].as_array().into_iter().flatten() {
                if !out.contains(rule) {
                    out.push(rule.clone());
                }
            }
        }
    }
    Some(out)
}

/// Follows cluster roles.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut follower = Follower::new(&plane, TABLE);
    loop {
        tokio::select! {
            _ = follower.next() => {}
            () = tokio::time::sleep(REPAIR) => {}
        }
        if let Err(e) = settle(&plane).await {
            tracing::warn!("cannot aggregate cluster roles: {}", e.message);
        }
    }
}

/// Brings every aggregated role where it should be. One that selects another aggregated role is
/// right once that one's change has been seen.
async fn settle(plane: &Plane) -> Result<(), Status> {
    let all: Vec<Value> =
        plane.store.list(TABLE, "", None).objects.iter().map(|(_, o)| o.value()).collect();
    let resource = plane.registry.builtin("rbac.authorization.k8s.io", "clusterroles");
    let user = User::internal("clusterrole-aggregation-controller");
    let options = WriteOptions {
        manager: "clusterrole-aggregation-controller".into(),
        ..WriteOptions::default()
    };
    for role in &all {
        let Some(rules) = aggregated(role, &all) else { continue };
        if role["rules"].as_array() == Some(&rules) || (rules.is_empty() && role["rules"].is_null())
        {
            continue;
        }
        let change = |old: &Value| {
            let mut new = old.clone();
            new["rules"] = json!(rules);
            Ok(new)
        };
        match modify(plane, &user, &resource, ("", meta::name(role)), Part::Main, &options, change)
            .await
        {
            Err(e) if e.code != 404 => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregated_role_has_the_rules_of_all_that_it_selects_each_once() {
        let role = |name: &str, to: &str, rules: Value| json!({"metadata": {"name": name, "labels": {"to": to}}, "rules": rules});
        let sum = json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "x"}}]}});
        let all = [
            role("a", "x", json!([1, 2])),
            role("b", "y", json!([9])),
            role("c", "x", json!([2, 3])),
            sum.clone(),
        ];
        assert_eq!(aggregated(&sum, &all).unwrap(), [json!(1), json!(2), json!(3)]);
        assert_eq!(aggregated(&all[0], &all), None);
    }
}
