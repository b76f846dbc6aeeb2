//! `keadm supervise`: what a service is where no service manager is.

use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::host;

/// Run an installed service and start it again whenever it ends
#[derive(clap::Args, Debug)]
pub struct SuperviseArgs {
    /// The name of the service
    name: String,
}

/// Supervises until SIGTERM.
///
/// # Errors
/// When there is no such service.
pub fn supervise(args: &SuperviseArgs, cx: &Context) -> Result<(), CommandError> {
    super::log_to_stderr(cx, "info")?;
    if args.name.is_empty() || !args.name.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
        return Err(CommandError::new(Kind::Usage, format!("`{}` is no service", args.name)));
    }
    let run = host::supervise(&cx.paths, &args.name);
    cx.block_on(service::pages::give_back_during(run, std::future::ready(())))
}
