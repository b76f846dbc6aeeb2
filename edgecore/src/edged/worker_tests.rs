//! Whole pods on a runtime in memory, in paused time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use service::Service;
use tokio::sync::mpsc;

use super::super::runtime::fake::FakeRuntime;
use super::super::testing::{TestCluster, config};
use super::super::{Clock, WantedChange, spawn};
use super::*;

struct Node {
    cluster: TestCluster,
    runtime: FakeRuntime,
    wanted: mpsc::Sender<WantedChange>,
    stopping: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    dir: Arc<tempfile::TempDir>,
    clock: Clock,
    api: super::super::LocalApi,
}

impl Node {
    fn new() -> Self {
        let clock = Clock::starting_at("2026-11-22T00:00:00Z".parse().unwrap());
        let runtime = FakeRuntime::new().with_clock(move || clock.now());
        runtime.add_image("web:1");
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start(TestCluster::default(), runtime, dir, clock)
    }

    fn start(
        cluster: TestCluster,
        runtime: FakeRuntime,
        dir: Arc<tempfile::TempDir>,
        clock: Clock,
    ) -> Self {
        let mut svc = Service::new("edged-test");
        let config = config(dir.path(), clock);
        let (wanted, rx) = mpsc::channel(16);
        let stopping = svc.stopping();
        let (r, c) = (Arc::new(runtime.clone()), Arc::new(cluster.clone()));
        let api = spawn(&mut svc, config, r, c, rx);
        let task = tokio::spawn(async move { svc.until_stopped().await.unwrap() });
        Self { cluster, runtime, wanted, stopping, task, dir, clock, api }
    }

    /// Stops edged and starts it anew, on the same runtime and disk.
    async fn restart(self) -> Self {
        self.stopping.cancel();
        self.task.await.unwrap();
        Self::start(self.cluster, self.runtime, self.dir, self.clock)
    }

    /// Asks the local API for something; the answer's status line and body.
    async fn post(&self, path: &str, body: &str) -> (String, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut io = self.api.connect().await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: edge\r\nContent-Length: {}", body.len());
        io.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut said = String::new();
        io.read_to_string(&mut said).await.unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.trim().to_owned())
    }

    async fn apply(&self, pod: &Pod) {
        self.wanted.send(WantedChange::Set(Box::new(pod.clone()))).await.unwrap();
    }

    async fn phase(&self, pod: &str, phase: &str) -> PodStatus {
        self.cluster.status(pod, |s| s.phase.as_deref() == Some(phase)).await
    }

    async fn delete(&self, pod: &Pod, grace: i64) {
        let mut pod = pod.clone();
        pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::now()));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.apply(&pod).await;
    }
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "main", "image": "web:1"}]);
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": spec
    }))
    .unwrap()
}

fn waiting(s: &PodStatus) -> &str {
    let c = s.container_statuses.as_ref().and_then(|c| c.first());
    c.and_then(|c| c.state.as_ref()?.waiting.as_ref()?.reason.as_deref()).unwrap_or_default()
}

