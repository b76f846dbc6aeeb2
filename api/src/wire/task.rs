//! Jobs that run on nodes: where a task is about, and what an edge node reports of its steps.
//!
//! Form `operations.kubeedge.io/v1alpha2`; the older one is not spoken.
//!
//! Owns: the path of a task, the report on a step, and the versions in it.
//! Called by: the task managers of both halves, with what [`Upstream::TaskStatus`] and
//! [`Downstream::Task`] carry.
//! Never: knows in which order steps come.
//!
//! [`Upstream::TaskStatus`]: super::upstream::Upstream::TaskStatus
//! [`Downstream::Task`]: super::downstream::Downstream::Task

use std::fmt;

use serde::{Deserialize, Serialize};

use super::downstream::{Task, TaskSource};
use super::error::DecodeFault;
use super::route::operation;
use super::upstream::Upstream;
use crate::names::{NameError, NodeName, object_name};
use crate::printable::printable;
use crate::raw::RawJson;

/// Group and version of the jobs, the beginning of each path.
const JOBS: &str = "operations.kubeedge.io/v1alpha2/";
/// Characters of a reason that are kept. An edge node may send megabytes.
pub const REASON: usize = 1024;

/// The kinds of jobs that exist in this version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Brings edgecore to another version.
    NodeUpgrade,
    /// Pulls images.
    ImagePrePull,
    /// Changes edgecore's configuration.
    ConfigUpdate,
}

impl JobKind {
    const ALL: [Self; 3] = [Self::NodeUpgrade, Self::ImagePrePull, Self::ConfigUpdate];

    /// As paths have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeUpgrade => "nodeupgradejob",
            Self::ImagePrePull => "imageprepulljob",
            Self::ConfigUpdate => "configupdatejob",
        }
    }
}

/// A job on one node: `operations.kubeedge.io/v1alpha2/<kind>/<job>/node/<node>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskPath {
    /// What kind of job.
    pub kind: JobKind,
    /// Its `metadata.name`.
    pub job: Box<str>,
    /// The node.
    pub node: NodeName,
}

/// Why a path is none of a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Another version or shape.
    #[error("`{0}` is not the path of a `v1alpha2` job on a node")]
    Shape(String),
    /// A name in it is impossible.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl fmt::Display for TaskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{JOBS}{}/{}/node/{}", self.kind.as_str(), self.job, self.node)
    }
}

impl std::str::FromStr for TaskPath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        let shape = || PathError::Shape(printable(path, 128).to_string());
        let rest = path.strip_prefix(JOBS).ok_or_else(shape)?;
        let mut parts = rest.split('/');
        let (Some(kind), Some(job), Some("node"), Some(node), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(shape());
        };
        let kind = JobKind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(shape)?;
        Ok(Self { kind, job: object_name(job)?, node: node.parse()? })
    }
}

impl TaskPath {
    /// The message that begins the job at its first step, `first`. `spec` is that of the job.
    pub fn begin(&self, first: &str, spec: RawJson) -> Task {
        Task {
            resource: self.to_string().into(),
            operation: first.into(),
            source: TaskSource::TaskManager,
            content: spec,
        }
    }

    /// The message that reports a step.
    pub fn report(&self, report: &ActionReport) -> Upstream {
        Upstream::TaskStatus {
            resource: self.to_string().into(),
            operation: operation::TASK_STATUS[0].into(),
            // Strings and a flag always have a JSON form.
            content: RawJson::of(report).unwrap_or_else(|_| RawJson::null()),
        }
    }
}

/// What a node says of a step that has ended. Written as KubeEdge writes it: every field, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActionReport {
    /// The step: `Check`, `WaitingConfirmation` ..
    pub action: String,
    /// Whether it went well.
    pub succ: bool,
    /// When it ended, RFC 3339 in UTC; KubeEdge leaves it empty for changes of the configuration.
    pub finish_time: String,
    /// Why it did not go well.
    pub reason: String,
    /// More, by the kind of job and step; [`Versions`] for upgrades.
    pub extend: String,
}

impl ActionReport {
    /// Whether an operation is that of these reports, and not of the older ones.
    pub fn is_operation(text: &str) -> bool {
        text == operation::TASK_STATUS[0]
    }

    /// Reads the content of a report. Texts without a bound are cut.
    ///
    /// # Errors
    /// When it is no report.
    pub fn read(content: &RawJson) -> Result<Self, DecodeFault> {
        let mut report: Self =
            content.to().map_err(|_| DecodeFault::Content("the report on a step of a job"))?;
        for (text, limit) in
            [(&mut report.reason, REASON), (&mut report.action, 64), (&mut report.finish_time, 64)]
        {
            if let Some((at, _)) = text.char_indices().nth(limit) {
                text.truncate(at);
            }
        }
        Ok(report)
    }
}

/// The versions in the report on a step of an upgrade: `<from>,<to>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.from, self.to)
    }
}

impl Versions {
    /// Reads them; none if there are not just two, or one is too long to be a version.
    pub fn read(extend: &str) -> Option<Self> {
        let (from, to) = extend.split_once(',')?;
        let sound = |v: &str| v.len() <= 128 && !v.contains(',');
        (sound(from) && sound(to)).then(|| Self { from: from.to_owned(), to: to.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_kind_job_and_node_and_nothing_else() {
        let text = "operations.kubeedge.io/v1alpha2/nodeupgradejob/up1/node/edge-1";
        let path: TaskPath = text.parse().unwrap();
        assert_eq!((path.kind, &*path.job), (JobKind::NodeUpgrade, "up1"));
        assert_eq!(path.node.as_str(), "edge-1");
        assert_eq!(path.to_string(), text);
        for bad in [
            "task/up1/node/edge-1",
            "operations.kubeedge.io/v1alpha1/nodeupgradejob/up1/node/edge-1",
            "operations.kubeedge.io/v1alpha2/gadgetjob/up1/node/edge-1",
            "operations.kubeedge.io/v1alpha2/nodeupgradejob/up1/edge-1",
            "operations.kubeedge.io/v1alpha2/nodeupgradejob/up1/node/edge-1/x",
            "operations.kubeedge.io/v1alpha2/nodeupgradejob//node/edge-1",
            "operations.kubeedge.io/v1alpha2/nodeupgradejob/up1/node/",
        ] {
            assert!(bad.parse::<TaskPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_report_without_bounds_is_cut_where_a_character_ends() {
        let long = "ü".repeat(REASON + 7);
        let content = RawJson::of(&serde_json::json!({"action": "Check", "reason": long})).unwrap();
        let report = ActionReport::read(&content).unwrap();
        assert_eq!(report.reason, "ü".repeat(REASON));
        assert!(!report.succ, "what does not say that it went well did not");
        assert!(ActionReport::read(&RawJson::string("Check")).is_err());
    }

    #[test]
    fn versions_are_two() {
        let both = Versions { from: "v1.22.0".into(), to: "v1.23.0".into() };
        assert_eq!(both.to_string(), "v1.22.0,v1.23.0");
        assert_eq!(Versions::read("v1.22.0,v1.23.0"), Some(both));
        for bad in ["", "v1.22.0", "a,b,c"] {
            assert_eq!(Versions::read(bad), None, "{bad}");
        }
    }
}
