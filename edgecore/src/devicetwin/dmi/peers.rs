//! Who speaks on the socket: processes and their parents.
//!
//! Owns: the question whether one process is another, or came from it.
//! Called by: `registry.rs`. Never: believes what a process says of itself.

use procfs::process::Process;

/// How many parents up is looked.
const DEPTH: usize = 16;

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pid: i32,
    started: u64,
}

impl Peer {
    /// The process of a number, if it runs and can be seen from here.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        Some(Self { pid, started: stat.starttime })
    }

    /// Whether it is `other` or one of its children, or theirs.
    pub(super) fn comes_from(self, other: Self) -> bool {
        let mut at = self;
        for _ in 0..DEPTH {
            if at == other {
                return true;
            }
            let Some(parent) = Process::new(at.pid)
                .and_then(|p| p.stat())
                .ok()
                .and_then(|stat| Self::of(stat.ppid))
            else {
                return false;
            };
            at = parent;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_comes_from_its_parent_and_not_the_other_way() {
        let me = Peer::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let theirs = Peer::of(pid).unwrap();
        assert!(me.comes_from(me) && theirs.comes_from(me));
        assert!(!me.comes_from(theirs));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Peer::of(pid), None);
    }
}
