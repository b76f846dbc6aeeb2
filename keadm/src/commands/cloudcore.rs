//! `keadm cloudcore`: what the service file of the cloud side calls.

use camino::Utf8PathBuf;

use super::config::{self, Program};
use crate::context::Context;
use crate::errors::CommandError;

/// Run the cloud half in the foreground
#[derive(clap::Args, Debug)]
#[command(disable_version_flag = true)]
pub struct CloudCoreArgs {
    /// The configuration [default: /etc/kubeedge/config/cloudcore.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// Print the part of the configuration that somebody starting out needs
    #[arg(long)]
    minconfig: bool,
    /// Print the configuration with all its defaults
    #[arg(long, conflicts_with = "minconfig")]
    defaultconfig: bool,
    /// Serve the status stream here, for `keadm dashboard` [default: /run/kubeedge/cloudcore-status.sock]
    #[arg(long, value_name = "SOCKET")]
    status_socket: Option<Utf8PathBuf>,
    /// Serve the admission webhook here, where the API server reaches it, and register it
    #[arg(long, value_name = "HOST:PORT")]
    admission: Option<String>,
    /// Print the version
    #[arg(long)]
    version: bool,
}

/// Runs cloudcore until it is told to stop.
///
/// # Errors
/// When the configuration is wrong, or a part that the others need fails.
pub fn cloudcore(args: &CloudCoreArgs, cx: &Context) -> Result<(), CommandError> {
    if args.version {
        return Ok(cx.printer.data(format!("KubeEdge {}", super::version::KUBEEDGE_VERSION))?);
    }
    if args.minconfig || args.defaultconfig {
        let print = if args.minconfig { config::minimal } else { config::default };
        return Ok(cx.printer.data(print(Program::Cloudcore, &config::facts(cx)).trim_end())?);
    }
    let path = args.config.clone().unwrap_or_else(|| cx.paths.cloudcore_yaml());
    let (config, warnings) = config::read_cloudcore(cx, &path)?;
    let admission = args.admission.as_deref().map(super::admission::inside).transpose()?;
    let level = super::log_to_stderr(cx, "info")?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let socket = args.status_socket.clone();
    let socket = socket.unwrap_or_else(|| cx.paths.run().join(super::STATUS_SOCKET));
    let options = cloudcore::Options {
        log_level: Some(level),
        status_socket: Some(socket.into()),
        admission,
        ..cloudcore::Options::default()
    };
    super::run_service("cloudcore", cx, |svc| async move {
        cloudcore::run(config, options, svc)
            .await
            .map_err(|e| super::service_error("cloudcore", &e))
    })
}
