use std::collections::{BTreeMap, BTreeSet};

use api::names::Kind;
use proptest::prelude::*;

use super::*;

fn pod(name: &str) -> PodId {
    let key = ObjectKey::new("default".parse().unwrap(), Kind::Pod, name);
    PodId { key, uid: format!("uid-{name}").parse().unwrap() }
}

fn up() -> Outbox {
    let mut outbox = Outbox::default();
    outbox.link_up();
    outbox
}

fn patch_of(report: &Upstream) -> &str {
    match report {
        Upstream::Request(Request::PatchPod { patch, .. }) => patch,
        other => panic!("not a status: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_status_wins_while_it_waits() {
    let mut outbox = up();
    outbox.pod_status(pod("a"), "1".into());
    outbox.pod_status(pod("a"), "2".into());
    let (id, report) = outbox.next_report(Instant::now()).unwrap();
    assert_eq!(patch_of(&report), "2");
    assert!(outbox.next_report(Instant::now()).is_none(), "one in flight per pod");
    outbox.pod_status(pod("a"), "3".into());
    assert!(outbox.next_report(Instant::now()).is_none());
    outbox.answered(&id, Verdict::Done, Instant::now());
    assert_eq!(patch_of(&outbox.next_report(Instant::now()).unwrap().1), "3");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_gets_no_answer_does_not_hold_up_its_neighbours() {
    let mut outbox = up();
    outbox.pod_status(pod("deaf"), "1".into());
    outbox.pod_status(pod("web"), "1".into());
    let now = Instant::now();
    assert!(outbox.next_report(now).is_some() && outbox.next_report(now).is_some());
    outbox.pod_status(pod("web2"), "1".into());
    assert!(outbox.next_report(now).is_some());
    let later = now + ANSWER_WITHIN;
    outbox.expire(later);
    assert!(outbox.next_due(later).is_some_and(|due| due > later));
    assert!(outbox.next_report(later + AGAIN.ceiling).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_pods_end_follows_its_last_status_and_is_kept_over_a_cut() {
    let mut outbox = up();
    outbox.pod_gone(pod("a"));
    outbox.pod_status(pod("a"), "last".into());
    let (id, first) = outbox.next_report(Instant::now()).unwrap();
    assert_eq!(patch_of(&first), "last");
    outbox.answered(&id, Verdict::Done, Instant::now());
    let (_, end) = outbox.next_report(Instant::now()).unwrap();
    let Upstream::Request(Request::DeletePod { options, .. }) = &end else { panic!("{end:?}") };
    assert_eq!(options.get(), r#"{"gracePeriodSeconds":0,"preconditions":{"uid":"uid-a"}}"#);
    outbox.link_cut();
    assert!(outbox.next_report(Instant::now()).is_none(), "no link");
    outbox.link_up();
    let (id, again) = outbox.next_report(Instant::now()).unwrap();
    assert_eq!(again, end);
    outbox.answered(&id, Verdict::Done, Instant::now());
    assert_eq!(outbox.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_unknown_to_the_cloud_is_not_reported_again() {
    let mut outbox = up();
    outbox.pod_status(pod("a"), "1".into());
    let (id, _) = outbox.next_report(Instant::now()).unwrap();
    outbox.answered(&id, Verdict::PodGone, Instant::now());
    assert_eq!(outbox.len(), 0);
}

#[test]
fn events_are_dropped_and_counted_without_a_link_and_when_too_many_wait() {
    let event = || EventReport {
        key: ObjectKey::new("default".parse().unwrap(), Kind::Event, "e"),
        op: api::wire::upstream::EventOp::Insert,
        content: RawJson::null(),
    };
    let mut outbox = Outbox::default();
    outbox.event(event());
    outbox.link_up();
    for _ in 0..EVENTS + 2 {
        outbox.event(event());
    }
    assert_eq!(outbox.dropped(), Dropped { events_offline: 1, events_full: 2 });
    outbox.link_cut();
    assert_eq!(outbox.dropped().events_offline, 1 + EVENTS as u64);
}

#[derive(Debug, Clone)]
enum Step {
    Status(u8),
    Gone(u8),
    Send,
    /// Answer the n-th of what is in flight.
    Answer(usize, Verdict),
    Cut,
    Mend,
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![Just(Verdict::Done), Just(Verdict::Again)];
    let step = prop_oneof![
        4 => (0..4u8).prop_map(Step::Status),
        1 => (0..4u8).prop_map(Step::Gone),
        6 => Just(Step::Send),
        4 => (0..8usize, verdict).prop_map(|(n, v)| Step::Answer(n, v)),
        1 => Just(Step::Cut),
        2 => Just(Step::Mend),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 0..120)
}

/// The cloud as the outbox sees it: it does what it is told when a report is answered with Done.
#[derive(Default)]
struct Cloud {
    flight: Vec<(MessageId, Upstream)>,
    status: BTreeMap<PodId, String>,
    removed: BTreeSet<PodId>,
}

impl Cloud {
    fn carry_out(&mut self, report: Upstream) {
        match report {
            Upstream::Request(Request::PatchPod { key, patch }) => {
                self.status.insert(pod(&key.name), patch);
            }
            Upstream::Request(Request::DeletePod { key, .. }) => {
                self.removed.insert(pod(&key.name));
            }
            other => panic!("{other:?}"),
        }
    }

    fn names(&self) -> Vec<String> {
        self.flight
            .iter()
            .map(|(_, r)| match r {
                Upstream::Request(
                    Request::PatchPod { key, .. } | Request::DeletePod { key, .. },
                ) => key.name.to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_cloud_ends_with_the_newest_status_and_every_end(steps in steps()) {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        rt.block_on(async {
            let mut now = Instant::now();
            let (mut outbox, mut cloud) = (up(), Cloud::default());
            let mut wanted: BTreeMap<PodId, String> = BTreeMap::new();
            let mut ends: BTreeSet<PodId> = BTreeSet::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Status(p) => {
                        let p = pod(&p.to_string());
                        wanted.insert(p.clone(), n.to_string());
                        outbox.pod_status(p, n.to_string());
                    }
                    Step::Gone(p) => {
                        let p = pod(&p.to_string());
                        ends.insert(p.clone());
                        outbox.pod_gone(p);
                    }
                    Step::Send => cloud.flight.extend(outbox.next_report(now)),
                    Step::Answer(at, verdict) => {
                        if at < cloud.flight.len() {
                            let (id, report) = cloud.flight.remove(at);
                            if verdict == Verdict::Done { cloud.carry_out(report); }
                            outbox.answered(&id, verdict, now);
                        }
                    }
                    Step::Cut => {
                        // The cloud may still carry out what was on the wire.
                        for (_, report) in std::mem::take(&mut cloud.flight) {
                            cloud.carry_out(report);
                        }
                        outbox.link_cut();
                    }
                    Step::Mend => outbox.link_up(),
                    Step::Wait => {
                        now += ANSWER_WITHIN;
                        // Answers later than the limit find nobody.
                        for (_, report) in std::mem::take(&mut cloud.flight) {
                            cloud.carry_out(report);
                        }
                        outbox.expire(now);
                    }
                }
                let mut names = cloud.names();
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), cloud.flight.len(), "one in flight per pod");
            }
            outbox.link_cut();
            outbox.link_up();
            while let Some((id, report)) = outbox.next_report(now) {
                cloud.carry_out(report);
                outbox.answered(&id, Verdict::Done, now);
            }
            prop_assert_eq!(outbox.len(), 0);
            prop_assert_eq!(cloud.status, wanted);
            prop_assert_eq!(cloud.removed, ends);
            Ok(())
        })?;
    }
}
