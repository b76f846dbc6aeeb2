//! Runs a control plane alone: `cargo run -p control-plane --example serve -- DIR [PORT]`.
//! Its kubeconfig is `DIR/admin.conf`.

use control_plane::{Config, run};
use service::Service;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: serve DIR [PORT]")?;
    let mut config = Config::new(dir.into());
    if let Some(port) = args.next() {
        config.bind.set_port(port.parse()?);
    }
    let svc = Service::new("control-plane");
    let stop = svc.stopping();
    tokio::spawn(service::shutdown::Signals::install()?.stop_then_abort(stop));
    Ok(run(config, svc).await?)
}
