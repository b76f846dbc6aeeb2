//! The clap tree: the flags that every command has, and one variant per command.

use std::ffi::OsString;

use camino::Utf8PathBuf;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::environment;
use crate::errors::{CommandError, Kind};
use crate::printer::{ColourChoice, ProgressChoice};

/// Bring Kubernetes to the edge: install, join, run and look
///
/// `keadm up` tries it all on this machine.
#[derive(Parser, Debug)]
#[command(name = "keadm", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// The flags that every command has.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// `KEADM_QUIET=1`; empty, `0`, `no`, `off` and `false` are as good as not set.
pub(crate) fn falsey() -> clap::builder::FalseyValueParser {
    clap::builder::FalseyValueParser::new()
}

/// The flags that every command has.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Say nothing but data, warnings and errors
    #[arg(short, long, env = "KEADM_QUIET", hide_env = true, value_parser = falsey(), global = true)]
    pub quiet: bool,
    /// Log more; repeat for even more
    #[arg(short, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// The verbosity as KubeEdge writes it
    #[arg(long = "v", value_name = "N", global = true, hide = true)]
    pub klog: Option<u8>,
    /// The log lines of the programs run by this command
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        env = "KEADM_LOG_FORMAT",
        hide_env = true,
        global = true
    )]
    pub log_format: LogFormat,
    /// When to use colour; `NO_COLOR` is heeded
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        env = "KEADM_COLOR",
        hide_env = true,
        global = true
    )]
    pub color: ColourChoice,
    /// How steps are shown
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "HOW",
        env = "KEADM_PROGRESS",
        hide_env = true,
        global = true
    )]
    pub progress: ProgressChoice,
    /// Write `ok`, `FAIL` and `warn` instead of symbols
    #[arg(long, env = "KEADM_ASCII", hide_env = true, value_parser = falsey(), global = true)]
    pub ascii: bool,
    /// The folder below which the installation lies
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/",
        env = "KEADM_ROOT",
        global = true,
        hide = true
    )]
    pub root: Utf8PathBuf,
}

impl Global {
    /// How many `-v`, or what KubeEdge's `--v=N` means.
    pub fn verbosity(&self) -> u8 {
        let klog = match self.klog.unwrap_or(0) {
            0..=2 => 0,
            3..=4 => 1,
            5..=7 => 2,
            _ => 3,
        };
        self.verbose.max(klog)
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    #[cfg(feature = "cloud")]
    #[command(name = "up")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Up(commands::up::UpArgs),
    #[cfg(feature = "cloud")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Init(commands::init::InitArgs),
    #[cfg(feature = "edge")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Join(Box<commands::join::JoinArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Get(Box<commands::get::GetArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Describe(Box<commands::describe::DescribeArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Status(Box<commands::status::StatusArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Top(Box<commands::top::TopArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Events(Box<commands::events::EventsArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Cordon(Box<commands::node::CordonArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Uncordon(Box<commands::node::UncordonArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Drain(Box<commands::node::DrainArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Confirm(Box<commands::confirm::ConfirmArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Delete(Box<commands::pod::DeleteArgs>),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Restart(Box<commands::pod::RestartArgs>),
    #[cfg(feature = "edge")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Ctl(Box<commands::ctl::CtlArgs>),
    #[cfg(feature = "edge")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Debug(Box<commands::debug::DebugArgs>),
    #[cfg(feature = "cloud")]
    #[command(name = "gettoken")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    GetToken(commands::gettoken::GetTokenArgs),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Check(commands::check::CheckArgs),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Reset(commands::reset::ResetArgs),
    #[cfg(any(feature = "cloud", feature = "edge"))]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Backup(commands::backup::BackupArgs),
    #[cfg(feature = "cloud")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Restore(commands::backup::RestoreArgs),
    #[cfg(feature = "edge")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Upgrade(commands::upgrade::UpgradeArgs),
    #[cfg(feature = "edge")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Rollback(commands::rollback::RollbackArgs),
    #[cfg(feature = "cloud")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Manifest(commands::manifest::ManifestArgs),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Config(commands::config::ConfigArgs),
    #[cfg(feature = "dashboard")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Dashboard(commands::dashboard::DashboardArgs),
    #[cfg(feature = "cloud")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Device(commands::device::DeviceArgs),
    #[cfg(feature = "cloud")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Admission(commands::admission::AdmissionArgs),
    #[cfg(feature = "cloud")]
    #[command(name = "cloudcore")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    CloudCore(commands::cloudcore::CloudCoreArgs),
    #[cfg(feature = "edge")]
    #[command(name = "edgecore")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    EdgeCore(commands::edgecore::EdgeCoreArgs),
    #[cfg(feature = "edge")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Mapper(commands::mapper::MapperArgs),
    #[cfg(feature = "cloud")]
    #[command(name = "control-plane")]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    ControlPlane(commands::control_plane::ControlPlaneArgs),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Version(commands::version::VersionArgs),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Completion(commands::completion::CompletionArgs),
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Help(commands::help::HelpArgs),
    #[cfg(feature = "edge")]
    #[command(hide = true)]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    CopyProgram(commands::copy_program::CopyProgramArgs),
    #[command(hide = true)]
    #[allow(missing_docs, reason = "the doc comment of the arguments is the help text")]
    Supervise(commands::supervise::SuperviseArgs),
}

impl Command {
    /// Whether it says by itself what is logged and where: programs do, and a screen has no room for it.
    pub(crate) fn logs_by_itself(&self) -> bool {
        match self {
            #[cfg(feature = "cloud")]
            Self::Up(_) | Self::CloudCore(_) | Self::ControlPlane(_) | Self::Admission(_) => true,
            #[cfg(feature = "edge")]
            Self::EdgeCore(_) | Self::Mapper(_) => true,
            #[cfg(feature = "dashboard")]
            Self::Dashboard(_) => true,
            Self::Supervise(_) => true,
            _ => false,
        }
    }
}

/// The commands of all builds, with the feature that each needs.
const FEATURES: [(&str, &str); 19] = [
    ("ctl", "edge"),
    ("debug", "edge"),
    ("dashboard", "dashboard"),
    ("up", "cloud"),
    ("init", "cloud"),
    ("gettoken", "cloud"),
    ("manifest", "cloud"),
    ("backup", "cloud"),
    ("backup cloud", "cloud"),
    ("backup edge", "edge"),
    ("upgrade", "edge"),
    ("rollback", "edge"),
    ("restore", "cloud"),
    ("device", "cloud"),
    ("admission", "cloud"),
    ("cloudcore", "cloud"),
    ("join", "edge"),
    ("edgecore", "edge"),
    ("mapper", "edge"),
];

/// The arguments; called through a link named `cloudcore` or `edgecore`, the binary is that command.
pub(crate) fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut given: Vec<OsString> = given.collect();
    let called = given.first().and_then(|p| std::path::Path::new(p).file_name()?.to_str());
    if let Some(name @ ("cloudcore" | "edgecore")) = called {
        let name = name.into();
        given[0] = "keadm".into();
        given.insert(1, name);
    }
    // KubeEdge's flags are Go's, where one dash is as good as two for these.
    for argument in given.iter_mut().skip(2) {
        match argument.to_str() {
            Some("-version") => *argument = "--version".into(),
            Some(text) if text.starts_with("-config=") => *argument = format!("-{text}").into(),
            _ => {}
        }
    }
    given
}

