//! What a person does with workloads. The expected answers are those of Kubernetes' pages on them
//! (kubernetes.io/docs/concepts/workloads) and of kubectl's reference.

use std::sync::Arc;
use std::time::Duration;

use super::support::{Cluster, Kubelet};

/// Where a workload's image is.
const IMAGE: &str = "jsonpath={.spec.template.spec.containers[0].image}";

fn row(table: &str) -> Vec<&str> {
    table.lines().nth(1).unwrap_or_default().split_whitespace().collect()
}

// Page "Deployments": creating, updating, rolling back, scaling.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_rolled_out_updated_rolled_back_scaled_and_removed() {
    let c = Arc::new(Cluster::start().await);
    let _kubelet = Kubelet::start(&c, "Running");
    let done = "deployment \"web\" successfully rolled out\n";
    let wait = ["rollout", "status", "deployment/web", "--timeout=30s"];
    c.ok(&["create", "deployment", "web", "--image=nginx:1", "--replicas=3"]).await;
    assert!(c.ok(&wait).await.ends_with(done));
    assert_eq!(row(&c.ok(&["get", "deploy"]).await)[..4], ["web", "3/3", "3", "3"]);
    assert_eq!(row(&c.ok(&["get", "rs"]).await)[1..4], ["3", "3", "3"]);
    let condition = ["wait", "--for=condition=Available", "deploy/web", "--timeout=10s"];
    assert_eq!(c.ok(&condition).await, "deployment.apps/web condition met\n");

    c.ok(&["set", "image", "deploy/web", "nginx=nginx:2"]).await;
    c.ok(&["annotate", "deploy/web", "kubernetes.io/change-cause=second"]).await;
    assert!(c.ok(&wait).await.ends_with(done));
    let history = c.ok(&["rollout", "history", "deploy/web"]).await;
    let lines: Vec<Vec<&str>> =
        history.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [vec!["REVISION", "CHANGE-CAUSE"], vec!["1", "<none>"], vec!["2", "second"], vec![]]
    );
    assert_eq!(c.ok(&["rollout", "undo", "deploy/web"]).await, "deployment.apps/web rolled back\n");
    assert!(c.ok(&wait).await.ends_with(done));
    assert_eq!(c.ok(&["get", "deploy", "web", "-o", IMAGE]).await, "nginx:1");
    assert!(c.ok(&["rollout", "history", "deploy/web"]).await.contains("\n3 "));

    assert_eq!(
        c.ok(&["rollout", "restart", "deploy/web"]).await,
        "deployment.apps/web restarted\n"
    );
    assert!(c.ok(&wait).await.ends_with(done));
    c.ok(&["scale", "deploy/web", "--replicas=1"]).await;
    assert!(c.ok(&wait).await.ends_with(done));
    c.ok(&["wait", "deploy/web", "--for=jsonpath={.status.replicas}=1", "--timeout=10s"]).await;
    let events = c
        .ok(&[
            "get",
            "events",
            "-o",
            "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
        ])
        .await;
    assert!(events.contains("ScalingReplicaSet: Scaled up replica set web-"), "{events}");
    assert!(events.contains("SuccessfulCreate: Created pod: web-"), "{events}");

    c.ok(&["delete", "deploy", "web"]).await;
    c.becomes(&["get", "rs,pods", "-o", "name"], "").await;
}

// Page "Deployments": "Pausing and Resuming a rollout", and "Recreate Deployment".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_deployment_waits_and_a_recreating_one_ends_the_old_pods_first() {
    let c = Arc::new(Cluster::start().await);
    let kubelet = Kubelet::start(&c, "Running");
    c.ok(&["create", "deployment", "web", "--image=nginx:1", "--replicas=2"]).await;
    let wait = ["rollout", "status", "deploy/web", "--timeout=30s"];
    c.ok(&wait).await;
    c.ok(&["rollout", "pause", "deploy/web"]).await;
    let seen = "--for=jsonpath={.status.observedGeneration}=3";
    c.ok(&["set", "image", "deploy/web", "nginx=nginx:2"]).await;
    c.ok(&["wait", "deploy/web", seen, "--timeout=10s"]).await;
    let images = "jsonpath={.items[*].spec.containers[0].image}";
    assert_eq!(c.ok(&["get", "pods", "-o", images]).await, "nginx:1 nginx:1");
    c.ok(&["rollout", "resume", "deploy/web"]).await;
    c.ok(&wait).await;
    c.becomes(&["get", "pods", "-o", images], "nginx:2 nginx:2").await;

    drop(kubelet);
    let recreate = "{\"spec\":{\"strategy\":{\"type\":\"Recreate\",\"rollingUpdate\":null},\"template\":{\"spec\":{\"containers\":[{\"name\":\"nginx\",\"image\":\"nginx:3\"}]}}}}";
    c.ok(&["patch", "deploy", "web", "-p", recreate]).await;
    c.ok(&["wait", "deploy/web", "--for=jsonpath={.status.updatedReplicas}=2", "--timeout=20s"])
        .await;
    assert_eq!(c.ok(&["get", "pods", "-o", images]).await, "nginx:3 nginx:3");
}

