//! `keadm edgecore`: what the service file of an edge node calls.

use std::net::SocketAddr;

use camino::Utf8PathBuf;

use super::config::{self, Program};
use crate::containers;
use crate::context::Context;
use crate::errors::CommandError;

/// Run the edge half in the foreground
#[derive(clap::Args, Debug)]
#[command(disable_version_flag = true)]
pub struct EdgeCoreArgs {
    /// The configuration [default: /etc/kubeedge/config/edgecore.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// Where to serve this node's status stream [default: /run/kubeedge/edgecore-status.sock]
    #[arg(long, value_name = "SOCKET")]
    status_socket: Option<Utf8PathBuf>,
    /// Print the part of the configuration that somebody starting out needs
    #[arg(long)]
    minconfig: bool,
    /// Print the configuration with all its defaults
    #[arg(long, conflicts_with = "minconfig")]
    defaultconfig: bool,
    /// Print the version
    #[arg(long)]
    version: bool,
}

/// The installation that node jobs change: only that of a service is started again with what is new.
fn jobs(cx: &Context) -> Option<edgecore::JobPaths> {
    let program = cx.paths.bin().join("keadm");
    let service = crate::node_upgrade::SERVICE;
    let installed = cx.host.exists(&program)
        && cx.host.service_state(service) != crate::host::ServiceState::Absent;
    installed.then(|| edgecore::JobPaths {
        etc: cx.paths.etc().into(),
        program: program.into(),
        arguments: vec![format!("--root={}", cx.paths.root()).into()],
        log: cx.paths.log().join("upgrade.log").into(),
    })
}

/// Runs edgecore until it is told to stop.
///
/// # Errors
/// When the configuration is wrong, or a part that the others need fails.
pub fn edgecore(args: &EdgeCoreArgs, cx: &Context) -> Result<(), CommandError> {
    if args.version {
        return Ok(cx.printer.data(format!("KubeEdge {}", super::version::KUBEEDGE_VERSION))?);
    }
    if args.minconfig || args.defaultconfig {
        let print = if args.minconfig { config::minimal } else { config::default };
        return Ok(cx.printer.data(print(Program::Edgecore, &config::facts(cx)).trim_end())?);
    }
    let path = args.config.clone().unwrap_or_else(|| cx.paths.edgecore_yaml());
    let (config, warnings) = config::read_edgecore(cx, &path)?;
    super::log_to_stderr(cx, "info")?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let socket = match &args.status_socket {
        Some(socket) => socket.clone(),
        None => cx.paths.run().join(crate::fleet::EDGE_SOCKET),
    };
    let mut options = edgecore::Options {
        config_file: Some(path.into()),
        bootstrap_file: cx.paths.at("/etc/kubeedge/bootstrap-edgecore.conf").into(),
        admin: Some(SocketAddr::from(([127, 0, 0, 1], edgecore::ADMIN_PORT))),
        runtime: None,
        status_socket: Some(socket.into()),
        jobs: jobs(cx),
    };
    super::run_service("edgecore", cx, |svc| async move {
        options.runtime = containers::of_program(cx, &config).await?;
        edgecore::run(config, options, svc).await.map_err(|e| super::service_error("edgecore", &e))
    })
}
