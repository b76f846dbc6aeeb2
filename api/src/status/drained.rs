//! How far the draining of a node is, in words that a program can read back.
//!
//! Owns: the sentence that answers [`super::stream::Request::Drain`].
//! Called by: whoever drains; `keadm drain`, which asks again until nothing is left.
//! Never: says which pods: there may be hundreds.

use std::fmt;

/// What one round of evictions did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// The node.
    pub node: String,
    /// Pods that were told to go; those that are still going count again in the next round.
    pub evicted: usize,
    /// Pods of DaemonSets and static ones, which are left alone.
    pub stayed: usize,
    /// Pods that may not go yet, and why the first of them may not.
    pub refused: Option<(usize, String)>,
}

const EVICTED: &str = " pods evicted, ";
const REFUSED: &str = " cannot go yet: ";

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, evicted, stayed, refused } = self;
        write!(f, "node {node} cordoned, {evicted}{EVICTED}{stayed} left (DaemonSet or static)")?;
        match refused {
            Some((n, why)) => write!(f, ", {n}{REFUSED}{why}"),
            None => Ok(()),
        }
    }
}

/// How many pods are still to go, as such a sentence says it; `None` if it is another sentence.
pub fn still_there(text: &str) -> Option<usize> {
    let number = |before: &str| before.rsplit(' ').next()?.parse::<usize>().ok();
    let (before, after) = text.split_once(EVICTED)?;
    let refused = after.split_once(REFUSED).and_then(|(before, _)| number(before));
    Some(number(before)? + refused.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_says_how_many_pods_are_still_to_go() {
        let mut round =
            Drained { node: "edge-1".into(), evicted: 2, stayed: 1, ..Drained::default() };
        let text = round.to_string();
        assert_eq!(text, "node edge-1 cordoned, 2 pods evicted, 1 left (DaemonSet or static)");
        assert_eq!(still_there(&text), Some(2));
        round.refused = Some((3, "pod default/a: its budget allows none".into()));
        assert_eq!(still_there(&round.to_string()), Some(5));
        assert_eq!(still_there("the API server does not answer"), None);
    }
}
