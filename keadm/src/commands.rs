//! One file per command: its arguments, its help text and one function.

#[cfg(feature = "cloud")]
pub mod admission;
#[cfg(any(feature = "cloud", feature = "edge"))]
pub mod backup;
pub mod check;
#[cfg(feature = "cloud")]
pub mod cloudcore;
pub mod completion;
pub mod config;
pub mod confirm;
#[cfg(feature = "cloud")]
pub mod control_plane;
#[cfg(feature = "edge")]
pub mod copy_program;
#[cfg(feature = "edge")]
pub mod ctl;
#[cfg(feature = "dashboard")]
pub mod dashboard;
#[cfg(feature = "edge")]
pub mod debug;
pub mod describe;
#[cfg(feature = "cloud")]
pub mod device;
#[cfg(feature = "edge")]
pub mod edgecore;
pub mod events;
pub mod get;
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
pub mod node;
pub mod pod;
pub mod reset;
#[cfg(feature = "edge")]
pub mod rollback;
pub mod status;
pub mod supervise;
pub mod top;
#[cfg(feature = "cloud")]
pub mod up;
#[cfg(feature = "edge")]
pub mod upgrade;
pub mod version;

#[cfg(all(test, feature = "cloud", feature = "edge", feature = "dashboard"))]
mod tests;

use crate::cli::Command;
use crate::context::Context;
use crate::errors::CommandError;

/// The file name of cloudcore's status stream, in the folder for sockets or that of `keadm up`.
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
        Command::Get(args) => get::get(args, cx),
        #[cfg(feature = "edge")]
        Command::Ctl(args) => ctl::ctl(args, cx),
        #[cfg(feature = "edge")]
        Command::Debug(args) => debug::debug(args, cx),
        Command::Describe(args) => describe::describe(args, cx),
        Command::Status(args) => status::status(args, cx),
        Command::Top(args) => top::top(args, cx),
        Command::Events(args) => events::events(args, cx),
        Command::Cordon(args) => node::cordon(args, cx),
        Command::Uncordon(args) => node::uncordon(args, cx),
        Command::Drain(args) => node::drain(args, cx),
        Command::Confirm(args) => confirm::confirm(args, cx),
        Command::Delete(args) => pod::delete(args, cx),
        Command::Restart(args) => pod::restart(args, cx),
        #[cfg(feature = "cloud")]
        Command::GetToken(args) => gettoken::gettoken(args, cx),
        Command::Check(args) => check::check(args, cx),
        Command::Reset(args) => reset::reset(args, cx),
        #[cfg(any(feature = "cloud", feature = "edge"))]
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
        #[cfg(feature = "edge")]
        Command::Upgrade(args) => upgrade::upgrade(args, cx),
        #[cfg(feature = "edge")]
        Command::Rollback(args) => rollback::rollback(args, cx),
        #[cfg(feature = "edge")]
        Command::CopyProgram(args) => copy_program::copy_program(args, cx),
        Command::Supervise(args) => supervise::supervise(args, cx),
    }
}

/// A duration on the command line: `500ms`, `5s`, `2m`, `1h`; a number alone is seconds.
///
/// # Errors
/// When it is none, or longer than a day.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is no duration; write `5s`, `2m` or `1h`");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let millis = match &text[digits..] {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(wrong()),
    };
    match millis {
        Some(millis @ 1..=86_400_000) => Ok(std::time::Duration::from_millis(millis)),
        _ => Err(format!("`{text}` is not between 1 ms and a day")),
    }
}

/// The one of `all` that was probably meant.
pub(crate) fn nearest<'a>(given: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = all.into_iter().map(|name| {
        // Two letters of a short word that have changed places are half of it.
        let slip = given.len() > 1 && strsim::osa_distance(name, given) == 1;
        let score = strsim::jaro_winkler(name, given);
        (if slip { score.max(0.9) } else { score }, name)
    });
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(score, _)| *score > 0.8).map(|(_, name)| name)
}

/// `--namespace`
#[derive(clap::Args, Debug, Clone)]
pub struct NamespaceArg {
    /// The namespace
    #[arg(
        short,
        long,
        value_name = "NAME",
        default_value = "default",
        env = "KEADM_NAMESPACE",
        hide_env_values = true,
        add = completions::ArgValueCompleter::new(crate::complete::namespaces)
    )]
    pub namespace: String,
}

/// `--request-timeout`
#[derive(clap::Args, Debug, Clone, Copy)]
pub struct RequestTimeoutArg {
    /// The longest wait for an answer, for example `5s`, `2m`
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "15s",
        value_parser = duration,
        env = "KEADM_REQUEST_TIMEOUT",
        hide_env_values = true
    )]
    pub request_timeout: std::time::Duration,
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
pub(crate) fn log_to_stderr(
    cx: &Context,
    filter: &str,
) -> Result<service::telemetry::LogLevel, CommandError> {
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

/// Runs a program in the foreground until SIGINT, SIGTERM or SIGHUP; a second signal does not wait for what
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
        let readiness = svc.readiness().clone();
        tokio::select! {
            result = service::pages::give_back_during(run(svc), readiness.ready()) => result,
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
