//! What a node should hold against what it is recorded to hold. Pure.
//!
//! Owns: nothing.
//! Called by: the loop in `mod.rs`.
//! Never: guesses. An object that the node is not known to hold is sent; one that the record says
//! it holds and that is gone is deleted there.

use std::collections::HashMap;

use api::names::{Kind, ObjectKey, ResourceVersion, Uid};
use api::wire::downstream::PushOp;

use crate::edgecontroller::index::Wanted;

/// What a node is recorded to hold: `0` is "was sent, never acknowledged".
pub type Held = HashMap<Uid, (ObjectKey, ResourceVersion)>;

/// What to do about a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The node lacks it, or has an older version.
    Send {
        /// Which.
        key: ObjectKey,
        /// Its incarnation.
        uid: Uid,
        /// `Insert` if the node never had it.
        op: PushOp,
    },
    /// The node has it, and it is gone.
    Delete {
        /// Which.
        key: ObjectKey,
        /// Its incarnation.
        uid: Uid,
    },
}

/// The kinds that the edge controller knows all of. Records of kinds that nobody watches are left
/// alone.
pub fn is_watched(kind: &Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::Node | Kind::ConfigMap | Kind::Secret)
}

/// The kinds that the device controller knows all of.
pub fn is_device(kind: &Kind) -> bool {
    matches!(kind, Kind::Device | Kind::DeviceModel)
}

/// The differences between the two; deletions first, so that a name is free for its new bearer.
///
/// Records of kinds that are not `of_interest` are left alone. `exists` tells the uid under which
/// the node may hold an object. For a secret that is the one in the cluster, whoever uses it: one
/// that the node no longer needs but still holds is neither sent nor deleted. For a device it is
/// the one that is attached to the node: one that was moved away is deleted.
pub fn compare(
    wanted: &[Wanted],
    held: &Held,
    of_interest: impl Fn(&Kind) -> bool,
    exists: impl Fn(&ObjectKey) -> Option<Uid>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (uid, (key, _)) in held {
        if !of_interest(&key.kind) {
            continue;
        }
        if exists(key).as_ref() != Some(uid) {
            differences.push(Difference::Delete { key: key.clone(), uid: uid.clone() });
        }
    }
    for want in wanted {
        let op = match held.get(&want.uid) {
            Some((_, version)) if *version >= want.version => continue,
            // Kinds that the original never inserts.
            _ if matches!(want.key.kind, Kind::Node | Kind::Secret) => PushOp::Update,
            Some((_, version)) if *version > ResourceVersion(0) => PushOp::Update,
            _ => PushOp::Insert,
        };
        let (key, uid) = (want.key.clone(), want.uid.clone());
        differences.push(Difference::Send { key, uid, op });
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ObjectKey {
        text.parse().unwrap()
    }

    fn want(text: &str, version: u64) -> Wanted {
        let uid = format!("uid-{text}").replace('/', "-").parse().unwrap();
        Wanted { key: key(text), uid, version: ResourceVersion(version) }
    }

    fn held(of: &[(&Wanted, u64)]) -> Held {
        of.iter().map(|(w, v)| (w.uid.clone(), (w.key.clone(), ResourceVersion(*v)))).collect()
    }

    fn run(wanted: &[Wanted], held: &Held) -> Vec<(PushOp, String)> {
        let exists = |k: &ObjectKey| wanted.iter().find(|w| w.key == *k).map(|w| w.uid.clone());
        compare(wanted, held, is_watched, exists)
            .into_iter()
            .map(|d| match d {
                Difference::Send { key, op, .. } => (op, key.to_string()),
                Difference::Delete { key, .. } => (PushOp::Delete, key.to_string()),
            })
            .collect()
    }

    #[test]
    fn what_is_acknowledged_is_not_sent_again() {
        let pod = want("default/pod/web", 5);
        assert!(run(std::slice::from_ref(&pod), &held(&[(&pod, 5)])).is_empty());
        assert!(run(std::slice::from_ref(&pod), &held(&[(&pod, 9)])).is_empty());
    }

    #[test]
    fn what_is_older_is_updated_and_what_was_never_acknowledged_is_inserted() {
        let pod = want("default/pod/web", 5);
        let name = "default/pod/web".to_owned();
        assert_eq!(
            run(std::slice::from_ref(&pod), &held(&[(&pod, 4)])),
            [(PushOp::Update, name.clone())]
        );
        assert_eq!(
            run(std::slice::from_ref(&pod), &held(&[(&pod, 0)])),
            [(PushOp::Insert, name.clone())]
        );
        assert_eq!(run(&[pod], &held(&[])), [(PushOp::Insert, name)]);
    }

    #[test]
    fn nodes_and_secrets_are_never_inserted() {
        let wanted = [want("null/node/edge-1", 5), want("default/secret/s", 6)];
        let ops: Vec<_> = run(&wanted, &held(&[])).into_iter().map(|(op, _)| op).collect();
        assert_eq!(ops, [PushOp::Update, PushOp::Update]);
    }

    #[test]
    fn what_is_gone_or_reborn_is_deleted_before_anything_is_sent() {
        let new = want("default/pod/web", 9);
        let mut old = new.clone();
        old.uid = "old".parse().unwrap();
        let name = "default/pod/web".to_owned();
        assert_eq!(
            run(&[new], &held(&[(&old, 3)])),
            [(PushOp::Delete, name.clone()), (PushOp::Insert, name)]
        );
    }

    #[test]
    fn records_of_kinds_that_are_not_watched_are_left_alone() {
        let device = want("default/device/d", 3);
        assert!(run(&[], &held(&[(&device, 3)])).is_empty());
    }

    #[test]
    fn a_device_that_is_elsewhere_now_is_deleted() {
        let device = want("default/device/d", 3);
        let gone = compare(&[], &held(&[(&device, 3)]), is_device, |_| None);
        assert_eq!(gone, [Difference::Delete { key: device.key, uid: device.uid }]);
    }

    #[test]
    fn what_a_node_holds_but_no_longer_needs_is_left_there_while_it_exists() {
        let secret = want("default/secret/s", 3);
        let exists = |_: &ObjectKey| Some(secret.uid.clone());
        assert!(compare(&[], &held(&[(&secret, 1)]), is_watched, exists).is_empty());
    }
}
