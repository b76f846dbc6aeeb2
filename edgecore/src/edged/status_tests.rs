use serde_json::{Value, json};

use super::super::memory::{Ended, Failure, Health, Volumes};
use super::super::testing::{Scene, at, pod};
use super::*;

struct Story {
    pod: Pod,
    scene: Scene,
    memory: Memory,
    old: PodStatus,
    fate: Fate,
    now: i64,
    pod_network: bool,
}

fn story(spec: Value, scene: Scene) -> Story {
    Story {
        pod: pod(spec),
        scene,
        memory: Memory { volumes: Volumes::Ready, ..Memory::default() },
        old: PodStatus::default(),
        fate: Fate::Run,
        now: 1000,
        pod_network: true,
    }
}

impl Story {
    fn status(&self) -> PodStatus {
        let want =
            Want { pod: &self.pod, fate: self.fate, grace: std::time::Duration::from_secs(30) };
        let host = Host {
            ips: vec!["192.0.2.1".to_owned()],
            runtime: "containerd".to_owned(),
            pod_network: self.pod_network,
        };
        pod_status(&want, &self.scene.seen, &self.memory, &self.old, &host, at(self.now))
    }

    fn json(&self) -> Value {
        serde_json::to_value(self.status()).unwrap()
    }

    /// `phase state reason/exit code`
    fn short(&self) -> String {
        let s = self.json();
        let c = &s["containerStatuses"][0];
        let state = &c["state"];
        let word = match (&state["waiting"], &state["running"], &state["terminated"]) {
            (Value::Object(w), ..) => format!("waiting {}", w["reason"].as_str().unwrap()),
            (_, Value::Object(_), _) => {
                format!("running{}", if c["ready"] == true { " ready" } else { "" })
            }
            (.., Value::Object(t)) => {
                format!("{} {}", t["reason"].as_str().unwrap(), t["exitCode"])
            }
            _ => "nothing".to_owned(),
        };
        format!("{} {word}", s["phase"].as_str().unwrap())
    }

    fn condition(&self, kind: &str) -> String {
        let s = self.json();
        let all = s["conditions"].as_array().unwrap();
        let c = all.iter().find(|c| c["type"] == kind).unwrap();
        let text = |key: &str| c[key].as_str().unwrap_or_default().to_owned();
        let line = [text("status"), text("reason"), text("message")].join(" ");
        line.trim_end().to_owned()
    }
}

#[test]
fn a_pods_life_reads_as_kubelet_tells_it() {
    let never = || json!({"restartPolicy": "Never"});
    let on_failure = || json!({"restartPolicy": "OnFailure"});
    let exited = |code| Scene::up().exited("main", 0, (1, 2), code, 0);
    let cases = [
        (json!({}), Scene::default(), "Pending waiting ContainerCreating"),
        (json!({}), Scene::up(), "Pending waiting ContainerCreating"),
        (json!({}), Scene::up().created("main", 0), "Pending waiting ContainerCreating"),
        (json!({}), Scene::up().running("main", 0, 1), "Running running ready"),
        (json!({}), exited(0), "Running Completed 0"),
        (json!({}), exited(3), "Running Error 3"),
        (never(), exited(0), "Succeeded Completed 0"),
        (never(), exited(3), "Failed Error 3"),
        (on_failure(), exited(0), "Succeeded Completed 0"),
        (on_failure(), exited(3), "Running Error 3"),
        (
            json!({"initContainers": [{"name": "i1"}]}),
            Scene::up().running("i1", 0, 1),
            "Pending waiting PodInitializing",
        ),
        (
            json!({"restartPolicy": "Never", "initContainers": [{"name": "i1"}]}),
            Scene::up().exited("i1", 0, (1, 2), 1, 0),
            "Failed waiting PodInitializing",
        ),
    ];
    for (spec, scene, want) in cases {
        let story = story(spec.clone(), scene);
        assert_eq!(story.short(), want, "{spec}");
    }
}

