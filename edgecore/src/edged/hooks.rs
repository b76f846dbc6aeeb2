//! postStart and preStop.
//!
//! Owns: nothing. Called by: `worker.rs`, around the start and the end of a container.
//! Never: outlives the grace period.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::action::{self, Target};

/// Runs a hook; the error is what went wrong.
pub(crate) async fn run(
    hook: &LifecycleHandler,
    target: &Target<'_>,
    limit: Duration,
) -> Result<(), String> {
    let action = async {
        if let Some(exec) = &hook.exec {
            let command = exec.command.as_deref().unwrap_or_default();
            return action::exec(target, command, limit).await;
        }
        if let Some(get) = &hook.http_get {
            return action::http_get(get, target).await;
        }
        if let Some(sleep) = &hook.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            return Ok(());
        }
        match &hook.tcp_socket {
            Some(tcp) => action::tcp(tcp, target).await,
            None => Ok(()),
        }
    };
    match tokio::time::timeout(limit, action).await {
        Ok(result) => result,
        Err(_) => Err(format!("it took longer than {} s", limit.as_secs())),
    }
}