// Page "ReplicaSet": "Removing Pods", "Deleting just a ReplicaSet", "Non-Template Pod acquisitions".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_set_replaces_what_is_lost_and_takes_over_what_was_left_behind() {
    let c = Cluster::start().await;
    let set = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: nginx}]}}
";
    c.apply(set).await;
    let two = ["wait", "rs/web", "--for=jsonpath={.status.replicas}=2", "--timeout=10s"];
    c.ok(&two).await;
    let names = || async {
        let mut n: Vec<String> = c
            .ok(&["get", "pods", "-l", "app=web", "-o", "name"])
            .await
            .lines()
            .map(str::to_owned)
            .collect();
        n.sort();
        n
    };
    let before = names().await;
    c.ok(&["delete", &before[0]]).await;
    c.ok(&["wait", "rs/web", "--for=jsonpath={.status.fullyLabeledReplicas}=2", "--timeout=10s"])
        .await;
    // A pod that loses the label is let go and replaced.
    c.ok(&["label", &before[1], "app-", "kept=yes"]).await;
    let owners = ["get", &before[1], "-o", "jsonpath={.metadata.ownerReferences}"];
    c.becomes(&owners, "").await;
    let both = async { while names().await.len() < 2 {} };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("it is replaced");
    let now = names().await;
    assert!(!now.contains(&before[0]) && !now.contains(&before[1]), "{now:?}");

    c.ok(&["delete", "rs", "web", "--cascade=orphan"]).await;
    let left = names().await;
    assert_eq!(left.len(), 2);
    c.apply(set).await;
    c.ok(&two).await;
    assert_eq!(names().await, left);
    c.ok(&["delete", "rs", "web", "--cascade=foreground", "--timeout=20s"]).await;
    assert_eq!(names().await, Vec::<String>::new());
    let e = c
        .fails(&["create", "-f", "-"], &set.replace("labels: {app: web}", "labels: {app: other}"))
        .await;
    assert!(e.contains("spec.template.metadata.labels: Invalid value: map[string]string{\"app\":\"other\"}: `selector` does not match template `labels`"), "{e}");
}

const EDGE: &str = "
apiVersion: v1
kind: Node
metadata: {name: NAME, labels: {kubernetes.io/hostname: NAME, node-role.kubernetes.io/edge: ''}}
status:
  allocatable: {cpu: '2', memory: 1Gi, pods: '10'}
  capacity: {cpu: '2', memory: 1Gi, pods: '10'}
  conditions: [{type: Ready, status: 'True', reason: KubeletReady, lastHeartbeatTime: '2026-01-01T00:00:00Z'}]
";

async fn add_node(c: &Cluster, name: &str) {
    let said = c.kubectl_in(&["create", "-f", "-"], &EDGE.replace("NAME", name)).await;
    assert!(said.ok, "{}", said.err);
}

// Page "Jobs": "Running an example Job", "Pod backoff failure policy", "Suspending a Job", and the
// page "Indexed Job for Parallel Processing".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_end_and_one_that_fails_says_so() {
    let c = Arc::new(Cluster::start().await);
    let kubelet = Kubelet::start(&c, "Succeeded");
    c.ok(&["create", "job", "pi", "--image=perl"]).await;
    let wait = ["wait", "--for=condition=complete", "job/pi", "--timeout=20s"];
    assert_eq!(c.ok(&wait).await, "job.batch/pi condition met\n");
    assert_eq!(row(&c.ok(&["get", "jobs"]).await)[..3], ["pi", "Complete", "1/1"]);
    let of = "jsonpath={.status.succeeded}/{.status.conditions[*].type}/{.status.uncountedTerminatedPods}";
    assert_eq!(c.ok(&["get", "job", "pi", "-o", of]).await, "1/SuccessCriteriaMet Complete/{}");
    // What has been counted may be deleted without waiting for anybody.
    c.ok(&["delete", "pods", "-l", "job-name=pi", "--timeout=10s"]).await;
    let indexed = "
