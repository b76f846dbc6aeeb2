//! Which pods are on which nodes, found in one pass.
//!
//! Owns: reading the nodes' names from what selectors know of a pod, so that no text is parsed twice.
//! Called by: the node and pod controllers. Never: keeps anything from one look to the next.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::plane::Plane;
use crate::store::Stored;

/// What is asked of each pod.
pub(super) struct Placed {
    pub(super) node: Box<str>,
    pub(super) ended: bool,
    pub(super) stored: Arc<Stored>,
}

/// All pods that name a node.
pub(super) fn all(plane: &Plane) -> Vec<Placed> {
    let pods = plane.registry.builtin("", "pods");
    let objects = plane.store.list(&pods.table, "", None).objects;
    let placed = |(_, stored): (Box<str>, Arc<Stored>)| {
        let known = stored.selectable.get_or_init(|| Box::new(pods.selectable(&stored.value())));
        let field = |name: &str| known.fields.iter().find(|(k, _)| **k == *name).map(|(_, v)| v);
        let node = field("spec.nodeName").filter(|n| !n.is_empty())?.clone();
        let ended = field("status.phase").is_some_and(|p| matches!(&**p, "Succeeded" | "Failed"));
        Some(Placed { node, ended, stored })
    };
    objects.into_iter().filter_map(placed).collect()
}

/// Pods by their nodes; looked for when the first node asks.
pub(super) struct ByNode<'a> {
    plane: &'a Plane,
    found: OnceLock<HashMap<Box<str>, Vec<Arc<Stored>>>>,
}

impl<'a> ByNode<'a> {
    pub(super) fn new(plane: &'a Plane) -> Self {
        Self { plane, found: OnceLock::new() }
    }

    /// The pods on a node.
    pub(super) fn on(&self, node: &str) -> Vec<Value> {
        let found = self.found.get_or_init(|| {
            let mut by_node: HashMap<Box<str>, Vec<Arc<Stored>>> = HashMap::new();
            for p in all(self.plane) {
                by_node.entry(p.node).or_default().push(p.stored);
            }
            by_node
        });
        found.get(node).into_iter().flatten().map(|p| p.value()).collect()
    }
}
