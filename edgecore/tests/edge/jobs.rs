//! Node jobs, from the cloud's message to the reports: with a script in the place of keadm, which
//! notes how it was called, and a runtime in memory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::raw::RawJson;
use api::wire::downstream::{Downstream, Task, TaskSource};
use api::wire::task::ActionReport;
use api::wire::upstream::Upstream;
use edgecore::edged::runtime::fake::FakeRuntime;
use edgecore::{EdgeCore, JobPaths, Options};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::pki::Pki;
use crate::support::{Cloud, State, config, options};

const LOCAL: [&str; 1] = ["127.0.0.1"];
const IMAGE: &str = "kubeedge/installation-package:v1.24.0";

/// A node, and what of it outlives a restart.
struct Node {
    folder: tempfile::TempDir,
    port: u16,
    runtime: Arc<FakeRuntime>,
    running: Option<(service::CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Node {
    /// A node whose keadm behaves as `upgrade` says; `$ETC` is its `/etc/kubeedge`.
    async fn start(cloud: &Cloud, upgrade: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        cloud.pki.install(folder.path(), "edge-1");
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let script = format!(
            "#!/bin/sh\nETC={}\nprintf '%s\\n' \"$*\" >>$ETC/calls\n\
             said() {{ printf '%s' \"$1\" >$ETC/.new && mv $ETC/.new $ETC/upgrade_report.json; }}\n\
             case \"$2\" in\n\
             backup) said '{}' ;;\n\
             rollback) said '{}' ;;\n\
             upgrade) {upgrade} ;;\nesac\n",
            etc.display(),
            report("Backup", true, ""),
            report("Rollback", true, ""),
        );
        let keadm = folder.path().join("keadm");
        std::fs::write(&keadm, script).unwrap();
        std::fs::set_permissions(&keadm, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = FakeRuntime::new();
        runtime.add_to_registry(IMAGE);
        runtime.add_file(IMAGE, "/usr/local/bin/keadm", b"#!/bin/sh\necho KubeEdge v1.24.0\n");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut node = Self { folder, port, runtime: Arc::new(runtime), running: None };
        node.start_again(cloud, true).await;
        node
    }

    async fn start_again(&mut self, cloud: &Cloud, enable: bool) {
        let folder = self.folder.path();
        let mut config = config(cloud, folder);
        config.modules.task_manager.enable = enable;
        config.modules.edged.tailored_kubelet_config.read_only_port = self.port;
        let options = Options {
            runtime: Some(self.runtime.clone()),
            jobs: Some(JobPaths {
                etc: self.etc(),
                program: folder.join("keadm"),
                arguments: vec!["--root=/x".into()],
                log: folder.join("upgrade.log"),
            }),
            status_socket: Some(folder.join("status.sock")),
            ..options(folder)
        };
        let links = cloud.state().links;
        let app = EdgeCore::build(config, options).await.unwrap();
        let mut svc = Service::new("edgecore");
        app.spawn(&mut svc).unwrap();
        let stop = svc.stopping();
        let ended = tokio::spawn(async move { svc.until_stopped().await.unwrap() });
        self.running = Some((stop, ended));
        cloud.until("a link", |s| s.links > links).await;
    }

    async fn stop(&mut self) {
        let (stop, ended) = self.running.take().unwrap();
        stop.cancel();
        ended.await.unwrap();
    }

    fn etc(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    /// How keadm was called.
    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.etc().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Asks the local API, with its token; status and body.
    async fn post(&self, path: &str, token: bool) -> (u16, String) {
        let file = self.folder.path().join("kubelet/local-api.token");
        let asking = async {
            loop {
                if let (Ok(token), Ok(stream)) = (
                    std::fs::read_to_string(&file),
                    tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await,
                ) {
                    return (token, stream);
                }
                tokio::task::yield_now().await;
            }
        };
        let (secret, mut stream) =
            tokio::time::timeout(crate::support::PATIENCE, asking).await.expect("a local API");
        let token =
            if token { format!("Authorization: Bearer {secret}\r\n") } else { String::new() };
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.trim().to_owned())
    }

    async fn confirm(&self) -> (u16, String) {
        self.post("/api/v1/taskupgrade/confirm-upgrade", true).await
    }
}

type Stream = tokio_tungstenite::WebSocketStream<tokio::net::UnixStream>;

impl Node {
    /// The node's own stream.
    async fn look(&self) -> Stream {
        let path = self.folder.path().join("status.sock");
        let unix = tokio::net::UnixStream::connect(path).await.unwrap();
        tokio_tungstenite::client_async("ws://localhost/status/v1", unix).await.unwrap().0
    }
}

/// The next message of a stream.
async fn heard(stream: &mut Stream) -> Value {
    let next = tokio::time::timeout(crate::support::PATIENCE, stream.next());
    let message = next.await.expect("a message").unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

/// The row of the node, once it is as wanted.
async fn until_shown(stream: &mut Stream, is: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let message = heard(stream).await;
            if is(&message["nodes"][0]) {
                return message["nodes"][0].clone();
            }
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, looking).await.expect("the row")
}

/// What the node answers to a yes to the upgrade of a node.
async fn ask(stream: &mut Stream, id: u64, node: &str) -> Value {
    let request = json!({"what": "confirmUpgrade", "node": node});
    let request = json!({"type": "request", "id": id, "request": request});
    stream.send(request.to_string().into()).await.unwrap();
    loop {
        let message = heard(stream).await;
        if message["type"] == "done" {
            return message;
        }
    }
}

fn report(event: &str, success: bool, more: &str) -> String {
    format!(
        r#"{{"event":"{event}","success":{success},"fromVersion":"v1.23.0","toVersion":"v1.24.0"{more}}}"#
    )
}

fn well() -> String {
    format!("said '{}'", report("Upgrade", true, ""))
}

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "version": "v1.24.0", "image": "kubeedge/installation-package", "nodeNames": ["edge-1"],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn task(kind: &str, job: &str, spec: &Value) -> Downstream {
    Downstream::Task(Task {
        resource: format!("operations.kubeedge.io/v1alpha2/{kind}/{job}/node/edge-1").into(),
        operation: "Check".into(),
        source: TaskSource::TaskManager,
        content: RawJson::of(spec).unwrap(),
    })
}

fn upgrade(spec: &Value) -> Downstream {
    task("nodeupgradejob", "up1", spec)
}

fn reports(state: &State) -> Vec<ActionReport> {
    let report = |up: &Upstream| match up {
        Upstream::TaskStatus { resource, operation, content } => {
            assert!(resource.starts_with("operations.kubeedge.io/v1alpha2/"), "{resource}");
            assert_eq!(&**operation, "UpdateNodeActionStatus");
            Some(ActionReport::read(content).unwrap())
        }
        _ => None,
    };
    state.heard.iter().filter_map(report).collect()
}

/// Waits for the report of a step, and returns all: step, success.
async fn until(cloud: &Cloud, last: &str) -> Vec<(String, bool)> {
    cloud.until(last, |s| reports(s).iter().any(|r| r.action == last)).await;
    reports(&cloud.state()).into_iter().map(|r| (r.action, r.succ)).collect()
}

fn steps(all: &[(&str, bool)]) -> Vec<(String, bool)> {
    all.iter().map(|(step, well)| ((*step).to_owned(), *well)).collect()
}

const ALL_WELL: [(&str, bool); 4] =
    [("Check", true), ("WaitingConfirmation", true), ("BackUp", true), ("Upgrade", true)];

#[tokio::test]
async fn an_upgrade_goes_through_its_steps_and_each_is_reported() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    cloud.push(upgrade(&spec(json!({}))));
    assert_eq!(until(&cloud, "Upgrade").await, steps(&ALL_WELL));
    let last = reports(&cloud.state()).pop().unwrap();
    assert_eq!(last.extend, "v1.23.0,v1.24.0");
    assert!(last.finish_time.ends_with('Z') && last.reason.is_empty(), "{last:?}");
    assert_eq!(
        node.calls(),
        ["--root=/x backup edge", "--root=/x upgrade edge --yes --to-version v1.24.0"]
    );
    assert!(node.etc().join("upgrade/v1.24.0/keadm").exists());
    assert!(!node.etc().join("upgrade_report.json").exists());
    node.stop().await;
    assert!(!node.folder.path().join("node-job.json").exists(), "something is kept");
}

#[tokio::test]
async fn an_upgrade_waits_for_whoever_is_on_the_node_also_over_a_restart() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    let none = (400, "there are no valid upgrade tasks to execute".to_owned());
    assert_eq!(node.confirm().await, none);
    cloud.push(upgrade(&spec(json!({"requireConfirmation": true}))));
    assert_eq!(until(&cloud, "WaitingConfirmation").await, steps(&ALL_WELL[..2]));
    node.stop().await;
    node.start_again(&cloud, true).await;
    assert_eq!(node.post("/api/v1/taskupgrade/confirm-upgrade", false).await.0, 401);
    assert!(node.calls().is_empty());
    let (status, body) = node.confirm().await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""job":"up1""#), "{body}");
    assert_eq!(until(&cloud, "Upgrade").await, steps(&ALL_WELL));
    assert_eq!(node.confirm().await, none);
    node.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_waits_is_shown_on_the_node_and_let_go_there_also_over_a_restart() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    cloud.push(upgrade(&spec(json!({"requireConfirmation": true}))));
    until(&cloud, "WaitingConfirmation").await;
    node.stop().await;
    node.start_again(&cloud, true).await;
    let mut stream = node.look().await;
    let shown = until_shown(&mut stream, |node| node["upgrade"].is_object()).await;
    let upgrade = &shown["upgrade"];
    assert_eq!(upgrade["state"], "WaitingConfirmation", "{upgrade}");
    assert_eq!((upgrade["job"].as_str(), upgrade["to"].as_str()), (Some("up1"), Some("v1.24.0")));
    let (status, body) = node.post("/api/v1/taskupgrade/confirm-upgrade?dryRun=true", true).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("up1") && body.contains(r#""confirmed":false"#), "{body}");
    assert!(node.calls().is_empty(), "a dry run has begun it");
    let error = ask(&mut stream, 1, "edge-2").await["error"].take();
    assert!(error.as_str().unwrap().contains("this is node edge-1"), "{error}");
    let text = ask(&mut stream, 2, "edge-1").await["text"].take();
    assert!(text.as_str().unwrap().contains("job up1"), "{text}");
    assert_eq!(until(&cloud, "Upgrade").await, steps(&ALL_WELL));
    until_shown(&mut stream, |node| node.is_object() && !node["upgrade"].is_object()).await;
    node.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_failed_is_shown_on_the_node_with_its_reason() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    let mut stream = node.look().await;
    cloud.push(upgrade(&spec(json!({"image": "-x"}))));
    let failed = |node: &Value| node["upgrade"]["state"] == "Failure";
    let shown = until_shown(&mut stream, failed).await;
    let why = shown["upgrade"]["why"].as_str().unwrap();
    assert!(why.contains("invalid image repo"), "{why}");
    node.stop().await;
}

#[tokio::test]
async fn what_was_waiting_is_reported_again_and_not_begun_anew() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    let job = spec(json!({"requireConfirmation": true}));
    cloud.push(upgrade(&job));
    until(&cloud, "WaitingConfirmation").await;
    cloud.push(upgrade(&job));
    let waits =
        |s: &State| reports(s).iter().filter(|r| r.action == "WaitingConfirmation").count() == 2;
    cloud.until("the same report again", waits).await;
    assert_eq!(reports(&cloud.state()).iter().filter(|r| r.action == "Check").count(), 1);
    node.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_put_the_old_program_back_is_reported_as_both() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let more = r#","errorMessage":"edgecore does not come up","rolledBack":true"#;
    let failed = format!("said '{}'; exit 1", report("Upgrade", false, more));
    let mut node = Node::start(&cloud, &failed).await;
    cloud.push(upgrade(&spec(json!({}))));
    let all = until(&cloud, "RollBack").await;
    assert_eq!(all[3..], steps(&[("Upgrade", false), ("RollBack", true)]));
    let reports = reports(&cloud.state());
    assert_eq!(reports[3].reason, "edgecore does not come up");
    assert_eq!(reports[4].extend, "v1.24.0,v1.23.0");
    assert_eq!(node.calls().len(), 2, "{:?}", node.calls());
    node.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_failed_or_died_is_rolled_back_with_the_backup() {
    let more = r#","errorMessage":"the old one does not run either""#;
    let failed = format!("said '{}'; exit 1", report("Upgrade", false, more));
    for upgrades in [failed.as_str(), "kill -9 $$"] {
        let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
        let mut node = Node::start(&cloud, upgrades).await;
        cloud.push(upgrade(&spec(json!({}))));
        let all = until(&cloud, "RollBack").await;
        assert_eq!(all[3..], steps(&[("Upgrade", false), ("RollBack", true)]));
        assert_eq!(node.calls().last().unwrap(), "--root=/x rollback edge --yes");
        node.stop().await;
    }
}

#[tokio::test]
async fn what_happens_without_a_link_or_over_a_restart_is_reported_afterwards() {
    let mut cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    // The command holds its lock and goes on while edgecore is restarted, as a real one does.
    let script = r#"while [ ! -e "$0/go" ]; do sleep 0.05; done
        printf %s "$1" >"$0/.new"; mv "$0/.new" "$0/upgrade_report.json""#;
    let slow = format!("exec flock $ETC sh -c '{script}' $ETC '{}'", report("Upgrade", true, ""));
    let mut node = Node::start(&cloud, &slow).await;
    cloud.push(upgrade(&spec(json!({}))));
    until(&cloud, "BackUp").await;
    let called = async {
        while node.calls().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, called).await.expect("an upgrade");
    cloud.stop().await;
    node.stop().await;
    cloud.start_again().await;
    node.start_again(&cloud, true).await;
    assert!(!reports(&cloud.state()).iter().any(|r| r.action == "Upgrade"));
    std::fs::write(node.etc().join("go"), "").unwrap();
    let all = until(&cloud, "Upgrade").await;
    assert_eq!(all.last(), steps(&ALL_WELL).last());
    assert_eq!(node.calls().len(), 2, "begun anew: {:?}", node.calls());
    node.stop().await;
}

#[tokio::test]
async fn a_job_whose_fields_mean_something_to_a_shell_fails_in_its_check_and_runs_nothing() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    let mark = node.etc().join("mark");
    let touch = format!("touch {}", mark.display());
    let hostile = [
        json!({"version": format!("v1.24.0;{touch}")}),
        json!({"version": format!("v1.24.0$({touch})")}),
        json!({"version": format!("v1.24.0\n{touch}\n")}),
        json!({"version": "--from=/etc/shadow"}),
        json!({"version": "../../../tmp"}),
        json!({"image": format!("kubeedge/x;{touch}")}),
        json!({"image": format!("kubeedge/`{touch}`")}),
        json!({"image": "-kubeedge/x"}),
        json!({"image": ""}),
        json!({"imageDigestGatter": {"amd64": format!("sha256:$({touch})"), "arm64": ";"}}),
        json!({"checkItems": ["cpu;reboot"]}),
    ];
    for (n, more) in hostile.into_iter().enumerate() {
        cloud.push(upgrade(&spec(more.clone())));
        cloud.until("a report", |s| reports(s).len() > n).await;
        let last = reports(&cloud.state()).pop().unwrap();
        assert_eq!((last.action.as_str(), last.succ), ("Check", false), "{more}");
        assert!(!last.reason.contains('\n'), "{last:?}");
    }
    assert!(node.calls().is_empty() && !mark.exists());
    assert_eq!(std::fs::read_dir(node.etc()).unwrap().count(), 0, "something was made");
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_carried_out_is_answered_with_the_reason() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    let last = async |count: usize| {
        cloud.until("a report", |s| reports(s).len() == count).await;
        let last = reports(&cloud.state()).pop().unwrap();
        assert_eq!((last.action.as_str(), last.succ), ("Check", false));
        last.reason
    };
    cloud.push(task("imageprepulljob", "p1", &json!({"imagePrePullTemplate": {"images": ["x"]}})));
    assert!(last(1).await.contains("no jobs of the kind imageprepulljob"));
    cloud.push(task("configupdatejob", "c1", &json!({"updateFields": {"a": "b"}})));
    assert!(last(2).await.contains("no jobs of the kind configupdatejob"));
    cloud.push(upgrade(&spec(json!({"image": "kubeedge/absent"}))));
    assert!(last(3).await.starts_with("failed to pull image kubeedge/absent:v1.24.0"));
    node.stop().await;
    node.start_again(&cloud, false).await;
    cloud.push(upgrade(&spec(json!({}))));
    assert!(last(4).await.contains("modules.taskManager.enable"));
    assert_eq!(node.confirm().await.0, 400);
    node.stop().await;
}

#[tokio::test]
async fn a_command_of_this_machine_gets_the_program_out_of_an_image() {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let mut node = Node::start(&cloud, &well()).await;
    let fetch = "/api/v1/taskupgrade/fetch?version=v1.24.0&image=kubeedge/installation-package";
    assert_eq!(node.post(fetch, false).await.0, 401);
    let (status, body) = node.post(fetch, true).await;
    assert_eq!(status, 200, "{body}");
    let place: Value = serde_json::from_str(&body).unwrap();
    assert!(Path::new(place["program"].as_str().unwrap()).exists(), "{body}");
    let (status, body) = node.post(&format!("{fetch}%3breboot"), true).await;
    assert!(status == 422 && body.contains("invalid image repo"), "{status} {body}");
    node.stop().await;
}
