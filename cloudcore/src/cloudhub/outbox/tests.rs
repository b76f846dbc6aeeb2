use std::collections::{BTreeMap, HashMap, HashSet};

use api::names::{Kind, Namespace};
use api::wire::downstream::PushSource;
use proptest::prelude::*;

use super::*;

const RETRY: Duration = Duration::from_secs(5);

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default".parse::<Namespace>().unwrap(), Kind::Pod, name)
}

fn push(op: PushOp, name: &str, uid: &str, version: u64) -> ObjectPush {
    let key = key(name);
    let uid: Uid = uid.parse().unwrap();
    let object = RawJson::parse(format!(
        r#"{{"metadata":{{"name":"{name}","uid":"{uid}","resourceVersion":"{version}"}}}}"#
    ))
    .unwrap();
    let version = Some(ResourceVersion(version));
    ObjectPush { op, key, uid, version, source: PushSource::EdgeController, object }
}

fn pod(name: &str, version: u64) -> ObjectPush {
    push(PushOp::Update, name, &format!("uid-{name}"), version)
}

fn sent(due: &[Due]) -> Vec<(PushOp, String, u64)> {
    due.iter()
        .filter_map(|d| match &d.message {
            Downstream::Object(p) => {
                Some((p.op, p.key.name.to_string(), p.version.map_or(0, |v| v.0)))
            }
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_silent_object_does_not_hold_up_its_neighbours() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.offer(pod("deaf", 1));
    assert_eq!(outbox.due(now, RETRY).len(), 1);
    outbox.offer(pod("web", 1));
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Update, "web".to_owned(), 1)]);
}

#[tokio::test]
async fn a_device_goes_once_its_model_is_there_or_does_not_answer_and_pods_wait_for_neither() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    let of = |kind: Kind, name: &str| {
        let mut push = push(PushOp::Insert, name, &format!("uid-{name}"), 1);
        push.key.kind = kind;
        push
    };
    let insert = |name: &str| (PushOp::Insert, name.to_owned(), 1);
    outbox.offer(of(Kind::DeviceModel, "lamp"));
    outbox.offer(of(Kind::Device, "hall"));
    outbox.offer(of(Kind::Device, "stairs"));
    outbox.offer(pod("web", 1));
    let first = outbox.due(now, RETRY);
    assert_eq!(sent(&first), [insert("lamp"), (PushOp::Update, "web".to_owned(), 1)]);
    assert!(outbox.due(now, RETRY).is_empty());
    outbox.acked(&first[0].id);
    assert_eq!(sent(&outbox.due(now, RETRY)), [insert("hall"), insert("stairs")]);

    outbox.offer(of(Kind::DeviceModel, "deaf"));
    outbox.offer(of(Kind::Device, "cellar"));
    let arrives =
        (0..10).any(|n| sent(&outbox.due(now + RETRY * n, RETRY)).contains(&insert("cellar")));
    assert!(arrives, "a model that nobody acknowledges holds its devices up for ever");
}

#[tokio::test]
async fn the_newest_of_several_waiting_versions_is_sent_and_only_that() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    for version in 1..=100 {
        outbox.offer(pod("web", version));
    }
    assert_eq!(outbox.offer(pod("web", 50)), Offered::Stale);
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Update, "web".to_owned(), 100)]);
    assert_eq!(outbox.waiting_bytes, 0);
}

#[tokio::test]
async fn the_second_version_waits_for_the_first_ones_ack() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.offer(pod("web", 1));
    let first = outbox.due(now, RETRY);
    outbox.offer(pod("web", 2));
    assert!(outbox.due(now, RETRY).is_empty());
    assert_eq!(outbox.acked(&first[0].id).unwrap().version, Some(ResourceVersion(1)));
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Update, "web".to_owned(), 2)]);
}

#[tokio::test]
async fn a_silent_version_gives_way_to_a_newer_one_after_the_retry_interval() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.offer(pod("web", 1));
    let first = outbox.due(now, RETRY);
    outbox.offer(pod("web", 2));
    assert_eq!(outbox.next_due(RETRY), Some(now + RETRY));
    let second = outbox.due(now + RETRY, RETRY);
    assert_eq!(sent(&second), [(PushOp::Update, "web".to_owned(), 2)]);
    assert!(outbox.acked(&first[0].id).is_none(), "a late ack of the old version says nothing");
    assert!(outbox.acked(&second[0].id).is_some());
    assert!(outbox.is_empty());
}

