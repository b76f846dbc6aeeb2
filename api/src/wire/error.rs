//! Why a message was refused, with the words it came with.

use std::fmt;

use super::message::{Message, Route};
use crate::names::{NameError, NodeName};
use crate::printable::printable;

/// At most this many characters of each text from the wire are printed.
const SHOWN: usize = 128;

/// A message that is well-formed but means nothing to us, or names something impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The message's id as it came.
    pub id: String,
    /// The id it answers, as it came.
    pub parent: String,
    /// The route as it came.
    pub route: Box<Route>,
    /// What is wrong.
    pub fault: DecodeFault,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeFault {
    /// No message has this combination of source, group, operation and resource.
    #[error("no known message has this route")]
    UnknownRoute,
    /// An edge node used the name of a module of the cloud.
    #[error("the source is a module of the cloud")]
    CloudSource,
    /// An answer that does not say what it answers.
    #[error("it answers something but has no parent_msg_id")]
    NoParent,
    /// A name in the header or the resource breaks its rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The content is not what this route carries.
    #[error("its content should be {0}")]
    Content(&'static str),
    /// An edge node spoke in the name of another.
    #[error("it names the node `{}` but came from `{from}`", printable(named, SHOWN))]
    OtherNode {
        /// The node in the resource, cut to 64 characters.
        named: String,
        /// The sender.
        from: NodeName,
    },
}

impl DecodeError {
    pub(super) fn new(msg: &Message, fault: impl Into<DecodeFault>) -> Self {
        Self {
            id: msg.header.msg_id.clone(),
            parent: msg.header.parent_msg_id.clone(),
            route: Box::new(msg.route.clone()),
            fault: fault.into(),
        }
    }
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot use message `{}` from `{}` to `{}`, operation `{}`, resource `{}`: {}",
            printable(&self.id, SHOWN),
            printable(&self.route.source, SHOWN),
            printable(&self.route.group, SHOWN),
            printable(&self.route.operation, SHOWN),
            printable(&self.route.resource, SHOWN),
            self.fault
        )
    }
}
