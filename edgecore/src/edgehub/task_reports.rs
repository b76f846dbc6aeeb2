//! What the cloud must be told of node jobs. Pure.
//!
//! Owns: reports until they are written to the socket, and a little longer.
//! Called by: `outbox.rs`.
//! Never: reorders them, or lets one go while there is no link.
//!
//! The cloud confirms no report. What was written just before a cut may be lost in it, so it is sent
//! once more on the next link; a report that comes twice does no harm.

use std::collections::VecDeque;
use std::time::Duration;

use api::names::MessageId;
use api::wire::upstream::Upstream;
use tokio::sync::watch;
use tokio::time::Instant;

/// Reports that wait at most. A job has five steps, and a node one job at a time.
const MAX: usize = 64;
/// What was written so shortly before a cut may not have arrived.
const IN_DOUBT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct TaskReports {
    offered: u64,
    waiting: VecDeque<(u64, Upstream)>,
    written: VecDeque<(Instant, u64, Upstream)>,
    /// The number of the newest report that was written.
    sent: watch::Sender<u64>,
}

impl Default for TaskReports {
    fn default() -> Self {
        Self {
            offered: 0,
            waiting: VecDeque::new(),
            written: VecDeque::new(),
            sent: watch::channel(0).0,
        }
    }
}

impl TaskReports {
    /// A report, and its number. The oldest goes when too many wait.
    pub(crate) fn offer(&mut self, report: Upstream) -> u64 {
        self.offered += 1;
        self.waiting.push_back((self.offered, report));
        if self.waiting.len() > MAX {
            self.waiting.pop_front();
        }
        self.offered
    }

    /// The next to send.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(MessageId, Upstream)> {
        while self.written.front().is_some_and(|(at, ..)| now >= *at + IN_DOUBT) {
            self.written.pop_front();
        }
        let (number, report) = self.waiting.pop_front()?;
        self.written.push_back((now, number, report.clone()));
        self.sent.send_replace(number);
        Some((MessageId::random(), report))
    }

    /// The link is cut.
    pub(crate) fn link_cut(&mut self, now: Instant) {
        while let Some((at, number, report)) = self.written.pop_back() {
            if now < at + IN_DOUBT {
                self.waiting.push_front((number, report));
            }
        }
    }

    /// Whether any waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Follows the numbers of what was written.
    pub(crate) fn sent(&self) -> watch::Receiver<u64> {
        self.sent.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use api::raw::RawJson;

    use super::*;

    fn report(n: u32) -> Upstream {
        Upstream::TaskStatus {
            resource: format!("task/{n}/node/edge-1").into(),
            operation: "UpdateNodeActionStatus".into(),
            content: RawJson::null(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_just_before_a_cut_is_written_again_in_order() {
        let mut reports = TaskReports::default();
        let sent = reports.sent();
        for n in 1..=3 {
            assert_eq!(reports.offer(report(n)), u64::from(n));
        }
        let start = Instant::now();
        let took = |reports: &mut TaskReports, at| reports.next(at).map(|(_, up)| up);
        assert_eq!(took(&mut reports, start), Some(report(1)));
        assert_eq!(took(&mut reports, start + IN_DOUBT), Some(report(2)));
        assert_eq!(*sent.borrow(), 2);
        reports.link_cut(start + IN_DOUBT + Duration::from_secs(1));
        for n in 2..=3 {
            assert_eq!(took(&mut reports, start + 2 * IN_DOUBT), Some(report(n)));
        }
        assert!(reports.is_empty());
    }

    #[test]
    fn there_are_never_too_many() {
        let mut reports = TaskReports::default();
        for n in 0..1000 {
            reports.offer(report(n));
        }
        assert_eq!(reports.waiting.len(), MAX);
    }
}
