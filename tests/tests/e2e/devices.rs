//! A device, from what is desired in the cloud to what it reports, and back.

use serde_json::{Value, json};
use tests::host::{Host, Pair};
use tests::keadm::{Running, command};
use tests::kubectl::Kubectl;
use tests::wait;

use super::join::{cloud, join, kubectl};
use super::{PATIENCE, Up};

fn reported(kubectl: &Kubectl<'_>, device: &str, property: &str) -> Option<String> {
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

fn lamp(node: &str) -> [Value; 2] {
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

#[test]
fn a_value_desired_while_the_edge_is_cut_off_is_reported_when_it_is_back() {
    let (pair, folder) = (Pair::new(), tempfile::tempdir().unwrap());
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    let mapper = command(&pair.edge, ["mapper", "--simulate"]);
    let _mapper = Running::start(mapper, &folder.path().join("mapper.log"));
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
