//! `keadm dashboard`: finds a status stream, and hands over to `tui`.

use std::io::IsTerminal;

use camino::Utf8PathBuf;
use tui::view::styles::{Look, Theme};

use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::fleet::{self, Endpoint, FleetArgs};

/// Watch the fleet in the terminal: nodes, pods, devices, messages, as they change
///
/// It reads cloudcore's status stream: that of this machine, or of a running `keadm up`, or the one
/// that the cluster of the kubeconfig publishes; with `--local` that of the edge half of this machine,
/// also while the cloud is away. `?` shows the keys.
#[derive(clap::Args, Debug)]
pub struct DashboardArgs {
    /// Write what comes to this file, for `--replay`
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<Utf8PathBuf>,
    /// Play a recording instead
    #[arg(long, value_name = "FILE", conflicts_with = "endpoint")]
    replay: Option<Utf8PathBuf>,
    /// The colours; `NO_COLOR` means `plain`
    #[arg(long, value_enum, value_name = "THEME", env = "KEADM_THEME")]
    theme: Option<ThemeChoice>,
    /// Leave the mouse to the terminal, for selecting text
    #[arg(long)]
    no_mouse: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Which colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ThemeChoice {
    /// For a dark background.
    Dark,
    /// For a light background.
    Light,
    /// Bold, dim and reverse only.
    Plain,
}

/// Shows the dashboard until the user leaves it.
///
/// # Errors
/// When there is no terminal, or nothing to show.
pub fn dashboard(args: &DashboardArgs, cx: &Context) -> Result<(), CommandError> {
    let endpoint = match &args.replay {
        Some(_) => None,
        None => Some(cx.block_on(fleet::endpoint(&args.fleet, cx))?),
    };
    let manner = cx.printer.manner();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || (!manner.colour && std::io::stderr().is_terminal());
    let theme = match args.theme {
        Some(ThemeChoice::Dark) => Theme::Dark,
        Some(ThemeChoice::Light) => Theme::Light,
        Some(ThemeChoice::Plain) => Theme::Plain,
        None if plain => Theme::Plain,
        None => Theme::Dark,
    };
    // The console of Linux itself has few characters beyond ASCII.
    let console = std::env::var("TERM").is_ok_and(|t| t == "linux" || t == "vt100");
    let options = tui::Options {
        look: Look { theme, ascii: manner.ascii || console },
        mouse: !args.no_mouse,
        record: args.record.clone().map(Into::into),
        replay: args.replay.clone().map(Into::into),
        ..tui::Options::default()
    };
    cx.block_on(async move {
        let mut signals = service::shutdown::Signals::install().map_err(|e| {
            CommandError::new(Kind::Failed, "cannot wait for signals").caused_by(&e)
        })?;
        let stop = options.stop.clone();
        let told = tokio::spawn(async move {
            signals.next().await;
            stop.cancel();
        });
        let endpoint = endpoint.map(|endpoint| match endpoint {
            Endpoint::Unix(path) => tui::Endpoint::Unix(path.into()),
            Endpoint::Tls { at, config, token } => tui::Endpoint::Tls {
                host: at.host,
                port: at.port,
                config,
                token: token.map(tui::Token),
            },
        });
        let shown = tui::run(endpoint, options).await;
        told.abort();
        shown.map_err(|e| refused(&e))
    })
}

fn refused(error: &tui::Error) -> CommandError {
    let kind = match error {
        tui::Error::NoTerminal => Kind::Unsupported,
        _ => Kind::Failed,
    };
    CommandError::new(kind, "cannot show the dashboard").caused_by(error)
}
