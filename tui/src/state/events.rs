//! The events in the order in which they were last seen, and which of them are worth the few lines of
//! the overview. Pure.

use std::collections::{HashSet, VecDeque};

use api::status::row::EventRow;

/// Each at its place in time, which is not that of its coming: a server that begins again, or the
/// Kubernetes API, tells them in any order. The oldest go.
pub(super) fn put(to: &mut VecDeque<EventRow>, new: Vec<EventRow>, limit: usize) {
    for event in new {
        // Most are the newest there is.
        let later = to.iter().rev().take_while(|other| other.at > event.at).count();
        to.insert(to.len() - later, event);
    }
    let over = to.len().saturating_sub(limit);
    to.drain(..over);
}

/// At most so many, the newest of each thing that happens again and again: warnings first, which may
/// have half of the room, more if nothing else needs it.
pub fn notable(events: &VecDeque<EventRow>, room: usize) -> Vec<&EventRow> {
    let mut seen = HashSet::new();
    let newest = events.iter().rev();
    let once = newest.filter(|e| seen.insert((e.object.as_str(), e.reason.as_str())));
    let (mut warnings, mut others): (Vec<_>, Vec<_>) = once.partition(|e| e.kind != "Normal");
    let half = room.div_ceil(2);
    warnings.truncate(half.max(room.saturating_sub(others.len())));
    others.truncate(room - warnings.len().min(room));
    warnings.append(&mut others);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, reason: &str, object: &str, at: i64) -> EventRow {
        EventRow {
            kind: kind.into(),
            reason: reason.into(),
            object: object.into(),
            at,
            ..EventRow::default()
        }
    }

    #[test]
    fn events_stand_in_the_order_in_which_they_were_last_seen_and_the_oldest_go() {
        let mut events = VecDeque::new();
        put(&mut events, vec![event("Normal", "b", "x", 5), event("Normal", "d", "x", 9)], 4);
        put(&mut events, vec![event("Normal", "a", "x", 3), event("Normal", "c", "x", 5)], 4);
        let reasons = |events: &VecDeque<EventRow>| {
            events.iter().map(|e| e.reason.clone()).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&events), ["a", "b", "c", "d"]);
        put(&mut events, vec![event("Normal", "e", "x", 7)], 4);
        assert_eq!(reasons(&events), ["b", "c", "e", "d"]);
    }

    #[test]
    fn a_warning_is_not_buried_under_a_fleet_that_connects() {
        let mut events = VecDeque::from([event("Warning", "BackOff", "pod/d/web", 0)]);
        events.extend((1..500).map(|i| event("Normal", "LinkUp", &format!("node/e-{i}"), i)));
        let shown: Vec<_> = notable(&events, 4).iter().map(|e| (e.reason.as_str(), e.at)).collect();
        assert_eq!(shown, [("BackOff", 0), ("LinkUp", 499), ("LinkUp", 498), ("LinkUp", 497)]);
    }

    #[test]
    fn what_happens_again_and_again_has_one_line_and_the_room_is_used() {
        let again = (0..9).map(|i| event("Warning", "BackOff", "pod/d/web", i));
        let events: VecDeque<_> = again.chain([event("Normal", "Started", "pod/d/b", 9)]).collect();
        let at = |room| notable(&events, room).iter().map(|e| e.at).collect::<Vec<_>>();
        assert_eq!(at(5), [8, 9]);
        assert_eq!(at(1), [8]);
        assert!(at(0).is_empty());
        let warnings: VecDeque<_> =
            (0..9).map(|i| event("Warning", "BackOff", &format!("pod/d/{i}"), i)).collect();
        assert_eq!(notable(&warnings, 6).len(), 6);
    }
}
