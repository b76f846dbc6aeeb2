//! KubeEdge's edgecore on our cloudcore.

use super::{Site, stories};

#[test]
fn kubeedges_edgecore_joins_with_our_token_and_runs_pods_for_our_cloudcore() {
    let Some(site) = Site::with_their_edge() else { return };
    stories::a_pod_lives(&site);
}

#[test]
fn logs_and_exec_come_from_kubeedges_edgecore_and_an_ended_exec_leaves_its_tunnel_open() {
    let Some(site) = Site::with_their_edge() else { return };
    stories::logs_and_exec(&site);
}

#[test]
fn what_changed_while_kubeedges_edgecore_was_cut_off_happens_when_it_is_back() {
    let Some(site) = Site::with_their_edge() else { return };
    stories::a_cut(&site);
}

#[test]
fn kubeedges_edgecore_finds_our_cloudcore_again_after_its_kill() {
    let Some(mut site) = Site::with_their_edge() else { return };
    stories::cloudcore_dies(&mut site);
}

#[test]
fn kubeedges_edgecore_is_killed_and_goes_on_with_our_cloudcore() {
    let Some(mut site) = Site::with_their_edge() else { return };
    stories::edgecore_dies(&mut site);
}

#[test]
fn devices_behind_kubeedges_edgecore_do_as_our_cloudcore_says() {
    let Some(site) = Site::with_their_edge() else { return };
    stories::a_device(&site);
}