/// KubeEdge's commands that are not here, and what does the same.
const ABSENT: [(&str, &str); 7] = [
    ("upgrade cloud", "put the new program in the place of the old one and restart its services"),
    ("batch", "run `keadm join` on each machine: `ssh HOST keadm join ..`"),
    ("config-update", "edit edgecore.yaml, see `keadm config check edgecore`, restart edgecore"),
    ("deprecated", "`keadm init`, `keadm join` and `keadm reset` need no release tarballs"),
    ("config images", "there are no images: cloudcore and edgecore are this one program"),
    (
        "ctl edit",
        "`keadm device set NAME PROPERTY=VALUE`: desired values are the cloud's, and win over the edge's",
    ),
    ("pki", "cloudcore makes and renews certificates by itself; see docs/certificates.md"),
];

/// kubectl's commands, which go on working on the same cluster.
const KUBECTL: [&str; 24] = [
    "annotate",
    "api-resources",
    "api-versions",
    "apply",
    "attach",
    "auth",
    "autoscale",
    "cp",
    "create",
    "diff",
    "edit",
    "exec",
    "explain",
    "expose",
    "label",
    "logs",
    "patch",
    "port-forward",
    "replace",
    "rollout",
    "run",
    "scale",
    "taint",
    "wait",
];

/// What helps whoever has written a command that is none. Pure.
fn instead(path: &str, error: CommandError) -> CommandError {
    if KUBECTL.contains(&path) {
        let error = error.hint(format!("`kubectl {path}` does it, with the same kubeconfig"));
        return match path {
            "logs" => error.hint("on the pod's own node, `keadm ctl logs` does, too"),
            _ => error,
        };
    }
    let (above, name) = path.rsplit_once(' ').unwrap_or(("", path));
    let mut command = crate::command();
    for word in above.split_whitespace() {
        let Some(next) = command.find_subcommand(word) else { return error };
        command = next.clone();
    }
    let all: Vec<&str> = command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .flat_map(|c| std::iter::once(c.get_name()).chain(c.get_visible_aliases()))
        .collect();
    match crate::commands::nearest(name, all) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// clap's advice in our words; none of it where we have better.
fn advice(tip: &str) -> Option<String> {
    let (what, names) = tip.split_once(": ")?;
    if !what.contains("similar") || what.contains("subcommand") {
        return None;
    }
    Some(format!("did you mean {}?", names.replace('\'', "`").replace(", ", " or ")))
}

/// The command that was asked for and is not here: its whole path.
fn asked(e: &clap::Error) -> Option<String> {
    let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) =
        (e.kind(), e.get(ContextKind::InvalidSubcommand))
    else {
        return None;
    };
    // The usage names the command below which it was looked for: `Usage: keadm ctl [OPTIONS] ..`
    let usage = e.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let words = usage.split_whitespace().skip_while(|word| *word != "keadm").skip(1);
    let mut path: Vec<&str> = words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect();
    path.push(name);
    Some(path.join(" "))
}

