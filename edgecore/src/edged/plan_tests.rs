use serde_json::json;

use super::super::memory::{Ended, Failure, Health, Unhealthy};
use super::super::testing::{Scene, at, pod};
use super::*;

fn memory() -> Memory {
    Memory { volumes: Volumes::Ready, ..Memory::default() }
}

fn want(pod: &Pod, fate: Fate) -> Want<'_> {
    Want { pod, fate, grace: podspec::grace(pod) }
}

/// The plan in short words.
fn short(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|a| match a {
            Action::PrepareVolumes => "volumes".to_owned(),
            Action::RunSandbox { attempt } => format!("sandbox {attempt}"),
            Action::StopSandbox { id } => format!("stop {id}"),
            Action::RemoveContainer { id } => format!("remove {id}"),
            Action::RemoveSandbox { id } => format!("remove {id}"),
            Action::StartContainer { name, attempt, backoff, .. } => {
                format!("start {name} {attempt} {backoff}")
            }
            Action::StopContainer { id, grace, .. } => format!("stop {id} {}", grace.as_secs()),
            Action::Release => "release".to_owned(),
        })
        .collect()
}

fn run_at(pod: &Pod, scene: &Scene, memory: &Memory, seconds: i64) -> (Vec<String>, Option<i64>) {
    let plan = plan(&want(pod, Fate::Run), &scene.seen, memory, at(seconds));
    (short(&plan), plan.look_again.map(|t| (t - at(0)) / SECOND))
}

fn run(pod: &Pod, scene: &Scene) -> Vec<String> {
    run_at(pod, scene, &memory(), 1000).0
}

#[test]
fn a_new_pod_gets_volumes_then_a_sandbox_then_its_containers() {
    let pod = pod(
        json!({"containers": [{"name": "a", "image": "web:1"}, {"name": "b", "image": "web:1"}]}),
    );
    let nothing = Scene::default();
    assert_eq!(run_at(&pod, &nothing, &Memory::default(), 0).0, ["volumes"]);
    assert_eq!(run(&pod, &nothing), ["sandbox 0"]);
    assert_eq!(run(&pod, &Scene::up()), ["start a 0 0", "start b 0 0"]);
    let both = Scene::up().running("a", 0, 1).running("b", 0, 1);
    assert_eq!(run_at(&pod, &both, &memory(), 2), (vec![], None));
}

#[test]
fn what_runs_is_left_alone_after_a_restart_of_edgecore() {
    let pod = pod(json!({}));
    let scene = Scene::up().running("main", 3, 1);
    // All that is remembered is lost; the volumes are looked at, nothing else happens.
    assert_eq!(run_at(&pod, &scene, &Memory::default(), 5).0, ["volumes"]);
    assert!(run(&pod, &scene).is_empty());
}

#[test]
fn the_restart_policy_decides_what_an_exit_means() {
    for (policy, code, want) in [
        ("Always", 0, vec!["start main 1 10"]),
        ("Always", 1, vec!["start main 1 10"]),
        ("OnFailure", 1, vec!["start main 1 10"]),
        ("OnFailure", 0, vec!["stop s0"]),
        ("Never", 1, vec!["stop s0"]),
        ("Never", 0, vec!["stop s0"]),
    ] {
        let pod = pod(json!({"restartPolicy": policy}));
        let scene = Scene::up().exited("main", 0, (1, 2), code, 0);
        assert_eq!(run(&pod, &scene), want, "{policy} {code}");
    }
}

#[test]
fn a_container_that_keeps_ending_waits_longer_each_time() {
    let pod = pod(json!({}));
    let crash = |attempt, backoff| Scene::up().exited("main", attempt, (100, 101), 1, backoff);
    // The first restart is at once, the second after 10 s, then 20 s ..
    assert_eq!(run_at(&pod, &crash(0, 0), &memory(), 101).0, ["start main 1 10"]);
    assert_eq!(run_at(&pod, &crash(1, 10), &memory(), 105), (vec![], Some(111)));
    assert_eq!(run_at(&pod, &crash(1, 10), &memory(), 111).0, ["start main 2 20"]);
    assert_eq!(run_at(&pod, &crash(2, 20), &memory(), 111), (vec![], Some(121)));
    assert_eq!(run_at(&pod, &crash(9, 300), &memory(), 401).0, ["start main 10 300"]);
    // .. until one has run for ten minutes.
    let calm = Scene::up().exited("main", 9, (100, 701), 1, 300);
    assert_eq!(run_at(&pod, &calm, &memory(), 701).0, ["start main 10 10"]);
}

