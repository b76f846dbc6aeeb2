//! What makes sense of devices and rules. Pure.

use std::collections::BTreeMap;

use api::crd::check::{self, Complaint};
use api::crd::rules::RuleEndpointType;
use api::crd::{Device, DeviceModel, Rule, RuleEndpoint};

use super::review::Verdict;

fn verdict(wrong: Vec<Complaint>) -> Verdict {
    if wrong.is_empty() { Verdict::Allowed } else { Verdict::Refused(wrong) }
}

/// A device that is created or changed.
pub(super) fn device(new: &Device, old: Option<&Device>, model: Option<&DeviceModel>) -> Verdict {
    if old.is_some_and(|old| old.spec == new.spec) {
        return Verdict::Allowed;
    }
    verdict(check::device(new, model, old))
}

/// A model that is created or changed.
pub(super) fn model(new: &DeviceModel, old: Option<&DeviceModel>) -> Verdict {
    if old.is_some_and(|old| old.spec == new.spec) {
        return Verdict::Allowed;
    }
    verdict(check::model(new))
}

/// An end of rules.
pub(super) fn endpoint(new: &RuleEndpoint, old: Option<&RuleEndpoint>) -> Verdict {
    if let Some(old) = old {
        return unchanged(old.spec == new.spec, "a RuleEndpoint");
    }
    let mut wrong = Vec::new();
    if new.spec.rule_endpoint_type == RuleEndpointType::ServiceBus {
        let port = new.spec.properties.get("service_port").map_or("", String::as_str);
        if !port.parse::<u16>().is_ok_and(|p| p > 0) {
            let right = "a servicebus needs the port of the service, from 1 to 65535";
            wrong.push(Complaint::new("spec.properties.service_port", port, right));
        }
    }
    verdict(wrong)
}

fn unchanged(same: bool, what: &str) -> Verdict {
    if same {
        return Verdict::Allowed;
    }
    let right = format!("{what} cannot be changed; delete it and create it anew");
    Verdict::Refused(vec![Complaint::new("spec", "a change", right)])
}

/// A rule, with both its ends if they exist, and the other rules of its namespace.
pub(super) fn rule(
    new: &Rule,
    old: Option<&Rule>,
    source: Option<RuleEndpointType>,
    target: Option<RuleEndpointType>,
    others: &[Rule],
) -> Verdict {
    use RuleEndpointType::{EventBus, Rest, ServiceBus};
    if let Some(old) = old {
        return unchanged(old.spec == new.spec, "a Rule");
    }
    let spec = &new.spec;
    let mut wrong = Vec::new();
    for (field, name, end) in
        [("spec.source", &spec.source, source), ("spec.target", &spec.target, target)]
    {
        if end.is_none() {
            let right = "there is no RuleEndpoint of this name in the namespace";
            wrong.push(Complaint::new(field, name, right));
        }
    }
    let (Some(source), Some(target)) = (source, target) else { return verdict(wrong) };
    if !matches!((source, target), (Rest, EventBus | ServiceBus) | (EventBus, Rest)) {
        let right = "messages go from rest to eventbus, from rest to servicebus, or from eventbus \
                     to rest";
        let found = format!("{} to {}", name(source), name(target));
        wrong.push(Complaint::new("spec.target", found, right));
        return verdict(wrong);
    }
    let source_needs: &[&str] = if source == Rest { &["path"] } else { &["topic", "node_name"] };
    needs(&spec.source_resource, source_needs, "spec.sourceResource", source, &mut wrong);
    let target_needs: &[&str] = match target {
        Rest => &["resource"],
        EventBus => &["topic"],
        ServiceBus => &["path"],
    };
    needs(&spec.target_resource, target_needs, "spec.targetResource", target, &mut wrong);
    let pick = |rule: &Rule| -> Vec<Option<String>> {
        source_needs.iter().map(|key| rule.spec.source_resource.get(*key).cloned()).collect()
    };
    let own = pick(new);
    let same = |other: &&Rule| {
        other.metadata.name != new.metadata.name
            && own.iter().all(Option::is_some)
            && pick(other) == own
    };
    if let Some(other) = others.iter().find(same) {
        let other = other.metadata.name.as_deref().unwrap_or_default();
        let found = own.into_iter().flatten().collect::<Vec<_>>().join(" at ");
        let right = format!("rule {other:?} has it already");
        wrong.push(Complaint::new("spec.sourceResource", found, right));
    }
    verdict(wrong)
}

