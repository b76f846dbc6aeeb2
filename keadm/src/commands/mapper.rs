//! `keadm mapper --simulate`: the sample mapper, as a program of its own.

use camino::Utf8PathBuf;

use crate::context::Context;
use crate::errors::CommandError;

/// Run a sample mapper, which plays devices for the edge node on this machine
///
/// It registers at edgecore as every mapper does and gets the Devices of its protocol. What a
/// property does is its visitor's setting `simulate`: `temperature`, `counter` or `obey`.
#[derive(clap::Args, Debug)]
pub struct MapperArgs {
    /// Play virtual devices
    #[arg(long, required = true)]
    simulate: bool,
    /// edgecore's socket for mappers
    #[arg(long, value_name = "FILE", default_value = "/etc/kubeedge/dmi.sock")]
    dmi_socket: Utf8PathBuf,
    /// The mapper's own socket [default: NAME.sock beside edgecore's]
    #[arg(long, value_name = "FILE")]
    socket: Option<Utf8PathBuf>,
    /// The mapper's name
    #[arg(long, value_name = "NAME", default_value = "simulator")]
    name: String,
    /// The protocol of its devices
    #[arg(long, value_name = "PROTOCOL", default_value = "simulated")]
    protocol: String,
}

/// Runs the mapper until it is told to stop.
///
/// # Errors
/// When its socket cannot be opened, or edgecore refuses it.
pub fn mapper(args: &MapperArgs, cx: &Context) -> Result<(), CommandError> {
    super::log_to_stderr(cx, "info")?;
    let beside = || args.dmi_socket.with_file_name(format!("{}.sock", args.name));
    let options = edgecore::mapper::Options {
        edgecore: args.dmi_socket.clone().into(),
        socket: args.socket.clone().unwrap_or_else(beside).into(),
        name: args.name.clone(),
        protocol: args.protocol.clone(),
    };
    super::run_service("mapper", cx, |svc| async move {
        let run = edgecore::mapper::run(options, svc.stopping());
        run.await.map_err(|e| super::service_error("mapper", &e))
    })
}