apiVersion: batch/v1
kind: Job
metadata: {name: each}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox}]}}
";
    c.apply(indexed).await;
    c.ok(&["wait", "--for=condition=complete", "job/each", "--timeout=30s"]).await;
    assert_eq!(
        c.ok(&["get", "job", "each", "-o", "jsonpath={.status.completedIndexes}"]).await,
        "0-2"
    );
    c.ok(&["delete", "job", "pi", "each", "--timeout=20s"]).await;
    c.becomes(&["get", "pods", "-o", "name"], "").await;

    drop(kubelet);
    let _kubelet = Kubelet::start(&c, "Failed");
    let failing = "
apiVersion: batch/v1
kind: Job
metadata: {name: bad}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox}]}}
";
    c.apply(failing).await;
    c.ok(&["wait", "--for=condition=failed", "job/bad", "--timeout=20s"]).await;
    let why = "jsonpath={.status.conditions[?(@.type=='Failed')].reason}";
    assert_eq!(c.ok(&["get", "job", "bad", "-o", why]).await, "BackoffLimitExceeded");
    c.apply(
        &failing.replace("name: bad", "name: later").replace("backoffLimit: 0", "suspend: true"),
    )
    .await;
    c.ok(&["wait", "--for=condition=suspended", "job/later", "--timeout=10s"]).await;
    assert_eq!(c.ok(&["get", "pods", "-l", "job-name=later", "-o", "name"]).await, "");
    // Each index may fail by itself, and all of them do here.
    let each = indexed.replace("  completions: 3", "  completions: 3\n  backoffLimitPerIndex: 0");
    c.apply(&each).await;
    c.ok(&["wait", "--for=condition=failed", "job/each", "--timeout=30s"]).await;
    let all = "jsonpath={.status.failedIndexes}/{.status.conditions[?(@.type=='Failed')].reason}";
    assert_eq!(c.ok(&["get", "job", "each", "-o", all]).await, "0-2/FailedIndexes");
}

// Page "Pod Priority and Preemption": a pod names a class that exists. There are only the two of the
// system here, and the kind is not served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_a_priority_class_that_is_not_there_is_refused() {
    let c = Cluster::start().await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {priorityClassName: high, containers: [{name: c, image: i}]}\n";
    let e = c.fails(&["create", "-f", "-"], pod).await;
    assert!(
        e.contains("pods \"p\" is forbidden: no PriorityClass with name high was found"),
        "{e}"
    );
    c.apply(&pod.replace("high", "system-node-critical")).await;
    assert_eq!(c.ok(&["get", "pod", "p", "-o", "jsonpath={.spec.priority}"]).await, "2000001000");
    let e = c.fails(&["get", "priorityclasses"], "").await;
    assert_eq!(e, "error: the server doesn't have a resource type \"priorityclasses\"\n");
}

// Page "CronJob".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_starts_jobs_and_refuses_what_is_no_schedule() {
    let c = Arc::new(Cluster::start().await);
    let _kubelet = Kubelet::start(&c, "Succeeded");
    let e =
        c.fails(&["create", "cronjob", "x", "--image=busybox", "--schedule=61 * * * *"], "").await;
    assert!(e.contains("spec.schedule: Invalid value: \"61 * * * *\""), "{e}");
    let cron = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: '@every 1s'
  successfulJobsHistoryLimit: 100
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox}]}}}}
";
    c.apply(cron).await;
    c.ok(&["wait", "cronjob/tick", "--for=jsonpath={.status.lastSuccessfulTime}", "--timeout=30s"])
        .await;
    c.ok(&["patch", "cronjob", "tick", "-p", "{\"spec\":{\"suspend\":true}}"]).await;
    c.ok(&["create", "job", "now", "--from=cronjob/tick"]).await;
    c.ok(&["wait", "--for=condition=complete", "job/now", "--timeout=20s"]).await;
    c.ok(&["delete", "cronjob", "tick"]).await;
    c.becomes(&["get", "jobs", "-o", "name"], "").await;
}

