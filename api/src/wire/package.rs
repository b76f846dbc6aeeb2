//! A message on a QUIC stream: a 10-byte header and a protobuf envelope.
//!
//! The reference implementation uses it on Google QUIC only, which no current library speaks, so
//! nothing of ours listens for it. It is here so that captures can be read and the golden data of
//! both encodings is held.
//!
//! Owns: the header's layout, the protobuf numbers, the limit.
//! Called by: the golden tests, the fuzz target.
//! Never: panics where the original does (a missing sub-message is an error here).

use prost::Message as _;

use super::message::{Header, MAX_MESSAGE, Message, Route};

/// Length of the header.
const HEADER: usize = 10;
/// Version 1.1.1, type "message", no flags.
const PREFIX: [u8; 6] = [1, 1, 1, 0, 1, 0];

/// Why bytes are not a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Not a byte.
    #[error("there is no package: the input is empty")]
    Empty,
    /// Ends inside the header.
    #[error("the package header is cut short: {got} of {HEADER} bytes")]
    HeaderCutShort {
        /// How many bytes there are.
        got: usize,
    },
    /// A header and nothing more, although it announces a payload.
    #[error("the payload of {announced} bytes is missing")]
    NoPayload {
        /// What the header says.
        announced: usize,
    },
    /// Ends inside the payload.
    #[error("the payload is cut short: {got} of {announced} bytes")]
    PayloadCutShort {
        /// What the header says.
        announced: usize,
        /// How many bytes there are.
        got: usize,
    },
    /// The payload is, or would be, above the limit.
    #[error("payload length {len} exceeds maximum {MAX_MESSAGE}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// A package of no bytes.
    #[error("the package is empty")]
    EmptyPayload,
    /// Not protobuf, or not of this schema.
    #[error("the payload is not a protobuf message")]
    Protobuf(#[source] prost::DecodeError),
    /// The sub-message `header` is absent.
    #[error("the payload has no `header`")]
    NoHeader,
    /// The sub-message `router` is absent.
    #[error("the payload has no `router`")]
    NoRouter,
}

/// A message as a package carries it. What only JSON can carry (`resourceversion`, `type`,
/// `destination`) is empty, and the content is bytes with no mark of what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The header.
    pub header: Header,
    /// The route.
    pub route: Route,
    /// The content; empty for none.
    pub content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProtoRouter {
    #[prost(string, tag = "1")]
    source: String,
    #[prost(string, tag = "2")]
    group: String,
    #[prost(string, tag = "3")]
    operation: String,
    // Spelt `Resouce` in the published schema.
    #[prost(string, tag = "4")]
    resource: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProtoHeader {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    parent_id: String,
    #[prost(sint64, tag = "3")]
    timestamp: i64,
    #[prost(bool, tag = "4")]
    sync: bool,
    // Never filled and never read by the original.
    #[prost(string, tag = "5")]
    message_type: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProtoMessage {
    #[prost(message, optional, tag = "1")]
    header: Option<ProtoHeader>,
    #[prost(message, optional, tag = "2")]
    router: Option<ProtoRouter>,
    #[prost(bytes = "vec", tag = "3")]
    content: Vec<u8>,
}

impl Package {
    /// What of `msg` fits into a package.
    pub fn of(msg: &Message) -> Self {
        let mut header = msg.header.clone();
        header.resourceversion.clear();
        header.kind.clear();
        let mut route = msg.route.clone();
        route.destination.clear();
        let content =
            if msg.content.is_null() { Vec::new() } else { msg.content.text().as_bytes().to_vec() };
        Self { header, route, content }
    }

    /// Reads the first package in `bytes`; also returns how many bytes it takes.
    ///
    /// As the original, it looks at the length only, not at version, type and flags.
    ///
    /// # Errors
    /// One for each way in which the bytes can be wrong.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), PackageError> {
        if bytes.is_empty() {
            return Err(PackageError::Empty);
        }
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(PackageError::HeaderCutShort { got: bytes.len() });
        };
        let [.., a, b, c, d] = *head;
        let announced = u32::from_be_bytes([a, b, c, d]) as usize;
        if announced > MAX_MESSAGE {
            return Err(PackageError::TooLarge { len: announced });
        }
        if announced == 0 {
            return Err(PackageError::EmptyPayload);
        }
        if rest.is_empty() {
            return Err(PackageError::NoPayload { announced });
        }
        let Some(payload) = rest.get(..announced) else {
            return Err(PackageError::PayloadCutShort { announced, got: rest.len() });
        };
        Ok((Self::decode_payload(payload)?, HEADER + announced))
    }

    fn decode_payload(payload: &[u8]) -> Result<Self, PackageError> {
        let proto = ProtoMessage::decode(payload).map_err(PackageError::Protobuf)?;
        let header = proto.header.ok_or(PackageError::NoHeader)?;
        let router = proto.router.ok_or(PackageError::NoRouter)?;
        Ok(Self {
            header: Header {
                msg_id: header.id,
                parent_msg_id: header.parent_id,
                timestamp: header.timestamp,
                sync: header.sync,
                ..Header::default()
            },
            route: Route {
                source: router.source,
                group: router.group,
                operation: router.operation,
                resource: router.resource,
                ..Route::default()
            },
            content: proto.content,
        })
    }

    /// Writes the package as the original does: both sub-messages are there, even if empty.
    ///
    /// # Errors
    /// When the payload would be above the limit.
    pub fn encode(&self) -> Result<Vec<u8>, PackageError> {
        let proto = ProtoMessage {
            header: Some(ProtoHeader {
                id: self.header.msg_id.clone(),
                parent_id: self.header.parent_msg_id.clone(),
                timestamp: self.header.timestamp,
                sync: self.header.sync,
                message_type: String::new(),
            }),
            router: Some(ProtoRouter {
                source: self.route.source.clone(),
                group: self.route.group.clone(),
                operation: self.route.operation.clone(),
                resource: self.route.resource.clone(),
            }),
            content: self.content.clone(),
        };
        let len = proto.encoded_len();
        let too_large = PackageError::TooLarge { len };
        if len > MAX_MESSAGE {
            return Err(too_large);
        }
        let announced = u32::try_from(len).map_err(|_| too_large)?;
        let mut out = Vec::with_capacity(HEADER + len);
        out.extend_from_slice(&PREFIX);
        out.extend_from_slice(&announced.to_be_bytes());
        prost::Message::encode_raw(&proto, &mut out);
        Ok(out)
    }
}
