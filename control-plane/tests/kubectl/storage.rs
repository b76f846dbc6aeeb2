//! Claims and volumes. The expected answers are those of
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

use crate::support::Cluster;

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

const FINALIZERS: &str = "jsonpath={.metadata.finalizers}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_pod_uses_is_kept_until_the_pod_is_gone() {
    let c = Cluster::start().await;
    c.apply(CLAIM).await;
    let protected = "[\"kubernetes.io/pvc-protection\"]";
    assert_eq!(c.ok(&["get", "pvc", "data", "-o", FINALIZERS]).await, protected);
    c.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  nodeName: somewhere
  containers: [{name: c, image: i}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
",
    )
    .await;
    c.ok(&["delete", "pvc", "data", "--wait=false"]).await;
    // What uses nothing goes after it, so whoever lets claims go has seen both.
    c.apply(&CLAIM.replace("name: data", "name: idle")).await;
    assert_eq!(
        c.ok(&["delete", "pvc", "idle", "--timeout=20s"]).await,
        "persistentvolumeclaim \"idle\" deleted\n"
    );
    assert_eq!(c.ok(&["get", "pvc", "data", "-o", FINALIZERS]).await, protected);
    let table = c.ok(&["get", "pvc", "data", "--no-headers"]).await;
    assert_eq!(table.split_whitespace().nth(1), Some("Terminating"), "{table}");
    c.ok(&["delete", "pod", "user", "--grace-period=0", "--force"]).await;
    c.ok(&["wait", "--for=delete", "pvc/data", "--timeout=20s"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_bound_is_kept_until_it_is_released_and_gets_its_guard_back() {
    let c = Cluster::start().await;
    let volume = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /x}}
";
    c.apply(volume).await;
    let protected = "[\"kubernetes.io/pv-protection\"]";
    assert_eq!(c.ok(&["get", "pv", "disk", "-o", FINALIZERS]).await, protected);
    let bare = "{\"metadata\":{\"finalizers\":null}}";
    c.ok(&["patch", "pv", "disk", "--type=merge", "-p", bare]).await;
    c.becomes(&["get", "pv", "disk", "-o", FINALIZERS], protected).await;
    let phase = |p: &str| format!("{{\"status\":{{\"phase\":\"{p}\"}}}}");
    c.ok(&["patch", "pv", "disk", "--subresource=status", "-p", &phase("Bound")]).await;
    c.ok(&["delete", "pv", "disk", "--wait=false"]).await;
    c.apply(&volume.replace("disk", "idle")).await;
    c.ok(&["delete", "pv", "idle", "--timeout=20s"]).await;
    assert_eq!(c.ok(&["get", "pv", "disk", "-o", FINALIZERS]).await, protected);
    c.ok(&["patch", "pv", "disk", "--subresource=status", "-p", &phase("Released")]).await;
    c.ok(&["wait", "--for=delete", "pv/disk", "--timeout=20s"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_with_claims_in_use_goes_with_its_pods_and_says_what_it_waits_for() {
    let c = Cluster::start().await;
    c.ok(&["create", "ns", "going"]).await;
    c.ok(&["wait", "-n", "going", "--for=create", "sa/default", "--timeout=10s"]).await;
    let held = "
apiVersion: v1
kind: ConfigMap
metadata: {name: held, namespace: going, finalizers: [example.com/wait]}
";
    c.apply(&CLAIM.replace("name: data", "name: data, namespace: going")).await;
    c.apply(held).await;
    c.ok(&["delete", "ns", "going", "--wait=false"]).await;
    // kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/: its conditions.
    let of = |kind: &str, field: &str| {
        format!("jsonpath={{.status.conditions[?(@.type==\"{kind}\")].{field}}}")
    };
    for (kind, status, reason) in [
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered"),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted"),
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain"),
        ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain"),
    ] {
        c.becomes(&["get", "ns", "going", "-o", &of(kind, "status")], status).await;
        c.becomes(&["get", "ns", "going", "-o", &of(kind, "reason")], reason).await;
    }
    c.becomes(
        &["get", "ns", "going", "-o", &of("NamespaceFinalizersRemaining", "message")],
        "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances",
    )
    .await;
    let free = "{\"metadata\":{\"finalizers\":null}}";
    c.ok(&["patch", "cm", "-n", "going", "held", "--type=merge", "-p", free]).await;
    c.ok(&["wait", "--for=delete", "ns/going", "--timeout=20s"]).await;
}