fn name(end: RuleEndpointType) -> &'static str {
    match end {
        RuleEndpointType::Rest => "rest",
        RuleEndpointType::EventBus => "eventbus",
        RuleEndpointType::ServiceBus => "servicebus",
    }
}

fn needs(
    has: &BTreeMap<String, String>,
    keys: &[&str],
    field: &str,
    end: RuleEndpointType,
    wrong: &mut Vec<Complaint>,
) {
    for key in keys {
        if has.get(*key).is_none_or(String::is_empty) {
            let right = format!("the end of type {} needs it", name(end));
            wrong.push(Complaint::new(format!("{field}.{key}"), "", right));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use RuleEndpointType::{EventBus, Rest, ServiceBus};

    fn said(verdict: Verdict) -> Vec<String> {
        match verdict {
            Verdict::Refused(wrong) => wrong.iter().map(ToString::to_string).collect(),
            Verdict::Allowed => Vec::new(),
            Verdict::Changed(_) => panic!(),
        }
    }

    fn a_rule(name: &str, source: Value, target: Value) -> Rule {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "source": "a", "sourceResource": source, "target": "b", "targetResource": target}}))
        .unwrap()
    }

    #[test]
    fn a_rule_says_where_from_and_where_to() {
        let good = a_rule("r", json!({"path": "/a"}), json!({"topic": "t"}));
        assert_eq!(rule(&good, None, Some(Rest), Some(EventBus), &[]), Verdict::Allowed);
        let empty = a_rule("r", json!({}), json!({}));
        assert_eq!(
            said(rule(&empty, None, Some(EventBus), Some(Rest), &[])),
            [
                "spec.sourceResource.topic: Required value: the end of type eventbus needs it",
                "spec.sourceResource.node_name: Required value: the end of type eventbus needs it",
                "spec.targetResource.resource: Required value: the end of type rest needs it",
            ]
        );
        assert_eq!(
            said(rule(&good, None, None, Some(Rest), &[])),
            ["spec.source: Invalid value: \"a\": there is no RuleEndpoint of this name in the \
              namespace"]
        );
        let wrong = said(rule(&good, None, Some(EventBus), Some(ServiceBus), &[]));
        assert!(wrong[0].contains("eventbus to servicebus"), "{wrong:?}");
    }

    #[test]
    fn two_rules_do_not_listen_at_one_place() {
        let source = json!({"topic": "t", "node_name": "n"});
        let new = a_rule("new", source.clone(), json!({"resource": "http://x"}));
        let old = a_rule("old", source, json!({"resource": "http://y"}));
        let wrong = said(rule(&new, None, Some(EventBus), Some(Rest), &[old]));
        assert_eq!(
            wrong,
            ["spec.sourceResource: Invalid value: \"t at n\": rule \"old\" has it already"]
        );
        let other = a_rule("old", json!({"topic": "t", "node_name": "m"}), json!({}));
        assert_eq!(rule(&new, None, Some(EventBus), Some(Rest), &[other]), Verdict::Allowed);
    }

    #[test]
    fn counters_of_a_rule_may_change_and_its_spec_may_not() {
        let old = a_rule("r", json!({"path": "/a"}), json!({"topic": "t"}));
        let mut new = old.clone();
        new.status =
            Some(api::crd::rules::RuleStatus { success_messages: 1, ..Default::default() });
        assert_eq!(rule(&new, Some(&old), None, None, &[]), Verdict::Allowed);
        new.spec.target = "c".to_owned();
        assert_eq!(said(rule(&new, Some(&old), None, None, &[])).len(), 1);
    }

    #[test]
    fn a_servicebus_needs_a_port() {
        let end = |port: Value| -> RuleEndpoint {
            serde_json::from_value(json!({"spec": {"ruleEndpointType": "servicebus",
                "properties": {"service_port": port}}}))
            .unwrap()
        };
        assert_eq!(endpoint(&end(json!("8080")), None), Verdict::Allowed);
        for bad in ["0", "65536", "http", ""] {
            assert_eq!(said(endpoint(&end(json!(bad)), None)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_device_whose_spec_is_as_it_was_is_never_refused() {
        let bad: Device = serde_json::from_value(json!({"spec": {"properties":
            [{"name": "a"}, {"name": "a"}]}}))
        .unwrap();
        assert_eq!(
            said(device(&bad, None, None)),
            ["spec.properties[1].name: Invalid value: \"a\": property names must be unique."]
        );
        let mut labelled = bad.clone();
        labelled.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(device(&labelled, Some(&bad), None), Verdict::Allowed);
    }
}
