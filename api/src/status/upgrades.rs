//! Upgrades of nodes as rows. Pure.
//!
//! Owns: which of several jobs a node's row is about, and what it is doing in a word.
//! Called by: cloudcore's task manager; `keadm`, where no board answers.
//! Never: decides what happens next; the task manager does.

use std::collections::BTreeMap;

use super::row::{Millis, Upgrade};
use crate::crd::operations::{
    NodePhase, NodeUpgradeJobSpec, NodeUpgradeJobStatus, NodeUpgradeStatus, StepStatus,
    UpgradeAction,
};

/// Characters of a reason that a row has.
const WHY: usize = 256;
/// The state of a row that waits for somebody to agree.
pub const WAITING: &str = "WaitingConfirmation";

/// A job, as far as rows are made from it.
#[derive(Debug, Clone, Copy)]
pub struct JobView<'a> {
    /// `metadata.name`
    pub name: &'a str,
    /// `metadata.creationTimestamp`
    pub created: Option<Millis>,
    /// What is wanted.
    pub spec: &'a NodeUpgradeJobSpec,
    /// What is.
    pub status: &'a NodeUpgradeJobStatus,
}

/// The version of edgecore in a node's kubelet version, `v1.32.10-kubeedge-v1.23.0`.
pub fn edge_version(kubelet: &str) -> &str {
    kubelet.rsplit_once("-kubeedge-").map_or(kubelet, |(_, version)| version)
}

/// Whether a node has got as far as it may without somebody's agreement.
pub fn waits_for_confirmation(spec: &NodeUpgradeJobSpec, node: &NodeUpgradeStatus) -> bool {
    let last = node.action_flow.last().and_then(|step| step.action);
    node.phase == Some(NodePhase::InProgress)
        && spec.require_confirmation == Some(true)
        && last == Some(UpgradeAction::WaitingConfirmation)
}

/// What the upgrade of a node is doing, in a word: a step while it runs, else how it ended.
fn state(spec: &NodeUpgradeJobSpec, node: &NodeUpgradeStatus) -> &'static str {
    match node.phase.unwrap_or_default() {
        NodePhase::Pending => "Pending",
        NodePhase::Successful => "Successful",
        NodePhase::Failure => "Failure",
        NodePhase::Unknown => "Unknown",
        NodePhase::InProgress if waits_for_confirmation(spec, node) => WAITING,
        NodePhase::InProgress => {
            let done = node.action_flow.last();
            let next =
                done.and_then(|step| step.action?.next(step.status == Some(StepStatus::True)));
            match next {
                // Where nobody is asked, the second step is over as soon as it begins.
                None | Some(UpgradeAction::WaitingConfirmation) => "Check",
                Some(next) => next.as_str(),
            }
        }
    }
}

fn is_open(node: &NodeUpgradeStatus) -> bool {
    matches!(node.phase.unwrap_or_default(), NodePhase::Pending | NodePhase::InProgress)
}

/// By node: the upgrade that is under way or has failed; none once the newest has succeeded.
pub fn rows<'a>(jobs: impl Iterator<Item = JobView<'a>>) -> BTreeMap<String, Upgrade> {
    type Rank<'a> = (bool, Option<Millis>, &'a str);
    let mut best: BTreeMap<&str, (Rank<'_>, JobView<'_>, &NodeUpgradeStatus)> = BTreeMap::new();
    for job in jobs {
        for node in &job.status.node_status {
            let Some(name) = node.node_name.as_deref() else { continue };
            let rank = (is_open(node), job.created, job.name);
            if best.get(name).is_none_or(|(other, ..)| *other < rank) {
                best.insert(name, (rank, job, node));
            }
        }
    }
    let shown = best.into_iter().filter(|(_, (_, _, n))| n.phase != Some(NodePhase::Successful));
    shown.map(|(name, (_, job, node))| (name.to_owned(), row(&job, node))).collect()
}

