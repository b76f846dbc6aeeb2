//! NodeUpgradeJobs, with edges that do as the test says.

use api::wire::Upstream;
use api::wire::downstream::{Downstream, Task};
use api::wire::task::{ActionReport, TaskPath, Versions};

use super::*;

const JOBS: &str = "/apis/operations.kubeedge.io/v1alpha2/nodeupgradejobs";
const ON: &[&str] = &["modules.taskManager.enable=true"];

fn job_path(name: &str) -> String {
    format!("{JOBS}/{name}")
}

/// A Ready edge node with the version v1.22.0.
fn add_old_node(fake: &Fake, name: &str) {
    let mut node = add_served_node(fake, name);
    let info = json!({"kubeletVersion": "v1.32.10-kubeedge-v1.22.0", "architecture": "",
        "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
        "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""});
    node["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": info});
    fake.put(&format!("/api/v1/nodes/{name}"), node);
}

fn add_job(fake: &Fake, name: &str, spec: Value) -> Value {
    let mut whole = json!({"version": "v1.23.0", "image": "kubeedge/installation-package"});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    fake.put(&job_path(name), json!({"metadata": {}, "spec": whole}))
}

/// The next task, whatever else comes before it.
async fn task(link: &mut Link) -> Task {
    loop {
        let (id, message) = link.next().await;
        if let Some(ack) = message.ack(&id) {
            link.send(&Upstream::Ack(ack)).await;
        }
        if let Downstream::Task(task) = message {
            return task;
        }
    }
}

async fn report(link: &mut Link, path: &TaskPath, action: &str, succ: bool) {
    let versions = Versions { from: "v1.22.0".to_owned(), to: "v1.23.0".to_owned() };
    let report = ActionReport {
        action: action.to_owned(),
        succ,
        finish_time: "2026-01-02T03:04:05Z".to_owned(),
        reason: if succ { String::new() } else { "no space".to_owned() },
        extend: if action == "Upgrade" { versions.to_string() } else { String::new() },
    };
    link.send(&path.report(&report)).await;
}

/// The node's part of a job's status.
fn part(fake: &Fake, job: &str, node: &str) -> Value {
    let job = fake.get(&job_path(job)).unwrap_or_default();
    let all = job["status"]["nodeStatus"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|n| n["nodeName"] == node).unwrap_or_default()
}

fn steps(fake: &Fake, job: &str, node: &str) -> Vec<String> {
    let flow = part(fake, job, node)["actionFlow"].as_array().cloned().unwrap_or_default();
    flow.iter().map(|step| format!("{} {}", step["action"], step["status"])).collect()
}

fn phase(fake: &Fake, job: &str) -> Value {
    fake.get(&job_path(job)).unwrap_or_default()["status"]["phase"].clone()
}

async fn start(nodes: &[&str]) -> (Cloud, Vec<Link>, Vec<Identity>) {
    let cloud = Cloud::start_on(Fake::default(), ON).await;
    let (mut links, mut owns) = (Vec::new(), Vec::new());
    for node in nodes {
        let own = cloud.join(node).await;
        add_old_node(&cloud.fake, node);
        links.push(cloud.dial(&own, node).await);
        owns.push(own);
    }
    (cloud, links, owns)
}

#[tokio::test]
async fn a_job_takes_one_node_after_the_other_and_ends_with_the_last() {
    let (cloud, mut links, _) = start(&["edge-1", "edge-2"]).await;
    let nodes = json!({"nodeNames": ["edge-1", "edge-2", "nobody"], "failureTolerate": "0.34"});
    let job = add_job(&cloud.fake, "up", nodes);
    let first = task(&mut links[0]).await;
    assert_eq!(&*first.operation, "Check");
    assert_eq!(first.content.to::<Value>().unwrap(), job["spec"]);
    let path: TaskPath = first.resource.parse().unwrap();
    assert_eq!((&*path.job, path.node.as_str()), ("up", "edge-1"));
    eventually("begun", || part(&cloud.fake, "up", "edge-1")["phase"] == "InProgress").await;
    assert_eq!(part(&cloud.fake, "up", "edge-2")["phase"], "Pending");
    assert_eq!(part(&cloud.fake, "up", "nobody")["reason"], "there is no such node");
    assert_eq!(phase(&cloud.fake, "up"), "InProgress");
    let finalizer = &cloud.fake.get(&job_path("up")).unwrap()["metadata"]["finalizers"][0];
    assert_eq!(finalizer, "kubeedge.io/nodeupgradejob-controller");

    for action in ["Check", "WaitingConfirmation", "BackUp", "Upgrade"] {
        report(&mut links[0], &path, action, true).await;
    }
    let second = task(&mut links[1]).await;
    let path: TaskPath = second.resource.parse().unwrap();
    report(&mut links[1], &path, "Check", true).await;
    report(&mut links[1], &path, "WaitingConfirmation", true).await;
    report(&mut links[1], &path, "BackUp", true).await;
    report(&mut links[1], &path, "Upgrade", true).await;
    eventually("all done", || phase(&cloud.fake, "up") == "Completed").await;
    for node in ["edge-1", "edge-2"] {
        let part = part(&cloud.fake, "up", node);
        assert_eq!(part["phase"], "Successful", "{node}");
        assert_eq!(
            (&part["historicVersion"], &part["currentVersion"]),
            (&json!("v1.22.0"), &json!("v1.23.0"))
        );
        assert_eq!(steps(&cloud.fake, "up", node).len(), 4, "{node}");
    }

    let mut job = cloud.fake.get(&job_path("up")).unwrap();
    job["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:06Z");
    cloud.fake.put(&job_path("up"), job);
    let free = || cloud.fake.get(&job_path("up")).unwrap()["metadata"]["finalizers"] == json!([]);
    eventually("let go", free).await;
    cloud.stop().await;
}

#[tokio::test]
async fn a_forged_report_of_another_node_is_refused() {
    let (cloud, mut links, _) = start(&["edge-1", "edge-2"]).await;
    add_job(&cloud.fake, "up", json!({"nodeNames": ["edge-1", "edge-2"], "concurrency": 2}));
    let of = task(&mut links[0]).await.resource.parse::<TaskPath>().unwrap();
    let own = task(&mut links[1]).await.resource.parse::<TaskPath>().unwrap();
    // Each of these is of the second node's session.
    report(&mut links[1], &of, "Upgrade", true).await;
    let stranger = TaskPath { job: "other".into(), ..own.clone() };
    report(&mut links[1], &stranger, "Upgrade", true).await;
    // What comes after is taken; so the others were dealt with.
    report(&mut links[1], &own, "Check", false).await;
    eventually("the true one", || part(&cloud.fake, "up", "edge-2")["phase"] == "Failure").await;
    assert_eq!(part(&cloud.fake, "up", "edge-2")["reason"], "Check failed: no space");
    assert_eq!(steps(&cloud.fake, "up", "edge-1"), Vec::<String>::new());
    assert_eq!(part(&cloud.fake, "up", "edge-1")["phase"], "InProgress");
    cloud.stop().await;
}

#[tokio::test]
async fn a_job_survives_a_restart_of_cloudcore() {
    let (cloud, mut links, owns) = start(&["edge-1", "edge-2"]).await;
    add_job(
        &cloud.fake,
        "up",
        json!({"labelSelector": {"matchLabels": {"node-role.kubernetes.io/edge": ""}}}),
    );
    let path = task(&mut links[0]).await.resource.parse::<TaskPath>().unwrap();
    report(&mut links[0], &path, "Check", true).await;
    eventually("known", || steps(&cloud.fake, "up", "edge-1").len() == 1).await;
    drop(links);
    let fake = cloud.stop().await;

    let cloud = Cloud::start_on(fake, ON).await;
    let mut link = cloud.dial(&owns[0], "edge-1").await;
    // Its upgrade went on meanwhile.
    report(&mut link, &path, "Upgrade", true).await;
    eventually("edge-1", || part(&cloud.fake, "up", "edge-1")["phase"] == "Successful").await;
    let mut link = cloud.dial(&owns[1], "edge-2").await;
    let next = task(&mut link).await.resource.parse::<TaskPath>().unwrap();
    assert_eq!(next.node.as_str(), "edge-2");
    report(&mut link, &next, "Upgrade", true).await;
    eventually("all done", || phase(&cloud.fake, "up") == "Completed").await;
    cloud.stop().await;
}

#[tokio::test]
async fn a_job_that_somebody_else_changes_meanwhile_is_written_all_the_same() {
    let (cloud, mut links, _) = start(&["edge-1"]).await;
    cloud.fake.conflicts(&format!("{}/status", job_path("up")), 3);
    add_job(&cloud.fake, "up", json!({"nodeNames": ["edge-1"]}));
    let path = task(&mut links[0]).await.resource.parse::<TaskPath>().unwrap();
    for action in ["Check", "WaitingConfirmation", "BackUp", "Upgrade"] {
        report(&mut links[0], &path, action, true).await;
    }
    eventually("all done", || phase(&cloud.fake, "up") == "Completed").await;
    assert_eq!(steps(&cloud.fake, "up", "edge-1").len(), 4);
    let labels = &cloud.fake.get(&job_path("up")).unwrap()["metadata"]["labels"];
    assert_eq!(labels["conflict"], "0", "what was changed is still there");
    cloud.stop().await;
}

#[tokio::test]
async fn without_the_module_a_job_is_left_alone() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    add_old_node(&cloud.fake, "edge-1");
    add_job(&cloud.fake, "up", json!({"nodeNames": ["edge-1"]}));
    let mut link = cloud.dial(&own, "edge-1").await;
    let path: TaskPath =
        "operations.kubeedge.io/v1alpha2/nodeupgradejob/up/node/edge-1".parse().unwrap();
    report(&mut link, &path, "Check", true).await;
    // Something that is answered, after it.
    let lease = api::raw::RawJson::of(&json!({"metadata": {}, "spec": {}})).unwrap();
    let name = link.node.clone();
    link.ask(api::wire::request::Request::CreateLease { name, lease }).await;
    assert_eq!(cloud.fake.asked(&format!("GET {JOBS}")), 0);
    assert_eq!(cloud.fake.get(&job_path("up")).unwrap()["status"], Value::Null);
    cloud.stop().await;
}