#[test]
fn a_crashing_container_says_how_long_it_is_held_back() {
    let scene =
        Scene::up().exited("main", 1, (999, 1000), 1, 10).exited("main", 0, (990, 995), 2, 0);
    let mut s = story(json!({}), scene);
    s.now = 1001;
    let json = s.json();
    let c = &json["containerStatuses"][0];
    assert_eq!(c["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(
        c["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=main pod=web_shop(u1)"
    );
    assert_eq!(c["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(c["restartCount"], 1);
    assert_eq!(json["phase"], "Running");
    assert_eq!(
        s.condition("Ready"),
        "False ContainersNotReady containers with unready status: [main]"
    );
    let mut longer = story(json!({}), Scene::up().exited("main", 4, (999, 1000), 1, 80));
    longer.now = 1001;
    let message = longer.json()["containerStatuses"][0]["state"]["waiting"]["message"].clone();
    assert!(message.as_str().unwrap().starts_with("back-off 1m20s restarting"), "{message}");
}

#[test]
fn a_restarted_container_remembers_its_last_end() {
    let mut scene = Scene::up().exited("main", 0, (1, 2), 137, 0).running("main", 1, 3);
    scene.seen.containers[1].status.reason = "OOMKilled".to_owned();
    let s = story(json!({}), scene).json();
    let c = &s["containerStatuses"][0];
    assert_eq!(c["restartCount"], 1);
    assert_eq!(c["containerID"], "containerd://main-1");
    assert_eq!(c["lastState"]["terminated"]["reason"], "OOMKilled");
    assert_eq!(c["lastState"]["terminated"]["containerID"], "containerd://main-0");
    assert_eq!(c["imageID"], "sha256:web");
}

#[test]
fn failures_to_start_have_their_reasons() {
    let with = |reason, now| {
        let mut s = story(json!({}), Scene::up());
        let failure = Failure::after(None, reason, "the cause".to_owned(), at(1000));
        s.memory.containers.insert("main".to_owned(), failure);
        s.now = now;
        let waiting = s.json()["containerStatuses"][0]["state"]["waiting"].clone();
        (
            waiting["reason"].as_str().unwrap().to_owned(),
            waiting["message"].as_str().unwrap().to_owned(),
        )
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(with("ErrImagePull", 1000), pair("ErrImagePull", "the cause"));
    assert_eq!(
        with("ErrImagePull", 1002),
        pair("ImagePullBackOff", "Back-off pulling image \"web:1\": ErrImagePull: the cause")
    );
    for reason in [
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "ErrImageNeverPull",
        "InvalidImageName",
    ] {
        assert_eq!(with(reason, 1005), pair(reason, "the cause"));
    }
}

#[test]
fn a_pod_waits_for_an_address_only_where_the_runtime_gives_one() {
    let mut scene = Scene::up();
    scene.seen.ips.clear();
    let mut s = story(json!({}), scene);
    assert_eq!(s.condition("PodReadyToStartContainers"), "False");
    s.pod_network = false;
    assert_eq!(s.condition("PodReadyToStartContainers"), "True");
}

#[test]
fn conditions_follow_the_containers() {
    let two = json!({"containers": [{"name": "b"}, {"name": "a"}]});
    let s = story(two, Scene::up().running("a", 0, 1));
    assert_eq!(s.condition("PodReadyToStartContainers"), "True");
    assert_eq!(s.condition("Initialized"), "True");
    assert_eq!(s.condition("PodScheduled"), "True");
    let unready = "False ContainersNotReady containers with unready status: [b]";
    assert_eq!(s.condition("ContainersReady"), unready);
    assert_eq!(s.condition("Ready"), unready);
    let kinds: Vec<String> = s.status().conditions.unwrap().into_iter().map(|c| c.type_).collect();
    assert_eq!(
        kinds,
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    );

    let init = story(json!({"initContainers": [{"name": "i1"}, {"name": "i2"}]}), Scene::up());
    assert_eq!(
        init.condition("Initialized"),
        "False ContainersNotInitialized containers with incomplete status: [i1 i2]"
    );
    let done =
        story(json!({"restartPolicy": "Never"}), Scene::up().exited("main", 0, (1, 2), 0, 0));
    assert_eq!(done.condition("Ready"), "False PodCompleted");
    assert_eq!(done.condition("Initialized"), "True PodCompleted");
    let failed =
        story(json!({"restartPolicy": "Never"}), Scene::up().exited("main", 0, (1, 2), 1, 0));
    assert_eq!(failed.condition("ContainersReady"), "False PodFailed");
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let mut s = story(json!({}), Scene::up().running("main", 0, 1));
    s.now = 10;
    s.old = s.status();
    s.now = 20;
    assert_eq!(s.status(), s.old, "nothing has changed, so nothing differs");
    s.scene = Scene::up().exited("main", 0, (1, 15), 1, 0);
    let changed = s.status().conditions.unwrap();
    let since = |kind: &str| {
        let c = changed.iter().find(|c| c.type_ == kind).unwrap();
        super::super::clock::from_time(c.last_transition_time.as_ref().unwrap())
    };
    assert_eq!(since("Ready"), at(20));
    assert_eq!(since("Initialized"), at(10));
}

#[test]
fn readiness_comes_from_probes_and_gates() {
    let spec = json!({"containers": [{"name": "main", "readinessProbe": {}}],
        "readinessGates": [{"conditionType": "example.com/up"}]});
    let mut s = story(spec, Scene::up().running("main", 0, 1));
    assert_eq!(s.short(), "Running running");
    let health = Health { ready: Some(true), ..Health::default() };
    s.memory.health.insert("main-0".to_owned(), health);
    assert_eq!(s.short(), "Running running ready");
    assert_eq!(s.condition("ContainersReady"), "True");
    assert_eq!(
        s.condition("Ready"),
        "False ReadinessGatesNotReady corresponding condition of pod readiness gate \
         \"example.com/up\" does not exist."
    );
    let gate = json!({"conditions": [{"type": "example.com/up", "status": "True"}]});
    s.pod.status = serde_json::from_value(gate).unwrap();
    assert_eq!(s.condition("Ready"), "True");
}

#[test]
fn a_ready_container_stays_ready_over_a_restart_of_edgecore() {
    let spec = json!({"containers": [{"name": "main", "readinessProbe": {}, "startupProbe": {}}]});
    let mut s = story(spec, Scene::up().running("main", 0, 1));
    let health = Health { ready: Some(true), started: Some(true), unhealthy: None };
    s.memory.health.insert("main-0".to_owned(), health);
    s.old = s.status();
    s.memory = Memory::default();
    assert_eq!(s.short(), "Running running ready");
    s.scene = Scene::up().running("main", 1, 5);
    assert_eq!(s.short(), "Running running", "another container has to show it anew");
}

#[test]
fn a_container_that_has_not_started_is_not_ready() {
    let spec = json!({"containers": [{"name": "main", "startupProbe": {}}]});
    let mut s = story(spec, Scene::up().running("main", 0, 1));
    assert_eq!(s.json()["containerStatuses"][0]["started"], false);
    assert_eq!(s.short(), "Running running");
    let health = Health { started: Some(true), ..Health::default() };
    s.memory.health.insert("main-0".to_owned(), health);
    assert_eq!(s.short(), "Running running ready");
}

#[test]
fn an_evicted_pod_says_why() {
    let mut s = story(json!({}), Scene::up().running("main", 0, 1));
    s.fate = Fate::End;
    s.memory.ended =
        Some(Ended { reason: "Evicted", message: "low on memory".to_owned(), grace: None });
    assert_eq!(s.json()["phase"], "Running", "until its containers have ended");
    s.scene = Scene::up().exited("main", 0, (1, 2), 137, 0);
    let json = s.json();
    assert_eq!((&json["phase"], &json["reason"]), (&json!("Failed"), &json!("Evicted")));
    assert_eq!(json["message"], "low on memory");
    assert_eq!(s.condition("DisruptionTarget"), "True TerminationByKubelet low on memory");
    // The final word stays, also for an edgecore that was restarted since.
    s.old = s.status();
    s.memory = Memory::default();
    s.fate = Fate::Run;
    let json = s.json();
    assert_eq!((&json["phase"], &json["reason"]), (&json!("Failed"), &json!("Evicted")));
}

#[test]
fn a_deleted_pod_ends_with_what_its_containers_said() {
    let mut s = story(json!({}), Scene::up().running("main", 0, 1));
    s.fate = Fate::Remove;
    assert_eq!(s.short(), "Running running ready");
    s.old = s.status();
    s.scene = Scene::up().exited("main", 0, (1, 2), 0, 0).sandbox_dead();
    assert_eq!(s.short(), "Succeeded Completed 0");
    assert_eq!(s.json()["podIP"], "10.88.0.2", "the address it had");
    s.scene = Scene::up().exited("main", 0, (1, 2), 143, 0);
    assert_eq!(s.short(), "Failed Error 143");
    s.scene = Scene::default();
    s.old = PodStatus::default();
    assert_eq!(s.short(), "Failed ContainerStatusUnknown 137");
}

#[test]
fn a_container_removed_behind_our_back_is_said_to_be_lost() {
    let mut s = story(json!({}), Scene::up().running("main", 0, 1));
    s.old = s.status();
    s.scene = Scene::up();
    let c = s.json()["containerStatuses"][0].clone();
    assert_eq!(c["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(c["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
}

#[test]
fn a_finished_pod_keeps_its_status_when_its_containers_are_removed() {
    let mut s =
        story(json!({"restartPolicy": "Never"}), Scene::up().exited("main", 0, (1, 2), 3, 0));
    s.old = s.status();
    s.scene = Scene::default();
    assert_eq!(s.short(), "Failed Error 3");
}

#[test]
fn addresses_and_times_are_filled_in() {
    let s = story(json!({}), Scene::up().running("main", 0, 1)).json();
    assert_eq!((&s["hostIP"], &s["podIP"]), (&json!("192.0.2.1"), &json!("10.88.0.2")));
    assert_eq!(s["podIPs"], json!([{"ip": "10.88.0.2"}]));
    assert_eq!(s["qosClass"], "BestEffort");
    let start: jiff::Timestamp = s["startTime"].as_str().unwrap().parse().unwrap();
    assert_eq!(start.as_second(), at(0) / 1_000_000_000, "when its first sandbox was made");
    let host = story(json!({"hostNetwork": true}), Scene::up().running("main", 0, 1)).json();
    assert_eq!(host["podIP"], "192.0.2.1");
}

#[test]
fn a_held_upgrade_is_a_condition() {
    let mut pod = pod(json!({}));
    let held = held(&pod, at(0));
    let c = held.conditions.as_ref().unwrap().last().unwrap().clone();
    assert_eq!((c.type_.as_str(), c.status.as_str()), ("HeldUpgrade", "True"));
    assert_eq!(c.reason.as_deref(), Some("HoldUpgradeEnabled"));
    pod.status = Some(held.clone());
    assert_eq!(super::held(&pod, at(50)), held);
}

#[test]
fn what_looks_into_a_pod_is_shown_and_does_not_count_for_how_it_is() {
    let spec = json!({"restartPolicy": "Never",
        "ephemeralContainers": [{"name": "look", "image": "web:1"}, {"name": "next", "image": "web:1"}]});
    let scene = || Scene::up().running("main", 0, 1).exited("look", 0, (1, 2), 1, 0);
    let s = story(spec.clone(), scene());
    assert_eq!(s.short(), "Running running ready");
    assert_eq!(s.condition("ContainersReady"), "True");
    let all = s.json()["ephemeralContainerStatuses"].clone();
    assert_eq!(all[0]["state"]["terminated"]["exitCode"], 1);
    assert_eq!((&all[0]["ready"], all[0].get("started")), (&json!(false), None));
    assert_eq!(all[1]["state"]["waiting"]["reason"], "ContainerCreating");
    let over = Scene::up().exited("main", 0, (1, 2), 0, 0).running("look", 0, 1);
    assert_eq!(story(spec, over).short(), "Succeeded Completed 0");
}