#[tokio::test]
async fn an_unanswered_object_is_repeated_and_then_leaves_the_window_to_others() {
    let mut now = Instant::now();
    let limits = Limits { window: 1, ..Limits::default() };
    let mut outbox = Outbox::new(limits);
    outbox.offer(pod("deaf", 1));
    let first = outbox.due(now, RETRY).remove(0).id;
    outbox.offer(pod("web", 1));
    for _ in 1..TRIES_IN_WINDOW {
        now += RETRY;
        let again = outbox.due(now, RETRY);
        assert_eq!(again.len(), 1);
        assert!(again[0].again);
        assert_eq!(again[0].id, first, "the same message, so that a late ack counts");
    }
    now += RETRY;
    let next = outbox.due(now, RETRY);
    assert_eq!(sent(&next), [(PushOp::Update, "web".to_owned(), 1)]);
    outbox.acked(&next[0].id);
    assert_eq!(outbox.next_due(RETRY), Some(now + RETRY * PARKED_FACTOR));
    now += RETRY * PARKED_FACTOR;
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Update, "deaf".to_owned(), 1)]);
}

#[tokio::test]
async fn a_deletion_outlives_late_updates_cuts_and_a_full_outbox() {
    let now = Instant::now();
    let limits = Limits { waiting_bytes: 1, ..Limits::default() };
    let mut outbox = Outbox::new(limits);
    assert_eq!(outbox.offer(pod("web", 1)), Offered::Queued);
    assert_eq!(outbox.offer(pod("other", 1)), Offered::Shed);
    assert_eq!(outbox.offer(push(PushOp::Delete, "web", "uid-web", 2)), Offered::Replaced);
    assert_eq!(outbox.offer(pod("web", 3)), Offered::Stale);
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Delete, "web".to_owned(), 2)]);
    outbox.disconnected();
    assert_eq!(outbox.offer(pod("web", 4)), Offered::Stale);
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Delete, "web".to_owned(), 2)]);
}

#[tokio::test]
async fn the_old_bearer_of_a_name_is_gone_before_the_new_one_arrives() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.offer(push(PushOp::Delete, "web", "old", 5));
    outbox.offer(push(PushOp::Insert, "web", "new", 6));
    let first = outbox.due(now, RETRY);
    assert_eq!(sent(&first), [(PushOp::Delete, "web".to_owned(), 5)]);
    assert!(outbox.due(now, RETRY).is_empty());
    outbox.acked(&first[0].id);
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Insert, "web".to_owned(), 6)]);
}

#[tokio::test]
async fn what_the_node_has_never_seen_arrives_as_an_insert() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.offer(push(PushOp::Insert, "web", "u", 1));
    outbox.disconnected();
    outbox.offer(push(PushOp::Update, "web", "u", 2));
    assert_eq!(sent(&outbox.due(now, RETRY)), [(PushOp::Insert, "web".to_owned(), 2)]);
}

#[tokio::test]
async fn no_more_than_the_window_is_in_flight() {
    let now = Instant::now();
    let mut outbox = Outbox::new(Limits { window: 4, ..Limits::default() });
    for n in 0..10 {
        outbox.offer(pod(&format!("p{n}"), 1));
    }
    let due = outbox.due(now, RETRY);
    assert_eq!(due.len(), 4);
    outbox.acked(&due[2].id);
    assert_eq!(outbox.due(now, RETRY).len(), 1);
    let mut wide = Outbox::new(Limits { window_bytes: 1, ..Limits::default() });
    wide.offer(pod("a", 1));
    wide.offer(pod("b", 1));
    assert_eq!(wide.due(now, RETRY).len(), 1, "the window has a size in bytes, too");
}

fn reply(body: ReplyBody, version: Option<u64>) -> Reply {
    Reply {
        parent: "q".parse().unwrap(),
        resource: "default/pod/web".into(),
        version: version.map(ResourceVersion),
        body,
    }
}

