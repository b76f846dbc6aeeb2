//! `keadm dashboard`: finds a status stream, and hands over to `tui`.

#[cfg(feature = "cloud")]
mod kubernetes;

use std::io::IsTerminal;

use camino::{Utf8Path, Utf8PathBuf};
use tui::view::styles::{Look, Theme};

use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::fleet::{self, Endpoint, FleetArgs};

/// Watch the fleet in the terminal: nodes, pods, devices, messages, as they change
///
/// It reads cloudcore's status stream: that of this machine, or of a running `keadm up`, or the one
/// that the cluster of the kubeconfig publishes; with `--local` that of the edge half of this machine,
/// also while the cloud is away. Where no stream answers it watches the Kubernetes API, which knows no
/// links and no messages, and says so. `?` shows the keys.
#[derive(clap::Args, Debug)]
pub struct DashboardArgs {
    /// Write what comes to this file, for `--replay`
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<Utf8PathBuf>,
    /// Play a recording instead
    #[arg(long, value_name = "FILE")]
    replay: Option<Utf8PathBuf>,
    /// Write the last screen of the recording to this file, as a picture, and show nothing
    #[arg(long, value_name = "FILE", requires = "replay")]
    svg: Option<Utf8PathBuf>,
    /// Keys to press before the picture is taken, for example `:nodes<Enter>`
    #[arg(long, value_name = "KEYS", requires = "svg", default_value = "")]
    keys: String,
    /// Columns and lines of the picture
    #[arg(
        long,
        value_name = "COLUMNSxLINES",
        requires = "svg",
        default_value = "100x30",
        value_parser = size
    )]
    size: (u16, u16),
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

/// Columns and lines; what is larger than any screen is refused.
fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parsed {
        Some((w @ 40..=400, h @ 10..=200)) => Ok((w, h)),
        _ => Err("write columns and lines as `100x30`; 40x10 to 400x200".to_owned()),
    }
}

/// Shows the dashboard until the user leaves it.
///
/// # Errors
/// When there is no terminal, or nothing to show.
pub fn dashboard(args: &DashboardArgs, cx: &Context) -> Result<(), CommandError> {
    if let (Some(recording), Some(svg)) = (&args.replay, &args.svg) {
        return picture(args, recording, svg, cx);
    }
    let options = tui::Options {
        look: look(cx, args.theme),
        mouse: !args.no_mouse,
        record: args.record.clone().map(Into::into),
        ..tui::Options::default()
    };
    cx.block_on(async move {
        let source = match &args.replay {
            Some(recording) => tui::Source::Recording(recording.into()),
            None => source(args, cx).await?,
        };
        let mut signals = service::shutdown::Signals::install().map_err(|e| {
            CommandError::new(Kind::Failed, "cannot wait for signals").caused_by(&e)
        })?;
        let stop = options.stop.clone();
        let told = tokio::spawn(async move {
            signals.next().await;
            stop.cancel();
        });
        let shown = tui::run(source, options).await;
        told.abort();
        shown.map_err(|e| refused(&e))
    })
}

/// The dashboard of a socket of this machine, as `keadm up` opens it. Ends with `stop`.
///
/// # Errors
/// When the terminal fails.
#[cfg(feature = "cloud")]
pub(super) async fn of_socket(
    path: Utf8PathBuf,
    stop: tokio_util::sync::CancellationToken,
    cx: &Context,
) -> Result<(), CommandError> {
    let options =
        tui::Options { look: look(cx, None), mouse: true, stop, ..tui::Options::default() };
    let source = tui::Source::Stream(tui::Endpoint::Unix(path.into()));
    tui::run(source, options).await.map_err(|e| refused(&e))
}

/// Colours and signs, as the flags and the terminal want them.
fn look(cx: &Context, theme: Option<ThemeChoice>) -> Look {
    let manner = cx.printer.manner();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || (!manner.colour && std::io::stderr().is_terminal());
    let theme = match theme {
        Some(ThemeChoice::Dark) => Theme::Dark,
        Some(ThemeChoice::Light) => Theme::Light,
        Some(ThemeChoice::Plain) => Theme::Plain,
        None if plain => Theme::Plain,
        None => Theme::Dark,
    };
    // The console of Linux itself has few characters beyond ASCII.
    let console = std::env::var("TERM").is_ok_and(|t| t == "linux" || t == "vt100");
    Look { theme, ascii: manner.ascii || console }
}

/// Who answers: a stream, or the Kubernetes API. A stream that does not answer now is waited for, if
/// there is nothing else.
async fn source(args: &DashboardArgs, cx: &Context) -> Result<tui::Source, CommandError> {
    #[cfg(feature = "cloud")]
    if let Some((cloud, why)) = fleet::without_stream(&args.fleet, cx).await {
        let first = kubernetes::First::Cluster(why);
        let feed = kubernetes::feed(cloud, first, args.fleet.clone(), cx.clone());
        return Ok(tui::Source::Feed(feed));
    }
    let endpoint = fleet::endpoint(&args.fleet, cx).await?;
    // One that a cluster publishes has the cluster to fall back to.
    #[cfg(feature = "cloud")]
    if matches!(endpoint, Endpoint::Tls { .. })
        && args.fleet.endpoint.is_none()
        && let Ok(cloud) = args.fleet.kube.client_with(cx, None).await
    {
        let first = kubernetes::First::Stream(shown(endpoint));
        let feed = kubernetes::feed(cloud, first, args.fleet.clone(), cx.clone());
        return Ok(tui::Source::Feed(feed));
    }
    Ok(tui::Source::Stream(shown(endpoint)))
}

/// The same endpoint, for the dashboard's own connection.
fn shown(endpoint: Endpoint) -> tui::Endpoint {
    match endpoint {
        Endpoint::Unix(path) => tui::Endpoint::Unix(path.into()),
        Endpoint::Tls { at, config, token } => tui::Endpoint::Tls {
            host: at.host,
            port: at.port,
            config,
            token: token.map(tui::Token),
        },
    }
}

fn picture(
    args: &DashboardArgs,
    recording: &Utf8Path,
    svg: &Utf8Path,
    cx: &Context,
) -> Result<(), CommandError> {
    // The colours are those that were asked for: a file is no terminal.
    let theme = Some(args.theme.unwrap_or(ThemeChoice::Dark));
    let picture =
        tui::picture::Picture { look: look(cx, theme), size: args.size, keys: args.keys.clone() };
    let text = tui::picture::of(recording.as_std_path(), &picture)
        .map_err(|e| CommandError::new(Kind::Failed, "cannot make the picture").caused_by(&e))?;
    cx.host.write(svg, text.as_bytes(), 0o644).map_err(|e| file_error("write", svg, &e))
}

fn refused(error: &tui::Error) -> CommandError {
    let kind = match error {
        tui::Error::NoTerminal => Kind::Unsupported,
        _ => Kind::Failed,
    };
    CommandError::new(kind, "cannot show the dashboard").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_as_large_as_a_screen() {
        assert_eq!(size("120x40"), Ok((120, 40)));
        for wrong in ["", "120", "39x10", "40x9", "9999x9999", "-1x5"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
