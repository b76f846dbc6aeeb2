//! What a node's report, or silence, makes of its part of a NodeUpgradeJob. Pure.
//!
//! Owns: the phases of a node and of the job.
//! Called by: `jobs.rs`.
//! Never: reads a clock.

use api::crd::operations::{
    JobPhase, NodePhase, NodeUpgradeJobStatus, NodeUpgradeStatus, Step, StepStatus, UpgradeAction,
};
use api::wire::task::{ActionReport, Versions};

/// Steps of one node that are kept.
const STEPS: usize = 32;

/// Why a report changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ignored {
    #[error("there is no such step")]
    Step,
    #[error("it was said before")]
    Repeated,
    #[error("the node is done already")]
    Done,
}

/// Puts a report into the status of its node.
pub(super) fn apply(node: &mut NodeUpgradeStatus, report: &ActionReport) -> Result<(), Ignored> {
    let action = UpgradeAction::parse(&report.action).ok_or(Ignored::Step)?;
    let said = Step {
        action: Some(action),
        status: Some(if report.succ { StepStatus::True } else { StepStatus::False }),
        reason: (!report.succ && !report.reason.is_empty()).then(|| report.reason.clone()),
        time: (!report.finish_time.is_empty()).then(|| report.finish_time.clone()),
    };
    if node.action_flow.contains(&said) {
        return Err(Ignored::Repeated);
    }
    // One that was given up as silent may still come to its end.
    if matches!(node.phase, Some(NodePhase::Successful | NodePhase::Failure))
        || node.action_flow.len() >= STEPS
    {
        return Err(Ignored::Done);
    }
    if let Some(versions) = Versions::read(&report.extend) {
        match action {
            UpgradeAction::BackUp => node.historic_version = Some(versions.from),
            UpgradeAction::Upgrade => {
                node.historic_version = Some(versions.from);
                if report.succ {
                    node.current_version = Some(versions.to);
                }
            }
            UpgradeAction::RollBack if report.succ => node.current_version = Some(versions.to),
            _ => {}
        }
    }
    let upgrade = node.action_flow.iter().rfind(|s| s.action == Some(UpgradeAction::Upgrade));
    let failed = upgrade.and_then(|step| step.reason.clone()).unwrap_or_default();
    let why =
        || if report.reason.is_empty() { "no reason was given" } else { report.reason.as_str() };
    (node.phase, node.reason) = match (action.next(report.succ), report.succ) {
        (Some(_), true) => (NodePhase::InProgress.into(), None),
        (Some(_), false) => (NodePhase::InProgress.into(), Some(why().to_owned())),
        // It is back at the old version, which nobody wanted.
        (None, true) if action == UpgradeAction::RollBack => {
            let because = if failed.is_empty() { String::new() } else { format!(": {failed}") };
            (NodePhase::Failure.into(), Some(format!("it was rolled back{because}")))
        }
        (None, true) => (NodePhase::Successful.into(), None),
        (None, false) => {
            (NodePhase::Failure.into(), Some(format!("{} failed: {}", action.as_str(), why())))
        }
    };
    node.action_flow.push(said);
    Ok(())
}

/// Sets the phase of a job from those of its nodes. `tolerate` is `failureTolerate`.
pub(super) fn conclude(status: &mut NodeUpgradeJobStatus, tolerate: Option<&str>) {
    let phase = |node: &NodeUpgradeStatus| node.phase.unwrap_or_default();
    let count =
        |of: &[NodePhase]| status.node_status.iter().filter(|n| of.contains(&phase(n))).count();
    let all = status.node_status.len();
    let pending = count(&[NodePhase::Pending]);
    let running = count(&[NodePhase::InProgress]);
    let failed = count(&[NodePhase::Failure, NodePhase::Unknown]);
    if all == 0 {
        // Whoever found no nodes has said why.
        return;
    }
    status.reason = None;
    status.phase = if pending == all {
        JobPhase::Init
    } else if pending + running > 0 {
        JobPhase::InProgress
    } else if within(failed, all, tolerate) {
        JobPhase::Completed
    } else {
        let tolerated = tolerate.unwrap_or("0");
        status.reason = Some(format!(
            "{failed} of {all} nodes failed, more than `failureTolerate` ({tolerated}) allows"
        ));
        JobPhase::Failure
    };
}

