//! The groups of scenes: one file each.
//!
//! A new one is a file with a [`Group`] and a line in [`GROUPS`]. `figures` makes what hosts it
//! needs, so that groups do not depend on each other; `inside` is what of it has to run on a host,
//! see [`crate::client`].

mod churn;
mod dashboard;
mod devices;
mod fleet;
mod memory;
mod plane;
mod pods;
mod recovery;
mod size;
mod store;
mod up;

use crate::client::Inside;
use crate::page::Figure;

/// Scenes that share hosts.
pub(crate) struct Group {
    /// For the command line.
    pub(crate) name: &'static str,
    /// The heading in docs/benchmarks.md.
    pub(crate) title: &'static str,
    /// Measures.
    pub(crate) figures: fn() -> Vec<Figure>,
    /// What runs on a host.
    pub(crate) inside: Inside,
}

/// All, in the order in which they are measured and shown.
pub(crate) const GROUPS: [Group; 11] = [
    size::GROUP,
    up::GROUP,
    memory::GROUP,
    pods::GROUP,
    store::GROUP,
    recovery::GROUP,
    fleet::GROUP,
    churn::GROUP,
    devices::GROUP,
    dashboard::GROUP,
    plane::GROUP,
];

const MAIN: &str = "From the cloud to the edge";

/// For groups that need nothing on a host.
const NOTHING_INSIDE: Inside = |_, scene| panic!("no scene `{}`", scene.name);