#[test]
fn a_container_of_a_kubelet_is_taken_over() {
    let pod = pod(json!({}));
    let mut scene = Scene::up().running("main", 2, 1);
    scene.seen.containers[0].status.annotations.clear();
    assert!(run(&pod, &scene).is_empty());
    let mut scene = Scene::up().exited("main", 2, (1, 2), 1, 0);
    scene.seen.containers[0].status.annotations.clear();
    assert_eq!(run_at(&pod, &scene, &memory(), 5), (vec![], Some(12)));
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod(json!({"initContainers": [
        {"name": "i1", "image": "web:1"}, {"name": "i2", "image": "web:1"}]}));
    assert_eq!(run(&pod, &Scene::up()), ["start i1 0 0"]);
    assert!(run(&pod, &Scene::up().running("i1", 0, 1)).is_empty());
    let first = || Scene::up().exited("i1", 0, (1, 2), 0, 0);
    assert_eq!(run(&pod, &first()), ["start i2 0 0"]);
    let failed = first().exited("i2", 0, (2, 3), 1, 0);
    assert_eq!(run(&pod, &failed), ["start i2 1 10"]);
    let both = first().exited("i2", 0, (2, 3), 0, 0);
    assert_eq!(run(&pod, &both), ["start main 0 0"]);
}

#[test]
fn init_containers_are_not_run_again_once_a_main_container_exists() {
    let pod = pod(json!({"initContainers": [{"name": "i1"}]}));
    // The ended init container has been removed since.
    let scene = Scene::up().exited("main", 0, (1, 2), 1, 0);
    assert_eq!(run(&pod, &scene), ["start main 1 10"]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_is_never_restarted() {
    let pod = pod(json!({"restartPolicy": "Never", "initContainers": [{"name": "i1"}]}));
    let scene = Scene::up().exited("i1", 0, (1, 2), 1, 0);
    assert_eq!(run(&pod, &scene), ["stop s0"]);
    assert_eq!(outcome(&pod, &scene.seen), Outcome::InitFailed);
}

// https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/
#[test]
fn an_ephemeral_container_starts_once_also_before_the_others_are_done() {
    let pod = pod(json!({"initContainers": [{"name": "i1", "image": "web:1"}],
        "ephemeralContainers": [{"name": "look", "image": "web:1", "targetContainerName": "main"}]}));
    let waiting = || Scene::up().running("i1", 0, 1);
    assert_eq!(run(&pod, &waiting()), ["start look 0 0"]);
    assert!(run(&pod, &waiting().running("look", 0, 2)).is_empty());
    for code in [0, 1] {
        assert!(run(&pod, &waiting().exited("look", 0, (1, 2), code, 0)).is_empty(), "{code}");
    }
    assert_eq!(podspec::looks_into(&pod, "look"), Some("main"));
    assert_eq!(podspec::looks_into(&pod, "main"), None);
    // The end of the pod does not wait for it: it is ended with the others.
    let scene = Scene::up().running("main", 0, 1).running("look", 0, 1);
    let end = plan(&want(&pod, Fate::Remove), &scene.seen, &memory(), at(10));
    assert_eq!(short(&end), ["stop look-0 30", "stop main-0 30"]);
}

#[test]
fn sidecars_start_in_turn_stay_and_end_last() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [
        {"name": "side", "restartPolicy": "Always", "image": "web:1"}, {"name": "i2"}]});
    let pod = pod(spec);
    assert_eq!(run(&pod, &Scene::up()), ["start side 0 0"]);
    let side = || Scene::up().running("side", 0, 1);
    assert_eq!(run(&pod, &side()), ["start i2 0 0"]);
    let begun = || side().exited("i2", 0, (1, 2), 0, 0);
    assert_eq!(run(&pod, &begun()), ["start main 0 0"]);
    // It is restarted although the pod's policy is Never.
    let lost = Scene::up()
        .exited("side", 0, (1, 2), 0, 0)
        .exited("i2", 0, (1, 2), 0, 0)
        .running("main", 0, 2);
    assert_eq!(run(&pod, &lost), ["start side 1 10"]);
    // When the work is done it is ended, and the sandbox after it.
    let done = begun().exited("main", 0, (2, 3), 0, 0);
    assert_eq!(run(&pod, &done), ["stop side-0 30"]);
    let all = Scene::up().exited("side", 0, (1, 4), 0, 0).exited("i2", 0, (1, 2), 0, 0).exited(
        "main",
        0,
        (2, 3),
        0,
        0,
    );
    assert_eq!(run(&pod, &all), ["stop s0"]);
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_the_next_until_it_passes() {
    let pod = pod(json!({"initContainers": [
        {"name": "side", "restartPolicy": "Always", "image": "web:1", "startupProbe": {}}]}));
    let scene = Scene::up().running("side", 0, 1);
    assert!(run(&pod, &scene).is_empty());
    let mut memory = memory();
    memory.health.insert("side-0".into(), Health { started: Some(true), ..Health::default() });
    assert_eq!(run_at(&pod, &scene, &memory, 5).0, ["start main 0 0"]);
}

