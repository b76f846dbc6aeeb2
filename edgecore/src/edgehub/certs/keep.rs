//! Gets the certificate before the first dial and renews it in time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use service::CancellationToken;
use service::backoff::Backoff;
use tokio::sync::Notify;

use super::{CertError, CertSettings, CertState, files};

/// Between two tries to get or renew a certificate.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(32));
/// The wall clock may jump, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(3600);
/// An expired node looks for a new token this often.
const LOOK_FOR_TOKEN: Duration = Duration::from_secs(15);

/// The task that has a certificate ready.
pub(crate) struct Keeper {
    pub(crate) settings: CertSettings,
    /// `rotateCertificates`
    pub(crate) rotate: bool,
    /// The configuration file, from which a used token is removed.
    pub(crate) config_file: Option<PathBuf>,
    /// Told when the files hold another certificate.
    pub(crate) renewed: Arc<Notify>,
}

impl Keeper {
    /// Returns when there is a certificate to dial with.
    ///
    /// A cloud that cannot be reached is tried again. A certificate that has expired does not stop
    /// the node: its pods run on while a token is waited for.
    ///
    /// # Errors
    /// When there has never been a certificate and none can be had without somebody's help.
    pub(crate) async fn obtain(&self, stopping: &CancellationToken) -> Result<(), CertError> {
        let mut tries = 0;
        loop {
            let state = self.settings.state(Timestamp::now())?;
            let wait = match &state {
                CertState::Usable { .. } => return Ok(()),
                CertState::Missing { why } => {
                    tracing::info!(why, "this node gets a certificate");
                    match self.with_token().await {
                        Ok(()) => return Ok(()),
                        Err(e) if !e.may_pass() => return Err(e),
                        Err(e) => said(&e, AGAIN.next_delay(tries)),
                    }
                }
                CertState::Expired { not_after } => match self.with_token().await {
                    Ok(()) => return Ok(()),
                    Err(CertError::NoToken { .. }) => {
                        said(&self.expired(*not_after), LOOK_FOR_TOKEN)
                    }
                    Err(e) if !e.may_pass() => said(&e, LOOK_FOR_TOKEN),
                    Err(e) => said(&e, AGAIN.next_delay(tries)),
                },
            };
            tries += 1;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => return Ok(()),
            }
        }
    }

    /// Renews the certificate in its last third, or with a token when it has expired; for ever.
    pub(crate) async fn keep(&self, stopping: &CancellationToken) {
        let mut point = rand::random::<f64>();
        let mut tries = 0;
        loop {
            let now = Timestamp::now();
            let outcome = match self.settings.state(now) {
                Ok(CertState::Usable { not_before, not_after }) => {
                    let due = due(not_before, not_after, point);
                    if !self.rotate || now < due {
                        let left = Duration::try_from(due.duration_since(now)).unwrap_or(LOOK);
                        self.pause(left.min(LOOK), stopping).await;
                        if stopping.is_cancelled() {
                            return;
                        }
                        continue;
                    }
                    self.settings.rotate().await
                }
                Ok(CertState::Expired { .. } | CertState::Missing { .. }) => {
                    self.with_token().await
                }
                Err(e) => Err(e),
            };
            let wait = match outcome {
                Ok(()) => {
                    tracing::info!("this node has a new certificate");
                    self.renewed.notify_one();
                    (point, tries) = (rand::random(), 0);
                    Duration::ZERO
                }
                Err(e) => {
                    tries += 1;
                    said(&e, AGAIN.next_delay(tries))
                }
            };
            self.pause(wait, stopping).await;
            if stopping.is_cancelled() {
                return;
            }
        }
    }

    async fn pause(&self, wait: Duration, stopping: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopping.cancelled() => {}
        }
    }

    async fn with_token(&self) -> Result<(), CertError> {
        let Some(token) = self.settings.current_token()? else {
            return Err(CertError::NoToken { cert_file: self.settings.cert_file.clone() });
        };
        self.settings.bootstrap(&token).await?;
        if let Some(config) = &self.config_file
            && let Err(e) = files::blank_token(config, token.jwt())
        {
            tracing::warn!(
                error = service::error_chain(&e),
                "the used token is still in the configuration file; remove it by hand"
            );
        }
        Ok(())
    }

    fn expired(&self, at: Timestamp) -> CertError {
        CertError::Expired { at, bootstrap_file: self.settings.bootstrap_file.clone() }
    }
}

fn said(e: &CertError, wait: Duration) -> Duration {
    tracing::error!(error = service::error_chain(e), again_in = ?wait, "no certificate");
    wait
}

/// Between 70 and 90 hundredths of the certificate's life; `point` in 0..1 chooses where.
pub(super) fn due(not_before: Timestamp, not_after: Timestamp, point: f64) -> Timestamp {
    let life = not_after.duration_since(not_before);
    let at = life.as_secs_f64() * (0.7 + 0.2 * point.clamp(0.0, 1.0));
    let at = SignedDuration::try_from_secs_f64(at).unwrap_or(life);
    not_before.checked_add(at).unwrap_or(not_after)
}
