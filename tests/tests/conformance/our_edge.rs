//! Our edgecore on KubeEdge's cloudcore.

use super::{Site, stories};

#[test]
fn our_edgecore_joins_kubeedges_cloudcore_with_its_token_and_runs_pods() {
    let Some(site) = Site::with_our_edge() else { return };
    stories::a_pod_lives(&site);
}

#[test]
fn logs_and_exec_reach_our_edgecore_through_kubeedges_cloudcore() {
    let Some(site) = Site::with_our_edge() else { return };
    stories::logs_and_exec(&site);
}

#[test]
fn what_changed_while_our_edgecore_was_cut_off_from_kubeedges_cloudcore_happens_when_it_is_back() {
    let Some(site) = Site::with_our_edge() else { return };
    stories::a_cut(&site);
}

#[test]
fn our_edgecore_finds_kubeedges_cloudcore_again_after_its_kill() {
    let Some(mut site) = Site::with_our_edge() else { return };
    stories::cloudcore_dies(&mut site);
}

#[test]
fn our_edgecore_is_killed_and_goes_on_with_kubeedges_cloudcore() {
    let Some(mut site) = Site::with_our_edge() else { return };
    stories::edgecore_dies(&mut site);
}

#[test]
fn devices_behind_our_edgecore_do_as_kubeedges_cloudcore_says() {
    let Some(site) = Site::with_our_edge() else { return };
    stories::a_device(&site);
}
