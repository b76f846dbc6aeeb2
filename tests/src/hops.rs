//! Counts the hops of a message: the `hop` lines that both halves log where a message moves on to
//! another task.
//!
//! Owns: what was logged since the capture began.
//! Called by: the tests of paths. Never: sees another test's lines; it captures one thread, so the
//! test runs everything on one.

use std::cell::RefCell;
use std::sync::{Arc, Once};

use parking_lot::Mutex;
use service::telemetry::HOP;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};

thread_local! {
    static HERE: RefCell<Option<Hops>> = const { RefCell::new(None) };
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hop {
    /// What the message is about: an object, or its id.
    pub msg: String,
    /// The station that it has reached.
    pub at: String,
}

/// The hops on one thread; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Hops(Arc<Mutex<Vec<Hop>>>);

/// Ends the capture when it is dropped.
#[derive(Debug)]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// Gives each line to whoever captures on its thread. Installed for the whole process: a subscriber
/// of one thread is not told of lines that another thread was the first to pass.
struct ByThread;

impl Hops {
    /// Captures what this thread logs while the guard lives.
    ///
    /// # Panics
    /// When somebody else subscribes to the logs of the whole process.
    pub fn capture() -> (Self, Guard) {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            let only = Targets::new().with_target(HOP, LevelFilter::TRACE);
            let subscriber = tracing_subscriber::registry().with(ByThread.with_filter(only));
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        let hops = Self::default();
        HERE.set(Some(hops.clone()));
        (hops, Guard(()))
    }

    /// Forgets what was captured.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// The stations of messages about `msg`, each once, in the order in which they were reached.
    pub fn stations(&self, msg: &str) -> Vec<String> {
        let mut stations: Vec<String> = Vec::new();
        for hop in self.0.lock().iter().filter(|h| h.msg == msg) {
            if !stations.contains(&hop.at) {
                stations.push(hop.at.clone());
            }
        }
        stations
    }

    /// How often a message about `msg` has reached a station.
    pub fn count(&self, msg: &str, at: &str) -> usize {
        self.0.lock().iter().filter(|h| h.msg == msg && h.at == at).count()
    }

    /// Everything that was sent down since the capture began: what the messages were about.
    pub fn sent_down(&self) -> Vec<String> {
        let hops = self.0.lock();
        hops.iter().filter(|h| h.at == "cloudhub.socket").map(|h| h.msg.clone()).collect()
    }
}

impl Visit for Hop {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "msg" => value.clone_into(&mut self.msg),
            "at" => value.clone_into(&mut self.at),
            _ => {}
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for ByThread {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        HERE.with_borrow(|here| {
            if let Some(hops) = here {
                let mut hop = Hop::default();
                event.record(&mut hop);
                hops.0.lock().push(hop);
            }
        });
    }
}
