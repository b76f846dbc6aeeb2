//! A device, from what is desired in the cloud to what it reports, and back.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tests::host::{Host, Pair};
use tests::keadm::{Running, command};
use tests::kubectl::Kubectl;
use tests::wait;

use super::join::{cloud, join, kubectl};
use super::{PATIENCE, Up};

pub(crate) fn reported(kubectl: &Kubectl<'_>, device: &str, property: &str) -> Option<String> {
    let status = kubectl.get(&["devicestatus", device]).ok()?;
    let twins = status.pointer("/status/twins")?.as_array()?.clone();
    let twin = twins.into_iter().find(|t| t["propertyName"] == property)?;
    twin.pointer("/reported/value")?.as_str().map(str::to_owned)
}

/// `keadm device set`: exit code, standard output, standard error.
fn set(host: &Host, kubeconfig: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut all = vec!["device", "set", "--kube-config", kubeconfig];
    all.extend_from_slice(args);
    let output = command(host, all).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_sample_device_lives_and_does_as_it_is_told() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    let kubeconfig = up.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    assert!(up.keadm.said().contains("temperature"), "{}", up.keadm.said());
    let first = reported(&kubectl, "climate", "visitors").unwrap();
    wait::until("the counter to go on", PATIENCE, || {
        match reported(&kubectl, "climate", "visitors") {
            Some(now) if now != first => Ok(()),
            now => Err(format!("{now:?}")),
        }
    });

    let (code, out, err) = set(&host, kubeconfig, &["climate", "heating=true", "--wait"]);
    assert_eq!((code, out.as_str()), (Some(0), "default/climate heating=true\n"), "{err}");
    assert_eq!(reported(&kubectl, "climate", "heating").as_deref(), Some("true"));

    for (wrong, code, why) in [
        ("heating=maybe", 2, "must be true or false"),
        ("temperature=5", 2, "ReadOnly"),
        ("colour=red", 4, "temperature, visitors, heating"),
    ] {
        let (found, _, err) = set(&host, kubeconfig, &["climate", wrong]);
        assert_eq!(found, Some(code), "{wrong}: {err}");
        assert!(err.contains(why), "{wrong}: {err}");
    }

    kubectl.run(&["delete", "pod", "sample-mapper", "--force", "--grace-period=0"]);
    kubectl.until_gone(&["pod", "sample-mapper"], PATIENCE);
    wait::until("the mapper to be gone", PATIENCE, || {
        let quick = ["climate", "heating=false", "--wait", "--timeout", "2"];
        match set(&host, kubeconfig, &quick) {
            (Some(7), _, err) if err.contains("is reported as `true`") => Ok(()),
            (_, _, err) => {
                set(&host, kubeconfig, &["climate", "heating=true"]);
                Err(err)
            }
        }
    });
}

pub(crate) fn lamp(node: &str) -> [Value; 2] {
    let api = "devices.kubeedge.io/v1beta1";
    [
        json!({"apiVersion": api, "kind": "DeviceModel", "metadata": {"name": "lamp"},
            "spec": {"protocol": "simulated", "properties": [
                {"name": "level", "type": "INT", "accessMode": "ReadWrite", "maximum": "100"}]}}),
        json!({"apiVersion": api, "kind": "Device", "metadata": {"name": "hall"},
        "spec": {"deviceModelRef": {"name": "lamp"}, "nodeName": node,
            "protocol": {"protocolName": "simulated"},
            "properties": [{"name": "level", "desired": {"value": "1"}, "reportCycle": 500,
                "visitors": {"protocolName": "simulated", "configData": {"simulate": "obey"}}}],
        }}),
    ]
}

