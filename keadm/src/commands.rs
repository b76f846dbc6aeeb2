//! One file per command: its arguments, its help text and one function.

#[cfg(feature = "cloud")]
pub mod admission;
#[cfg(feature = "cloud")]
pub mod backup;
pub mod check;
#[cfg(feature = "cloud")]
pub mod cloudcore;
pub mod completion;
pub mod config;
#[cfg(feature = "cloud")]
pub mod control_plane;
#[cfg(feature = "dashboard")]
pub mod dashboard;
#[cfg(feature = "cloud")]
pub mod device;
#[cfg(feature = "edge")]
pub mod edgecore;
#[cfg(feature = "cloud")]
pub mod gettoken;
pub mod help;
#[cfg(feature = "cloud")]
pub mod init;
#[cfg(feature = "edge")]
pub mod join;
#[cfg(feature = "cloud")]
pub mod manifest;
#[cfg(feature = "edge")]
pub mod mapper;
pub mod reset;
pub mod supervise;
#[cfg(feature = "cloud")]
pub mod up;
pub mod version;

#[cfg(all(test, feature = "cloud", feature = "edge", feature = "dashboard"))]
mod tests;

use crate::cli::Command;
use crate::context::Context;
use crate::errors::CommandError;

/// The file name of cloudcore's status stream, in the folder for sockets or that of `keadm up`.
#[cfg(any(feature = "cloud", feature = "dashboard"))]
pub const STATUS_SOCKET: &str = "cloudcore-status.sock";

/// Runs a command.
///
/// # Errors
/// What the command returns.
pub fn run(command: &Command, cx: &Context) -> Result<(), CommandError> {
    match command {
        #[cfg(feature = "cloud")]
        Command::Up(args) => up::up(args, cx),
        #[cfg(feature = "cloud")]
        Command::Init(args) => init::init(args, cx),
        #[cfg(feature = "edge")]
        Command::Join(args) => join::join(args, cx),
        #[cfg(feature = "cloud")]
        Command::GetToken(args) => gettoken::gettoken(args, cx),
        Command::Check(args) => check::check(args, cx),
        Command::Reset(args) => reset::reset(args, cx),
        #[cfg(feature = "cloud")]
        Command::Backup(args) => backup::backup(args, cx),
        #[cfg(feature = "cloud")]
        Command::Restore(args) => backup::restore(args, cx),
        #[cfg(feature = "cloud")]
        Command::Manifest(args) => manifest::manifest(args, cx),
        Command::Config(args) => config::config(args, cx),
        #[cfg(feature = "dashboard")]
        Command::Dashboard(args) => dashboard::dashboard(args, cx),
        #[cfg(feature = "cloud")]
        Command::Device(args) => device::device(args, cx),
        #[cfg(feature = "cloud")]
        Command::Admission(args) => admission::admission(args, cx),
        #[cfg(feature = "cloud")]
        Command::CloudCore(args) => cloudcore::cloudcore(args, cx),
        #[cfg(feature = "edge")]
        Command::EdgeCore(args) => edgecore::edgecore(args, cx),
        #[cfg(feature = "edge")]
        Command::Mapper(args) => mapper::mapper(args, cx),
        #[cfg(feature = "cloud")]
        Command::ControlPlane(args) => control_plane::control_plane(args, cx),
        Command::Version(args) => version::version(args, cx),
        Command::Completion(args) => completion::completion(args, cx),
        Command::Help(args) => help::help(args, cx),
        Command::Supervise(args) => supervise::supervise(args, cx),
    }
}

/// `-o json`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum JsonOutput {
    /// A documented shape that scripts can rely on.
    Json,
}

/// Sets up logging to standard error for a program that runs in the foreground.
///
/// # Errors
/// When logging cannot be set up.
fn log_to_stderr(cx: &Context, filter: &str) -> Result<service::telemetry::LogLevel, CommandError> {
    log_to(cx, filter, service::telemetry::Output::Stderr)
}

fn log_to(
    cx: &Context,
    filter: &str,
    output: service::telemetry::Output,
) -> Result<service::telemetry::LogLevel, CommandError> {
    use service::telemetry::{Format, Options, install};
    let format = if cx.logging.json { Format::Json } else { Format::Text };
    let colour = cx.printer.manner().colour;
    install(&Options { format, output, filter: cx.logging.filter(filter), colour }).map_err(|e| {
        CommandError::new(crate::errors::Kind::Failed, "cannot set up logging").caused_by(&e)
    })
}

/// Runs a program in the foreground until SIGINT or SIGTERM; a second signal does not wait for what
/// is still under way.
///
/// # Errors
/// Why the program cannot start, or which part of it failed.
#[cfg(any(feature = "cloud", feature = "edge"))]
fn run_service<F>(
    name: &str,
    cx: &Context,
    run: impl FnOnce(service::Service) -> F,
) -> Result<(), CommandError>
where
    F: std::future::Future<Output = Result<(), CommandError>>,
{
    use crate::errors::Kind;
    cx.block_on(async {
        let signals = service::shutdown::Signals::install().map_err(|e| {
            CommandError::new(Kind::Failed, "cannot wait for signals").caused_by(&e)
        })?;
        let svc = service::Service::new(name);
        let stopping = svc.stopping();
        tokio::select! {
            result = run(svc) => result,
            () = signals.stop_then_abort(stopping) => Err(CommandError::new(
                Kind::Interrupted,
                format!("`{name}` was told twice to stop, and has not finished what it was doing"),
            )),
        }
    })
}

/// Why a program ended, with the exit code that its innermost cause deserves.
#[cfg(any(feature = "cloud", feature = "edge"))]
fn service_error(name: &str, e: &(dyn std::error::Error + 'static)) -> CommandError {
    use crate::errors::{Kind, kind_of};
    let mut kind = Kind::Failed;
    let mut at = Some(e);
    while let Some(cause) = at {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            kind = kind_of(io);
        }
        at = cause.source();
    }
    let error = CommandError::new(kind, format!("`{name}` cannot go on")).caused_by(e);
    match kind {
        Kind::Conflict => error.hint("`ss -ltnp` as root shows which process holds which port"),
        Kind::Refused => error.hint("run it as root"),
        _ => error,
    }
}
