use proptest::prelude::*;

use super::*;

fn reported(value: &str) -> Option<MsgTwin> {
    Some(MsgTwin { actual: Some(said(value)), ..MsgTwin::default() })
}

fn expected(value: &str) -> Option<MsgTwin> {
    Some(MsgTwin { expected: Some(said(value)), ..MsgTwin::default() })
}

fn said(value: &str) -> TwinValue {
    TwinValue { value: Some(value.to_owned()), metadata: None }
}

fn of_type(value_type: &str, value: &str) -> Option<MsgTwin> {
    let metadata = Some(TypeMetadata { type_: Some(value_type.to_owned()) });
    reported(value).map(|twin| MsgTwin { metadata, ..twin })
}

fn changes<const N: usize>(of: [(&str, Option<MsgTwin>); N]) -> Changes {
    of.into_iter().map(|(name, change)| (name.to_owned(), change)).collect()
}

fn wanted<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, Option<TwinProperty>> {
    of.into_iter()
        .map(|(name, value)| {
            let value = TwinProperty { value: value.to_owned(), metadata: BTreeMap::new() };
            (name.to_owned(), Some(value))
        })
        .collect()
}

fn version(cloud: i64, edge: i64) -> Option<TwinVersion> {
    Some(TwinVersion { cloud, edge })
}

#[test]
fn a_report_is_what_the_original_would_have_told_the_cloud() {
    let mut twins = Twins::new();
    let merged =
        local(&mut twins, None, &changes([("temperature", reported("23"))]), 1_790_000_000_123)
            .unwrap();
    assert_eq!(
        serde_json::to_string(&merged.up).unwrap(),
        r#"{"temperature":{"actual":{"value":"23","metadata":{"timestamp":1790000000123}},"optional":true,"metadata":{"type":"string"},"actual_version":{"cloud":0,"edge":1}}}"#
    );
    assert_eq!(
        serde_json::to_string(&merged.document).unwrap(),
        r#"{"temperature":{"last":null,"current":{"actual":{"value":"23","metadata":{"timestamp":1790000000123}},"optional":true,"metadata":{"type":"string"}}}}"#
    );
}

#[test]
fn every_local_update_counts_up_the_edges_version_even_with_the_same_value() {
    let mut twins = Twins::new();
    for edge in 1..=3 {
        let merged = local(&mut twins, None, &changes([("t", reported("23"))]), edge).unwrap();
        assert_eq!(twins["t"].actual_version, version(0, edge));
        assert_eq!((merged.result.len(), merged.document.len(), merged.up.len()), (1, 1, 1));
    }
    assert_eq!(twins["t"].expected_version, None);
}

#[test]
fn one_bad_property_refuses_the_whole_update() {
    let mut twins = Twins::new();
    for (bad, why) in [
        (("x y", reported("1")), "`x y` is something else"),
        (("n", of_type("int", "1.5")), "no int"),
        (("n", of_type("boolean", "yes")), "no boolean"),
        (("n", of_type("frob", "1")), "the value type `frob`"),
        (("n", of_type("deleted", "1")), "the value type `deleted`"),
        (("n", reported("two words")), "the character ` `"),
        (("n", reported(&"v".repeat(513))), "513 bytes"),
        (("n", None), "no property `n` to delete"),
    ] {
        let update = changes([("good", reported("1")), bad]);
        let fault = local(&mut twins, None, &update, 0).unwrap_err().to_string();
        assert!(fault.contains(why), "{fault}");
        assert!(twins.is_empty(), "{fault}");
    }
    let long = "n".repeat(129);
    assert!(local(&mut twins, None, &changes([(&long, reported("1"))]), 0).is_err());
}

#[test]
fn a_property_that_the_model_does_not_have_is_refused_and_named() {
    let schema = Schema::of(["t".to_owned()].iter(), Some(&Default::default()));
    let mut twins = Twins::new();
    let fault =
        local(&mut twins, schema.as_ref(), &changes([("x", reported("1"))]), 0).unwrap_err();
    assert_eq!(fault, Fault::Unknown("x".into()));
    assert!(local(&mut twins, schema.as_ref(), &changes([("t", reported("1"))]), 0).is_ok());
}

