//! A module that ends or panics is an event, never the end of the process by itself.

use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::admin::Metrics;
use crate::backoff::Backoff;
use crate::readiness::Readiness;

/// Any error of a module.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What to do when a module ends although nobody asked it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The others cannot do without it.
    StopAll,
    /// The others go on.
    LetGo,
}

/// Why a process stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// A module returned an error.
    #[error("`{module}` failed")]
    Failed {
        /// Its name.
        module: String,
        /// Its error.
        #[source]
        source: BoxError,
    },
    /// A module returned although nothing asked it to stop.
    #[error("`{module}` ended although nothing asked it to")]
    Ended {
        /// Its name.
        module: String,
    },
    /// A module panicked.
    #[error("`{module}` panicked: {message}")]
    Panicked {
        /// Its name.
        module: String,
        /// The panic's message.
        message: String,
    },
    /// Modules did not end in time after being asked to.
    #[error("these did not stop within {} s: {}", .limit.as_secs_f32(), .modules.join(", "))]
    Stuck {
        /// Their names.
        modules: Vec<String>,
        /// The time they had.
        limit: Duration,
    },
}

/// A process, or a part of one that starts and stops as a whole.
///
/// Modules get a [`CancellationToken`] from [`Service::stopping`] and return when it is cancelled.
pub struct Service {
    name: String,
    stopping: CancellationToken,
    readiness: Readiness,
    metrics: Metrics,
    drain: Duration,
    tasks: JoinSet<(String, Policy, Result<(), BoxError>)>,
    names: Vec<(AbortHandle, String, Policy)>,
}

impl Service {
    /// A service with no modules. `name` appears in logs and errors.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            stopping: CancellationToken::new(),
            readiness: Readiness::default(),
            metrics: Metrics::default(),
            drain: Duration::from_secs(20),
            tasks: JoinSet::new(),
            names: Vec::new(),
        }
    }

    /// How long modules may take to end; 20 s unless said otherwise.
    #[must_use]
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Stops when `parent` does, too.
    #[must_use]
    pub fn stopped_by(mut self, parent: &CancellationToken) -> Self {
        self.stopping = parent.child_token();
        self
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cancelled when the service is to stop; whoever holds it may cancel it.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Where parts say that they are up.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The metrics that the admin port shows.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Runs a module until it returns.
    pub fn spawn<F>(&mut self, name: &str, policy: Policy, module: F)
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let label = name.to_owned();
        let handle = self.tasks.spawn(async move { (label, policy, module.await) });
        self.names.push((handle, name.to_owned(), policy));
    }

    /// Runs a module, and runs it again with a back-off whenever it ends, fails or panics before
    /// the service stops. `make` is called for each run.
    pub fn spawn_restarting<M, F>(&mut self, name: &str, backoff: Backoff, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let stopping = self.stopping();
        let label = name.to_owned();
        self.spawn(name, Policy::LetGo, async move {
            let mut attempt = 0;
            loop {
                let outcome = tokio::spawn(make()).await;
                if stopping.is_cancelled() {
                    return Ok(());
                }
                let why = match outcome {
                    Ok(Ok(())) => "it ended".to_owned(),
                    Ok(Err(e)) => error_chain(e.as_ref()),
                    Err(e) => e.to_string(),
                };
                let delay = backoff.next_delay(attempt);
                attempt += 1;
                tracing::warn!(module = label, why, ?delay, "module stopped; it is started again");
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = stopping.cancelled() => return Ok(()),
                }
            }
        });
    }

    /// Waits until the service is asked to stop and all modules have ended, or until a module that
    /// the others need ends by itself, which stops the others.
    ///
    /// # Errors
    /// The first module that failed, ended or panicked unasked; else the modules that did not end
    /// within the drain limit.
    pub async fn until_stopped(mut self) -> Result<(), Stopped> {
        let mut first = None;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => break,
                ended = self.tasks.join_next_with_id() => match ended {
                    None => break,
                    Some(ended) => {
                        let (stopped, policy) = self.ended(ended);
                        if self.stopping.is_cancelled() { break }
                        tracing::error!(service = self.name, "{}", error_chain(&stopped));
                        if policy == Policy::StopAll {
                            first = Some(stopped);
                            self.stopping.cancel();
                            break;
                        }
                    }
                }
            }
        }
        let limit = self.drain;
        let drained = tokio::time::timeout(limit, async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                let failed = !matches!(ended, Ok((_, (_, _, Ok(())))));
                let (stopped, _) = self.ended(ended);
                if failed {
                    tracing::warn!(service = self.name, "{}", error_chain(&stopped));
                }
            }
        })
        .await;
        if drained.is_err() {
            let modules = self.names.iter().map(|(_, n, _)| n.clone()).collect();
            self.tasks.abort_all();
            first.get_or_insert(Stopped::Stuck { modules, limit });
        }
        first.map_or(Ok(()), Err)
    }

    fn ended(&mut self, ended: Ended) -> (Stopped, Policy) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(e) => e.id(),
        };
        let at = self.names.iter().position(|(h, _, _)| h.id() == id);
        let (name, policy) = at
            .map(|at| self.names.swap_remove(at))
            .map_or((String::from("?"), Policy::LetGo), |(_, n, p)| (n, p));
        let stopped = match ended {
            Ok((_, (module, _, Err(source)))) => Stopped::Failed { module, source },
            Ok((_, (module, _, Ok(())))) => Stopped::Ended { module },
            Err(e) => Stopped::Panicked { module: name, message: panic_message(e) },
        };
        (stopped, policy)
    }
}

type Ended =
    Result<(tokio::task::Id, (String, Policy, Result<(), BoxError>)), tokio::task::JoinError>;

fn panic_message(e: tokio::task::JoinError) -> String {
    match e.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned()),
        Err(e) => e.to_string(),
    }
}

/// An error and its causes on one line.
pub fn error_chain(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_module_that_the_others_need_stops_them_and_is_named() {
        let mut svc = Service::new("test");
        let stop = svc.stopping();
        svc.spawn("patient", Policy::StopAll, async move {
            stop.cancelled().await;
            Ok(())
        });
        svc.spawn("frail", Policy::StopAll, async { Err("disk gone".into()) });
        let err = svc.until_stopped().await.unwrap_err();
        assert_eq!(error_chain(&err), "`frail` failed: disk gone");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let mut svc = Service::new("test");
        svc.spawn("wild", Policy::StopAll, async { panic!("boom") });
        let err = svc.until_stopped().await.unwrap_err();
        assert_eq!(err.to_string(), "`wild` panicked: boom");
    }

    #[tokio::test(start_paused = true)]
    async fn a_module_that_does_not_stop_is_named_after_the_limit() {
        let mut svc = Service::new("test").drain_within(Duration::from_secs(3));
        svc.spawn("deaf", Policy::LetGo, std::future::pending());
        svc.stopping().cancel();
        let err = svc.until_stopped().await.unwrap_err();
        assert_eq!(err.to_string(), "these did not stop within 3 s: deaf");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarting_module_is_made_again() {
        let mut svc = Service::new("test");
        let stop = svc.stopping();
        let mut runs = 0;
        svc.spawn_restarting(
            "flaky",
            Backoff::new(Duration::from_millis(10), Duration::from_secs(1)),
            move || {
                runs += 1;
                let stop = stop.clone();
                async move {
                    assert!(runs > 2, "not yet");
                    stop.cancel();
                    Ok(())
                }
            },
        );
        svc.until_stopped().await.unwrap();
    }
}