/// The sample mapper, as documentation has it: with the folder of `dmi.sock`.
fn mapper_pod(node: &str) -> Value {
    let sockets = "/etc/kubeedge";
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mapper"}, "spec": {
        "nodeName": node,
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "mapper",
            "image": edgecore::sample::IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": [edgecore::sample::PROGRAM, "mapper", "--simulate"],
            "volumeMounts": [{"name": "sockets", "mountPath": sockets}],
        }],
        "volumes": [{"name": "sockets", "hostPath": {"path": sockets, "type": "Directory"}}],
    }})
}

#[test]
fn a_value_desired_while_the_edge_is_cut_off_is_reported_when_it_is_back() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    kubectl.apply(&mapper_pod("edge-2").to_string());
    // The device before its model: it waits.
    let [model, device] = lamp("edge-2");
    kubectl.apply(&device.to_string());
    kubectl.apply(&model.to_string());
    let level = |want: &str| {
        wait::until("the level to be reported", PATIENCE, || {
            match reported(&kubectl, "hall", "level") {
                Some(now) if now == want => Ok(()),
                now => Err(format!("{now:?}")),
            }
        });
    };
    level("1");
    pair.cut();
    let patch = r#"[{"op":"replace","path":"/spec/properties/0/desired/value","value":"42"}]"#;
    kubectl.run(&["patch", "device", "hall", "--type=json", "-p", patch]);
    assert_eq!(reported(&kubectl, "hall", "level").as_deref(), Some("1"));
    pair.mend();
    level("42");
    kubectl.run(&["delete", "device", "hall"]);
    kubectl.until_gone(&["devicestatus", "hall"], PATIENCE);
}

/// The blocks of a page of the documentation that are manifests.
fn manifests(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|b| b.strip_prefix("yaml\n")).map(str::to_owned).collect()
}