fn restarts(s: &PodStatus) -> i32 {
    s.container_statuses.as_ref().unwrap()[0].restart_count
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_is_removed_and_nothing_is_left() {
    let node = Node::new();
    let web = pod("web", json!({}));
    node.apply(&web).await;
    let status = node.phase("web", "Running").await;
    assert_eq!(status.pod_ip.as_deref(), Some("10.88.0.3"));
    assert_eq!(
        node.runtime.calls(),
        ["run_sandbox web", "create_container main", "start_container main"]
    );
    assert!(node.dir.path().join("kubelet/pods/uid-web").exists());
    node.delete(&web, 5).await;
    node.cluster.gone("web").await;
    assert_eq!(node.runtime.count(), (0, 0));
    assert!(!node.dir.path().join("kubelet/pods/uid-web").exists());
    assert!(!node.dir.path().join("logs/shop_web_uid-web").exists());
    let last = node.cluster.history("web").pop().unwrap();
    assert_eq!(last.phase.as_deref(), Some("Failed"));
    let messages: Vec<_> = node.cluster.events().into_iter().map(|(r, _)| r).collect();
    assert_eq!(messages, ["Pulled", "Created", "Started", "Killing"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_edgecore_touches_nothing() {
    let node = Node::new();
    let web = pod("web", json!({}));
    node.cluster.add_pod(web.clone());
    node.apply(&web).await;
    node.phase("web", "Running").await;
    let before = node.runtime.calls();
    let reports = node.cluster.history("web").len();
    let node = node.restart().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(node.runtime.calls(), before);
    assert!(node.cluster.history("web").len() <= reports + 1, "the cloud's copy was the bare pod");
    assert!(node.runtime.exit("web", "main", 1), "it still runs, and its end is heard");
    node.cluster.status("web", |s| restarts(s) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_waits_longer_each_time_also_over_a_restart_of_edgecore() {
    let node = Node::new();
    let web = pod("web", json!({}));
    node.cluster.add_pod(web.clone());
    node.apply(&web).await;
    node.phase("web", "Running").await;
    let crash = |node: &Node| {
        assert!(node.runtime.exit("web", "main", 1));
        node.clock.now()
    };
    let first = crash(&node);
    node.cluster.status("web", |s| restarts(s) == 1).await;
    assert!(node.clock.now() - first < SECOND, "the first restart is at once");
    let mut node = node;
    for wait in [10, 20, 40] {
        let died = crash(&node);
        let s = node.cluster.status("web", |s| waiting(s) == "CrashLoopBackOff").await;
        let why = s.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap();
        let message = why.waiting.as_ref().unwrap().message.clone().unwrap();
        assert!(message.starts_with(&format!("back-off {wait}s restarting failed")), "{message}");
        node = node.restart().await;
        let count = restarts(&s);
        node.cluster.status("web", |s| restarts(s) == count + 1).await;
        let took = (node.clock.now() - died) / SECOND;
        assert!((wait..wait + 2).contains(&took), "{took} instead of {wait}");
    }
    let (sandboxes, containers) = node.runtime.count();
    assert!((sandboxes, containers) == (1, 2), "the dead are removed: {containers}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_comes_later_is_pulled_then() {
    let node = Node::new();
    let web = pod("web", json!({"containers": [{"name": "main", "image": "r.io/web:2"}]}));
    node.apply(&web).await;
    node.cluster.status("web", |s| waiting(s) == "ErrImagePull").await;
    node.cluster.status("web", |s| waiting(s) == "ImagePullBackOff").await;
    node.runtime.add_to_registry("r.io/web:2");
    node.phase("web", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_named_and_waited_for() {
    let node = Node::new();
    let web = pod(
        "web",
        json!({"containers": [{"name": "main", "image": "web:1",
        "envFrom": [{"configMapRef": {"name": "settings"}}]}]}),
    );
    node.apply(&web).await;
    let s = node.cluster.status("web", |s| waiting(s) == "CreateContainerConfigError").await;
    let state = s.container_statuses.unwrap()[0].state.clone().unwrap();
    assert_eq!(state.waiting.unwrap().message.unwrap(), "configmap \"settings\" not found");
    node.cluster.config_map("shop", "settings", &[("color", "blue")]);
    let before = node.clock.now();
    let key = ObjectKey::new("shop".parse().unwrap(), ObjectKind::ConfigMap, "settings");
    node.wanted.send(WantedChange::ObjectChanged(key)).await.unwrap();
    node.phase("web", "Running").await;
    assert!(node.clock.now() - before < SECOND, "at once, and not after a back-off");
    assert_eq!(node.runtime.running()[0].env, [("color".to_owned(), "blue".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_to_its_end_and_its_sandbox_is_stopped() {
    let node = Node::new();
    let job = pod("job", json!({"restartPolicy": "OnFailure"}));
    node.apply(&job).await;
    node.phase("job", "Running").await;
    node.runtime.exit("job", "main", 1);
    node.cluster.status("job", |s| restarts(s) == 1).await;
    node.runtime.exit("job", "main", 0);
    node.phase("job", "Succeeded").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(node.runtime.calls().contains(&"stop_sandbox job".to_owned()));
    assert_eq!(node.runtime.count().0, 1, "it stays for its logs");
}

#[tokio::test(start_paused = true)]
async fn a_container_killed_for_memory_says_so() {
    let node = Node::new();
    node.apply(&pod("web", json!({"restartPolicy": "Never"}))).await;
    node.phase("web", "Running").await;
    node.runtime.kill_for_memory("web", "main");
    let s = node.phase("web", "Failed").await;
    let ended = s.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((ended.reason.as_deref(), ended.exit_code), (Some("OOMKilled"), 137));
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_is_made_again() {
    let node = Node::new();
    node.apply(&pod("web", json!({}))).await;
    node.phase("web", "Running").await;
    node.runtime.lose_sandbox("web");
    node.cluster.status("web", |s| restarts(s) == 1 && s.phase.as_deref() == Some("Running")).await;
    assert_eq!(node.runtime.calls().iter().filter(|c| *c == "run_sandbox web").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_liveness_probe_restarts_the_container() {
    let node = Node::new();
    node.runtime.answer_exec(&["check"], 1, "sick");
    node.apply(&pod("web", json!({"containers": [{"name": "main", "image": "web:1",
        "livenessProbe": {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 3}}]})))
    .await;
    node.cluster.status("web", |s| restarts(s) == 1).await;
    let events = node.cluster.events();
    let has = |reason: &str, message: &str| {
        assert!(events.contains(&(reason.to_owned(), message.to_owned())), "{events:?}");
    };
    has("Unhealthy", "Liveness probe failed: sick");
    has("Killing", "Container main failed liveness probe, will be restarted");
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_probe() {
    let node = Node::new();
    node.runtime.answer_exec(&["ready"], 1, "");
    node.apply(&pod(
        "web",
        json!({"containers": [{"name": "main", "image": "web:1",
        "readinessProbe": {"exec": {"command": ["ready"]}, "periodSeconds": 2}}]}),
    ))
    .await;
    let ready = |s: &PodStatus| s.container_statuses.as_ref().unwrap()[0].ready;
    let s = node.phase("web", "Running").await;
    assert!(!ready(&s));
    node.runtime.answer_exec(&["ready"], 0, "");
    node.cluster.status("web", ready).await;
    node.runtime.answer_exec(&["ready"], 1, "");
    node.cluster.status("web", |s| !ready(s)).await;
    assert_eq!(restarts(&node.cluster.history("web").pop().unwrap()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_period_cuts_a_longer_one_short() {
    let clock = Clock::starting_at("2026-11-22T00:00:00Z".parse().unwrap());
    let runtime = FakeRuntime::new().with_clock(move || clock.now()).with_deaf_containers();
    runtime.add_image("web:1");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let node = Node::start(TestCluster::default(), runtime, dir, clock);
    let web = pod("web", json!({}));
    node.apply(&web).await;
    node.phase("web", "Running").await;
    let begun = clock.now();
    node.delete(&web, 600).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    node.delete(&web, 25).await;
    node.cluster.gone("web").await;
    let took = (clock.now() - begun) / SECOND;
    assert!((24..30).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn hooks_run_after_the_start_and_before_the_end() {
    let node = Node::new();
    let web = pod(
        "web",
        json!({"containers": [{"name": "main", "image": "web:1", "lifecycle": {
        "postStart": {"exec": {"command": ["hello"]}}, "preStop": {"exec": {"command": ["bye"]}}}}]}),
    );
    node.apply(&web).await;
    node.phase("web", "Running").await;
    node.delete(&web, 30).await;
    node.cluster.gone("web").await;
    let calls = node.runtime.calls();
    let at =
        |call: &str| calls.iter().position(|c| c == call).unwrap_or_else(|| panic!("{calls:?}"));
    assert!(at("start_container main") < at("exec_sync hello"));
    assert!(at("exec_sync bye") < at("stop_container main"));
    assert_eq!(calls.iter().filter(|c| *c == "exec_sync bye").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_past_its_deadline_fails() {
    let node = Node::new();
    node.apply(&pod("web", json!({"activeDeadlineSeconds": 50}))).await;
    node.phase("web", "Running").await;
    let s = node.phase("web", "Failed").await;
    assert_eq!(s.reason.as_deref(), Some("DeadlineExceeded"));
    assert!(node.runtime.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_ended_and_removed() {
    let node = Node::new();
    let web = pod("web", json!({}));
    node.apply(&web).await;
    node.phase("web", "Running").await;
    // The pod is not in the store when edged comes back: it was deleted meanwhile.
    let node = node.restart().await;
    let mut looks = 0;
    while node.runtime.count() != (0, 0) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        looks += 1;
        assert!(looks < 60, "{:?}", node.runtime.calls());
    }
    assert!(!node.dir.path().join("kubelet/pods/uid-web").exists());
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_of_the_database_pods_run_on_until_the_cloud_has_said_which_are_wanted() {
    let node = Node::new();
    let (web, stranger) = (pod("web", json!({})), pod("stranger", json!({})));
    for pod in [&web, &stranger] {
        node.apply(pod).await;
    }
    node.phase("web", "Running").await;
    node.phase("stranger", "Running").await;
    node.cluster.is_new_from_now();
    let node = node.restart().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.runtime.running().len(), 2, "without a link nobody knows what is wanted");
    node.wanted.send(WantedChange::Resync(Vec::new())).await.unwrap();
    node.apply(&web).await;
    while node.runtime.count().0 != 1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(restarts(&node.phase("web", "Running").await), 0);
    let starts = node.runtime.calls().iter().filter(|c| *c == "start_container main").count();
    assert_eq!(starts, 2, "{:?}", node.runtime.calls());
}

#[tokio::test(start_paused = true)]
async fn a_resync_ends_what_is_not_in_it() {
    let node = Node::new();
    let (a, b) = (pod("a", json!({})), pod("b", json!({})));
    node.apply(&a).await;
    node.apply(&b).await;
    node.phase("a", "Running").await;
    node.phase("b", "Running").await;
    node.wanted.send(WantedChange::Resync(vec![a])).await.unwrap();
    node.cluster.gone("b").await;
    assert_eq!(node.runtime.running().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_events_an_end_is_found_within_two_seconds() {
    let clock = Clock::starting_at("2026-11-22T00:00:00Z".parse().unwrap());
    let runtime = FakeRuntime::new().with_clock(move || clock.now()).without_events();
    runtime.add_image("web:1");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let node = Node::start(TestCluster::default(), runtime, dir, clock);
    node.apply(&pod("web", json!({"restartPolicy": "Never"}))).await;
    node.phase("web", "Running").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let died = clock.now();
    node.runtime.exit("web", "main", 0);
    node.phase("web", "Succeeded").await;
    assert!(clock.now() - died <= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_in_trouble_is_asked_again() {
    let node = Node::new();
    node.runtime.refuse("run_sandbox", "no network yet");
    node.apply(&pod("web", json!({}))).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(node.cluster.events().iter().any(|(r, m)| r == "FailedCreatePodSandBox"
        && m == "Failed to create pod sandbox: no network yet"));
    node.runtime.refuse("list", "away");
    node.runtime.allow("run_sandbox");
    tokio::time::sleep(Duration::from_secs(30)).await;
    node.runtime.allow("list");
    node.phase("web", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_runs_and_is_reported_as_its_mirror() {
    let node = Node::new();
    let dir = node.dir.path().join("manifests");
    std::fs::create_dir(&dir).unwrap();
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: main\n    image: web:1\n";
    std::fs::write(dir.join("web.yaml"), text).unwrap();
    let mut mirror = node.cluster.mirror("web-edge-1").await;
    mirror.metadata.uid = Some("uid-of-mirror".to_owned());
    node.apply(&mirror).await;
    node.phase("web-edge-1", "Running").await;
    std::fs::remove_file(dir.join("web.yaml")).unwrap();
    node.cluster.gone("web-edge-1").await;
    assert_eq!(node.runtime.count(), (0, 0));
}

fn held(name: &str) -> Pod {
    let mut pod = pod(name, json!({}));
    pod.metadata.annotations =
        Some([("edge.kubeedge.io/hold-upgrade".to_owned(), "true".to_owned())].into());
    pod
}

/// Whether its upgrade is held back, as its status says.
fn is_held(is: &'static str) -> impl Fn(&PodStatus) -> bool {
    move |s| s.conditions.iter().flatten().any(|c| c.type_ == "HeldUpgrade" && c.status == is)
}

#[tokio::test(start_paused = true)]
async fn a_held_pod_is_not_run() {
    let node = Node::new();
    let mut web = held("web");
    node.apply(&web).await;
    node.cluster.status("web", is_held("True")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(node.runtime.calls().is_empty());
    web.metadata.annotations = None;
    node.apply(&web).await;
    node.phase("web", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_held_pod_is_let_go_on_the_node_also_over_a_restart() {
    let node = Node::new();
    let (web, other, free) = (held("web"), held("other"), pod("free", json!({})));
    for pod in [&web, &other, &free] {
        node.apply(pod).await;
    }
    node.cluster.status("other", is_held("True")).await;
    node.phase("free", "Running").await;
    let path = "/api/v1/pods/unhold-upgrade";
    for (named, code) in [("shop/free", 400), ("shop/none", 404), ("web", 400)] {
        let (head, why) = node.post(path, named).await;
        assert!(head.contains(&code.to_string()), "{named}: {head}: {why}");
    }
    let (_, would) = node.post(&format!("{path}?dryRun=true"), "shop/web").await;
    assert!(would.contains(r#""pod":"web""#), "{would}");
    assert!(!node.runtime.calls().iter().any(|c| c.contains("web")), "it was only asked");
    let (head, done) = node.post(path, "shop/web").await;
    assert!(head.contains("200") && done.contains(r#""pod":"web""#), "{head} {done}");
    let s = node.phase("web", "Running").await;
    assert!(is_held("False")(&s), "{:?}", s.conditions);

    // The cloud has not heard of it when edgecore starts anew: it is not held a second time.
    let before = node.runtime.calls().len();
    for pod in [web, other, free] {
        node.cluster.add_pod(pod);
    }
    let node = node.restart().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = node.runtime.calls().split_off(before);
    assert!(!calls.iter().any(|c| c.contains("stop") || c.contains("run_sandbox")), "{calls:?}");

    let (head, why) = node.post("/api/v1/nodes/unhold-upgrade", "elsewhere").await;
    assert!(head.contains("404"), "{head}: {why}");
    let (_, done) = node.post("/api/v1/nodes/unhold-upgrade", "edge-1").await;
    assert!(done.contains("other") && !done.contains("web"), "{done}");
    node.phase("other", "Running").await;
}