#[test]
fn a_device_cannot_be_filled_with_properties_without_end() {
    let mut twins: Twins =
        (0..MAX_PROPERTIES).map(|n| (format!("p{n}"), MsgTwin::default())).collect();
    let fault = local(&mut twins, None, &changes([("more", reported("1"))]), 0).unwrap_err();
    assert_eq!(fault, Fault::TooMany);
    assert!(local(&mut twins, None, &changes([("p1", reported("1"))]), 0).is_ok());
    assert_eq!(cloud(&mut twins, &changes([("more", expected("1"))]), 0).refused, 1);
}

#[test]
fn a_deleted_property_leaves_its_versions_and_comes_back_with_higher_ones() {
    let mut twins = Twins::new();
    local(&mut twins, None, &changes([("t", of_type("int", "1"))]), 0).unwrap();
    let merged = local(&mut twins, None, &changes([("t", None)]), 0).unwrap();
    assert_eq!(merged.result["t"], None);
    assert!(merged.document["t"].last.is_some() && merged.document["t"].current.is_none());
    assert!(!is_live(&twins["t"]));
    assert_eq!(twins["t"].actual_version, version(0, 2));
    assert!(local(&mut twins, None, &changes([("t", None)]), 0).is_err(), "it is gone already");
    local(&mut twins, None, &changes([("t", reported("x"))]), 0).unwrap();
    assert_eq!(twins["t"].actual_version, version(0, 3));
    assert_eq!(type_of(&twins["t"]), Some("string"));
}

#[test]
fn a_property_that_is_not_optional_stays() {
    let mut twins = Twins::new();
    let fixed = reported("1").map(|twin| MsgTwin { optional: Some(false), ..twin });
    local(&mut twins, None, &changes([("t", fixed)]), 0).unwrap();
    let fault = local(&mut twins, None, &changes([("t", None)]), 0).unwrap_err();
    assert_eq!(fault, Fault::NotOptional("t".into()));
}

#[test]
fn an_older_value_of_the_cloud_is_refused_and_the_newer_one_told() {
    let mut twins = Twins::new();
    for value in ["1", "2"] {
        local(&mut twins, None, &changes([("t", expected(value))]), 0).unwrap();
    }
    let from_cloud = |cloud: i64, edge: i64, value| {
        let twin = expected(value).unwrap();
        changes([("t", Some(MsgTwin { expected_version: version(cloud, edge), ..twin }))])
    };
    for older in [from_cloud(5, 1, "old"), changes([("t", expected("none"))])] {
        let merged = cloud(&mut twins, &older, 0);
        assert_eq!((merged.refused, merged.stored.len()), (1, 0));
        let up = merged.up["t"].as_ref().unwrap();
        assert_eq!(value_of(up.expected.as_ref()), Some("2"));
        assert_eq!(up.expected_version, version(0, 2));
    }
    let merged = cloud(&mut twins, &from_cloud(3, 2, "3"), 0);
    assert_eq!((merged.refused, merged.up.len(), merged.stored.len()), (0, 0, 1));
    assert_eq!(value_of(twins["t"].expected.as_ref()), Some("3"));
    assert_eq!(twins["t"].expected_version, version(3, 2));
}

#[test]
fn a_desired_value_is_taken_once_and_not_again_over_a_newer_one() {
    let (mut twins, mut taken) = (Twins::new(), BTreeMap::new());
    assert_eq!(desired(&mut twins, &mut taken, &wanted([("t", "20")]), 0).stored, ["t"]);
    assert_eq!(twins["t"].expected_version, version(1, 0));
    local(&mut twins, None, &changes([("t", expected("25"))]), 0).unwrap();
    assert_eq!(desired(&mut twins, &mut taken, &wanted([("t", "20")]), 0), Merged::default());
    assert_eq!(value_of(twins["t"].expected.as_ref()), Some("25"));
    desired(&mut twins, &mut taken, &wanted([("t", "30")]), 0);
    assert_eq!(value_of(twins["t"].expected.as_ref()), Some("30"));
    assert_eq!(twins["t"].expected_version, version(2, 1));
    desired(&mut twins, &mut taken, &BTreeMap::new(), 0);
    assert_eq!(value_of(twins["t"].expected.as_ref()), None);
    assert!(taken.is_empty());
}

