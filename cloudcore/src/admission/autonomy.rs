//! Pods labelled `app-offline.kubeedge.io=autonomy` stay on a node that cannot be reached. Pure.

use serde_json::{Value, json};

use super::review::Verdict;

const LABEL: &str = "app-offline.kubeedge.io";
const TAINT: &str = "node.kubernetes.io/unreachable";

/// Takes the time limit off every toleration of the taint, or adds one without. A toleration is
/// changed in nothing else: of a pod that exists Kubernetes allows no more.
pub(super) fn tolerate(pod: &Value) -> Verdict {
    if pod["metadata"]["labels"][LABEL] != "autonomy" {
        return Verdict::Allowed;
    }
    let old = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let mut new = old.clone();
    let mut found = false;
    for toleration in new.iter_mut().filter(|t| t["key"] == TAINT) {
        let effect = toleration["effect"].as_str().unwrap_or_default();
        found |= effect.is_empty() || effect == "NoExecute";
        if let Some(toleration) = toleration.as_object_mut() {
            toleration.remove("tolerationSeconds");
        }
    }
    if !found {
        new.push(json!({ "key": TAINT, "operator": "Exists", "effect": "NoExecute" }));
    }
    if new == old {
        return Verdict::Allowed;
    }
    Verdict::Changed(json!([{ "op": "add", "path": "/spec/tolerations", "value": new }]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(tolerations: Value) -> Value {
        json!({"metadata": {"labels": {LABEL: "autonomy"}}, "spec": {"tolerations": tolerations}})
    }

    fn changed(pod: &Value) -> Value {
        match tolerate(pod) {
            Verdict::Changed(patch) => patch[0]["value"].clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_time_limit_goes_and_everything_else_stays() {
        let other = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 300});
        let limited = json!({"key": TAINT, "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300});
        let free = json!({"key": TAINT, "operator": "Exists", "effect": "NoExecute"});
        assert_eq!(changed(&pod(json!([other, limited]))), json!([other, free]));
        assert_eq!(changed(&pod(Value::Null)), json!([free]));
        let no_schedule = json!({"key": TAINT, "operator": "Exists", "effect": "NoSchedule"});
        assert_eq!(changed(&pod(json!([no_schedule]))), json!([no_schedule, free]));
    }

    #[test]
    fn a_pod_that_is_right_or_not_labelled_is_left_alone() {
        let free = json!([{"key": TAINT, "operator": "Exists", "effect": "NoExecute"}]);
        assert_eq!(tolerate(&pod(free)), Verdict::Allowed);
        assert_eq!(tolerate(&json!({"spec": {}})), Verdict::Allowed);
    }
}