#[test]
fn a_dead_sandbox_is_replaced_with_all_in_it() {
    let pod = pod(json!({"initContainers": [{"name": "i1"}]}));
    let scene =
        Scene::up().exited("i1", 0, (1, 2), 0, 0).exited("main", 0, (2, 3), 137, 0).sandbox_dead();
    assert_eq!(run(&pod, &scene), ["stop s0", "sandbox 1"]);
    let mut again = scene;
    let fresh = SeenSandbox { id: "s1".into(), ready: true, attempt: 1, ..SeenSandbox::default() };
    again.seen.sandboxes.insert(0, fresh);
    // In a new sandbox the init containers run again.
    assert_eq!(run(&pod, &again), ["start i1 1 10"]);
}

#[test]
fn a_finished_pod_gets_no_new_sandbox() {
    let pod = pod(json!({"restartPolicy": "OnFailure"}));
    let scene = Scene::up().exited("main", 0, (1, 2), 0, 0).sandbox_dead();
    assert!(run(&pod, &scene).is_empty());
}

#[test]
fn a_pod_whose_status_is_final_is_never_run_again() {
    let mut pod = pod(json!({}));
    pod.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
    assert!(run(&pod, &Scene::default()).is_empty());
}

#[test]
fn a_failure_is_waited_out() {
    let pod = pod(json!({}));
    let mut memory = memory();
    let failure = Failure::after(None, "ErrImagePull", "no".into(), at(100));
    memory.containers.insert("main".into(), failure);
    // The wording changes after a second, the next try is after ten.
    assert_eq!(run_at(&pod, &Scene::up(), &memory, 100), (vec![], Some(101)));
    assert_eq!(run_at(&pod, &Scene::up(), &memory, 102), (vec![], Some(110)));
    assert_eq!(run_at(&pod, &Scene::up(), &memory, 110).0, ["start main 0 0"]);
    memory.sandbox = Some(Failure::after(None, "ContainerCreating", "no".into(), at(100)));
    assert_eq!(run_at(&pod, &Scene::default(), &memory, 105), (vec![], Some(110)));
    memory.volumes = Volumes::Failed(Failure::after(None, "", "no".into(), at(100)));
    assert_eq!(run_at(&pod, &Scene::default(), &memory, 109), (vec![], Some(110)));
    assert_eq!(run_at(&pod, &Scene::default(), &memory, 110).0, ["volumes"]);
}

#[test]
fn one_containers_failure_does_not_hold_up_its_neighbour() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let mut memory = memory();
    memory
        .containers
        .insert("a".into(), Failure::after(None, "ErrImagePull", "no".into(), at(100)));
    assert_eq!(run_at(&pod, &Scene::up(), &memory, 105).0, ["start b 0 0"]);
}