#[test]
fn the_delta_has_what_differs_and_all_that_is_expected() {
    let mut twins = Twins::new();
    local(&mut twins, None, &changes([("only", reported("1"))]), 0).unwrap();
    assert_eq!(delta(&twins, String::new(), 0), None);
    local(&mut twins, None, &changes([("a", expected("1")), ("b", expected("2"))]), 0).unwrap();
    local(&mut twins, None, &changes([("a", reported("1"))]), 0).unwrap();
    let message = delta(&twins, "e".into(), 7).unwrap();
    assert_eq!(message.delta, BTreeMap::from([("b".to_owned(), "2".to_owned())]));
    let names: Vec<&String> = message.twin.keys().collect();
    assert_eq!(names, ["a", "b"]);
    assert!(message.twin["a"].as_ref().unwrap().expected_version.is_none());
}

/// One side of the model: the cloud as the original has it, which remembers what it was told and
/// sends what it changes with the versions that it knows.
#[derive(Default)]
struct Cloud {
    known: Twins,
    /// Reports on their way, oldest first.
    up: Vec<Changes>,
    /// Updates on their way, oldest first.
    down: Vec<Changes>,
}

impl Cloud {
    fn set(&mut self, property: &str, value: String) {
        let twin = self.known.entry(property.to_owned()).or_default();
        twin.metadata = Some(TypeMetadata { type_: Some("string".into()) });
        twin.expected = Some(TwinValue { value: Some(value), metadata: None });
        count_up(&mut twin.expected_version, |v| &mut v.cloud);
        let update = MsgTwin { actual: None, actual_version: None, ..twin.clone() };
        self.down.push(Changes::from([(property.to_owned(), Some(update))]));
    }

    fn hear(&mut self, report: &Changes) {
        for (property, change) in report {
            let Some(change) = change else { continue };
            let twin = self.known.entry(property.clone()).or_default();
            if change.expected_version.is_some_and(|v| newer_than(v, twin.expected_version)) {
                twin.expected = change.expected.clone();
                twin.expected_version = change.expected_version;
            }
            if change.actual_version.is_some_and(|v| newer_than(v, twin.actual_version)) {
                twin.actual = change.actual.clone();
                twin.actual_version = change.actual_version;
            }
        }
    }
}

/// The edge has the last word: of two that were changed at once, its value stands.
fn newer_than(new: TwinVersion, have: Option<TwinVersion>) -> bool {
    let have = have.unwrap_or_default();
    (new.edge, new.cloud) > (have.edge, have.cloud)
}

#[derive(Debug, Clone)]
enum Step {
    /// The edge reports, or wants, or deletes.
    Report(u8, u8),
    Expect(u8, u8),
    Delete(u8),
    /// The cloud wants.
    Want(u8, u8),
    /// The oldest message arrives, upwards or downwards.
    Up,
    Down,
    /// All that was on its way is lost.
    Cut,
    /// The edge starts anew, from what it stored.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3u8, 0..4u8).prop_map(|(p, v)| Step::Report(p, v)),
        2 => (0..3u8, 0..4u8).prop_map(|(p, v)| Step::Expect(p, v)),
        1 => (0..3u8).prop_map(Step::Delete),
        3 => (0..3u8, 0..4u8).prop_map(|(p, v)| Step::Want(p, v)),
        5 => Just(Step::Up),
        5 => Just(Step::Down),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..80)
}

/// The edge: its twins, and what it must still tell the cloud, merged by property as the outbox does.
#[derive(Default)]
struct Edge {
    twins: Twins,
    disk: String,
    untold: Changes,
}

impl Edge {
    fn done(&mut self, merged: Merged) {
        self.disk = serde_json::to_string(&self.twins).unwrap();
        self.untold.extend(merged.up);
    }

    /// After a start or a new link the edge tells all that it has.
    fn tell_all(&mut self) {
        self.untold = self.twins.iter().map(|(p, t)| (p.clone(), Some(t.clone()))).collect();
    }
}

