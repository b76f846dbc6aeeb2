use api::twin::message::{TypeMetadata, ValueMetadata};

use super::*;

fn key() -> ObjectKey {
    "default/device/sensor".parse().unwrap()
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

fn confirm(id: &str) -> Confirm {
    let to = Origin { node: "edge-1".parse().unwrap(), session: 1 };
    Confirm { to, id: id.parse().unwrap() }
}

fn value(text: &str, at: i64) -> Option<TwinValue> {
    let metadata = Some(ValueMetadata { timestamp: at });
    Some(TwinValue { value: Some(text.to_owned()), metadata })
}

fn twin(actual: &str, at: i64, version: i64) -> MsgTwin {
    MsgTwin {
        actual: value(actual, at),
        metadata: Some(TypeMetadata { type_: Some("INT".to_owned()) }),
        actual_version: Some(TwinVersion { cloud: 0, edge: version }),
        ..MsgTwin::default()
    }
}

fn one(name: &str, twin: MsgTwin) -> BTreeMap<String, Option<MsgTwin>> {
    BTreeMap::from([(name.to_owned(), Some(twin))])
}

/// A device whose DeviceStatus exists and has nothing in it.
fn reports(now: Instant) -> Reports {
    let mut reports = Reports::default();
    reports.device(&key(), &uid("u"), now);
    reports.load(&key(), Stored::default());
    assert_eq!(reports.next(), None, "nothing to write");
    reports
}

fn said(reports: &Reports, name: &str) -> Option<String> {
    let status = reports.status(&key()).unwrap();
    let twin = status.twins.into_iter().find(|t| t.property_name == name)?;
    twin.reported.map(|r| r.value)
}

#[tokio::test(start_paused = true)]
async fn a_report_is_written_at_once_and_the_next_one_a_second_later() {
    let now = Instant::now();
    let mut reports = reports(now);
    reports.twins(&key(), one("t", twin("1", 10, 1)), confirm("a"), now).unwrap();
    let first = reports.take(now).unwrap();
    assert!(!first.create);
    let reported = first.status.twins[0].reported.clone().unwrap();
    assert_eq!(reported.value, "1");
    let metadata: Vec<_> =
        reported.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(metadata, [("timestamp", "10"), ("type", "INT")]);

    for n in 2..100 {
        let report = one("t", twin(&n.to_string(), 10 + n, n));
        reports.twins(&key(), report, confirm(&format!("c{n}")), now).unwrap();
    }
    assert!(reports.take(now).is_none(), "one write at a time");
    let confirmed = reports.wrote(first, Wrote::Done, now);
    assert_eq!(confirmed, [confirm("a")], "only what was written is confirmed");
    assert!(reports.take(now).is_none(), "not twice in a second");
    assert_eq!(reports.next(), Some(now + EVERY));
    let second = reports.take(now + EVERY).unwrap();
    assert_eq!(second.status.twins[0].reported.as_ref().unwrap().value, "99");
    assert_eq!(second.confirms.len(), CONFIRMS, "bounded");
    assert!(second.confirms.contains(&confirm("c99")), "of more, the oldest are said again");
    reports.wrote(second, Wrote::Done, now + EVERY);
    assert_eq!(reports.next(), None, "nothing new, nothing to write");
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_repeated_with_all_that_came_since() {
    let now = Instant::now();
    let mut reports = reports(now);
    reports.twins(&key(), one("a", twin("1", 1, 1)), confirm("a"), now).unwrap();
    let write = reports.take(now).unwrap();
    reports.twins(&key(), one("b", twin("2", 1, 1)), confirm("b"), now).unwrap();
    assert!(reports.wrote(write, Wrote::Failed, now).is_empty());
    let at = reports.next().unwrap();
    assert!(at > now);
    let write = reports.take(at).unwrap();
    assert_eq!(write.status.twins.len(), 2);
    assert_eq!(reports.wrote(write, Wrote::Done, at), [confirm("a"), confirm("b")]);
}

#[tokio::test(start_paused = true)]
async fn a_device_without_a_status_gets_one_and_one_that_vanished_is_made_anew() {
    let now = Instant::now();
    let mut reports = Reports::default();
    reports.device(&key(), &uid("u"), now);
    let write = reports.take(now).unwrap();
    assert!(write.create && write.status == DeviceStatusStatus::default());
    reports.wrote(write, Wrote::Done, now);
    reports.twins(&key(), one("t", twin("1", 1, 1)), confirm("a"), now).unwrap();
    let later = now + EVERY;
    let write = reports.take(later).unwrap();
    assert!(!write.create);
    reports.wrote(write, Wrote::Missing, later);
    let write = reports.take(later).unwrap();
    assert!(write.create);
    assert_eq!(write.status.twins.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_kept_and_what_is_reported_is_newer() {
    let now = Instant::now();
    let mut reports = Reports::default();
    reports.device(&key(), &uid("u"), now);
    reports.twins(&key(), one("t", twin("new", 1, 1)), confirm("a"), now).unwrap();
    let write = reports.take(now).unwrap();
    let old = |name: &str| Twin {
        property_name: name.to_owned(),
        reported: Some(TwinProperty { value: "old".to_owned(), ..TwinProperty::default() }),
        observed_desired: None,
    };
    let status = DeviceStatusStatus {
        twins: vec![old("t"), old("other")],
        state: Some("ok".to_owned()),
        ..DeviceStatusStatus::default()
    };
    let stored = Stored { owner: Some(uid("u")), status };
    reports.wrote(write, Wrote::Exists(stored), now);
    let write = reports.take(now).unwrap();
    assert!(!write.create);
    assert_eq!(said(&reports, "t").as_deref(), Some("new"));
    assert_eq!(said(&reports, "other").as_deref(), Some("old"));
    assert_eq!(write.status.state.as_deref(), Some("ok"));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_bearer_of_the_name_left_is_waited_out() {
    let now = Instant::now();
    let mut reports = Reports::default();
    reports.device(&key(), &uid("u"), now);
    let theirs = || Stored { owner: Some(uid("earlier")), ..Stored::default() };
    reports.load(&key(), theirs());
    let write = reports.take(now).unwrap();
    assert!(write.create);
    reports.wrote(write, Wrote::Exists(theirs()), now);
    let at = reports.next().unwrap();
    assert!(at > now, "the garbage collector takes it away");
    assert!(reports.take(at).unwrap().create);
}

#[tokio::test(start_paused = true)]
async fn a_report_said_again_late_does_not_replace_a_newer_one() {
    let now = Instant::now();
    let mut reports = reports(now);
    let mut report = |actual: &str, at, version| {
        reports.twins(&key(), one("t", twin(actual, at, version)), confirm("a"), now).unwrap();
        said(&reports, "t").unwrap()
    };
    assert_eq!(report("5", 50, 5), "5");
    assert_eq!(report("4", 40, 4), "5", "late");
    assert_eq!(report("1", 60, 1), "1", "the edge has lost its store, not its clock");
    assert_eq!(report("2", 55, 2), "2", "the clock was set back");
}

#[tokio::test(start_paused = true)]
async fn a_property_that_is_null_is_gone_and_the_wanted_value_is_shown_as_seen() {
    let now = Instant::now();
    let mut reports = reports(now);
    let mut both = twin("1", 1, 1);
    both.expected = value("2", 7);
    reports.twins(&key(), one("t", both), confirm("a"), now).unwrap();
    let status = reports.status(&key()).unwrap();
    assert_eq!(status.twins[0].observed_desired.as_ref().unwrap().value, "2");
    reports.twins(&key(), BTreeMap::from([("t".to_owned(), None)]), confirm("b"), now).unwrap();
    assert!(reports.status(&key()).unwrap().twins.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_property_that_the_edge_marks_as_deleted_is_gone_until_it_is_reported_anew() {
    let now = Instant::now();
    let mut reports = reports(now);
    reports.twins(&key(), one("t", twin("1", 10, 1)), confirm("a"), now).unwrap();
    let mark = MsgTwin {
        metadata: Some(TypeMetadata { type_: Some("deleted".to_owned()) }),
        actual_version: Some(TwinVersion { cloud: 0, edge: 2 }),
        ..MsgTwin::default()
    };
    reports.twins(&key(), one("t", mark.clone()), confirm("b"), now).unwrap();
    assert_eq!(said(&reports, "t"), None);
    assert!(reports.status(&key()).unwrap().twins.is_empty());
    reports.twins(&key(), one("t", twin("2", 20, 3)), confirm("c"), now).unwrap();
    reports.twins(&key(), one("t", mark), confirm("d"), now).unwrap();
    assert_eq!(said(&reports, "t").as_deref(), Some("2"), "the mark was said again late");
}

#[tokio::test(start_paused = true)]
async fn a_state_is_one_of_the_known_and_offline_keeps_the_last_time() {
    let now = Instant::now();
    let mut reports = reports(now);
    let mut state = |state: &str, at: Option<&str>| {
        let state = DeviceState {
            name: "sensor".to_owned(),
            state: state.to_owned(),
            last_online_time: at.map(str::to_owned),
        };
        reports.state(&key(), state, confirm("a"), now)
    };
    state("Online", Some("2026-09-21T13:46:40Z")).unwrap();
    state("offline", None).unwrap();
    assert_eq!(state("broken", None), Err(ReportError::State));
    state("offline", Some("yesterday")).unwrap();
    let status = reports.status(&key()).unwrap();
    assert_eq!(status.state.as_deref(), Some("offline"));
    assert_eq!(status.last_online_time.as_deref(), Some("2026-09-21T13:46:40Z"));
}

#[tokio::test(start_paused = true)]
async fn a_device_takes_no_more_room_than_one_may_and_a_stranger_none() {
    let now = Instant::now();
    let mut reports = reports(now);
    let many: BTreeMap<_, _> =
        (0..=PROPERTIES).map(|n| (format!("p{n}"), Some(twin("1", 1, 1)))).collect();
    assert_eq!(reports.twins(&key(), many, confirm("a"), now), Err(ReportError::TooMany));
    let large = one("t", twin(&"x".repeat(BYTES), 1, 1));
    assert_eq!(reports.twins(&key(), large, confirm("a"), now), Err(ReportError::TooLarge));
    let other: ObjectKey = "other/device/sensor".parse().unwrap();
    let report = one("t", twin("1", 1, 1));
    assert_eq!(reports.twins(&other, report, confirm("a"), now), Err(ReportError::Unknown));
    assert_eq!(reports.next(), None);
    assert!(reports.devices.len() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_bears_the_name_of_a_deleted_one_starts_anew() {
    let now = Instant::now();
    let mut reports = reports(now);
    reports.twins(&key(), one("t", twin("1", 1, 1)), confirm("a"), now).unwrap();
    let write = reports.take(now).unwrap();
    reports.device(&key(), &uid("other"), now);
    assert!(reports.status(&key()).unwrap().twins.is_empty());
    assert_eq!(reports.wrote(write, Wrote::Missing, now), [confirm("a")], "let go");
    assert_eq!(reports.take(now).unwrap().uid, uid("other"));
    reports.forget(&key());
    assert_eq!((reports.next(), reports.waiting()), (None, 0));
}
