//! Questions of cloudcore's own to a node's kubelet API, through its tunnel.
//!
//! Owns: how long an answer may be and how long it may take.
//! Called by: `status` (restarts, what is used).
//! Never: asks on behalf of somebody whose rights nobody has looked at.

use std::sync::Arc;
use std::time::Duration;

use api::names::{NodeName, ObjectKey};
use api::printable::printable;
use api::tunnel::{ConnectRequest, FrameKind, GoUrl};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::Tunnels;
use super::streamserver::{KUBELET, first};
use super::tunnel::OpenError;
use crate::edgecontroller::index::Index;

/// The APIs of all nodes that have a tunnel.
#[derive(Debug, Clone, Default)]
pub struct NodeApis {
    tunnels: Tunnels,
    index: Arc<Mutex<Index>>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) verb: Verb,
    /// Without anything that must be encoded.
    pub(crate) path: String,
    pub(crate) query: &'static str,
    /// Bytes of the answer.
    pub(crate) limit: usize,
    pub(crate) within: Duration,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// To know.
    Get,
    /// To have something done.
    Post,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    #[error(
        "node `{0}` has no tunnel to this cloudcore: it is cut off, or `edgeStream` is off there, or \
         `cloudStream` here"
    )]
    NoTunnel(NodeName),
    #[error("node `{0}` has another edgecore, which does nothing of that kind for the cloud")]
    Original(NodeName),
    #[error("node `{0}`: {1}")]
    Open(NodeName, OpenError),
    #[error("node `{0}` gave no answer within {1} s")]
    Late(NodeName, u64),
    #[error("node `{0}` answers with more than {1} bytes")]
    TooLong(NodeName, usize),
    #[error("node `{0}`: {1}")]
    NoHttp(NodeName, String),
    #[error("node `{0}`: {1}")]
    Refused(NodeName, String),
}

impl NodeApis {
    /// Those of these tunnels; the index says where pods are.
    pub fn new(tunnels: Tunnels, index: Arc<Mutex<Index>>) -> Self {
        Self { tunnels, index }
    }

    /// Nodes that can be asked.
    pub(crate) fn connected(&self) -> Vec<NodeName> {
        self.tunnels.nodes()
    }

    /// The node of a pod.
    pub(crate) fn node_of(&self, pod: &ObjectKey) -> Option<NodeName> {
        self.index.lock().node_of_pod(pod).cloned()
    }

    /// Asks a node, and reads its whole answer.
    pub(crate) async fn ask(
        &self,
        node: &NodeName,
        question: &Question,
    ) -> Result<Vec<u8>, AskError> {
        let asked = timeout(question.within, self.whole(node, question));
        let late = || AskError::Late(node.clone(), question.within.as_secs());
        asked.await.map_err(|_| late())?
    }

    async fn whole(&self, node: &NodeName, question: &Question) -> Result<Vec<u8>, AskError> {
        let of = || node.clone();
        let tunnel = self.tunnels.of(node).ok_or_else(|| AskError::NoTunnel(of()))?;
        let (kind, method) = match question.verb {
            Verb::Get => (FrameKind::MetricsConnect, ""),
            // What the original's edge is sent so, it takes for a command to run.
            Verb::Post if !tunnel.windows() => return Err(AskError::Original(of())),
            Verb::Post => (FrameKind::ExecConnect, "POST"),
        };
        let request = ConnectRequest {
            url: GoUrl {
                scheme: "http".to_owned(),
                host: KUBELET.to_owned(),
                path: question.path.clone(),
                raw_query: question.query.to_owned(),
                ..GoUrl::default()
            },
            method: method.to_owned(),
            ..ConnectRequest::default()
        };
        let connection =
            tunnel.connect(kind, request).await.map_err(|e| AskError::Open(of(), e))?;
        let mut body = Vec::new();
        let mut status = StatusCode::OK;
        // The original's edge sends the body alone.
        if tunnel.windows() {
            let head = first(&connection).await.map_err(|why| AskError::NoHttp(of(), why))?;
            status = head.status;
            body.extend_from_slice(&head.rest);
        }
        while body.len() <= question.limit
            && let Some(data) = connection.read().await
        {
            body.extend_from_slice(&data);
            connection.passed_on(data.len()).await;
        }
        if body.len() > question.limit {
            return Err(AskError::TooLong(of(), question.limit));
        }
        if status != StatusCode::OK {
            let said = String::from_utf8_lossy(&body);
            let said = printable(said.trim(), 400).to_string();
            let why = if said.is_empty() { status.to_string() } else { said };
            return Err(AskError::Refused(of(), why));
        }
        Ok(body)
    }
}
