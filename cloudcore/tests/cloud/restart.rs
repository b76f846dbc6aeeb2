use api::wire::Upstream;
use api::wire::downstream::{Downstream, ObjectPush, PushOp};
use api::wire::request::Request;

use super::*;

const RECORDS: &str = "/apis/reliablesyncs.kubeedge.io/v1alpha1/objectsyncs";

/// A node with three pods, all acknowledged and recorded.
async fn settled() -> (Cloud, Identity, Link) {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    add_served_node(&cloud.fake, "edge-1");
    let mut link = cloud.dial(&own, "edge-1").await;
    for name in ["a", "b", "c"] {
        add_pod(&cloud.fake, name, "edge-1");
        link.take_until(name).await;
    }
    let recorded = || {
        let paths = cloud.fake.paths(RECORDS);
        let good = |p: &String| {
            cloud.fake.get(p).is_some_and(|r| {
                r["status"]["objectResourceVersion"].as_str().is_some_and(|v| v != "0")
            })
        };
        paths.len() == 3 && paths.iter().all(good)
    };
    eventually("recorded", recorded).await;
    (cloud, own, link)
}

async fn take_all(link: &mut Link, names: &[&str]) -> Vec<ObjectPush> {
    let mut taken: Vec<ObjectPush> = Vec::new();
    while !names.iter().all(|n| taken.iter().any(|p| &*p.key.name == *n)) {
        taken.push(link.take().await);
    }
    taken
}

fn ops(taken: &[ObjectPush]) -> Vec<(String, PushOp)> {
    let mut ops: Vec<_> = taken.iter().map(|p| (p.key.name.to_string(), p.op)).collect();
    ops.sort_by(|a, b| a.0.cmp(&b.0));
    ops
}

#[tokio::test]
async fn what_happened_while_the_node_was_away_arrives_as_what_it_was() {
    let (cloud, own, link) = settled().await;
    drop(link);
    let mut changed = cloud.fake.get(&pod_path("a")).unwrap();
    changed["spec"]["activeDeadlineSeconds"] = 7.into();
    cloud.fake.put(&pod_path("a"), changed);
    cloud.fake.delete(&pod_path("b"));
    add_pod(&cloud.fake, "new", "edge-1");
    let mut link = cloud.dial(&own, "edge-1").await;
    let taken = take_all(&mut link, &["a", "b", "new"]).await;
    assert_eq!(
        ops(&taken),
        [
            ("a".to_owned(), PushOp::Update),
            ("b".to_owned(), PushOp::Delete),
            ("new".to_owned(), PushOp::Insert),
        ]
    );
}

#[tokio::test]
async fn what_happened_while_cloudcore_was_away_arrives_and_nothing_else_does() {
    let (cloud, own, link) = settled().await;
    drop(link);
    let fake = cloud.stop().await;
    let mut changed = fake.get(&pod_path("a")).unwrap();
    changed["spec"]["activeDeadlineSeconds"] = 7.into();
    fake.put(&pod_path("a"), changed);
    fake.delete(&pod_path("b"));
    add_pod(&fake, "new", "edge-1");
    let cloud = Cloud::start_on(fake, &[]).await;
    let mut link = cloud.dial(&own, "edge-1").await;
    let taken = take_all(&mut link, &["a", "b", "new"]).await;
    assert_eq!(
        ops(&taken),
        [
            ("a".to_owned(), PushOp::Update),
            ("b".to_owned(), PushOp::Delete),
            ("new".to_owned(), PushOp::Insert),
        ],
        "not `c`, and not the node, which have not changed"
    );
}