#[test]
fn a_container_made_and_never_started_is_made_again() {
    let pod = pod(json!({}));
    assert_eq!(run(&pod, &Scene::up().created("main", 2)), ["remove main-2", "start main 2 0"]);
}

#[test]
fn an_unhealthy_container_is_ended_with_the_probes_grace() {
    let pod = pod(json!({}));
    let scene = Scene::up().running("main", 0, 1);
    let mut memory = memory();
    let unhealthy = Unhealthy { probe: "liveness", grace: Some(Duration::from_secs(3)) };
    memory
        .health
        .insert("main-0".into(), Health { unhealthy: Some(unhealthy), ..Health::default() });
    let plan = plan(&want(&pod, Fate::Run), &scene.seen, &memory, at(5));
    assert_eq!(short(&plan), ["stop main-0 3"]);
    let Action::StopContainer { why, .. } = &plan.actions[0] else { panic!() };
    assert_eq!(why, "Container main failed liveness probe, will be restarted");
}

#[test]
fn a_changed_image_replaces_the_container() {
    let pod = pod(json!({"containers": [{"name": "main", "image": "web:2"}]}));
    assert_eq!(run(&pod, &Scene::up().running("main", 0, 1)), ["stop main-0 30"]);
}

#[test]
fn a_deleted_pod_ends_frees_everything_and_is_let_go() {
    let pod = pod(json!({"terminationGracePeriodSeconds": 7}));
    let removal = |scene: &Scene, memory: &Memory, s| {
        short(&plan(&want(&pod, Fate::Remove), &scene.seen, memory, at(s)))
    };
    let running = Scene::up().running("main", 0, 1);
    assert_eq!(removal(&running, &memory(), 5), ["stop main-0 7"]);
    // After a first, interrupted attempt only the rest of the time is left.
    let begun = Memory { ending_since: Some(at(5)), ..memory() };
    assert_eq!(removal(&running, &begun, 10), ["stop main-0 2"]);
    assert_eq!(removal(&running, &begun, 100), ["stop main-0 1"]);
    let ended = Scene::up().exited("main", 0, (1, 6), 0, 0);
    assert_eq!(removal(&ended, &memory(), 7), ["stop s0", "release"]);
    assert_eq!(removal(&Scene::default(), &memory(), 7), ["release"]);
}

#[test]
fn an_evicted_pod_ends_and_stays_as_a_record() {
    let pod = pod(json!({}));
    let ended = Ended { reason: "Evicted", message: "no room".into(), grace: None };
    let memory = Memory { ended: Some(ended), ..memory() };
    let end = |scene: &Scene| short(&plan(&want(&pod, Fate::End), &scene.seen, &memory, at(5)));
    assert_eq!(end(&Scene::up().running("main", 0, 1)), ["stop main-0 30"]);
    assert_eq!(end(&Scene::up().exited("main", 0, (1, 2), 137, 0)), ["stop s0"]);
    assert!(end(&Scene::up().exited("main", 0, (1, 2), 137, 0).sandbox_dead()).is_empty());
}

#[test]
fn only_the_newest_dead_are_kept() {
    let scene = Scene::up()
        .exited("main", 0, (1, 2), 1, 0)
        .exited("main", 1, (3, 4), 1, 0)
        .exited("main", 2, (5, 6), 1, 0)
        .running("main", 3, 7)
        .exited("i1", 0, (0, 1), 0, 0);
    let plan = Plan { actions: garbage(&scene.seen), look_again: None };
    assert_eq!(short(&plan), ["remove main-1", "remove main-0"]);
    let mut replaced = scene;
    let fresh = SeenSandbox { id: "s1".into(), ready: true, attempt: 1, ..SeenSandbox::default() };
    replaced.seen.sandboxes.insert(0, fresh);
    replaced.seen.sandboxes[1].ready = false;
    assert_eq!(garbage(&replaced.seen).len(), 2, "a sandbox that still holds something stays");
    replaced.seen.containers.clear();
    let plan = Plan { actions: garbage(&replaced.seen), look_again: None };
    assert_eq!(short(&plan), ["remove s0"]);
}
