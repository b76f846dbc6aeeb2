use super::*;
use api::names::Kind;

/// Jobs at a time that the test moves on.
struct Bench {
    jobs: Jobs,
    now: Instant,
    version: u64,
    sessions: HashMap<String, u64>,
    /// The job as the API server has it.
    object: Value,
}

fn spec(extra: Value) -> Value {
    let mut spec = json!({"version": "v1.23.0", "image": "x/y", "nodeNames": ["a", "b", "c"]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

impl Bench {
    fn new(extra: Value) -> Self {
        let sessions = ["a", "b", "c"].map(|node| (node.to_owned(), 1)).into();
        let object = json!({"metadata": {"name": "up", "uid": "u1",
            "creationTimestamp": "2026-01-02T03:04:05Z", "finalizers": [FINALIZER]},
            "spec": spec(extra)});
        let (jobs, now) = (Jobs::default(), Instant::now());
        let mut bench = Self { jobs, now, version: 1, sessions, object };
        bench.jobs.begin_reset();
        bench.put();
        bench.jobs.finish_reset();
        bench
    }

    /// As above, with all nodes waiting for their turn.
    fn resolved(extra: Value) -> Self {
        let mut bench = Self::new(extra);
        assert!(matches!(bench.plan(), Step::Resolve(_)));
        let node = |name| json!({"nodeName": name, "phase": "Pending"});
        let nodes = ["a", "b", "c"].map(node);
        let status = json!({"phase": "Init", "nodeStatus": nodes});
        bench.jobs.resolved("up", serde_json::from_value(status).unwrap(), bench.now);
        bench
    }

    fn put(&mut self) {
        self.version += 1;
        self.object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let text = self.object.to_string();
        let object = Object::read(Kind::NodeUpgradeJob, &text).unwrap();
        self.jobs.apply(&object, self.now).unwrap();
    }

    fn plan(&mut self) -> Step {
        let sessions = self.sessions.clone();
        let link = |node: &NodeName| sessions.get(node.as_str()).copied();
        self.jobs.plan("up", true, &link, self.now)
    }

    /// Plans and writes; the nodes that were told to begin.
    fn write(&mut self) -> Vec<String> {
        match self.plan() {
            Step::Nothing => Vec::new(),
            Step::Write { status, tasks, reports, .. } => {
                self.object["status"] = status;
                self.jobs.wrote("up", reports, self.now);
                self.put();
                tasks.iter().map(|(path, _)| path.node.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, node: &str, action: &str, succ: bool) {
        let finish_time = format!("t{}", self.version);
        let report =
            ActionReport { action: action.to_owned(), succ, finish_time, ..Default::default() };
        self.jobs.heard("up", node.parse().unwrap(), report, self.now).unwrap();
    }

    /// Phases of the nodes, as first letters.
    fn phases(&self) -> String {
        let all = self.object["status"]["nodeStatus"].as_array().unwrap();
        all.iter().map(|n| n["phase"].as_str().unwrap().chars().next().unwrap()).collect()
    }

    fn job(&self) -> &str {
        self.object["status"]["phase"].as_str().unwrap()
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn a_new_job_gets_the_finalizer_first() {
    let mut bench = Bench::new(json!({}));
    bench.object["metadata"]["finalizers"] = json!(["other"]);
    bench.put();
    let Step::Finalizers { finalizers, version } = bench.plan() else { panic!("no finalizer") };
    assert_eq!(finalizers, ["other", FINALIZER]);
    assert_eq!(version, bench.version.to_string(), "nobody's change is lost");
}

#[test]
fn a_deleted_job_starts_nobody_and_lets_go() {
    let mut bench = Bench::resolved(json!({}));
    bench.object["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:06Z");
    bench.object["metadata"]["finalizers"] = json!([FINALIZER, "other"]);
    bench.put();
    let Step::Finalizers { finalizers, .. } = bench.plan() else { panic!("kept") };
    assert_eq!(finalizers, ["other"]);
    let gone = bench.jobs.heard("up", "a".parse().unwrap(), ActionReport::default(), bench.now);
    assert_eq!(gone, Err(ReportError::Unknown));
    assert!(bench.jobs.rows().is_empty());
}

#[test]
fn no_more_nodes_run_than_may_at_once() {
    let mut bench = Bench::resolved(json!({"concurrency": 2}));
    assert_eq!(bench.write(), ["a", "b"]);
    assert_eq!((bench.phases().as_str(), bench.job()), ("IIP", "InProgress"));
    assert_eq!(bench.write(), Vec::<String>::new(), "they were told");
    bench.say("b", "Check", false);
    assert_eq!(bench.write(), ["c"]);
    assert_eq!(bench.phases(), "IFI");
    for node in ["a", "c"] {
        bench.say(node, "Upgrade", true);
    }
    assert_eq!(bench.write(), Vec::<String>::new());
    assert_eq!((bench.phases().as_str(), bench.job()), ("SFS", "Failure"));
}

#[test]
fn reports_between_two_writes_become_one() {
    let mut bench = Bench::resolved(json!({}));
    bench.write();
    for action in ["Check", "WaitingConfirmation", "BackUp"] {
        bench.say("a", action, true);
    }
    let (due, next) = bench.jobs.due(bench.now);
    assert_eq!((due, next), (None, Some(bench.now + EVERY)), "it was written just now");
    let Step::Write { reports: 3, status, .. } = bench.plan() else { panic!("not one write") };
    assert_eq!(status["nodeStatus"][0]["actionFlow"].as_array().unwrap().len(), 3);
    // One that comes while it is written is for the next.
    bench.say("a", "Upgrade", true);
    bench.object["status"] = status;
    bench.jobs.wrote("up", 3, bench.now);
    bench.put();
    assert_eq!(bench.write(), ["b"]);
    assert_eq!(bench.phases(), "SIP");
}

#[test]
fn a_write_that_failed_loses_no_report_and_tells_no_node_twice() {
    let mut bench = Bench::resolved(json!({}));
    let Step::Write { tasks, .. } = bench.plan() else { panic!("nothing") };
    assert_eq!(tasks.len(), 1);
    bench.jobs.failed("up", bench.now);
    bench.say("a", "Check", true);
    assert_eq!(bench.write(), Vec::<String>::new(), "it was told in this session");
    assert_eq!(bench.phases(), "IPP");
    assert_eq!(bench.object["status"]["nodeStatus"][0]["actionFlow"][0]["action"], "Check");
}

#[test]
fn what_somebody_else_has_written_is_where_the_next_write_begins() {
    let mut bench = Bench::resolved(json!({}));
    bench.write();
    bench.say("a", "Check", true);
    bench.object["status"]["nodeStatus"][2]["phase"] = json!("Failure");
    bench.object["status"]["nodeStatus"][2]["reason"] = json!("by hand");
    bench.put();
    bench.write();
    assert_eq!(bench.phases(), "IPF");
    assert_eq!(bench.object["status"]["nodeStatus"][2]["reason"], "by hand");
    assert_eq!(bench.object["status"]["nodeStatus"][0]["actionFlow"][0]["action"], "Check");
}

#[test]
fn an_older_version_of_a_job_changes_nothing() {
    let mut bench = Bench::resolved(json!({}));
    let old = bench.object.clone();
    bench.write();
    let object = Object::read(Kind::NodeUpgradeJob, &old.to_string()).unwrap();
    bench.jobs.apply(&object, bench.now).unwrap();
    assert_eq!(bench.write(), Vec::<String>::new());
    assert_eq!(bench.phases(), "IPP");
}

#[test]
fn the_next_cloudcore_goes_on_where_the_last_one_ended() {
    let mut first = Bench::resolved(json!({"concurrency": 2}));
    first.write();
    first.say("a", "Check", true);
    first.write();
    let mut next = Bench::new(json!({"concurrency": 2}));
    next.object = first.object.clone();
    next.version = first.version;
    next.put();
    assert_eq!(next.write(), Vec::<String>::new(), "both run");
    next.say("a", "Upgrade", true);
    assert_eq!(next.write(), ["c"]);
    assert_eq!(next.phases(), "SII");
    // Nothing was heard of `b`: what it was told may be lost.
    next.later(5);
    let link = |_: &NodeName| Some(1);
    let Step::Write { tasks, .. } = next.jobs.plan("up", true, &link, next.now) else {
        panic!("nobody is told")
    };
    let told: Vec<_> = tasks.iter().map(|(path, _)| path.node.as_str()).collect();
    assert_eq!(told, ["b"]);
}

#[test]
fn a_node_that_is_away_is_waited_for_and_does_not_hold_up_the_others() {
    let mut bench = Bench::resolved(json!({}));
    bench.sessions.remove("a");
    assert_eq!(bench.write(), ["b"]);
    assert_eq!(bench.phases(), "PIP");
    bench.say("b", "Upgrade", true);
    bench.say("b", "Check", true);
    bench.later(59);
    assert_eq!(bench.write(), ["c"]);
    assert_eq!(bench.phases(), "PSI");
    bench.say("c", "Upgrade", true);
    bench.write();
    bench.later(1);
    assert_eq!(bench.jobs.due(bench.now).0.as_deref(), Some("up"));
    bench.write();
    assert_eq!((bench.phases().as_str(), bench.job()), ("FSS", "Failure"));
    let why = &bench.object["status"]["nodeStatus"][0]["reason"];
    assert_eq!(why, "it is not connected to this cloudcore");
}

#[test]
fn a_silent_node_is_given_up_but_not_one_that_waits_for_a_yes() {
    let wanted = json!({"timeoutSeconds": 300, "concurrency": 2, "requireConfirmation": true});
    let mut bench = Bench::resolved(wanted);
    bench.write();
    bench.say("a", "Check", true);
    bench.say("a", "WaitingConfirmation", true);
    bench.write();
    bench.later(299);
    bench.write();
    assert_eq!(bench.phases(), "IIP");
    bench.later(1);
    assert_eq!(bench.write(), ["c"]);
    assert_eq!(bench.phases(), "IUI");
    assert_eq!(
        bench.object["status"]["nodeStatus"][1]["reason"],
        "it has reported nothing for 300 s"
    );
    bench.say("b", "Upgrade", true);
    bench.write();
    assert_eq!(bench.phases(), "ISI", "it was only slow");
}

#[test]
fn a_job_without_a_time_limit_waits_for_ever() {
    for wanted in [json!({}), json!({"timeoutSeconds": 0})] {
        let mut bench = Bench::resolved(wanted);
        bench.write();
        bench.later(86_400);
        bench.write();
        assert_eq!(bench.phases(), "IPP");
    }
}

#[test]
fn reports_that_come_before_the_jobs_are_known_are_kept() {
    let mut bench = Bench::resolved(json!({}));
    bench.write();
    let mut jobs = Jobs::default();
    let report = ActionReport { action: "Check".into(), succ: true, ..Default::default() };
    jobs.heard("up", "a".parse().unwrap(), report.clone(), bench.now).unwrap();
    jobs.heard("other", "a".parse().unwrap(), report, bench.now).unwrap();
    jobs.begin_reset();
    bench.jobs = jobs;
    bench.put();
    bench.jobs.finish_reset();
    bench.write();
    assert_eq!(bench.object["status"]["nodeStatus"][0]["actionFlow"][0]["action"], "Check");
}

#[test]
fn a_node_that_is_not_part_of_a_job_cannot_report_on_it() {
    let mut bench = Bench::resolved(json!({}));
    let mut heard = |job, node: &str| {
        bench.jobs.heard(job, node.parse().unwrap(), ActionReport::default(), bench.now)
    };
    assert_eq!(heard("up", "z"), Err(ReportError::Unknown));
    assert_eq!(heard("down", "a"), Err(ReportError::Unknown));
    assert_eq!(heard("up", "a"), Ok(()));
}

#[test]
fn a_task_carries_the_spec_as_it_was_written() {
    let mut bench = Bench::resolved(json!({"later": {"field": 1.50}}));
    let Step::Write { tasks, .. } = bench.plan() else { panic!("nothing") };
    let (path, task) = &tasks[0];
    assert_eq!(path.to_string(), "operations.kubeedge.io/v1alpha2/nodeupgradejob/up/node/a");
    assert_eq!(&*task.operation, "Check");
    assert_eq!(task.content.to::<Value>().unwrap(), bench.object["spec"]);
}