/// Programs of the package mosquitto-clients.
fn mosquitto(host: &Host, program: &str, args: &[&str]) -> std::process::Command {
    let mut command = host.command(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A subscription that stands. Into a file it would say what it heard only at its end, hence `stdbuf`.
fn subscribe(host: &Host, topic: &str, log: &Path) -> Running {
    let args = ["-oL", "mosquitto_sub", "-d", "-W", "120", "-t", topic];
    let mut running = Running::start(mosquitto(host, "stdbuf", &args), log);
    running.until_said("Subscribed", PATIENCE);
    running
}

/// Publishes until what it says has arrived: nobody tells when the subscription stands.
pub(crate) fn publish_until(
    host: &Host,
    port: &str,
    topic: &str,
    payload: &str,
    arrived: impl Fn() -> bool,
) {
    wait::until("what a device publishes", PATIENCE, || {
        let args = ["-p", port, "-q", "1", "-t", topic, "-m", payload];
        let out = mosquitto(host, "mosquitto_pub", &args).output().unwrap();
        if out.status.success() && arrived() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    });
}

#[test]
fn the_manifests_of_the_documentation_apply_under_the_eyes_of_the_webhook_and_work() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    let (devices, mappers) = (manifests("devices.md"), manifests("mappers.md"));
    assert!(!devices.is_empty() && !mappers.is_empty());
    for manifest in devices.iter().chain(&mappers) {
        kubectl.apply(manifest);
    }
    // As devices.md says it.
    let is_refused = || {
        let wrong = devices[0].replace("value: \"21\"", "value: \"35\"");
        let out = kubectl.output(&["apply", "-f", "-"], &wrong);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let words =
            "spec.properties[1].desired.value: Invalid value: \"35\": must be from 5 to 30 C";
        assert!(!out.status.success() && said.contains(words), "{said}");
    };
    is_refused();
    // The same from a program of its own, which takes the place of the one that `up` has.
    let kubeconfig = up.kubeconfig();
    let mut webhook = vec!["admission", "--kube-config", kubeconfig.to_str().unwrap()];
    webhook.extend(["--address", "127.0.0.1", "--advertise", "127.0.0.1", "--port", "9443"]);
    let webhook = Running::start(command(&host, webhook), &folder.path().join("admission.log"));
    let last = ["mutatingwebhookconfiguration", "mutate-offlinemigration"];
    let url = "https://127.0.0.1:9443/offlinemigration";
    kubectl.until(&last, "/webhooks/0/clientConfig/url", url, PATIENCE);
    is_refused();
    assert_eq!(webhook.interrupt().code(), Some(0));
    // As mappers.md says it: the sample mapper, which runs already, plays the room.
    wait::until("the room to obey", PATIENCE, || {
        match ["light", "visitors", "temperature"].map(|p| reported(&kubectl, "room", p)) {
            [Some(light), Some(_), Some(_)] if light == "true" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let shown = kubectl.run(&["get", "devices,devicemodels,devicestatuses"]);
    assert!(shown.contains("PROTOCOL") && shown.contains("LAST ONLINE"), "{shown}");
    // And a device of MQTT, at the broker of edgecore's own.
    let lamp = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
        "metadata": {"name": "lamp.of-1.namespace"}, "spec": {"nodeName": "edge-1",
            "properties": [{"name": "on", "desired": {"value": "true"}}]}});
    let lamp = lamp.to_string();
    kubectl.apply(&lamp);
    kubectl.run(&["create", "namespace", "other"]);
    kubectl.run_with(&["apply", "-n", "other", "-f", "-"], &lamp);
    let topic = "$hw/events/device/default/lamp.of-1.namespace/twin/update";
    let on = r#"{"event_id":"1","timestamp":0,"twin":{"on":{"actual":{"value":"true"}}}}"#;
    publish_until(&host, "1884", topic, on, || {
        reported(&kubectl, "lamp.of-1.namespace", "on").is_some()
    });
    wait::until("the status of its namesake", PATIENCE, || {
        let other = kubectl.get(&["devicestatus", "lamp.of-1.namespace", "-n", "other"])?;
        assert_eq!(other.pointer("/status/twins/0"), None, "{other:#}");
        Ok(())
    });
}

/// A form that KubeEdge's documentation and samples have.
struct Form {
    protocol: &'static str,
    device: &'static str,
    manifest: &'static str,
    /// What the device reports through a mapper that does as it is told.
    reports: &'static [(&'static str, &'static str)],
}

const FORMS: [Form; 4] = [
    Form {
        protocol: "modbus",
        device: "boiler-1",
        manifest: include_str!("devices/modbus.yaml"),
        reports: &[("pressure", "2.5"), ("pump", "1")],
    },
    Form {
        protocol: "bluetooth",
        device: "tag.of-hall.7",
        manifest: include_str!("devices/bluetooth.yaml"),
        reports: &[("ambient", "20"), ("buzzer", "OFF")],
    },
    Form {
        protocol: "opcua",
        device: "press-1",
        manifest: include_str!("devices/opcua.yaml"),
        reports: &[
            ("Strokes", "12"),
            ("Force", "-1.5e3"),
            ("Guard.Closed", "true"),
            ("Recipe", "AAEC/w=="),
        ],
    },
    Form {
        protocol: "counter-protocol",
        device: "counter-instance-01",
        manifest: include_str!("devices/customized.yaml"),
        reports: &[("status", "ON")],
    },
];

#[test]
fn manifests_of_each_form_that_kubeedge_has_apply_whole_reach_the_edge_and_work() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["--no-sample"]);
    let kubectl = up.kubectl(&host);
    let edgecore = up.data.join("edgecore");
    let dmi = edgecore.join("dmi/dmi.sock");
    let mut mappers = Vec::new();
    for Form { protocol, manifest, .. } in FORMS {
        kubectl.apply(manifest);
        let args = ["mapper", "--simulate", "--protocol", protocol, "--name", protocol];
        let args = [&args[..], &["--dmi-socket", dmi.to_str().unwrap()]].concat();
        let log = folder.path().join(protocol);
        mappers.push(Running::start(command(&host, args), &log));
    }
    for Form { protocol, device: name, manifest, reports } in FORMS {
        // Whole in the cloud, and as whole at the edge.
        let dry = ["create", "-f", "-", "--dry-run=client", "-o", "jsonpath={..spec}"];
        let given = kubectl.run_with(&dry, manifest);
        let object = kubectl.get(&["device", name]).unwrap();
        let spec = &object["spec"];
        let given: Vec<Value> =
            serde_json::Deserializer::from_str(&given).into_iter().map(Result::unwrap).collect();
        assert!(given.contains(spec), "{spec:#} is none of {given:#?}");
        let db = rusqlite::Connection::open(edgecore.join("edgecore.db")).unwrap();
        let key = format!("default/device/{name}");
        let get = "SELECT value FROM meta WHERE key = ?1";
        wait::until("the device at the edge", PATIENCE, || {
            let row = db.query_row(get, [&key], |row| row.get::<_, String>(0));
            let row: Value = serde_json::from_str(&row.map_err(|e| e.to_string())?).unwrap();
            if row["spec"] == *spec { Ok(()) } else { Err(format!("{row:#}")) }
        });
        // And a mapper of its protocol makes of it what it should be.
        kubectl.until(&["devicestatus", name], "/status/state", "online", PATIENCE);
        for (property, value) in reports {
            wait::until("the device to obey", PATIENCE, || {
                match reported(&kubectl, name, property) {
                    Some(is) if is == *value => Ok(()),
                    other => Err(format!("{protocol}: {property} is {other:?}")),
                }
            });
        }
    }
}