#[tokio::test]
async fn what_was_sent_and_never_acknowledged_is_sent_again_after_a_restart() {
    let (cloud, own, mut link) = settled().await;
    add_pod(&cloud.fake, "unsure", "edge-1");
    assert_eq!(&*link.hear().await.2.key.name, "unsure");
    eventually("a record of version 0", || {
        let zero = |p: &String| {
            cloud.fake.get(p).is_some_and(|r| r["status"]["objectResourceVersion"] == "0")
        };
        cloud.fake.paths(RECORDS).iter().any(zero)
    })
    .await;
    drop(link);
    let fake = cloud.stop().await;
    // Gone without a trace but the record: the node may hold it.
    fake.delete(&pod_path("unsure"));
    let cloud = Cloud::start_on(fake, &[]).await;
    let mut link = cloud.dial(&own, "edge-1").await;
    let taken = take_all(&mut link, &["unsure"]).await;
    assert_eq!(ops(&taken), [("unsure".to_owned(), PushOp::Delete)]);
    eventually("the record goes", || cloud.fake.paths(RECORDS).len() == 3).await;
}

fn conf_path() -> String {
    "/api/v1/namespaces/default/configmaps/conf".to_owned()
}

#[tokio::test]
async fn an_answer_whose_acknowledgement_was_lost_is_deleted_when_its_object_is_gone() {
    let (cloud, own, mut link) = settled().await;
    let conf = cloud.fake.put(&conf_path(), json!({"data": {"a": "1"}}));
    let container = json!({"name": "c", "envFrom": [{"configMapRef": {"name": "conf"}}]});
    let pod = json!({"spec": {"nodeName": "edge-1", "containers": [container]}, "status": {}});
    cloud.fake.put(&pod_path("user"), pod);
    link.take_until("user").await;
    let query = Request::Query("default/configmap/conf".parse().unwrap());
    let asked = link.send(&Upstream::Request(query)).await;
    loop {
        // Stored, and the line is cut before anything is said.
        if matches!(link.next().await.1, Downstream::Reply(reply) if reply.parent == asked) {
            break;
        }
    }
    drop(link);
    cloud.fake.delete(&pod_path("user"));
    let mut link = cloud.dial(&own, "edge-1").await;
    assert_eq!(link.take_until("user").await.op, PushOp::Delete);
    drop(link);
    // Now nobody at the node uses it, and so nobody is told.
    cloud.fake.delete(&conf_path());
    let mut link = cloud.dial(&own, "edge-1").await;
    let gone = link.take_until("conf").await;
    assert_eq!(gone.op, PushOp::Delete);
    assert_eq!(gone.uid.as_str(), conf["metadata"]["uid"]);
}

#[tokio::test]
async fn a_record_that_is_being_written_when_cloudcore_stops_is_written() {
    let (cloud, _, mut link) = settled().await;
    let gate = cloud.fake.hold_creations(RECORDS);
    add_pod(&cloud.fake, "last", "edge-1");
    link.take_until("last").await;
    let namespaced = RECORDS.replace("objectsyncs", "namespaces/default/objectsyncs");
    let under_way = || cloud.fake.asked(&format!("POST {namespaced}")) == 4;
    eventually("the record is being written", under_way).await;
    cloud.stop.cancel();
    let (code, _) = link.closed().await;
    assert_eq!(code, 1012, "restart");
    gate.close();
    let fake = cloud.stop().await;
    let written = |p: &String| fake.get(p).unwrap()["spec"]["objectName"] == "last";
    assert!(fake.paths(RECORDS).iter().any(written), "{:?}", fake.paths(RECORDS));
}

#[tokio::test]
async fn what_was_sent_in_the_last_moment_is_recorded_when_cloudcore_has_stopped() {
    let (cloud, own, link) = settled().await;
    drop(link);
    let mut fake = cloud.stop().await;
    for n in 0..40 {
        let cloud = Cloud::start_on(fake, &[]).await;
        let mut link = cloud.dial(&own, "edge-1").await;
        // A round trip, so that it is connected.
        link.ask(Request::Query("default/secret/pull".parse().unwrap())).await;
        let name = format!("late-{n}");
        // In the same moment: now the one, now the other is seen first.
        cloud.stop.cancel();
        let uid = add_pod(&cloud.fake, &name, "edge-1")["metadata"]["uid"].clone();
        let sent = link.rest().await.iter().any(|push| *push.key.name == name);
        fake = cloud.stop().await;
        let record = format!(
            "{}/edge-1.{}",
            RECORDS.replace("objectsyncs", "namespaces/default/objectsyncs"),
            uid.as_str().unwrap()
        );
        assert!(!sent || fake.get(&record).is_some(), "`{name}` was sent, and nobody knows");
        fake.delete(&pod_path(&name));
    }
}