// Page "DaemonSet": "Running Pods on select Nodes", and "Perform a Rolling Update on a DaemonSet".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_has_a_pod_on_every_edge_node() {
    let c = Arc::new(Cluster::start().await);
    let _kubelet = Kubelet::start(&c, "Running");
    add_node(&c, "edge-1").await;
    let set = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {nodeSelector: {node-role.kubernetes.io/edge: ''}, containers: [{name: c, image: 'agent:1'}]}
";
    c.apply(set).await;
    let done = "daemon set \"agent\" successfully rolled out\n";
    let wait = ["rollout", "status", "ds/agent", "--timeout=30s"];
    assert!(c.ok(&wait).await.ends_with(done));
    add_node(&c, "edge-2").await;
    c.ok(&["wait", "ds/agent", "--for=jsonpath={.status.numberReady}=2", "--timeout=20s"]).await;
    let nodes = "jsonpath={.items[*].spec.nodeName}";
    let on = c.ok(&["get", "pods", "-o", nodes]).await;
    let mut on: Vec<&str> = on.split(' ').collect();
    on.sort_unstable();
    assert_eq!(on, ["edge-1", "edge-2"]);
    assert_eq!(row(&c.ok(&["get", "ds"]).await)[..6], ["agent", "2", "2", "2", "2", "2"]);
    c.ok(&["set", "image", "ds/agent", "c=agent:2"]).await;
    assert!(c.ok(&wait).await.ends_with(done));
    assert!(c.ok(&["rollout", "history", "ds/agent"]).await.contains("\n2 "));
    c.ok(&["rollout", "undo", "ds/agent"]).await;
    assert!(c.ok(&wait).await.ends_with(done));
    assert_eq!(c.ok(&["get", "ds", "agent", "-o", IMAGE]).await, "agent:1");
    c.ok(&["label", "node", "edge-2", "node-role.kubernetes.io/edge-"]).await;
    c.ok(&[
        "wait",
        "ds/agent",
        "--for=jsonpath={.status.desiredNumberScheduled}=1",
        "--timeout=20s",
    ])
    .await;
}

// Tutorial "StatefulSet Basics".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_is_made_in_order_and_keeps_its_names_and_claims() {
    let c = Arc::new(Cluster::start().await);
    let _kubelet = Kubelet::start(&c, "Running");
    let set = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: nginx
  replicas: 2
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec: {containers: [{name: nginx, image: 'nginx:1', volumeMounts: [{name: www, mountPath: /usr/share/nginx/html}]}]}
  volumeClaimTemplates:
  - metadata: {name: www}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
    c.apply(set).await;
    let wait = ["rollout", "status", "sts/web", "--timeout=30s"];
    c.ok(&wait).await;
    assert_eq!(c.ok(&["get", "pods", "-o", "name"]).await, "pod/web-0\npod/web-1\n");
    assert_eq!(
        c.ok(&["get", "pvc", "-o", "name"]).await,
        "persistentvolumeclaim/www-web-0\npersistentvolumeclaim/www-web-1\n"
    );
    let claimed = "jsonpath={.spec.volumes[?(@.name=='www')].persistentVolumeClaim.claimName}";
    assert_eq!(c.ok(&["get", "pod", "web-1", "-o", claimed]).await, "www-web-1");
    assert_eq!(row(&c.ok(&["get", "sts"]).await)[..2], ["web", "2/2"]);
    let uid = || async { c.ok(&["get", "pod", "web-0", "-o", "jsonpath={.metadata.uid}"]).await };
    let before = uid().await;
    c.ok(&["delete", "pod", "web-0"]).await;
    c.ok(&["wait", "pod/web-0", "--for=condition=Ready", "--timeout=20s"]).await;
    assert_ne!(uid().await, before);
    c.ok(&["set", "image", "sts/web", "nginx=nginx:2"]).await;
    c.ok(&wait).await;
    assert_eq!(
        c.ok(&["get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}"]).await,
        "nginx:2 nginx:2"
    );
    c.ok(&["rollout", "undo", "sts/web"]).await;
    c.ok(&wait).await;
    c.ok(&["scale", "sts/web", "--replicas=1"]).await;
    c.ok(&["wait", "pod/web-1", "--for=delete", "--timeout=20s"]).await;
    // Claims stay, so that the data is there when the set grows again.
    assert!(c.ok(&["get", "pvc", "-o", "name"]).await.contains("www-web-1"));
    let e =
        c.fails(&["patch", "sts", "web", "-p", "{\"spec\":{\"serviceName\":\"other\"}}"], "").await;
    assert!(e.contains("updates to statefulset spec for fields other than"), "{e}");
}

