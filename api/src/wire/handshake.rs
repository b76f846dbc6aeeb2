//! How a link begins: the request with which an edge node opens the WebSocket.
//!
//! Owns: the header names, their values, the path.
//! Called by: edgehub (makes the request), cloudhub (reads it).
//! Never: trusts `node_id`; the certificate says who a node is.

use crate::names::NodeName;

/// Header that names the node.
pub const NODE_ID: &str = "node_id";
/// Header that names the project.
pub const PROJECT_ID: &str = "project_id";
/// Header that says what the connection is for; must be [`USE_MESSAGES`].
pub const CONNECTION_USE: &str = "connectionuse";
/// Header with the id of the node's database, made with it. Ours alone: when it is another one than
/// last time, the node has lost what it was sent, and is to be sent everything again.
pub const STORE_ID: &str = "store_id";
/// The value of [`CONNECTION_USE`] for messages. Without it the original never reads from the link.
pub const USE_MESSAGES: &str = "msg";
/// The project that a KubeEdge node belongs to unless its configuration says otherwise.
pub const DEFAULT_PROJECT: &str = "e632aba927ea4ac2b575ec1603d56f10";

/// The path of the request. The cloud accepts any.
pub fn path(project: &str, node: &NodeName) -> String {
    format!("/{project}/{node}/events")
}

/// The common name in the certificate of `node`.
pub fn common_name(node: &NodeName) -> String {
    format!("{COMMON_NAME_PREFIX}{node}")
}

/// What the common name in a node's certificate begins with.
pub const COMMON_NAME_PREFIX: &str = "system:node:";
