//! A message on a WebSocket: one JSON document and a line feed.
//!
//! Owns: the limit, the reading and the writing. Fragments are joined by the WebSocket library,
//! which both hubs tell to stop at [`MAX_MESSAGE`].
//! Called by: the sessions of cloudhub and edgehub.
//! Never: allocates before the length is checked.

use serde::Deserialize;

use super::message::{MAX_MESSAGE, Message};
use crate::raw::go_json;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Larger than any message may be.
    #[error("a message of {len} bytes exceeds the limit of {MAX_MESSAGE}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// Nothing but white space.
    #[error("the message is empty")]
    Empty,
    /// The text ends inside the document.
    #[error("the message of {len} bytes is cut short")]
    CutShort {
        /// Its length.
        len: usize,
    },
    /// Not the JSON of a message.
    #[error("not a message")]
    Malformed(#[source] serde_json::Error),
}

/// Reads the first JSON document in `bytes` and ignores what follows it, as the original does.
///
/// # Errors
/// When there is none, or it is not of the form of a message, or larger than [`MAX_MESSAGE`].
pub fn decode(bytes: &[u8]) -> Result<Message, JsonError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(JsonError::TooLarge { len: bytes.len() });
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Empty);
    }
    let mut de = serde_json::Deserializer::from_slice(bytes);
    Message::deserialize(&mut de).map_err(|e| {
        if e.is_eof() { JsonError::CutShort { len: bytes.len() } } else { JsonError::Malformed(e) }
    })
}

/// Writes `msg` as the original does, with the line feed.
///
/// # Errors
/// When it would be larger than [`MAX_MESSAGE`].
pub fn encode(msg: &Message) -> Result<String, JsonError> {
    let len = msg.content.get().len();
    if len > MAX_MESSAGE {
        return Err(JsonError::TooLarge { len });
    }
    let mut text = go_json(msg).map_err(JsonError::Malformed)?;
    text.push('\n');
    if text.len() > MAX_MESSAGE {
        return Err(JsonError::TooLarge { len: text.len() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::RawJson;

    fn msg(text: &str) -> Message {
        decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn keys_are_read_in_any_case_and_unknown_ones_ignored() {
        let m = msg(
            r#"{"Header":{"MSG_ID":"1","timeStamp":-5,"new":[{}]},"ROUTE":{"Source":"s","x":1},"Content":[1],"y":{}}"#,
        );
        assert_eq!((m.header.msg_id.as_str(), m.header.timestamp), ("1", -5));
        assert_eq!(m.route.source, "s");
        assert_eq!(m.content.get(), "[1]");
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let m = msg(r#"{"header":{"msg_id":null,"sync":null},"route":null,"content":null}"#);
        assert_eq!(m, Message::default());
        assert_eq!(msg("{}"), Message::default());
    }

    #[test]
    fn the_last_of_two_equal_keys_wins_field_by_field() {
        let m = msg(
            r#"{"route":{"source":"a","group":"g"},"route":{"source":"b"},"content":1,"content":2}"#,
        );
        assert_eq!((m.route.source.as_str(), m.route.group.as_str()), ("b", "g"));
        assert_eq!(m.content.get(), "2");
    }

    #[test]
    fn what_follows_the_first_document_is_ignored() {
        assert_eq!(msg("  {\"content\":1}\n{]garbage").content.get(), "1");
    }

    #[test]
    fn each_malformed_text_has_its_own_error() {
        assert!(matches!(decode(b""), Err(JsonError::Empty)));
        assert!(matches!(decode(b" \n"), Err(JsonError::Empty)));
        assert!(matches!(decode(b"{\"header\":{\"m"), Err(JsonError::CutShort { len: 13 })));
        for bad in [
            &b"[]"[..],
            b"null",
            b"{\"header\":1}",
            b"{\"header\":{\"timestamp\":1.5}}",
            b"{\"header\":{\"msg_id\":7}}",
            b"{\"route\":{\"group\":[]}}",
            b"{content:1}",
            b"{\"content\":\"\xff\"}",
        ] {
            let text = String::from_utf8_lossy(bad);
            assert!(matches!(decode(bad), Err(JsonError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn a_message_above_32_mib_is_refused_in_both_directions() {
        let long = vec![b' '; MAX_MESSAGE + 1];
        assert!(matches!(decode(&long), Err(JsonError::TooLarge { .. })));
        let content = RawJson::parse(format!("\"{}\"", "a".repeat(MAX_MESSAGE - 20))).unwrap();
        let m = Message { content, ..Message::default() };
        assert!(matches!(encode(&m), Err(JsonError::TooLarge { .. })));
    }

    #[test]
    fn content_of_any_depth_is_carried() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(msg(&format!("{{\"content\":{deep}}}")).content.get(), deep);
    }
}
