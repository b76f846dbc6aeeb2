//! `keadm dashboard`: finds a status stream, and hands over to `tui`.

use std::io::IsTerminal;

use camino::{Utf8Path, Utf8PathBuf};
use tui::view::styles::{Look, Theme};

use crate::context::Context;
use crate::errors::{CommandError, Kind};

/// Watch the fleet in the terminal: nodes, pods, devices, messages, as they change
///
/// It reads cloudcore's status stream: by default the socket of this machine's cloudcore, else that
/// of a running `keadm up`. `?` shows the keys.
#[derive(clap::Args, Debug)]
pub struct DashboardArgs {
    /// The socket of the status stream
    #[arg(long, value_name = "SOCKET", env = "KEADM_STATUS")]
    endpoint: Option<Utf8PathBuf>,
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

/// The sockets that a cloudcore of this machine may serve, the most likely first. Pure.
fn sockets(cx: &Context, state: Option<&str>, home: Option<&str>) -> Vec<Utf8PathBuf> {
    let mut found = vec![cx.paths.run().join(super::STATUS_SOCKET)];
    let absolute = |p: &&str| p.starts_with('/');
    // Where `keadm up` keeps its state, as root and as anybody else.
    found.push(cx.paths.at("/var/lib/keadm").join(super::STATUS_SOCKET));
    let state = state.filter(absolute).map(Utf8PathBuf::from);
    let home = home.filter(absolute).map(|h| Utf8Path::new(h).join(".local/state"));
    found.extend(state.or(home).map(|d| d.join("keadm").join(super::STATUS_SOCKET)));
    found
}

/// Shows the dashboard until the user leaves it.
///
/// # Errors
/// When there is no terminal, or nothing to show.
pub fn dashboard(args: &DashboardArgs, cx: &Context) -> Result<(), CommandError> {
    let endpoint = match (&args.replay, &args.endpoint) {
        (Some(_), _) => None,
        (None, Some(path)) => Some(path.clone()),
        (None, None) => Some(local(cx)?),
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
        let endpoint = endpoint.map(|p| tui::Endpoint::Unix(p.into()));
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

/// The first local socket that is there.
fn local(cx: &Context) -> Result<Utf8PathBuf, CommandError> {
    let (state, home) = (std::env::var("XDG_STATE_HOME").ok(), std::env::var("HOME").ok());
    let all = sockets(cx, state.as_deref(), home.as_deref());
    if let Some(found) = all.iter().find(|p| p.exists()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = all.iter().map(|p| format!("`{p}`")).collect();
    Err(CommandError::new(
        Kind::Unreachable,
        format!(
            "no cloudcore serves a status stream here: there is no {}",
            looked.join(" and no ")
        ),
    )
    .hint("`keadm up` starts one on this machine; `--endpoint SOCKET` names another")
    .hint("on the cloud machine it may be readable by root alone: try `sudo keadm dashboard`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installed_cloudcore_comes_before_that_of_keadm_up() {
        let cx = crate::testing::context(&crate::host::fake::Fake::default());
        let names = |state, home| {
            sockets(&cx, state, home).into_iter().map(String::from).collect::<Vec<_>>()
        };
        let installed = cx.paths.at("/run/kubeedge/cloudcore-status.sock");
        let root = cx.paths.at("/var/lib/keadm/cloudcore-status.sock");
        let mut all = names(None, Some("/home/a"));
        assert_eq!(all.remove(0), installed);
        assert_eq!(all, [root.as_str(), "/home/a/.local/state/keadm/cloudcore-status.sock"]);
        assert_eq!(names(Some("/state"), Some("/home/a"))[2], "/state/keadm/cloudcore-status.sock");
        assert_eq!(names(Some("relative"), None).len(), 2);
    }
}