/// Whether so many may fail. The share is rounded to hundredths, as the original does; what is no
/// number allows none.
fn within(failed: usize, all: usize, tolerate: Option<&str>) -> bool {
    let tolerated = tolerate.and_then(|text| text.trim().parse::<f64>().ok());
    let tolerated = tolerated.filter(|share| share.is_finite()).unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "nodes of a cluster are not so many")]
    let share = (failed as f64 / all as f64 * 100.0).round() / 100.0;
    failed == 0 || share <= tolerated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(action: &str, succ: bool) -> ActionReport {
        ActionReport {
            action: action.to_owned(),
            succ,
            finish_time: format!("2026-01-02T03:04:05Z {action}"),
            reason: if succ { String::new() } else { "no space".to_owned() },
            extend: match action {
                "BackUp" | "Upgrade" => "v1.22.0,v1.23.0".to_owned(),
                "RollBack" => "v1.23.0,v1.22.0".to_owned(),
                _ => String::new(),
            },
        }
    }

    fn after(reports: &[(&str, bool)]) -> NodeUpgradeStatus {
        let mut node = NodeUpgradeStatus::default();
        for (action, succ) in reports {
            apply(&mut node, &report(action, *succ)).unwrap();
        }
        node
    }

    const TO_UPGRADE: [(&str, bool); 3] =
        [("Check", true), ("WaitingConfirmation", true), ("BackUp", true)];

    #[test]
    fn a_node_is_done_after_its_last_step() {
        for done in 1..=3 {
            assert_eq!(after(&TO_UPGRADE[..done]).phase, Some(NodePhase::InProgress), "{done}");
        }
        let node = after(&[&TO_UPGRADE[..], &[("Upgrade", true)]].concat());
        assert_eq!((node.phase, &node.reason), (Some(NodePhase::Successful), &None));
        assert_eq!(node.historic_version.as_deref(), Some("v1.22.0"));
        assert_eq!(node.current_version.as_deref(), Some("v1.23.0"));
        assert_eq!(node.action_flow.len(), 4);
    }

    #[test]
    fn a_step_that_fails_without_another_to_follow_fails_the_node() {
        let node = after(&[("Check", false)]);
        assert_eq!(node.phase, Some(NodePhase::Failure));
        assert_eq!(node.reason.as_deref(), Some("Check failed: no space"));
        assert_eq!(node.action_flow[0].reason.as_deref(), Some("no space"));
    }

    #[test]
    fn a_node_that_was_rolled_back_has_not_been_upgraded() {
        let mut node = after(&[&TO_UPGRADE[..], &[("Upgrade", false)]].concat());
        assert_eq!((node.phase, node.current_version.clone()), (Some(NodePhase::InProgress), None));
        apply(&mut node, &report("RollBack", true)).unwrap();
        assert_eq!(node.phase, Some(NodePhase::Failure));
        assert_eq!(node.reason.as_deref(), Some("it was rolled back: no space"));
        assert_eq!(node.historic_version.as_deref(), Some("v1.22.0"), "what it was upgraded from");
        assert_eq!(node.current_version.as_deref(), Some("v1.22.0"));
    }

    #[test]
    fn what_was_said_before_or_comes_after_the_end_changes_nothing() {
        let mut node = after(&[("Check", true)]);
        let before = node.clone();
        assert_eq!(apply(&mut node, &report("Check", true)), Err(Ignored::Repeated));
        assert_eq!(apply(&mut node, &report("Dance", true)), Err(Ignored::Step));
        assert_eq!(node, before);
        let mut node = after(&[("Check", false)]);
        assert_eq!(apply(&mut node, &report("Upgrade", true)), Err(Ignored::Done));
        let mut node = NodeUpgradeStatus { phase: Some(NodePhase::Unknown), ..Default::default() };
        apply(&mut node, &report("Upgrade", true)).unwrap();
        assert_eq!(node.phase, Some(NodePhase::Successful), "it was only slow");
    }

    #[test]
    fn a_job_ends_when_no_node_is_left_and_fails_if_too_many_have() {
        use NodePhase::{Failure, InProgress, Pending, Successful, Unknown};
        let of = |phases: &[NodePhase], tolerate| {
            let node = |phase: &NodePhase| NodeUpgradeStatus {
                phase: Some(*phase),
                ..NodeUpgradeStatus::default()
            };
            let node_status = phases.iter().map(node).collect();
            let mut status = NodeUpgradeJobStatus { node_status, ..Default::default() };
            conclude(&mut status, tolerate);
            (status.phase, status.reason)
        };
        let phase = |phases: &[NodePhase], tolerate| of(phases, tolerate).0;
        assert_eq!(phase(&[Pending, Pending], None), JobPhase::Init);
        assert_eq!(phase(&[Pending, Successful], None), JobPhase::InProgress);
        assert_eq!(phase(&[InProgress, Failure], None), JobPhase::InProgress);
        assert_eq!(phase(&[Successful, Successful], None), JobPhase::Completed);
        let (failed, why) = of(&[Successful, Unknown], None);
        assert_eq!(failed, JobPhase::Failure);
        assert_eq!(
            why.as_deref(),
            Some("1 of 2 nodes failed, more than `failureTolerate` (0) allows")
        );
        assert_eq!(phase(&[Successful, Failure], Some("0.5")), JobPhase::Completed);
        // A third is 0.33.
        let third = [Successful, Failure, Successful];
        assert_eq!(phase(&third, Some("0.33")), JobPhase::Completed);
        for less in ["0.32", "lots", "NaN", "-1"] {
            assert_eq!(phase(&third, Some(less)), JobPhase::Failure, "{less}");
        }
    }
}
