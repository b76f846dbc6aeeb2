//! What the commands print that speak to an API server, or keep what it has: with the own control
//! plane, in this process.

use std::net::Ipv4Addr;
use std::thread::JoinHandle;

use control_plane::ControlPlane;
use serde_json::{Value, json};
use service::{CancellationToken, Service};

use crate::cloud::{Cloud, KubeConfigArg};
use crate::errors::Kind;
use crate::fleet::{Fleet, Want};
use crate::host::fake::Fake;
use crate::objects;
use crate::testing::{Machine, events, without_numbers};

/// A machine with a control plane that runs.
struct Plane {
    machine: Machine,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Plane {
    fn new() -> Self {
        let machine = Machine::new(Fake::default());
        let dir = machine.path("var/lib/kubeedge/control-plane");
        std::fs::create_dir_all(&dir).unwrap();
        let bind = (Ipv4Addr::LOCALHOST, 0).into();
        let config = control_plane::Config { bind, ..control_plane::Config::new(dir) };
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serve = async move {
            let mut svc = Service::new("control-plane");
            ControlPlane::build(config, &svc).await.unwrap().spawn(&mut svc);
            let (stopping, readiness) = (svc.stopping(), svc.readiness().clone());
            let running = tokio::spawn(svc.until_stopped());
            readiness.ready().await;
            ready.send(stopping).unwrap();
            running.await.unwrap().unwrap();
        };
        let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let thread = std::thread::spawn(move || runtime().unwrap().block_on(serve));
        let stopping = is_ready.recv().unwrap();
        Self { machine, running: Some((stopping, thread)) }
    }

    fn stop(&mut self) {
        if let Some((stopping, thread)) = self.running.take() {
            stopping.cancel();
            thread.join().unwrap();
        }
    }

    fn kubeconfig(&self) -> String {
        format!("{}/var/lib/kubeedge/control-plane/admin.conf", self.machine.root())
    }

    /// What a command line prints that asks the API server.
    fn ask(&self, line: &str) -> String {
        let option = format!("--kube-config {}", self.kubeconfig());
        self.machine.keadm(&format!("{line} {option}")).replacen(
            " --kube-config /var/lib/kubeedge/control-plane/admin.conf",
            "",
            1,
        )
    }

    /// Prepares what a test needs at the API server.
    fn prepare<T>(&self, work: impl AsyncFnOnce(Cloud) -> T) -> T {
        let (cx, _, _) = self.machine.context();
        let kube = KubeConfigArg::of_file(self.kubeconfig().into());
        let done = cx.block_on(async { Ok(work(kube.client(&cx).await?).await) });
        done.unwrap_or_else(|e| panic!("{}", e.render(false)))
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The text with words in the place of secrets and names that are made anew each time.
fn named(text: &str, names: &[(&str, &str)]) -> String {
    names.iter().fold(text.to_owned(), |text, (is, word)| text.replace(is, word))
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let plane = Plane::new();
    plane.prepare(async |cloud| {
        use api::config::ConfigFile as _;
        let host = api::config::Host::default();
        let mut config = api::config::CloudCoreConfig::default_for(&host);
        // Whatever lies on the machine that tests run on.
        let hub = &mut config.modules.cloud_hub;
        for file in [
            &mut hub.tls_ca_file,
            &mut hub.tls_ca_key_file,
            &mut hub.tls_cert_file,
            &mut hub.tls_private_key_file,
        ] {
            *file = std::path::PathBuf::new();
        }
        crate::pki::prepare_pki(&cloud, &config).await.unwrap();
    });
    let current = plane.ask("keadm gettoken");
    let token = current.lines().nth(3).unwrap().to_owned();
    assert_eq!(token.split('.').count(), 4, "{current}");
    let list = plane.ask("keadm gettoken list -o json");
    let list: Value = serde_json::from_str(list.split_once("--- out\n").unwrap().1).unwrap();
    let id = list.as_object().unwrap().keys().next().unwrap().clone();
    let revoke = format!("keadm gettoken revoke {id}");
    let mut all = vec![current];
    for line in [
        "keadm gettoken -o json",
        "keadm gettoken list",
        "keadm gettoken list -o json",
        "keadm gettoken --ttl 2h --dry-run",
        "keadm gettoken --ttl 2h --dry-run -o json",
        &format!("{revoke} --dry-run"),
        &format!("{revoke} --dry-run -o json"),
        &revoke,
        &format!("{revoke} -o json"),
        "keadm gettoken list",
        "keadm gettoken revoke nobody",
    ] {
        all.push(plane.ask(line));
    }
    let all = named(&all.join("\n"), &[(&token, "TOKEN"), (&id, "THE-TOKENS-ID")]);
    insta::assert_snapshot!("gettoken", without_numbers(&all));

    // Another one each time.
    let said = plane.ask("keadm gettoken --ttl 2h -o json");
    let made: Value = serde_json::from_str(said.split_once("--- out\n").unwrap().1).unwrap();
    let made = made["token"].as_str().unwrap();
    assert!(made != token && made.split('.').count() == 4, "{said}");
    assert_eq!(made.split('.').next(), token.split('.').next(), "of the same CA");
}

#[test]
fn a_control_plane_is_backed_up_and_put_back() {
    let mut plane = Plane::new();
    let file = plane.machine.path("backup.tar.gz");
    let file = file.display();
    let mut all = Vec::new();
    let mut say = |plane: &Plane, line: &str| all.push(plane.machine.keadm(line));
    for line in [
        format!("keadm backup cloud {file} --dry-run"),
        format!("keadm backup cloud {file}"),
        format!("keadm backup cloud {file} -o json"),
        format!("keadm restore cloud {file} --yes"),
    ] {
        say(&plane, &line);
    }
    let said = plane.machine.keadm(&format!("keadm backup cloud {file} --progress jsonl"));
    assert_eq!(events(&said), ["started backup", "done backup", "ready"], "{said}");
    let nowhere =
        format!("keadm backup cloud {}/no/folder/x --progress jsonl", plane.machine.root());
    let said = plane.machine.keadm(&nowhere);
    assert_eq!(events(&said), ["started backup", "failed backup"], "{said}");

    plane.stop();
    for line in [
        format!("keadm restore cloud {file}"),
        format!("keadm restore cloud {file} --dry-run"),
        format!("keadm restore cloud {file} --dry-run -o json"),
        format!("keadm restore cloud {file} --yes"),
        format!("keadm restore cloud {file} --yes -o json --data-dir {}/new", plane.machine.root()),
        format!("keadm backup cloud {file} --data-dir {}/new", plane.machine.root()),
    ] {
        say(&plane, &line);
    }
    insta::assert_snapshot!("backup", without_numbers(&all.join("\n")));
    let again =
        format!("keadm restore cloud {file} --data-dir {}/third --yes", plane.machine.root());
    let said = plane.machine.keadm(&format!("{again} --progress jsonl"));
    assert_eq!(events(&said), ["started restore", "done restore", "ready"], "{said}");
    std::fs::write(plane.machine.path("backup.tar.gz"), "nonsense").unwrap();
    let said = plane.machine.keadm(&format!("{again} --progress jsonl"));
    assert_eq!(events(&said), ["started restore", "failed restore"], "{said}");
}

/// A lamp that says that it shines with 40.
async fn lamp(cloud: Cloud) {
    let (cx, _, _) = crate::testing::capturing(&Fake::default());
    let progress = crate::phases::Progress::new(&cx.printer);
    let limit = std::time::Duration::from_secs(60);
    cloud.define(&objects::crds(), limit, &progress.begin("define")).await.unwrap();
    let kind = |kind: &str, name: &str, field: &str, value: Value| {
        json!({
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind,
            "metadata": {"namespace": "default", "name": name}, field: value,
        })
    };
    let properties = json!([
        {"name": "brightness", "type": "INT", "accessMode": "ReadWrite",
         "minimum": "0", "maximum": "100"},
        {"name": "lit", "type": "BOOLEAN", "accessMode": "ReadOnly"},
    ]);
    let model = json!({"protocol": "modbus", "properties": properties});
    let spec = json!({"deviceModelRef": {"name": "bulb"}, "nodeName": "edge-1",
        "protocol": {"protocolName": "modbus"}, "properties": [{"name": "brightness"}]});
    let status = json!({"twins": [{"propertyName": "brightness", "reported": {"value": "40"}}]});
    for object in [
        kind("DeviceModel", "bulb", "spec", model),
        kind("Device", "lamp", "spec", spec),
        kind("DeviceStatus", "lamp", "status", status),
    ] {
        cloud.apply(&object).await.unwrap_or_else(|e| panic!("{}", e.render(false)));
    }
}

#[test]
fn a_device_is_told_and_waited_for() {
    let plane = Plane::new();
    plane.prepare(lamp);
    let lines = [
        "keadm device set lamp brightness=40",
        "keadm device set lamp brightness=40 -o json",
        "keadm device set lamp brightness=40 --dry-run",
        "keadm device set lamp brightness=40 --dry-run -o json",
        "keadm device set lamp brightness=40 --wait -q",
        "keadm device set lamp brightness=40 --wait -o json",
        "keadm device set lamp brightness=50 --wait --timeout 3s",
        "keadm device set lamp brightness=101",
        "keadm device set lamp colour=red",
        "keadm device set nobody brightness=40",
    ];
    let all: Vec<String> = lines.iter().map(|line| plane.ask(line)).collect();
    let port = plane.prepare(async |cloud| cloud.server.rsplit(':').next().unwrap().to_owned());
    insta::assert_snapshot!("device_set", named(&all.join("\n"), &[(&port, "PORT")]));

    let wait = "--wait --progress jsonl --timeout";
    let said = plane.ask(&format!("keadm device set lamp brightness=40 {wait} 60s -o json"));
    let told = ["started wait", "waiting wait", "done wait", "ready"];
    assert_eq!(events(&said)[..4], told, "{said}");
    assert_eq!(events(&said)[4..], [""], "and the result: {said}");
    let said = plane.ask(&format!("keadm device set lamp brightness=50 {wait} 300ms"));
    assert_eq!(events(&said), ["started wait", "waiting wait", "failed wait"], "{said}");
}

#[test]
fn what_comes_from_the_kubernetes_api_has_ages_and_says_nothing_of_links() {
    let plane = Plane::new();
    plane.prepare(async |cloud| {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": "edge-1", "labels": {"node-role.kubernetes.io/edge": ""}}});
        cloud.apply(&node).await.unwrap_or_else(|e| panic!("{}", e.render(false)));
    });
    let said = plane.ask("keadm describe node edge-1");
    let created = said.lines().find(|line| line.starts_with("Created:")).unwrap_or_default();
    assert!(created.ends_with("s ago)"), "{said}");
    assert!(!said.contains("Queue:"), "{said}");
    let said = plane.ask("keadm get node edge-1 -o wide --no-headers");
    assert!(said.contains("edge-1") && !said.contains("0+0"), "{said}");
    let json = plane.ask("keadm get node edge-1 -o json");
    assert!(json.contains(r#""queue": {"#), "as documented: {json}");
}

#[test]
fn an_api_server_that_goes_away_is_lost_for_the_dashboard_and_not_for_a_watch() {
    let mut plane = Plane::new();
    let (cx, _, _) = plane.machine.context();
    let kube = KubeConfigArg::of_file(plane.kubeconfig().into());
    let limit = std::time::Duration::from_secs(30);
    cx.block_on(async {
        let cloud = kube.client(&cx).await?;
        let watch = Want { watch: true, ..Want::default() };
        let mut patient = Fleet::of_cluster(cloud.clone(), watch, limit).await?;
        let dashboard = Want { until_lost: true, ..watch };
        let mut fleet = Fleet::of_cluster(cloud, dashboard, limit).await?;
        patient.first().await?;
        fleet.first().await?;
        let mut lost = tokio::spawn(async move {
            loop {
                if let Err(e) = fleet.next().await {
                    return e.kind;
                }
            }
        });
        // What there is by itself is told once more; then nothing happens.
        tokio::task::block_in_place(|| plane.stop());
        let waited = async { while patient.next().await.is_ok() {} };
        tokio::select! {
            kind = &mut lost => assert_eq!(kind.unwrap(), Kind::Unreachable),
            () = waited => panic!("a watch goes on"),
            () = tokio::time::sleep(limit * 2) => panic!("nobody noticed"),
        }
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", e.render(false)));
}