// Page "EndpointSlices", and "Service": "Services without selectors".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_knows_where_its_pods_are() {
    let c = Arc::new(Cluster::start().await);
    let _kubelet = Kubelet::start(&c, "Running");
    c.ok(&["create", "deployment", "web", "--image=nginx", "--replicas=2", "--port=80"]).await;
    c.ok(&["expose", "deployment", "web"]).await;
    c.ok(&["rollout", "status", "deploy/web", "--timeout=30s"]).await;
    let slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o"];
    let with = |out| slices.iter().copied().chain([out]).collect::<Vec<&str>>();
    let ready = "jsonpath={.items[*].endpoints[*].conditions.ready}";
    c.becomes(&with(ready), "true true").await;
    assert_eq!(c.ok(&with("jsonpath={.items[0].ports[0].port}")).await, "80");
    c.ok(&[
        "wait",
        "endpoints/web",
        "--for=jsonpath={.subsets[0].addresses[1].targetRef.kind}=Pod",
        "--timeout=10s",
    ])
    .await;
    assert!(c.ok(&["get", "ep", "web"]).await.contains(":80,"));
    c.ok(&["scale", "deploy/web", "--replicas=0"]).await;
    c.becomes(&["get", "endpoints", "web", "-o", "jsonpath={.subsets}"], "").await;
    c.ok(&["delete", "service", "web"]).await;
    c.becomes(&["get", "endpointslices,endpoints", "-o", "name"], "").await;
}

// Task "Specifying a Disruption Budget for your Application", and "Safely Drain a Node".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_a_node_heeds_the_disruption_budget() {
    let c = Arc::new(Cluster::start().await);
    let _kubelet = Kubelet::start(&c, "Running");
    add_node(&c, "edge-1").await;
    c.ok(&["create", "deployment", "web", "--image=nginx", "--replicas=2"]).await;
    c.ok(&["rollout", "status", "deploy/web", "--timeout=30s"]).await;
    c.ok(&["create", "pdb", "web", "--selector=app=web", "--min-available=2"]).await;
    c.ok(&["wait", "pdb/web", "--for=jsonpath={.status.currentHealthy}=2", "--timeout=10s"]).await;
    assert_eq!(row(&c.ok(&["get", "pdb"]).await)[..4], ["web", "2", "N/A", "0"]);
    let e = c.fails(&["drain", "edge-1", "--timeout=3s"], "").await;
    assert!(e.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{e}");
    c.ok(&["patch", "pdb", "web", "-p", "{\"spec\":{\"minAvailable\":1}}"]).await;
    add_node(&c, "edge-2").await;
    let said = c.ok(&["drain", "edge-1", "--timeout=40s"]).await;
    assert!(said.contains("node/edge-1 drained"), "{said}");
    c.ok(&["rollout", "status", "deploy/web", "--timeout=30s"]).await;
    let on =
        c.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}"]).await;
    assert_eq!(on, "edge-2 edge-2");
}

// kubectl's reference, "apply": --prune with -l takes away what was applied before with these labels and
// is not in the configuration any more; --prune-allowlist says of which kinds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_prune_takes_away_what_is_not_in_the_files_any_more() {
    let c = Cluster::start().await;
    let map = |name: &str, app: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\n---\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: front, labels: {app: shop}}\nspec: {ports: [{port: 80}]}\n---\n";
    let all = [map("stays", "shop"), map("goes", "shop"), map("other", "bank"), service.to_owned()];
    c.apply(&all.concat()).await;
    c.ok(&["create", "configmap", "by-hand"]).await;
    c.ok(&["label", "configmap", "by-hand", "app=shop"]).await;
    let names = ["get", "cm,svc", "-l", "app", "--sort-by=.metadata.name", "-o", "name"];
    let prune = ["apply", "--prune", "-l", "app=shop", "-f", "-"];
    let maps = [&prune[..], &["--prune-allowlist=core/v1/ConfigMap"]].concat();
    let dry =
        c.kubectl_in(&[&maps[..], &["--dry-run=server"]].concat(), &map("stays", "shop")).await;
    assert!(dry.out.contains("configmap/goes pruned (server dry run)"), "{}{}", dry.out, dry.err);
    let said = c.kubectl_in(&maps, &map("stays", "shop")).await;
    assert_eq!(said.out, "configmap/stays unchanged\nconfigmap/goes pruned\n", "{}", said.err);
    c.becomes(&names, "configmap/by-hand\nservice/front\nconfigmap/other\nconfigmap/stays").await;
    // Without a list, kubectl asks for kinds that are not served, and says so before it takes anything away.
    let e = c.fails(&prune, &map("stays", "shop")).await;
    assert!(e.contains("no matches for kind \"ReplicationController\""), "{e}");
    let both = [&maps[..], &["--prune-allowlist=core/v1/Service"]].concat();
    let said = c.kubectl_in(&both, &map("stays", "shop")).await;
    assert_eq!(said.out, "configmap/stays unchanged\nservice/front pruned\n", "{}", said.err);
    c.becomes(&names, "configmap/by-hand\nconfigmap/other\nconfigmap/stays").await;
}