/// A mistake on the command line, in our own form.
pub(crate) fn usage_error(e: &clap::Error) -> CommandError {
    let path = asked(e).unwrap_or_default();
    if let Some((name, instead)) = ABSENT.iter().find(|(absent, _)| *absent == path) {
        let text = format!("there is no `keadm {name}` here, as KubeEdge has it");
        return CommandError::new(Kind::Unsupported, text).hint(*instead);
    }
    if let Some((name, feature)) = FEATURES.iter().find(|(n, _)| *n == path) {
        return CommandError::new(Kind::Unsupported, format!("this build has no `keadm {name}`"))
            .because(format!("it was made without the feature `{feature}`"))
            .hint(format!("`cargo build --release --features {feature}` makes one that has it"));
    }
    let text = e.render().to_string();
    let mut error: Option<CommandError> = None;
    let mut missing = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        error = Some(match (error, trimmed) {
            (None, _) => CommandError::new(
                Kind::Usage,
                trimmed.trim_start_matches("error: ").replace('\'', "`"),
            ),
            (Some(error), "") => error,
            (Some(error), _) => match trimmed.split_once(": ") {
                Some(("tip", tip)) => match advice(tip) {
                    Some(hint) => error.hint(hint),
                    None => error,
                },
                Some(("Usage", usage)) => {
                    let error = if path.is_empty() { error } else { instead(&path, error) };
                    error.hint(format!("usage: {usage}"))
                }
                Some(("For more information, try '--help'.", _)) => error,
                _ if trimmed.starts_with("For more information") => error,
                _ => {
                    missing.push(trimmed.to_owned());
                    error
                }
            },
        });
    }
    let error = error.unwrap_or_else(|| CommandError::new(Kind::Usage, "a usage error"));
    let text = |of| match e.get(of) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let from = text(ContextKind::InvalidArg).zip(text(ContextKind::InvalidValue));
    let from = from.and_then(|(flag, value)| environment::comes_from(flag, value));
    let error = match from {
        Some(variable) => error.hint(format!("the value is that of the variable `{variable}`")),
        None => error,
    };
    let missing = missing.join(" ");
    match missing.trim_matches(['[', ']']) {
        "" => error,
        values => error.hint(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_tree_is_consistent() {
        crate::command().debug_assert();
    }

    #[test]
    fn a_link_named_edgecore_is_edgecore() {
        let given = arguments(words("/usr/local/bin/edgecore --config /x").into_iter());
        assert_eq!(given, words("keadm edgecore --config /x"));
        let given = arguments(words("cloudcore -config=/x").into_iter());
        assert_eq!(given, words("keadm cloudcore --config=/x"));
        assert_eq!(arguments(words("./keadm up").into_iter()), words("./keadm up"));
    }

    #[test]
    fn what_kubeedge_has_and_this_program_has_not_is_said_with_what_does_the_same() {
        for (name, instead) in ABSENT {
            let e = crate::command().try_get_matches_from(words(&format!("keadm {name} x")));
            let e = usage_error(&e.unwrap_err());
            assert_eq!(e.kind, Kind::Unsupported, "{name}: {}", e.message());
            assert!(e.message().contains(&format!("`keadm {name}`")), "{}", e.message());
            assert_eq!(e.hints(), [instead]);
        }
        let typo = crate::command().try_get_matches_from(words("keadm config imges"));
        assert_eq!(usage_error(&typo.unwrap_err()).kind, Kind::Usage);
    }

    fn mistake(line: &str) -> String {
        let e = crate::command().try_get_matches_from(words(line)).unwrap_err();
        usage_error(&e).render(false)
    }

    #[test]
    fn a_mistake_is_told_with_what_was_meant() {
        insta::assert_snapshot!(
            [
                mistake("keadm chekc"),
                mistake("keadm version --ouput json"),
                mistake("keadm version -o toml"),
                mistake("keadm reset moon"),
                mistake("keadm ctl log web"),
                mistake("keadm get pods --al-namespaces"),
                mistake("keadm gte pods"),
                mistake("keadm logs web"),
                mistake("keadm exec web"),
                mistake("keadm get pods --show-labels"),
            ]
            .join("\n")
        );
    }
}
