//! Messages of MQTT topics on their way to the cloud. Pure.
//!
//! Owns: what waits for the link.
//! Called by: `outbox.rs`.
//! Never: grows: when there is no room the oldest goes, and is counted. Nobody confirms them, so what
//! was sent when the link was cut may be lost.

use std::collections::VecDeque;

use api::names::MessageId;
use api::raw::RawJson;
use api::wire::upstream::{Bus, Upstream};

/// Messages that wait at most, by number and by size.
const MAX: usize = 256;
const MAX_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    waiting: VecDeque<(Box<str>, RawJson)>,
    bytes: usize,
    dropped: u64,
}

impl Uploads {
    /// A message that was published.
    pub(crate) fn offer(&mut self, topic: &str, payload: &[u8]) {
        // The wire has text there; the original, too, puts a mark in the place of what is none.
        let content = RawJson::string(&String::from_utf8_lossy(payload));
        self.bytes += content.get().len();
        self.waiting.push_back((topic.into(), content));
        while self.waiting.len() > MAX || self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.waiting.pop_front() else { return };
            self.bytes -= oldest.get().len();
            self.dropped += 1;
        }
    }

    /// The next to send.
    pub(crate) fn next(&mut self) -> Option<(MessageId, Upstream)> {
        let (resource, content) = self.waiting.pop_front()?;
        self.bytes -= content.get().len();
        let upload = Upstream::Upload {
            source: Bus::EventBus,
            resource,
            failed: false,
            parent: None,
            content,
        };
        Some((MessageId::random(), upload))
    }

    /// Whether any waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many have been dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let mut uploads = Uploads::default();
        for n in 0..MAX + 2 {
            uploads.offer("a/user/b", n.to_string().as_bytes());
        }
        assert_eq!(uploads.dropped(), 2);
        let (_, first) = uploads.next().unwrap();
        let Upstream::Upload { resource, content, .. } = first else { panic!("{first:?}") };
        assert_eq!((&*resource, &*content.text()), ("a/user/b", "2"));
        let mib = vec![b'x'; 1 << 20];
        for _ in 0..10 {
            uploads.offer("t", &mib);
        }
        assert!(uploads.bytes <= MAX_BYTES);
        while uploads.next().is_some() {}
        assert_eq!((uploads.bytes, uploads.is_empty()), (0, true));
    }
}