fn row(job: &JobView<'_>, node: &NodeUpgradeStatus) -> Upgrade {
    let stamp = |time: &String| Some(time.parse::<jiff::Timestamp>().ok()?.as_millisecond());
    let last = node.action_flow.last();
    let failed = last.and_then(|step| step.reason.as_deref());
    let why = node.reason.as_deref().filter(|r| !r.is_empty()).or(failed).unwrap_or_default();
    Upgrade {
        job: job.name.to_owned(),
        from: node.historic_version.clone().unwrap_or_default(),
        to: job.spec.version.clone().unwrap_or_default(),
        state: state(job.spec, node).to_owned(),
        since: last.and_then(|step| step.time.as_ref()).and_then(stamp).or(job.created),
        why: why.chars().take(WHY).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::operations::Step;

    fn node(phase: NodePhase, flow: &[(UpgradeAction, bool)]) -> NodeUpgradeStatus {
        let step = |(action, well): &(UpgradeAction, bool)| Step {
            action: Some(*action),
            status: Some(if *well { StepStatus::True } else { StepStatus::False }),
            reason: (!well).then(|| "no space".to_owned()),
            time: Some("2026-01-02T03:04:05Z".to_owned()),
        };
        NodeUpgradeStatus {
            node_name: Some("edge-1".to_owned()),
            phase: Some(phase),
            action_flow: flow.iter().map(step).collect(),
            historic_version: Some("v1.22.0".to_owned()),
            ..NodeUpgradeStatus::default()
        }
    }

    fn spec(confirm: bool) -> NodeUpgradeJobSpec {
        NodeUpgradeJobSpec {
            version: Some("v1.23.0".to_owned()),
            require_confirmation: Some(confirm),
            ..NodeUpgradeJobSpec::default()
        }
    }

    #[test]
    fn the_word_is_the_step_that_runs() {
        use UpgradeAction::{BackUp, Check, RollBack, Upgrade, WaitingConfirmation};
        let on = NodePhase::InProgress;
        let all = [(Check, true), (WaitingConfirmation, true), (BackUp, true), (Upgrade, false)];
        for (confirm, done, word) in [
            (true, 0, "Check"),
            (true, 1, "Check"),
            (true, 2, "WaitingConfirmation"),
            (false, 2, "BackUp"),
            (true, 3, "Upgrade"),
            (false, 4, "RollBack"),
        ] {
            assert_eq!(state(&spec(confirm), &node(on, &all[..done])), word, "{confirm} {done}");
        }
        assert_eq!(state(&spec(true), &node(NodePhase::Failure, &[(RollBack, true)])), "Failure");
    }

    #[test]
    fn a_row_is_about_the_job_that_is_open_and_else_about_the_newest() {
        let (old, new) = (spec(false), spec(true));
        let status = |n| NodeUpgradeJobStatus { node_status: vec![n], ..Default::default() };
        let failed = status(node(NodePhase::Failure, &[(UpgradeAction::Check, false)]));
        let open = status(node(NodePhase::InProgress, &[]));
        let done = status(node(NodePhase::Successful, &[]));
        let view = |name, created, spec, status| JobView { name, created, spec, status };
        let told = |jobs: &[JobView<'_>]| rows(jobs.iter().copied()).remove("edge-1");

        let row = told(&[view("a", Some(1), &old, &failed)]).unwrap();
        assert_eq!(
            (&*row.state, &*row.why, row.since),
            ("Failure", "no space", Some(1_767_323_045_000))
        );
        assert_eq!((&*row.from, &*row.to), ("v1.22.0", "v1.23.0"));
        let both = [view("a", Some(9), &old, &failed), view("b", Some(1), &new, &open)];
        assert_eq!(told(&both).unwrap().job, "b");
        let later = [view("a", Some(1), &old, &failed), view("b", Some(9), &new, &done)];
        assert_eq!(told(&later), None, "the newer one has succeeded");
    }

    #[test]
    fn the_version_of_edgecore_is_behind_that_of_kubernetes() {
        assert_eq!(edge_version("v1.32.10-kubeedge-v1.23.0"), "v1.23.0");
        assert_eq!(edge_version("v1.23.0"), "v1.23.0");
    }
}
