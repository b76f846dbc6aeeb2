//! Volumes that are claimed and not there, and metrics that are not served. What kubectl says is what
//! its reference documents.

use super::support::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_says_that_there_are_no_metrics() {
    let c = Cluster::start().await;
    for what in ["nodes", "pods"] {
        assert_eq!(c.fails(&["top", what], "").await, "error: Metrics API not available\n");
    }
}

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

const READER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  containers: [{name: c, image: i, volumeMounts: [{name: d, mountPath: /d}]}]
  volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]
";

// Page "Persistent Volumes": a claim remains unbound as long as there is no volume for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_says_that_its_claim_has_no_volume_and_starts_once_it_has() {
    let c = Cluster::start().await;
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: edge-1}\nstatus: {allocatable: {pods: '10'}, conditions: [{type: Ready, status: 'True'}]}\n";
    let said = c.kubectl_in(&["create", "-f", "-"], node).await;
    assert!(said.ok, "{}", said.err);
    c.apply(READER).await;
    let why = [
        "get",
        "pod",
        "reader",
        "-o",
        "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}",
    ];
    c.becomes(&why, "0/1 nodes are available: persistentvolumeclaim \"data\" not found.").await;
    c.apply(CLAIM).await;
    c.becomes(&why, "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
        .await;
    c.ok(&["patch", "pvc", "data", "-p", "{\"spec\":{\"volumeName\":\"v\"}}"]).await;
    let bound = "{\"status\":{\"phase\":\"Bound\"}}";
    c.ok(&["patch", "pvc", "data", "--subresource=status", "-p", bound]).await;
    c.ok(&["wait", "pod/reader", "--for=condition=PodScheduled", "--timeout=20s"]).await;
}