fn versions(twins: &Twins) -> BTreeMap<String, [i64; 4]> {
    let numbers = |v: Option<TwinVersion>| v.map_or((0, 0), |v| (v.cloud, v.edge));
    let row = |t: &MsgTwin| {
        let (a, b) = (numbers(t.expected_version), numbers(t.actual_version));
        [a.0, a.1, b.0, b.1]
    };
    twins.iter().map(|(p, t)| (p.clone(), row(t))).collect()
}

/// Carries all that is on its way to where it goes, until nothing is.
fn settle(edge: &mut Edge, cloud_side: &mut Cloud) {
    edge.tell_all();
    for (property, twin) in cloud_side.known.clone() {
        if twin.expected.is_some() {
            let update = MsgTwin { actual: None, actual_version: None, ..twin };
            cloud_side.down.push(Changes::from([(property, Some(update))]));
        }
    }
    for _ in 0..4 {
        for update in std::mem::take(&mut cloud_side.down) {
            let merged = cloud(&mut edge.twins, &update, 0);
            edge.done(merged);
        }
        let report = std::mem::take(&mut edge.untold);
        cloud_side.hear(&report);
    }
}

proptest! {
    #[test]
    fn after_any_updates_cuts_and_restarts_both_sides_agree_and_versions_only_grew(steps in steps()) {
        let (mut edge, mut cloud_side) = (Edge::default(), Cloud::default());
        let mut seen = versions(&edge.twins);
        for step in steps {
            let p = |n: u8| format!("p{n}");
            match step {
                Step::Report(n, v) => {
                    let update = changes([(&p(n), reported(&v.to_string()))]);
                    let merged = local(&mut edge.twins, None, &update, 0).unwrap();
                    edge.done(merged);
                }
                Step::Expect(n, v) => {
                    let update = changes([(&p(n), expected(&v.to_string()))]);
                    let merged = local(&mut edge.twins, None, &update, 0).unwrap();
                    edge.done(merged);
                }
                Step::Delete(n) => {
                    if let Ok(merged) = local(&mut edge.twins, None, &changes([(&p(n), None)]), 0) {
                        edge.done(merged);
                    }
                }
                Step::Want(n, v) => cloud_side.set(&p(n), v.to_string()),
                Step::Up => {
                    let report = std::mem::take(&mut edge.untold);
                    if !report.is_empty() { cloud_side.up.push(report); }
                    if !cloud_side.up.is_empty() {
                        let report = cloud_side.up.remove(0);
                        cloud_side.hear(&report);
                    }
                }
                Step::Down => {
                    if !cloud_side.down.is_empty() {
                        let update = cloud_side.down.remove(0);
                        let before = edge.twins.clone();
                        let merged = cloud(&mut edge.twins, &update, 0);
                        for (property, change) in &update {
                            let had = before.get(property).and_then(|t| t.expected_version);
                            let says = change.as_ref().and_then(|c| c.expected_version).unwrap();
                            if had.is_some_and(|had| had.edge > says.edge) {
                                prop_assert_eq!(&edge.twins[property], &before[property],
                                    "an older value of the cloud was taken");
                            }
                        }
                        edge.done(merged);
                    }
                }
                Step::Cut => { cloud_side.up.clear(); cloud_side.down.clear(); edge.tell_all(); }
                Step::Restart => {
                    edge.twins = if edge.disk.is_empty() { Twins::new() }
                        else { serde_json::from_str(&edge.disk).unwrap() };
                    edge.tell_all();
                }
            }
            let now = versions(&edge.twins);
            for (property, before) in &seen {
                let after = now[property];
                prop_assert!(before.iter().zip(after).all(|(b, a)| a >= *b),
                    "{property}: {before:?} became {after:?}");
            }
            seen = now;
        }
        settle(&mut edge, &mut cloud_side);
        for (property, twin) in &edge.twins {
            let there = &cloud_side.known[property];
            let (ours, theirs) = (value_of(twin.actual.as_ref()), value_of(there.actual.as_ref()));
            prop_assert_eq!(ours, theirs, "reported {}", property);
            let ours = value_of(twin.expected.as_ref());
            prop_assert_eq!(ours, value_of(there.expected.as_ref()), "expected {}", property);
        }
    }
}
