//! Expected answers are those of kubernetes.io/docs/concepts/workloads/controllers/job.

use std::collections::BTreeSet;

use super::super::pods::Controller;
use super::*;

fn cx() -> Context {
    Context { now: "2026-01-01T01:00:00Z".parse().unwrap(), failed: None }
}

fn job(spec: Value) -> Value {
    let mut j = json!({"metadata": {"name": "pi", "namespace": "d", "uid": "j", "resourceVersion": "5"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
            "selector": {"matchLabels": {"job": "j"}},
            "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}},
        "status": {"startTime": "2026-01-01T00:59:00Z"}});
    json_patch::merge(&mut j["spec"], &spec);
    j
}

fn pod(name: &str, phase: Phase) -> Pod {
    Pod {
        namespace: "d".into(),
        name: name.into(),
        uid: name.into(),
        labels: [("job".to_owned(), "j".to_owned())].into(),
        controller: Some(Controller { kind: "Job".into(), name: "pi".into(), uid: "j".into() }),
        finalizers: vec![TRACKING.into()],
        phase,
        created: Some("2026-01-01T00:59:00Z".parse().unwrap()),
        ..Pod::default()
    }
}

fn plan(job: &Value, pods: Vec<Pod>) -> Plan {
    let (mut world, mut touched) = (World::default(), BTreeSet::new());
    world.put(Kind::Job, job.clone(), &mut touched);
    pods.into_iter().for_each(|p| world.put_pod(p, &mut touched));
    reconcile(&world, "d/pi", &cx())
}

fn made(plan: &Plan) -> Vec<&Value> {
    let mut out = Vec::new();
    for action in &plan.actions {
        if let Action::Create(_, object, _) = action {
            out.push(object);
        }
    }
    out
}

fn status(plan: &Plan) -> Value {
    let one = |a: &Action| match a {
        Action::Status(_, _, s) => Some(s.clone()),
        _ => None,
    };
    plan.actions.iter().find_map(one).expect("a status")
}

fn released(plan: &Plan) -> Vec<&str> {
    plan.actions
        .iter()
        .filter_map(|a| match a {
            Action::Patch(t, _, p) if p["metadata"]["finalizers"].is_null() => {
                Some(t.name.as_str())
            }
            _ => None,
        })
        .collect()
}

fn condition(status: &Value, kind: &str) -> Option<String> {
    let list = status["conditions"].as_array()?;
    let c = list.iter().find(|c| c["type"] == kind && c["status"] == "True")?;
    c["reason"].as_str().map(str::to_owned)
}

#[test]
fn a_job_starts_as_many_pods_as_it_may_and_tracks_them() {
    let p = plan(&job(json!({"parallelism": 3, "completions": 2})), vec![]);
    assert_eq!(made(&p).len(), 2);
    assert_eq!(made(&p)[0]["metadata"]["finalizers"], json!([TRACKING]));
}

#[test]
fn a_success_is_first_written_down_then_released_then_counted() {
    let mut j = job(json!({}));
    let p = plan(&j, vec![pod("a", Phase::Succeeded)]);
    let s = status(&p);
    assert_eq!(s["uncountedTerminatedPods"], json!({"succeeded": ["a"]}));
    assert_eq!(condition(&s, "SuccessCriteriaMet").as_deref(), Some("CompletionsReached"));
    assert_eq!((condition(&s, "Complete"), released(&p)), (None, vec![]));
    j["status"] = s;
    assert_eq!(released(&plan(&j, vec![pod("a", Phase::Succeeded)])), ["a"]);
    let mut free = pod("a", Phase::Succeeded);
    free.finalizers.clear();
    let s = status(&plan(&j, vec![free]));
    assert_eq!(s["succeeded"], 1);
    assert_eq!(s["uncountedTerminatedPods"], json!({}));
    assert_eq!(condition(&s, "Complete").as_deref(), Some("CompletionsReached"));
    assert_eq!(s["completionTime"], "2026-01-01T01:00:00Z");
    // It may also be gone.
    assert_eq!(status(&plan(&j, vec![]))["succeeded"], 1);
}

#[test]
fn after_a_failure_the_next_pod_waits_ten_seconds_and_twice_as_long_after_the_second() {
    let failed = |name: &str, at: &str| {
        let mut p = pod(name, Phase::Failed);
        p.finished = Some(at.parse().unwrap());
        p
    };
    let one = vec![failed("a", "2026-01-01T00:59:55Z")];
    let p = plan(&job(json!({})), one.clone());
    assert_eq!(p.again, Some("2026-01-01T01:00:05Z".parse().unwrap()));
    assert_eq!(made(&p).len(), 0);
    let mut two = one;
    two.push(failed("b", "2026-01-01T00:59:45Z"));
    assert_eq!(plan(&job(json!({})), two).again, Some("2026-01-01T01:00:15Z".parse().unwrap()));
}

#[test]
fn a_job_fails_when_its_pods_failed_too_often_and_stops_the_others() {
    let mut j = job(json!({"backoffLimit": 0, "parallelism": 2, "completions": 2}));
    let p = plan(&j, vec![pod("a", Phase::Failed), pod("b", Phase::Running)]);
    let s = status(&p);
    assert_eq!(condition(&s, "FailureTarget").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(condition(&s, "Failed"), None);
    assert!(p.actions.iter().any(|a| matches!(a, Action::Delete(t, ..) if t.name == "b")));
    j["status"] = s;
    let s = status(&plan(&j, vec![]));
    assert_eq!(condition(&s, "Failed").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(s["failed"], 1);
}

#[test]
fn a_deadline_and_a_suspension_stop_everything() {
    let p = plan(&job(json!({"activeDeadlineSeconds": 60})), vec![pod("a", Phase::Running)]);
    assert_eq!(condition(&status(&p), "FailureTarget").as_deref(), Some("DeadlineExceeded"));
    let p = plan(&job(json!({"suspend": true})), vec![pod("a", Phase::Running)]);
    let s = status(&p);
    assert_eq!(condition(&s, "Suspended").as_deref(), Some("JobSuspended"));
    assert_eq!(made(&p).len(), 0);
    // One that has never run has no start, and one that is resumed starts anew.
    let mut new = job(json!({"suspend": true}));
    new["status"] = json!({});
    assert_eq!(status(&plan(&new, vec![])).get("startTime"), None);
    let mut resumed = job(json!({}));
    resumed["status"] = s;
    let again = status(&plan(&resumed, vec![]));
    assert_eq!(again["startTime"], "2026-01-01T01:00:00Z");
}

// "Suspending a Job": pods that are ended by it do not count.
#[test]
fn pods_that_are_not_wanted_any_more_are_ended_without_being_counted() {
    let suspended = plan(&job(json!({"suspend": true})), vec![pod("a", Phase::Running)]);
    assert_eq!(released(&suspended), ["a"]);
    assert_eq!(status(&suspended)["startTime"], "2026-01-01T00:59:00Z");
    let fewer = job(json!({"parallelism": 1, "completions": 5}));
    let p = plan(&fewer, vec![pod("a", Phase::Running), pod("b", Phase::Running)]);
    assert_eq!(released(&p).len(), 1);
    let mut leaving = pod("a", Phase::Running);
    leaving.finalizers.clear();
    leaving.terminating = true;
    assert_eq!(status(&plan(&fewer, vec![leaving]))["failed"], Value::Null);
}

// "Handling Pod disruptions" of kubernetes.io/docs/tasks/job/pod-failure-policy: a pod is judged once
// it has failed, and not while it is on its way out.
#[test]
fn a_pod_on_its_way_out_is_judged_by_the_failure_policy_once_it_has_failed() {
    let policy = json!({"podReplacementPolicy": "Failed", "backoffLimit": 0, "podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}});
    let mut drained = pod("a", Phase::Running);
    drained.terminating = true;
    drained.conditions = vec!["DisruptionTarget".into()];
    let s = status(&plan(&job(policy.clone()), vec![drained.clone()]));
    assert_eq!((condition(&s, "FailureTarget"), &s["uncountedTerminatedPods"]), (None, &json!({})));
    drained.phase = Phase::Failed;
    let p = plan(&job(policy), vec![drained.clone()]);
    assert_eq!((condition(&status(&p), "FailureTarget"), released(&p)), (None, vec!["a"]));
    // Without one it counts at once.
    drained.phase = Phase::Running;
    let s = status(&plan(&job(json!({})), vec![drained]));
    assert_eq!(s["uncountedTerminatedPods"], json!({"failed": ["a"]}));
}

#[test]
fn indexed_pods_get_each_index_once() {
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2});
    let at = |name: &str, i, phase| {
        let mut p = pod(name, phase);
        p.index = Some(i);
        p
    };
    let p = plan(&job(spec), vec![at("a", 0, Phase::Succeeded), at("b", 1, Phase::Running)]);
    assert_eq!(status(&p)["completedIndexes"], "0");
    let new = made(&p);
    assert_eq!(new.len(), 1);
    assert_eq!(new[0]["metadata"]["annotations"][super::super::pods::INDEX], "2");
    assert_eq!(new[0]["spec"]["hostname"], "pi-2");
    assert_eq!(new[0]["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
}

fn of_index(name: &str, at: i64, phase: Phase, failures: i64) -> Pod {
    let mut p = pod(name, phase);
    (p.index, p.index_failures) = (Some(at), failures);
    p.finished = Some("2026-01-01T00:59:55Z".parse().unwrap());
    p
}

fn each(more: Value) -> Value {
    let mut spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1});
    json_patch::merge(&mut spec, &more);
    job(spec)
}

// "Backoff limit per index" of the page.
#[test]
fn each_index_fails_by_itself_and_the_others_go_on() {
    let of = |p: &Plan| -> Vec<(String, String)> {
        let note =
            |p: &Value, key: &str| p["metadata"]["annotations"][key].as_str().unwrap().to_owned();
        made(p)
            .into_iter()
            .map(|p| (note(p, super::super::pods::INDEX), note(p, FAILURES)))
            .collect()
    };
    let one = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    // The first failure of index 0 keeps only index 0 waiting.
    let p = plan(&each(json!({})), vec![of_index("a", 0, Phase::Failed, 0)]);
    assert_eq!(of(&p), [one("1", "0"), one("2", "0")]);
    assert_eq!(p.again, Some("2026-01-01T01:00:05Z".parse().unwrap()));
    let mut early = of_index("a", 0, Phase::Failed, 0);
    early.finished = Some("2026-01-01T00:59:30Z".parse().unwrap());
    let p = plan(&each(json!({})), vec![early]);
    assert_eq!(of(&p), [one("0", "1"), one("1", "0"), one("2", "0")]);
    assert_eq!(status(&p)["failedIndexes"], "");
    // The second is one too many for it.
    let pods = vec![of_index("a", 0, Phase::Failed, 1), of_index("b", 1, Phase::Running, 0)];
    let p = plan(&each(json!({})), pods);
    assert_eq!(of(&p), [one("2", "0")]);
    assert_eq!(status(&p)["failedIndexes"], "0");
    assert_eq!(condition(&status(&p), "FailureTarget"), None);
}

#[test]
fn a_job_with_failed_indexes_fails_once_all_are_over_or_too_many_have_failed() {
    let mut j = each(json!({}));
    j["status"]["completedIndexes"] = "1,2".into();
    let p = plan(&j, vec![of_index("a", 0, Phase::Failed, 1)]);
    let s = status(&p);
    assert_eq!(condition(&s, "FailureTarget").as_deref(), Some("FailedIndexes"));
    assert_eq!(s["conditions"][0]["message"], "Job has failed indexes");
    j["status"] = s;
    let s = status(&plan(&j, vec![]));
    assert_eq!(condition(&s, "Failed").as_deref(), Some("FailedIndexes"));
    assert_eq!((&s["failedIndexes"], &s["completedIndexes"]), (&json!("0"), &json!("1,2")));

    let pods = vec![of_index("a", 0, Phase::Failed, 1), of_index("b", 1, Phase::Running, 0)];
    let p = plan(&each(json!({"maxFailedIndexes": 0})), pods);
    let reason = condition(&status(&p), "FailureTarget");
    assert_eq!(reason.as_deref(), Some("MaxFailedIndexesExceeded"));
    assert!(p.actions.iter().any(|a| matches!(a, Action::Delete(t, ..) if t.name == "b")));
    // A rule of the pod failure policy may give an index up at once.
    let rules = json!({"podFailurePolicy": {"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]}});
    let mut pod = of_index("a", 2, Phase::Failed, 0);
    pod.exits = vec![("c".into(), 42)];
    assert_eq!(status(&plan(&each(rules), vec![pod]))["failedIndexes"], "2");
}

// "Success policy" of the page: its own examples.
#[test]
fn a_success_policy_ends_a_job_as_soon_as_one_of_its_rules_is_met() {
    let rules = |rules: Value| {
        json!({"completionMode": "Indexed", "completions": 10, "parallelism": 3,
        "successPolicy": {"rules": rules}})
    };
    let of = |spec: Value, done: &str| {
        let mut j = job(spec);
        j["status"]["completedIndexes"] = done.into();
        let p = plan(&j, vec![of_index("r", 9, Phase::Running, 0)]);
        let s = status(&p);
        let message = s["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
        (condition(&s, "SuccessCriteriaMet"), message, p)
    };
    let policy = rules(json!([{"succeededIndexes": "0,2-3", "succeededCount": 1}]));
    assert_eq!(of(policy.clone(), "1,4").0, None);
    let (reason, message, p) = of(policy, "2");
    assert_eq!(reason.as_deref(), Some("SuccessPolicy"));
    assert_eq!(message, "Matched rules at index 0");
    assert!(p.actions.iter().any(|a| matches!(a, Action::Delete(t, ..) if t.name == "r")));
    let policy = rules(json!([{"succeededIndexes": "0-1"}, {"succeededCount": 3}]));
    assert_eq!(of(policy.clone(), "0,2").0, None);
    assert_eq!(of(policy.clone(), "0-1").1, "Matched rules at index 0");
    assert_eq!(of(policy, "4-6").1, "Matched rules at index 1");
}

#[test]
fn a_pod_failure_policy_stops_a_job_or_looks_away() {
    let rules = |action: &str| json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]}});
    let mut p = pod("a", Phase::Failed);
    p.exits = vec![("c".into(), 42)];
    let stopped = status(&plan(&job(rules("FailJob")), vec![p.clone()]));
    assert_eq!(condition(&stopped, "FailureTarget").as_deref(), Some("PodFailurePolicy"));
    assert_eq!(
        stopped["conditions"][0]["message"],
        "Container c for pod d/a failed with exit code 42 matching FailJob rule at index 0"
    );
    let ignored = plan(&job(rules("Ignore")), vec![p]);
    assert_eq!(released(&ignored), ["a"]);
    assert!(
        !ignored
            .actions
            .iter()
            .any(|a| matches!(a, Action::Status(_, _, s) if s.get("failed").is_some()))
    );
}

#[test]
fn a_finished_job_goes_after_its_time_and_pods_without_a_job_are_let_go() {
    let mut j = job(json!({"ttlSecondsAfterFinished": 60}));
    j["status"]["conditions"] = json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:59:30Z"}]);
    assert_eq!(plan(&j, vec![]).again, Some("2026-01-01T01:00:30Z".parse().unwrap()));
    j["spec"]["ttlSecondsAfterFinished"] = 30.into();
    assert!(matches!(plan(&j, vec![]).actions[..], [Action::Delete(..)]));
    let (mut world, mut touched) = (World::default(), BTreeSet::new());
    world.put_pod(pod("a", Phase::Running), &mut touched);
    assert_eq!(released(&reconcile(&world, "d/pi", &cx())), ["a"]);
}