#[tokio::test]
async fn an_answer_never_takes_a_node_back_to_an_older_version() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.offer(pod("web", 7));
    outbox.due(now, RETRY);
    outbox.answer(reply(ReplyBody::Plain(pod("web", 5).object), Some(5)));
    let due = outbox.due(now, RETRY);
    let Downstream::Reply(Reply { version, body: ReplyBody::Plain(object), .. }) = &due[0].message
    else {
        panic!("{due:?}")
    };
    assert_eq!(*version, Some(ResourceVersion(7)));
    assert!(object.get().contains(r#""resourceVersion":"7""#));
    let acked = outbox.acked(&due[0].id).unwrap();
    assert_eq!((acked.op, acked.version), (PushOp::Update, Some(ResourceVersion(7))));
}

#[tokio::test]
async fn an_answer_that_a_deletion_has_overtaken_says_that_there_is_none() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    let answer = || reply(ReplyBody::Plain(pod("web", 5).object), Some(5));
    // The deletion waits, and then it is in flight.
    outbox.offer(push(PushOp::Delete, "web", "uid-web", 6));
    for _ in 0..2 {
        outbox.answer(answer());
        let due = outbox.due(now, RETRY);
        let Downstream::Reply(Reply { version: None, body: ReplyBody::Error(why), .. }) =
            &due[0].message
        else {
            panic!("{due:?}")
        };
        let ReplyError::Status(why) = why else { panic!("{why:?}") };
        assert!(why.get().contains(r#"pods \"web\" not found"#), "{why:?}");
        assert!(why.get().contains("404"), "{why:?}");
        assert_eq!(due[0].holds, None);
        assert_eq!(outbox.acked(&due[0].id), None);
    }
    // Another one of that name is not meant.
    outbox.offer(push(PushOp::Delete, "web", "another", 7));
    outbox.answer(reply(ReplyBody::Plain(push(PushOp::Insert, "web", "new", 8).object), Some(8)));
    let due = outbox.due(now, RETRY);
    assert_eq!(due[0].holds, Some((key("web"), "new".parse().unwrap())));
}

#[tokio::test]
async fn answers_have_a_limit_and_each_drop_is_counted() {
    let mut outbox = Outbox::new(Limits { replies: 3, ..Limits::default() });
    for _ in 0..5 {
        outbox.answer(reply(ReplyBody::Ok, None));
    }
    assert_eq!(outbox.due(Instant::now(), RETRY).len(), 3);
    assert_eq!(outbox.take_dropped_replies(), 2);
    outbox.answer(reply(ReplyBody::Text("x".to_owned()), None));
    outbox.disconnected();
    assert_eq!(outbox.take_dropped_replies(), 1);
    assert!(outbox.is_empty());
}

#[tokio::test]
async fn notes_are_said_once_and_of_lists_only_the_newest() {
    let mut outbox = Outbox::new(Limits { replies: 3, ..Limits::default() });
    let list = |n: &str| Downstream::MembershipDetail(RawJson::string(n));
    outbox.note(list("old"));
    outbox.note(Downstream::TwinConfirm("r".parse().unwrap()));
    outbox.note(list("new"));
    let said: Vec<_> =
        outbox.due(Instant::now(), RETRY).into_iter().map(|due| due.message).collect();
    assert_eq!(said, [Downstream::TwinConfirm("r".parse().unwrap()), list("new")]);
    assert!(outbox.is_empty());
    for _ in 0..5 {
        outbox.note(Downstream::TwinConfirm("r".parse().unwrap()));
    }
    outbox.disconnected();
    assert!(outbox.due(Instant::now(), RETRY).is_empty(), "whoever reported is gone");
    assert_eq!(outbox.take_dropped_replies(), 5);
}

#[tokio::test]
async fn after_a_cut_models_go_before_devices() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    let of = |kind: Kind, name: &str| {
        let mut push = push(PushOp::Insert, name, name, 1);
        push.key.kind = kind;
        push
    };
    for n in 0..20 {
        outbox.offer(of(Kind::Device, &format!("device-{n}")));
    }
    outbox.offer(of(Kind::DeviceModel, "model"));
    outbox.due(now, RETRY);
    outbox.disconnected();
    assert_eq!(sent(&outbox.due(now, RETRY))[0].1, "model");
}

#[derive(Debug, Clone)]
enum Step {
    /// A new version of object n.
    Change(u8),
    /// Object n is deleted; its next change makes a new one of the same name.
    Delete(u8),
    /// The SyncController, knowing an older state, offers object n again.
    Repeat(u8),
    /// What is due goes over the line; the numbers say which messages and acks get lost.
    Exchange {
        lost: u8,
        unacked: u8,
    },
    Wait(u8),
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6).prop_map(Step::Change),
        2 => (0u8..6).prop_map(Step::Delete),
        1 => (0u8..6).prop_map(Step::Repeat),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(lost, unacked)| Step::Exchange { lost, unacked }),
        1 => (1u8..40).prop_map(Step::Wait),
        1 => Just(Step::Cut),
    ]
}

/// An edge node that checks what it is told.
#[derive(Default)]
struct Edge {
    holds: BTreeMap<String, (Uid, u64)>,
    newest: HashMap<Uid, u64>,
    gone: HashSet<Uid>,
}

