//! Where the API server finds a node's kubelet: at cloudcore.
//!
//! Owns: `status.daemonEndpoints.kubeletEndpoint` of each node with a tunnel.
//! Called by: `server.rs`, for as long as a tunnel is open.
//! Never: touches another part of the node; the edge reports those.

use std::convert::Infallible;
use std::time::Duration;

use api::names::{Kind, NodeName, ObjectKey};
use api::raw::RawJson;
use tracing::debug;

use crate::apiserver::{ApiError, ApiServer, Patch, Path};

/// A node may open its tunnel before it is registered.
const RETRY: Duration = Duration::from_secs(1);
/// A node that was deleted and made anew has lost it.
const REPEAT: Duration = Duration::from_secs(60);

/// Publishes the stream port.
#[derive(Debug, Clone)]
pub struct Endpoint {
    api: ApiServer,
    port: u16,
}

fn patch(port: u16) -> Option<RawJson> {
    let text =
        format!(r#"{{"status":{{"daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#);
    RawJson::parse(text).ok()
}

impl Endpoint {
    /// `port` is cloudcore's stream port.
    pub fn new(api: ApiServer, port: u16) -> Self {
        Self { api, port }
    }

    /// Writes the port into the node's status, and again from time to time.
    pub async fn keep_published(&self, node: &NodeName) -> Infallible {
        loop {
            let wait = match self.publish(node).await {
                Ok(()) => REPEAT,
                Err(error) => {
                    debug!(%node, %error, "the node's kubelet endpoint could not be set yet");
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn publish(&self, node: &NodeName) -> Result<(), ApiError> {
        let path = Path::object(&ObjectKey::cluster(Kind::Node, node.as_str()))?.named("status")?;
        let patch = patch(self.port).ok_or_else(|| ApiError::NoPath(node.to_string()))?;
        self.api.patch(&path, Patch::Strategic, &patch).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_names_nothing_but_the_port() {
        let patch: serde_json::Value = patch(10003).unwrap().to().unwrap();
        let wanted = serde_json::json!(
            {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10003}}}});
        assert_eq!(patch, wanted);
    }
}
