//! `keadm debug` on an edge machine.

use tests::host::Pair;
use tests::wait;

use super::join::{cloud, join, keadm_ok, kubectl};
use super::{PATIENCE, without_times};

#[test]
fn what_an_edge_holds_is_listed_and_its_node_and_pods_are_explained() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    kubectl.run(&["create", "configmap", "settings", "--from-literal=a=b"]);
    let image = edgecore::sample::IMAGE;
    let main = format!(
        r#"{{"name":"main","image":"{image}","envFrom":[{{"configMapRef":{{"name":"settings"}}}}]}}"#
    );
    kubectl.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"web"}},"spec":{{"containers":[{main}]}}}}"#
    ));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    let held = ["debug", "get", "pods", "web"];
    let (listed, _) = wait::until("the edge to have written down that it runs", PATIENCE, || {
        let said = keadm_ok(&pair.edge, &held);
        if said.contains("Running") { Ok(said) } else { Err(said) }
    });
    insta::assert_snapshot!("debug_get", without_times(&listed));
    let node = keadm_ok(&pair.edge, &["debug", "diagnose", "node"]);
    insta::assert_snapshot!("debug_diagnose_node", without_times(&node));
    let web = keadm_ok(&pair.edge, &["debug", "diagnose", "pod", "web"]);
    insta::assert_snapshot!("debug_diagnose_pod", without_times(&web));
}
