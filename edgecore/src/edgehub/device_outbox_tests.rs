use api::twin::message::{DeviceState, TwinValue, TwinVersion};
use proptest::prelude::*;

use super::*;

fn device(name: &str) -> DeviceId {
    format!("default/{name}").parse().unwrap()
}

fn reported(property: &str, value: u32) -> Changes {
    let twin = MsgTwin {
        actual: Some(TwinValue { value: Some(value.to_string()), metadata: None }),
        actual_version: Some(TwinVersion { cloud: 0, edge: i64::from(value) }),
        ..MsgTwin::default()
    };
    Changes::from([(property.to_owned(), Some(twin))])
}

fn state(state: &str) -> StateReport {
    let device = DeviceState { state: state.to_owned(), ..DeviceState::default() };
    StateReport { device, ..StateReport::default() }
}

/// The values of a report, by property.
fn values(message: &Upstream) -> BTreeMap<String, String> {
    let Upstream::DeviceTwin { content, .. } = message else { panic!("{message:?}") };
    let update: TwinUpdate = content.to().unwrap();
    update.twin.into_iter().map(|(p, t)| (p, t.unwrap().actual.unwrap().value.unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_waits_merges_by_property_and_the_newest_value_wins() {
    let (now, mut outbox) = (Instant::now(), DeviceOutbox::default());
    for (property, value) in [("t", 1), ("h", 5), ("t", 2)] {
        outbox.twin(device("a"), reported(property, value));
    }
    let (id, message) = outbox.next(now).unwrap();
    assert_eq!(
        values(&message),
        BTreeMap::from([("h".into(), "5".into()), ("t".into(), "2".into())])
    );
    outbox.twin(device("a"), reported("t", 3));
    assert!(outbox.next(now).is_none(), "one in flight per device");
    outbox.confirmed(&id);
    let (id, message) = outbox.next(now).unwrap();
    assert_eq!(values(&message), BTreeMap::from([("t".into(), "3".into())]));
    outbox.confirmed(&id);
    assert_eq!((outbox.len(), outbox.has_report(), outbox.next_due().is_some()), (0, false, true));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_never_confirmed_does_not_hold_up_its_neighbours() {
    let (now, mut outbox) = (Instant::now(), DeviceOutbox::default());
    outbox.twin(device("unknown"), reported("t", 1));
    outbox.state(device("b"), state("online"));
    assert!(outbox.next(now).is_some() && outbox.next(now).is_some());
    let later = now + CONFIRM_WITHIN;
    outbox.expire(later);
    assert!(!outbox.has_report());
    outbox.twin(device("c"), reported("t", 1));
    assert!(
        matches!(outbox.next(later), Some((_, Upstream::DeviceTwin { name, .. })) if &*name == "c")
    );
    let again = outbox.next_due().unwrap();
    assert!(again > later && again <= later + AGAIN.ceiling);
    outbox.expire(later + AGAIN.ceiling);
    assert!(outbox.next(later).is_some() && outbox.next(later).is_some());
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_what_was_on_its_way_is_sent_again_under_what_is_newer() {
    let (now, mut outbox) = (Instant::now(), DeviceOutbox::default());
    outbox.twin(device("a"), reported("t", 1));
    outbox.twin(device("a"), reported("h", 1));
    outbox.next(now).unwrap();
    outbox.twin(device("a"), reported("t", 2));
    outbox.ask(RawJson::null());
    outbox.link_cut();
    let (_, message) = outbox.next(now).unwrap();
    assert_eq!(
        values(&message),
        BTreeMap::from([("h".into(), "1".into()), ("t".into(), "2".into())])
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_device_that_is_gone_nothing_is_told() {
    let (now, mut outbox) = (Instant::now(), DeviceOutbox::default());
    outbox.twin(device("queued"), reported("t", 1));
    outbox.forget(&device("queued"));
    outbox.twin(device("flying"), reported("t", 1));
    let (id, _) = outbox.next(now).unwrap();
    outbox.forget(&device("flying"));
    outbox.confirmed(&id);
    outbox.expire(now + CONFIRM_WITHIN);
    assert!(outbox.next(now).is_none());
    assert_eq!(outbox.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_says_all_the_time_how_it_is_is_heard_of_its_values_too() {
    let (now, mut outbox) = (Instant::now(), DeviceOutbox::default());
    outbox.state(device("a"), state("ok"));
    let (mut confirm, _) = outbox.next(now).unwrap();
    for n in 0..5 {
        outbox.twin(device("a"), reported("t", n));
        outbox.state(device("a"), state("ok"));
        assert_eq!(outbox.len(), 1, "it is one device");
        let (id, message) = outbox.next(now).expect("no value waits for a state");
        assert_eq!(values(&message)["t"], n.to_string());
        assert!(outbox.next(now).is_none(), "one state in flight");
        outbox.confirmed(&confirm);
        let (next, message) = outbox.next(now).unwrap();
        assert!(matches!(message, Upstream::DeviceState { .. }), "{message:?}");
        outbox.confirmed(&id);
        confirm = next;
    }
    outbox.confirmed(&confirm);
    assert_eq!((outbox.len(), outbox.next(now).is_none()), (0, true));
}

#[test]
fn a_state_is_told_as_the_original_tells_it() {
    let mut outbox = DeviceOutbox::default();
    let mut report = state("online");
    report.event_id = "e".into();
    report.device.name = "a".into();
    outbox.state(device("a"), report);
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let now = rt.block_on(async { Instant::now() });
    let (_, message) = outbox.next(now).unwrap();
    let Upstream::DeviceState { content, .. } = message else { panic!("{message:?}") };
    assert_eq!(
        content.as_string().unwrap(),
        r#"{"event_id":"e","timestamp":0,"device":{"name":"a","state":"online"}}"#
    );
}

#[derive(Debug, Clone)]
enum Step {
    Report(u8, u8),
    Send,
    /// Confirm the n-th of what is in flight.
    Confirm(usize),
    Cut,
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..3u8, 0..3u8).prop_map(|(d, p)| Step::Report(d, p)),
        5 => Just(Step::Send),
        4 => (0..4usize).prop_map(Step::Confirm),
        1 => Just(Step::Cut),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 0..150)
}

proptest! {
    #[test]
    fn whatever_happens_the_cloud_ends_with_the_newest_value_of_each_property(steps in steps()) {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        rt.block_on(async {
            let mut now = Instant::now();
            let mut outbox = DeviceOutbox::default();
            let mut flight: Vec<(MessageId, Upstream)> = Vec::new();
            let mut wanted: BTreeMap<(String, String), String> = BTreeMap::new();
            let mut cloud: BTreeMap<(String, String), String> = BTreeMap::new();
            let hear = |message: &Upstream, cloud: &mut BTreeMap<(String, String), String>| {
                let Upstream::DeviceTwin { name, .. } = message else { panic!("{message:?}") };
                for (property, value) in values(message) {
                    cloud.insert((name.to_string(), property), value);
                }
            };
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Report(d, p) => {
                        let (d, p) = (d.to_string(), p.to_string());
                        outbox.twin(device(&d), reported(&p, n as u32));
                        wanted.insert((d, p), n.to_string());
                    }
                    Step::Send => flight.extend(outbox.next(now)),
                    Step::Confirm(at) => {
                        if at < flight.len() {
                            let (id, message) = flight.remove(at);
                            hear(&message, &mut cloud);
                            outbox.confirmed(&id);
                        }
                    }
                    Step::Cut => { flight.clear(); outbox.link_cut(); }
                    Step::Wait => {
                        now += CONFIRM_WITHIN + AGAIN.ceiling;
                        flight.clear();
                        outbox.expire(now);
                        outbox.expire(now + AGAIN.ceiling);
                    }
                }
            }
            outbox.link_cut();
            while let Some((id, message)) = outbox.next(now) {
                hear(&message, &mut cloud);
                outbox.confirmed(&id);
            }
            prop_assert_eq!(outbox.len(), 0);
            prop_assert_eq!(cloud, wanted);
            Ok(())
        })?;
    }
}