// kubernetes.io/docs/concepts/services-networking/service/#type-nodeport
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_given_a_port_on_nodes_and_gives_it_up_with_its_type() {
    let c = Cluster::start().await;
    let port = ["get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"];
    c.ok(&["create", "service", "nodeport", "web", "--tcp=80:8080"]).await;
    let number: u16 = c.ok(&port).await.parse().expect("a number");
    assert!((30_000..=32_767).contains(&number), "{number}");
    let table = c.ok(&["get", "svc", "web"]).await;
    assert_eq!(row(&table)[4], format!("80:{number}/TCP"));
    let e = c
        .fails(
            &["create", "service", "nodeport", "b", "--tcp=80", &format!("--node-port={number}")],
            "",
        )
        .await;
    assert!(e.contains("spec.ports[0].nodePort: Invalid value: "), "{e}");
    assert!(e.contains("provided port is already allocated"), "{e}");
    c.ok(&["label", "svc", "web", "a=b"]).await;
    assert_eq!(c.ok(&port).await, number.to_string());
    c.ok(&["patch", "svc", "web", "-p", "{\"spec\":{\"type\":\"ClusterIP\"}}"]).await;
    assert_eq!(c.ok(&port).await, "");
    c.ok(&["create", "service", "nodeport", "b", "--tcp=80", &format!("--node-port={number}")])
        .await;
}

// "Pod Selector" and "Stable Network ID" of the page on StatefulSets: a pod's name is a label's value and a
// host name, and both have 63 characters at most. "Completion mode" of the page on Jobs: so has a pod's host
// name of an indexed job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_pods_with_numbers_are_as_long_as_host_names_may_be() {
    let c = Cluster::start().await;
    let long = "n".repeat(63);
    let set = |name: &str| {
        format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}}}\nspec:\n  serviceName: s\n  selector: {{matchLabels: {{a: b}}}}\n  template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}\n"
        )
    };
    let short = &long[..52];
    c.apply(&set(short)).await;
    c.ok(&["wait", "--for=create", &format!("pod/{short}-0"), "--timeout=20s"]).await;
    let host = ["get", "pod", &format!("{short}-0"), "-o", "jsonpath={.spec.hostname}"];
    assert_eq!(c.ok(&host).await, format!("{short}-0"));
    c.ok(&["delete", "sts", short]).await;
    c.apply(&set(&long)).await;
    let told = "-o=jsonpath={.items[?(@.reason==\"FailedCreate\")].message}";
    let mut why = String::new();
    for _ in 0..200 {
        why = c.ok(&["get", "events", told]).await;
        if !why.is_empty() {
            break;
        }
    }
    assert!(why.contains("must be no more than 63 "), "{why}");
    assert_eq!(c.ok(&["get", "sts", &long, "-o", "jsonpath={.status.replicas}"]).await, "0");

    let job = |name: &str, pods: u32| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{completions: {pods}, completionMode: Indexed, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}\n"
        )
    };
    let name = &long[..61];
    let e = c.fails(&["create", "-f", "-"], &job(name, 11)).await;
    assert!(
        e.contains(&format!("metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-10")),
        "{e}"
    );
    c.apply(&job(name, 10)).await;
    let of = format!("job-name={name}");
    c.becomes(
        &["get", "pods", "-l", &of, "-o", "jsonpath={.items[*].spec.hostname}"],
        &format!("{name}-0"),
    )
    .await;
    let made = c.ok(&["get", "pods", "-l", &of, "-o", "name"]).await;
    assert!(made.starts_with(&format!("pod/{}-0-", &name[..55])), "{made}");
}
