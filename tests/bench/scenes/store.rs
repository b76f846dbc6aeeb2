//! How fast a change arrives in the edge's database.

use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tests::containerd::BUSYBOX;

use super::{Group, MAIN};
use crate::client::{Inside, ms};
use crate::page::{Figure, Unit};
use crate::site::{NODE, PATIENCE, Site};

pub(super) const GROUP: Group = Group { name: "store", title: MAIN, figures, inside: INSIDE };

fn figures() -> Vec<Figure> {
    let site = Site::new(GROUP.name);
    let kubectl = site.kubectl();
    kubectl.run(&["create", "configmap", "measured", "--from-literal=measured=first"]);
    kubectl.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"reader"}},"spec":{{"nodeName":"{NODE}",
"hostNetwork":true,"terminationGracePeriodSeconds":0,"containers":[{{"name":"main","image":"{BUSYBOX}",
"imagePullPolicy":"Never","command":["sleep","100000"],
"volumeMounts":[{{"name":"c","mountPath":"/c"}}]}}],"volumes":[{{"name":"c","configMap":{{"name":"measured"}}}}]}}}}"#
    ));
    kubectl.until(&["pod", "reader"], "/status/phase", "Running", PATIENCE);
    let database = site.pair.edge.disk("/var/lib/kubeedge/edgecore.db");
    vec![Figure {
        what: "configmap update to the edge's store",
        original: "16 ms",
        unit: Unit::Millis,
        at_most: 4.0,
        values: site.scene(&["configmap", database.to_str().unwrap(), "200"]),
        method: "from sending the PATCH to the row in edgecore.db, looked at every 0.2 ms",
    }]
}

const INSIDE: Inside = |client, scene| {
    async move { configmaps(&client, scene.text(0), scene.number(1)).await }.boxed_local()
};

async fn configmaps(client: &Client, database: &str, n: usize) -> Vec<f64> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let query = "select value from meta where key = 'default/configmap/measured'";
    let mut times = Vec::new();
    for i in 0..n {
        let value = format!("value-{i}-{}", std::process::id());
        let patch = Patch::Merge(json!({"data": {"measured": value}}));
        let from = Instant::now();
        maps.patch("measured", &PatchParams::default(), &patch).await.unwrap();
        loop {
            let text: Option<String> = db.query_row(query, [], |r| r.get(0)).ok();
            if text.is_some_and(|t| t.contains(&value)) {
                break;
            }
            assert!(from.elapsed() < PATIENCE, "the edge never stored it");
            // tokio's clock has steps of a millisecond. Nothing else runs in this thread.
            std::thread::park_timeout(Duration::from_micros(200));
        }
        times.push(ms(from));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    times
}