#[test]
fn a_device_behind_mosquitto_and_the_cloud_agree_again_after_a_cut() {
    let (pair, folder) = (Pair::new(), tempfile::tempdir().unwrap());
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    // edgecore looks for an external broker at this port unless told otherwise.
    let broker = mosquitto(&pair.edge, "mosquitto", &["-p", "1883"]);
    let _broker = Running::start(broker, &folder.path().join("mosquitto.log"));
    let device = |desired: &str| {
        json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
            "metadata": {"name": "lamp"}, "spec": {"nodeName": "edge-2",
                "properties": [{"name": "level", "desired": {"value": desired}}]}})
        .to_string()
    };
    kubectl.apply(&device("1"));
    let topic = "$hw/events/device/default/lamp/twin/update";
    let level = |value: u32| {
        let actual = json!({"value": value.to_string()});
        json!({"event_id": "e", "timestamp": 0, "twin": {"level": {"actual": actual}}}).to_string()
    };
    let is = |value: &str| reported(&kubectl, "lamp", "level").as_deref() == Some(value);
    publish_until(&pair.edge, "1883", topic, &level(1), || is("1"));

    pair.cut();
    let result = format!("{topic}/result");
    let mut listening = subscribe(&pair.edge, &result, &folder.path().join("results"));
    for value in [2, 3] {
        let args = ["-q", "1", "-t", topic, "-m", &level(value)];
        let out = mosquitto(&pair.edge, "mosquitto_pub", &args).output().unwrap();
        assert!(out.status.success(), "{out:?}");
    }
    listening.until_said("\"twin\":{\"level\"", PATIENCE);
    kubectl.apply(&device("7"));
    assert!(is("1"), "the link is cut");
    let delta = format!("{topic}/delta");
    let mut listening = subscribe(&pair.edge, &delta, &folder.path().join("deltas"));
    pair.mend();
    listening.until_said("\"delta\":{\"level\":\"7\"}", PATIENCE);
    wait::until("the last value from before the line was mended", PATIENCE, || {
        if is("3") { Ok(()) } else { Err(format!("{:?}", reported(&kubectl, "lamp", "level"))) }
    });
    publish_until(&pair.edge, "1883", topic, &level(7), || is("7"));
    let (code, out, err) = set(
        &pair.cloud,
        "/etc/kubeedge/config/admin.kubeconfig",
        &["lamp", "level=7", "--wait", "--timeout", "10"],
    );
    assert_eq!(code, Some(0), "{out}{err}");
}
