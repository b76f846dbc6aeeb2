//! edged on a real containerd.

use std::sync::Arc;
use std::time::Duration;

use edgecore::edged::runtime::cri::CriRuntime;
use edgecore::edged::runtime::{ContainerRuntime, ContainerState, Listing};
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::json;
use tests::containerd::{BUSYBOX, Containerd};
use tests::node::{EdgedNode, Table};

struct Bench {
    containerd: Containerd,
    runtime: Arc<CriRuntime>,
}

impl Bench {
    async fn start() -> Self {
        let containerd = Containerd::start().await.unwrap();
        let runtime = Arc::new(CriRuntime::new(&containerd.endpoint()).unwrap());
        Self { containerd, runtime }
    }

    fn node(&self, table: Table) -> EdgedNode {
        EdgedNode::start(self.containerd.dir(), self.runtime.clone(), table)
    }

    async fn list(&self) -> Listing {
        self.runtime.list(None).await.unwrap()
    }

    async fn exec(&self, container: &str, script: &str) -> String {
        let list = self.list().await;
        let c = list
            .containers
            .iter()
            .find(|c| c.name == container && c.state == ContainerState::Running)
            .unwrap_or_else(|| panic!("no running container `{container}`"));
        let command: Vec<String> = ["sh", "-c", script].map(str::to_owned).into();
        let out = self.runtime.exec_sync(&c.id, &command, Duration::from_secs(10)).await.unwrap();
        assert_eq!(out.exit_code, 0, "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }
}

fn is_running(s: &PodStatus) -> bool {
    s.phase.as_deref() == Some("Running") && s.container_statuses.iter().flatten().all(|c| c.ready)
}

fn sleeper(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": name, "image": BUSYBOX, "command": ["sleep", "3600"]}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_in_containerd_survives_edged_and_is_removed() {
    let bench = Bench::start().await;
    let node = bench.node(Table::default());
    node.table.config_map("settings", &[("color", "blue")]);
    node.table.secret("login", &[("password", "s3cret")]);
    let begun = std::time::SystemTime::now();
    node.apply(json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {
        "hostname": "shop", "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "prepare", "image": BUSYBOX, "command": ["sh", "-c", "echo made > /work/file"],
            "volumeMounts": [{"name": "work", "mountPath": "/work"}]}],
        "containers": [{"name": "main", "image": BUSYBOX,
            "command": ["sh", "-c", "echo hello from $(WHO); trap 'exit 0' TERM; while :; do sleep 0.1; done"],
            "env": [{"name": "WHO", "value": "edge"},
                {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
            "readinessProbe": {"exec": {"command": ["test", "-e", "/work/file"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "work", "mountPath": "/work"},
                {"name": "cfg", "mountPath": "/cfg"}, {"name": "sec", "mountPath": "/sec"},
                {"name": "cfg", "mountPath": "/one", "subPath": "color"},
                {"name": "all", "mountPath": "/all"}]}],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "cfg", "configMap": {"name": "settings"}},
            {"name": "sec", "secret": {"secretName": "login"}},
            {"name": "all", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}]
    }})).await;
    let status = node.table.status("web", is_running).await;
    println!("create to Running: {:?}", begun.elapsed().unwrap());
    let ip = status.pod_ip.unwrap();
    assert!(ip.starts_with("198.18.77."), "{ip}");
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    assert_eq!(
        bench
            .exec("main", "cat /work/file /cfg/color /one /sec/password /all/token /all/labels")
            .await,
        "made\nblueblues3crettoken of defaultapp=\"web\""
    );
    assert_eq!(
        bench.exec("main", "echo $COLOR $IP $FROM_IMAGE; hostname").await,
        format!("blue {ip} yes\nshop")
    );
    assert!(bench.exec("main", "cat /etc/hosts").await.contains(&format!("{ip}\tshop")));

    node.table.config_map("settings", &[("color", "green")]);
    let key = api::names::ObjectKey::new(
        "default".parse().unwrap(),
        api::names::Kind::ConfigMap,
        "settings",
    );
    node.object_changed(key).await;
    for _ in 0..100 {
        if bench.exec("main", "cat /cfg/color").await == "green" {
            break;
        }
    }
    assert_eq!(bench.exec("main", "cat /cfg/color").await, "green");

    // edged goes and comes: the containers do not notice.
    let before = bench.list().await;
    let table = node.stop().await;
    let node = bench.node(table);
    node.apply(sleeper("second")).await;
    node.table.status("second", is_running).await;
    let after = bench.list().await;
    for c in &before.containers {
        assert!(after.containers.iter().any(|a| a.id == c.id && a.state == c.state), "{}", c.name);
    }
    assert_eq!(after.containers.len(), before.containers.len() + 1);

    for pod in ["web", "second"] {
        node.delete(pod, 1).await;
        node.table.gone(pod).await;
    }
    let status = node.table.status("web", |s| s.phase.as_deref() == Some("Succeeded")).await;
    let ended = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
    let left = bench.list().await;
    assert!(left.sandboxes.is_empty() && left.containers.is_empty(), "{left:?}");
    assert!(!bench.containerd.dir().join("kubelet/pods/uid-web").exists());
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let cgroup = hierarchy.path().join("edged-test/kubepods/burstable/poduid-web");
        assert!(!cgroup.exists(), "{}", cgroup.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_pods_at_once_run_soon_and_a_death_is_told_at_once() {
    let bench = Bench::start().await;
    let node = bench.node(Table::default());
    node.apply(sleeper("warm")).await;
    node.table.status("warm", is_running).await;
    let on_host = |name: &str| {
        let mut pod = sleeper(name);
        pod["spec"]["hostNetwork"] = json!(true);
        pod
    };
    for n in 0..5 {
        let name = format!("single-{n}");
        let begun = tokio::time::Instant::now();
        node.apply(if n < 3 { sleeper(&name) } else { on_host(&name) }).await;
        node.table.status(&name, is_running).await;
        println!("{name}: create to Running {:?}", begun.elapsed());
    }
    let begun = tokio::time::Instant::now();
    for n in 0..30 {
        node.apply(on_host(&format!("crowd-{n}"))).await;
    }
    for n in 0..30 {
        node.table.status(&format!("crowd-{n}"), is_running).await;
    }
    println!("30 pods: the last Running after {:?}", begun.elapsed());

    let mut pod = sleeper("mortal");
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", "while [ ! -e /tmp/end ]; do usleep 1000; done; exit 3"]);
    node.apply(pod).await;
    node.table.status("mortal", is_running).await;
    let list = bench.list().await;
    let c = list.containers.iter().find(|c| c.name == "mortal").unwrap();
    let touch: Vec<String> = ["touch", "/tmp/end"].map(str::to_owned).into();
    bench.runtime.exec_sync(&c.id, &touch, Duration::from_secs(10)).await.unwrap();
    let begun = tokio::time::Instant::now();
    let status = node.table.status("mortal", |s| s.phase.as_deref() == Some("Failed")).await;
    let took = begun.elapsed();
    println!("death to status: {took:?}");
    assert!(took < Duration::from_secs(1), "the runtime's events were not heard: {took:?}");
    let ended = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (3, Some("Error")));
}
