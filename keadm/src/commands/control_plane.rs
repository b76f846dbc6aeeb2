//! `keadm control-plane`: what the service file of `keadm init --embedded` calls.

use std::net::Ipv4Addr;

use camino::Utf8PathBuf;
use control_plane::ControlPlane;
use service::Service;

use crate::context::Context;
use crate::errors::CommandError;

/// Run the embedded control plane in the foreground
///
/// It is a Kubernetes API server for one machine. `keadm init --embedded` runs it as a service,
/// `keadm up` within its own process.
#[derive(clap::Args, Debug)]
pub struct ControlPlaneArgs {
    /// Where it keeps its data [default: /var/lib/kubeedge/control-plane]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<Utf8PathBuf>,
    /// Where it listens
    #[arg(long, value_name = "PORT", default_value_t = control_plane::PORT)]
    port: u16,
    /// Addresses and names by which it is reached; they go into its certificate
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    advertise_address: Vec<String>,
    /// A file to write the administrator's kubeconfig to
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<Utf8PathBuf>,
}

/// Runs the control plane until it is told to stop.
///
/// # Errors
/// When it cannot start, or a part that the others need fails.
pub fn control_plane(args: &ControlPlaneArgs, cx: &Context) -> Result<(), CommandError> {
    super::log_to_stderr(cx, "info")?;
    let data_dir = args.data_dir.clone().unwrap_or_else(|| cx.paths.lib().join("control-plane"));
    let config = control_plane::Config {
        data_dir: data_dir.into(),
        bind: (Ipv4Addr::UNSPECIFIED, args.port).into(),
        extra_sans: args.advertise_address.clone(),
        limits: control_plane::ClientLimits::default(),
    };
    super::run_service("control-plane", cx, |svc| async move {
        run(config, args.kubeconfig.clone(), cx, svc)
            .await
            .map_err(|e| super::service_error("control-plane", &e))
    })
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Plane(#[from] control_plane::Error),
    #[error("cannot write the kubeconfig `{0}`")]
    Kubeconfig(Utf8PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Stopped(#[from] service::Stopped),
}

async fn run(
    config: control_plane::Config,
    kubeconfig: Option<Utf8PathBuf>,
    cx: &Context,
    mut svc: Service,
) -> Result<(), RunError> {
    let running = ControlPlane::build(config, &svc).await?.spawn(&mut svc);
    if let Some(path) = kubeconfig {
        let copy =
            std::fs::read(running.kubeconfig()).and_then(|text| cx.host.write(&path, &text, 0o600));
        copy.map_err(|e| RunError::Kubeconfig(path, e))?;
    }
    Ok(svc.until_stopped().await?)
}
