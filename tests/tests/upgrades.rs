//! NodeUpgradeJobs at the control plane's own API server, which holds them against their schema.

use api::crd::NodeUpgradeJob;
use api::crd::operations::{JobPhase, NodePhase, NodeUpgradeStatus};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tests::cluster::{Cluster, PATIENCE};
use tests::wait::eventually;

async fn create(jobs: &Api<NodeUpgradeJob>, name: &str, spec: Value) {
    let job = json!({"metadata": {"name": name}, "spec": spec});
    let job = serde_json::from_value(job).unwrap();
    jobs.create(&PostParams::default(), &job).await.unwrap();
}

async fn until(jobs: &Api<NodeUpgradeJob>, name: &str, phase: JobPhase) -> NodeUpgradeJob {
    eventually(&format!("{name} to be {phase:?}"), PATIENCE, async || {
        let job = jobs.get(name).await.map_err(|e| e.to_string())?;
        match &job.status {
            Some(status) if status.phase == phase => Ok(job),
            status => Err(format!("{status:?}")),
        }
    })
    .await
    .0
}

fn parts(job: &NodeUpgradeJob) -> &[NodeUpgradeStatus] {
    job.status.as_ref().map(|s| s.node_status.as_slice()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_jobs_are_carried_through_and_let_go_at_a_real_api_server() {
    let cluster = Cluster::start(&["edge-1"]).await;
    let jobs: Api<NodeUpgradeJob> = Api::all(cluster.client.clone());

    // A node that runs the version already, and one that there is not.
    let nodes = json!(["edge-1", "nobody"]);
    let spec =
        json!({"version": "v1.23.0", "image": "x/y", "nodeNames": nodes, "failureTolerate": "0.5"});
    create(&jobs, "same", spec).await;
    let same = until(&jobs, "same", JobPhase::Completed).await;
    let phases: Vec<_> = parts(&same).iter().map(|n| n.phase.unwrap()).collect();
    assert_eq!(phases, [NodePhase::Successful, NodePhase::Failure]);
    assert_eq!(parts(&same)[0].current_version.as_deref(), Some("v1.23.0"));
    assert_eq!(parts(&same)[1].reason.as_deref(), Some("there is no such node"));
    let finalizers = same.metadata.finalizers.unwrap();
    assert_eq!(finalizers, ["kubeedge.io/nodeupgradejob-controller"]);
    jobs.delete("same", &DeleteParams::default()).await.unwrap();
    eventually("the job to be gone", PATIENCE, async || match jobs.get_opt("same").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    // A version that no registry has: the node says so, or says nothing.
    let selector = json!({"matchExpressions": [
        {"key": "node-role.kubernetes.io/edge", "operator": "Exists"}]});
    let spec = json!({"version": "v9.9.9", "image": "127.0.0.1:1/none", "timeoutSeconds": 1,
        "labelSelector": selector});
    create(&jobs, "next", spec).await;
    let next = until(&jobs, "next", JobPhase::Failure).await;
    let [node] = parts(&next) else { panic!("{:?}", next.status) };
    assert_eq!(node.node_name.as_deref(), Some("edge-1"));
    assert_eq!(node.historic_version.as_deref(), Some("v1.23.0"));
    assert!(matches!(node.phase, Some(NodePhase::Failure | NodePhase::Unknown)), "{node:?}");
    let why = next.status.as_ref().and_then(|s| s.reason.as_deref()).unwrap();
    assert!(why.starts_with("1 of 1 nodes failed"), "{why}");

    // What makes no sense says what.
    create(&jobs, "odd", json!({"version": "v9.9.9"})).await;
    let odd = until(&jobs, "odd", JobPhase::Failure).await;
    let why = odd.status.and_then(|s| s.reason).unwrap();
    assert_eq!(why, "exactly one of `nodeNames` and `labelSelector` is to be set");
}