#[tokio::test]
async fn a_machine_that_joins_anew_under_an_old_name_gets_everything() {
    let (cloud, _, link) = settled().await;
    drop(link);
    // The operator has freed the name; its pods are bound to the node still.
    cloud.fake.delete("/api/v1/nodes/edge-1");
    eventually("forgotten", || cloud.fake.paths(RECORDS).is_empty()).await;
    let anew = cloud.join("edge-1").await;
    add_node(&cloud.fake, "edge-1");
    let mut link = cloud.dial(&anew, "edge-1").await;
    let taken = take_all(&mut link, &["a", "b", "c"]).await;
    assert!(taken.iter().all(|p| p.op == PushOp::Insert || &*p.key.name == "edge-1"));
}

#[tokio::test]
async fn a_node_that_joined_anew_without_being_deleted_gets_everything_too() {
    let (cloud, _, link) = settled().await;
    drop(link);
    // As if it had been made by hand: nobody is known to have served it.
    let mut node = cloud.fake.get("/api/v1/nodes/edge-1").unwrap();
    node["metadata"].as_object_mut().unwrap().remove("annotations");
    cloud.fake.put("/api/v1/nodes/edge-1", node);
    let anew = cloud.join("edge-1").await;
    let mut link = cloud.dial(&anew, "edge-1").await;
    take_all(&mut link, &["a", "b", "c", "edge-1"]).await;
}

#[tokio::test]
async fn a_thousand_cuts_lose_nothing() {
    let (cloud, own, mut link) = settled().await;
    // Deterministic: every so many messages the link is cut, before or after the acknowledgement.
    let mut seed = 7u32;
    for n in 0..200u32 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let name = format!("p{}", n % 20);
        if seed & 0x3000 == 0 {
            cloud.fake.delete(&pod_path(&name));
        } else {
            let mut pod = cloud
                .fake
                .get(&pod_path(&name))
                .unwrap_or_else(|| json!({"spec": {"nodeName": "edge-1"}, "status": {}}));
            pod["spec"]["activeDeadlineSeconds"] = n.into();
            cloud.fake.put(&pod_path(&name), pod);
        }
        match seed >> 16 & 7 {
            0 => link = cloud.dial(&own, "edge-1").await,
            1 => {
                let heard = tokio::time::timeout(Duration::from_millis(5), link.hear()).await;
                drop(heard);
                link = cloud.dial(&own, "edge-1").await;
            }
            _ => {}
        }
    }
    let wanted: Vec<String> = cloud
        .fake
        .paths("/api/v1/pods")
        .iter()
        .filter_map(|p| {
            let pod = cloud.fake.get(p)?;
            Some(format!("{} {}", pod["metadata"]["uid"], pod["metadata"]["resourceVersion"]))
        })
        .collect();
    // From here on a well-behaved edge: what is recorded at last is what is wanted.
    let serve = tokio::spawn(async move {
        loop {
            let (id, message) = link.next().await;
            if let Some(ack) = message.ack(&id) {
                link.send(&Upstream::Ack(ack)).await;
            }
        }
    });
    eventually("records and pods are the same", || {
        let held: Vec<String> = cloud
            .fake
            .paths(RECORDS)
            .iter()
            .filter_map(|p| {
                let record = cloud.fake.get(p)?;
                let uid = record["metadata"]["name"].as_str()?.rsplit_once('.')?.1.to_owned();
                Some(format!("\"{uid}\" {}", record["status"]["objectResourceVersion"]))
            })
            .collect();
        let set = |v: &[String]| v.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        set(&held) == set(&wanted)
    })
    .await;
    serve.abort();
}
