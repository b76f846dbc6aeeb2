//! edged on a real containerd.

use std::sync::Arc;
use std::time::Duration;

use edgecore::edged::runtime::cri::CriRuntime;
use edgecore::edged::runtime::{ContainerRuntime, ContainerState, Listing, StreamSpec};
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::json;
use tests::containerd::{BUSYBOX, Containerd};
use tests::node::{EdgedNode, Table};
use tokio::io::AsyncReadExt;

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
        "initContainers": [{"name": "prepare", "image": BUSYBOX, "command": ["sh", "-c", "echo made > /scratch/file"],
            "volumeMounts": [{"name": "work", "mountPath": "/scratch"}]}],
        "containers": [{"name": "main", "image": BUSYBOX,
            "command": ["sh", "-c", "echo hello from $(WHO); trap 'exit 0' TERM; while :; do sleep 0.1; done"],
            "env": [{"name": "WHO", "value": "edge"},
                {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
            "readinessProbe": {"exec": {"command": ["test", "-e", "/scratch/file"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "work", "mountPath": "/scratch"},
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
    assert!(ip.starts_with("198.1"), "{ip}");
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    assert_eq!(
        bench
            .exec("main", "cat /scratch/file /cfg/color /one /sec/password /all/token /all/labels")
            .await,
        "made\nblueblues3crettoken of defaultapp=\"web\""
    );
    assert_eq!(
        bench.exec("main", "echo $COLOR $IP $FROM_IMAGE; hostname").await,
        format!("blue {ip} yes\nshop")
    );
    assert!(bench.exec("main", "cat /etc/hosts").await.contains(&format!("{ip}\tshop")));

    let log = node.get("/containerLogs/default/web/main?tailLines=5").await.unwrap();
    assert!(log.starts_with("HTTP/1.0 200") && log.ends_with("\r\n\r\nhello from edge\n"), "{log}");
    let gone = node.get("/containerLogs/default/nobody/main").await.unwrap();
    assert!(gone.contains("404") && gone.contains("pod \"nobody\" does not exist"), "{gone}");
    assert!(node.get("/healthz").await.unwrap().ends_with("ok"));
    assert!(node.get("/pods").await.unwrap().contains("\"kind\":\"PodList\""));
    let exec = node.get("/exec/default/web/main?command=id&output=1").await.unwrap();
    assert!(exec.starts_with("HTTP/1.0 401") && exec.contains("local-api.token"), "{exec}");
    let summary = node.get("/stats/summary").await.unwrap();
    let told: serde_json::Value =
        serde_json::from_str(summary.split_once("\r\n\r\n").unwrap().1).unwrap();
    let containers = told["pods"][0]["containers"].as_array().unwrap();
    let main = containers.iter().find(|c| c["name"] == "main").unwrap();
    for of in [&told["node"], main] {
        for at in ["/cpu/usageCoreNanoSeconds", "/memory/workingSetBytes"] {
            let figure = of.pointer(at).and_then(serde_json::Value::as_u64);
            assert!(figure.is_some_and(|n| n > 0), "{at}: {told}");
        }
    }

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_limits_probes_and_last_words_are_the_pods() {
    let bench = Bench::start().await;
    let node = bench.node(Table::default());
    node.apply(json!({"metadata": {"name": "meek"}, "spec": {
        "terminationGracePeriodSeconds": 1, "hostNetwork": true,
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000},
        "containers": [{"name": "meek", "image": BUSYBOX, "command": ["sleep", "3600"],
            "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true},
            "volumeMounts": [{"name": "work", "mountPath": "/scratch"}, {"name": "mem", "mountPath": "/mem"}]}],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    }})).await;
    node.apply(json!({"metadata": {"name": "serving"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "serving", "image": BUSYBOX,
            "command": ["sh", "-c", "mkdir /tmp/www && echo hi > /tmp/www/ok && httpd -f -p 8080 -h /tmp/www"],
            "ports": [{"name": "web", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ok", "port": "web"}, "periodSeconds": 1},
            "livenessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "initialDelaySeconds": 5}}]
    }})).await;
    node.apply(json!({"metadata": {"name": "last"}, "spec": {"restartPolicy": "Never",
        "containers": [{"name": "last", "image": BUSYBOX,
            "command": ["sh", "-c", "echo farewell > /dev/termination-log; exit 4"]}]}}))
        .await;
    node.apply(json!({"metadata": {"name": "imageless"}, "spec": {
        "containers": [{"name": "imageless", "image": "test.local/none:1", "imagePullPolicy": "Never"}]}})).await;

    node.table.status("meek", is_running).await;
    assert_eq!(bench.exec("meek", "id -u; id -g; id -G").await, "1000\n2000\n2000 3000");
    assert_eq!(bench.exec("meek", "touch /x 2>/dev/null || echo refused").await, "refused");
    assert_eq!(bench.exec("meek", "touch /scratch/a && stat -c %g /scratch/a").await, "3000");
    let full = "dd if=/dev/zero of=/mem/x bs=1024 count=2000 2>/dev/null || stat -c %s /mem/x";
    assert_eq!(bench.exec("meek", full).await, "1048576");
    assert_eq!(
        bench.exec("meek", "grep CapEff /proc/self/status | cut -f2").await,
        "0000000000000000"
    );

    node.table.status("serving", is_running).await;
    let ended =
        |s: &PodStatus| s.container_statuses.as_ref()?[0].state.as_ref()?.terminated.clone();
    // containerd may miss the kernel's word on a container that dies quickly and report a mere 137,
    // so it gets several chances; the exit code is the same each time.
    let mut told = false;
    for attempt in 0..8 {
        let name = format!("greedy-{attempt}");
        node.apply(json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "greedy", "image": BUSYBOX, "command": ["tail", "/dev/zero"],
                "resources": {"limits": {"memory": "32Mi"}}}]}}))
            .await;
        let greedy = ended(&node.table.status(&name, |s| ended(s).is_some()).await).unwrap();
        assert_eq!(greedy.exit_code, 137);
        node.delete(&name, 1).await;
        node.table.gone(&name).await;
        told = greedy.reason.as_deref() == Some("OOMKilled");
        if told {
            break;
        }
    }
    assert!(told, "no container was ever OOMKilled");
    let last =
        ended(&node.table.status("last", |s| s.phase.as_deref() == Some("Failed")).await).unwrap();
    assert_eq!((last.exit_code, last.message.as_deref()), (4, Some("farewell\n")));
    let waiting = node
        .table
        .status("imageless", |s| {
            s.container_statuses.as_ref().is_some_and(|c| {
                c[0].state
                    .as_ref()
                    .is_some_and(|s| s.waiting.as_ref().is_some_and(|w| w.message.is_some()))
            })
        })
        .await;
    let why = waiting.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(why.reason.as_deref(), Some("ErrImageNeverPull"));

    let list = bench.list().await;
    let serving = list.containers.iter().find(|c| c.name == "serving").unwrap();
    let command = ["sh", "-c", "echo out; echo err >&2; exit 7"].map(str::to_owned).into();
    let spec = StreamSpec { command, stdout: true, stderr: true, ..StreamSpec::default() };
    let streams = bench.runtime.exec(&serving.id, &spec).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    streams.stdout.unwrap().read_to_string(&mut out).await.unwrap();
    streams.stderr.unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str(), streams.exit.await), ("out\n", "err\n", Ok(7)));
    assert!(
        node.table.status("serving", is_running).await.container_statuses.unwrap()[0].restart_count
            == 0
    );

    for pod in ["meek", "serving", "last", "imageless"] {
        node.delete(pod, 1).await;
    }
    for pod in ["meek", "serving", "last", "imageless"] {
        node.table.gone(pod).await;
    }
    assert!(bench.list().await.sandboxes.is_empty());
    // Other nodes of this machine have theirs.
    let own = bench.containerd.dir().to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let left = mounts.lines().find(|m| m.contains(own) && m.contains("kubernetes.io~"));
    assert_eq!(left, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_copied_out_of_an_image_of_containerd_and_nothing_is_left_of_the_copy() {
    let bench = Bench::start().await;
    let folder = bench.containerd.dir().join("program");
    std::fs::create_dir(&folder).unwrap();
    let to = folder.join("busybox");
    bench.runtime.copy_from_image(BUSYBOX, "/bin/busybox", &to).await.unwrap();
    let own = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    assert!(std::fs::read(&to).unwrap() == own.unwrap(), "another program");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&to).unwrap().permissions());
    assert_eq!(mode & 0o111, 0o111, "it can be run");

    let absent = bench.runtime.copy_from_image(BUSYBOX, "/bin/absent", &folder.join("x")).await;
    let said = absent.unwrap_err().to_string();
    assert!(said.contains("/bin/absent") || said.contains("copies a file out"), "{said}");
    let absent = bench.runtime.copy_from_image("test.local/none:1", "/x", &folder.join("x")).await;
    assert!(absent.unwrap_err().is_not_found());
    let left = bench.list().await;
    assert!(left.sandboxes.is_empty() && left.containers.is_empty(), "{left:?}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "only what was asked for");
}