impl Edge {
    fn hear(&mut self, p: &ObjectPush) {
        let name = p.key.name.to_string();
        let version = p.version.unwrap().0;
        if p.op == PushOp::Delete {
            self.gone.insert(p.uid.clone());
            if self.holds.get(&name).is_some_and(|(uid, _)| *uid == p.uid) {
                self.holds.remove(&name);
            }
            return;
        }
        assert!(!self.gone.contains(&p.uid), "{name} came back from the dead");
        let newest = self.newest.entry(p.uid.clone()).or_default();
        assert!(version >= *newest, "{name} went back from {newest} to {version}");
        *newest = version;
        self.holds.insert(name, (p.uid.clone(), version));
    }
}

/// What is true in the cloud, and the clock.
struct World {
    version: u64,
    objects: BTreeMap<String, (Uid, u64)>,
    uids: u64,
    now: Instant,
    outbox: Outbox,
    edge: Edge,
}

impl World {
    fn run(&mut self, step: &Step) {
        match step {
            Step::Change(n) => {
                let name = format!("o{n}");
                self.version += 1;
                let is_new = !self.objects.contains_key(&name);
                if is_new {
                    self.uids += 1;
                    let uid = format!("uid-{}", self.uids).parse().unwrap();
                    self.objects.insert(name.clone(), (uid, 0));
                }
                let object = self.objects.get_mut(&name).unwrap();
                object.1 = self.version;
                let op = if is_new { PushOp::Insert } else { PushOp::Update };
                let uid = object.0.clone();
                self.outbox.offer(push(op, &name, uid.as_str(), self.version));
            }
            Step::Delete(n) => {
                let name = format!("o{n}");
                self.version += 1;
                if let Some((uid, _)) = self.objects.remove(&name) {
                    self.outbox.offer(push(PushOp::Delete, &name, uid.as_str(), self.version));
                }
            }
            Step::Repeat(n) => {
                let name = format!("o{n}");
                if let Some((uid, version)) = self.objects.get(&name) {
                    // Only what the outbox still has may be repeated older than the edge knows it:
                    // the SyncController compares with what was acknowledged.
                    if self.outbox.covers(&key(&name), uid, Some(ResourceVersion(*version))) {
                        let old = version.saturating_sub(1).max(1);
                        let p = push(PushOp::Update, &name, uid.as_str(), old);
                        assert_eq!(self.outbox.offer(p), Offered::Stale);
                    }
                }
            }
            Step::Exchange { lost, unacked } => {
                for (n, due) in self.outbox.due(self.now, RETRY).into_iter().enumerate() {
                    let bit = 1u8 << (n % 8);
                    let Downstream::Object(p) = &due.message else { continue };
                    if lost & bit == 0 {
                        self.edge.hear(p);
                        if unacked & bit == 0 {
                            self.outbox.acked(&due.id);
                        }
                    }
                }
            }
            Step::Wait(seconds) => self.now += Duration::from_secs((*seconds).into()),
            Step::Cut => self.outbox.disconnected(),
        }
        let in_flight = self.outbox.in_flight.len();
        assert!(in_flight <= self.outbox.limits.window);
        let by_name: HashSet<_> = self.outbox.in_flight.values().collect();
        assert_eq!(by_name.len(), in_flight, "more than one in flight for one object");
    }

    fn check_sums(&self) {
        let size = |p: &ObjectPush| p.object.get().len();
        let all = || self.outbox.slots.values().flat_map(|s| &s.line);
        let waiting: usize = all().filter_map(|i| i.waiting.as_ref()).map(size).sum();
        let flying: usize = all().filter_map(|i| i.sent.as_ref()).map(|s| size(&s.push)).sum();
        assert_eq!(waiting, self.outbox.waiting_bytes);
        assert_eq!(flying, self.outbox.in_flight_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_gets_lost_the_edge_ends_up_with_what_is_true(
        steps in proptest::collection::vec(step(), 1..120),
        window in 1usize..5,
    ) {
        let outbox = Outbox::new(Limits { window, ..Limits::default() });
        let mut world = World {
            version: 0,
            objects: BTreeMap::new(),
            uids: 0,
            // Only differences of it are used; nothing sleeps.
            now: Instant::now(),
            outbox,
            edge: Edge::default(),
        };
        for step in &steps {
            world.run(step);
            world.check_sums();
        }
        for _ in 0..1000 {
            if world.outbox.is_empty() { break }
            world.run(&Step::Exchange { lost: 0, unacked: 0 });
            world.run(&Step::Wait(40));
        }
        prop_assert!(world.outbox.is_empty());
        prop_assert_eq!(world.edge.holds, world.objects);
    }
}
