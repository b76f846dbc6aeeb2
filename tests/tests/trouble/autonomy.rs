//! The admission webhook, called by the control plane: what makes no sense is refused, and pods that
//! are labelled for autonomy stay where they are.

use std::time::Duration;

use api::crd::{Device, DeviceModel, DeviceStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tests::cluster::{Cluster, pod};
use tests::link::End;
use tests::wait::eventually;

/// A node is lost after forty seconds without a lease, as in Kubernetes.
const LOST: Duration = Duration::from_secs(150);

/// A pod that would leave its node a second after it is lost.
fn restless(name: &str, labels: &Value) -> Value {
    let mut pod = pod(name, "edge-1", &[]);
    pod["metadata"]["labels"] = labels.clone();
    pod["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/unreachable",
        "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]);
    pod
}

/// How often a container was started.
fn starts(cluster: &Cluster, name: &str) -> usize {
    let calls = cluster.edge("edge-1").runtime.calls();
    calls.iter().filter(|c| **c == format!("start_container {name}")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_labelled_for_autonomy_stays_on_a_lost_node_and_does_not_restart() {
    let cluster = Cluster::start_with_admission(&["edge-1"]).await;
    let label = json!({"app-offline.kubeedge.io": "autonomy"});
    cluster.create::<Pod>(restless("stays", &label)).await;
    cluster.create::<Pod>(restless("goes", &json!({}))).await;
    for name in ["stays", "goes"] {
        cluster.until_phase(name, "Running").await;
    }
    let link = &cluster.edge("edge-1").link;
    link.go_away();
    link.cut(End::Reset);
    let pods = cluster.objects::<Pod>();
    eventually("the other pod to be told to leave", LOST, async || match pods.get("goes").await {
        Ok(goes) if goes.metadata.deletion_timestamp.is_some() => Ok(()),
        Ok(goes) => Err(format!("{:?}", goes.status)),
        Err(e) => Err(e.to_string()),
    })
    .await;
    let stays = pods.get("stays").await.unwrap();
    assert_eq!(stays.metadata.deletion_timestamp, None);
    link.come_back();
    cluster.until_gone::<Pod>("goes").await;
    cluster.until_ready("edge-1").await;
    let stays = cluster.until_phase("stays", "Running").await;
    assert_eq!(stays.metadata.deletion_timestamp, None);
    assert_eq!(starts(&cluster, "stays"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_asks_the_webhook_and_passes_its_words_on() {
    let cluster = Cluster::start_with_admission(&["edge-1"]).await;
    cluster
        .create::<DeviceModel>(json!({"metadata": {"name": "m"}, "spec": {"protocol": "modbus",
            "properties": [{"name": "target", "type": "INT", "accessMode": "ReadWrite",
                "minimum": "5", "maximum": "30", "unit": "C"}]}}))
        .await;
    let device = |name: &str, target: &str| -> Device {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "deviceModelRef": {"name": "m"}, "nodeName": "edge-1",
            "protocol": {"protocolName": "modbus"},
            "properties": [{"name": "target", "desired": {"value": target}}]}}))
        .unwrap()
    };
    let devices: Api<Device> = cluster.objects();
    let params = PostParams::default();
    let refused = devices.create(&params, &device("hall", "35")).await.unwrap_err().to_string();
    let words = "spec.properties[0].desired.value: Invalid value: \"35\": must be from 5 to 30 C";
    assert!(refused.contains("validatedevice.kubeedge.io") && refused.contains(words), "{refused}");
    devices.create(&params, &device("hall", "21")).await.unwrap();
    let changed = json!({"spec": {"properties": [{"name": "none", "desired": {"value": "1"}}]}});
    let patch = kube::api::Patch::Merge(&changed);
    let refused = devices.patch("hall", &Default::default(), &patch).await.unwrap_err();
    assert!(refused.to_string().contains("spec.properties[0].name"), "{refused}");
    // A status is never refused: cloudcore makes and writes that of a device beside the webhook.
    let statuses: Api<DeviceStatus> = cluster.objects();
    eventually("the status of the device", LOST, async || {
        statuses.get("hall").await.map(drop).map_err(|e| e.to_string())
    })
    .await;
}
