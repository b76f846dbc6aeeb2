//! `keadm join`: makes this machine an edge node.

use std::time::Duration;

use api::config::kubelet::EMBEDDED_RUNTIME;
use api::names::NodeName;
use camino::Utf8PathBuf;
use edgecore::certs::Token;
use serde_json::json;

use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::https::HostPort;
use crate::made::{self, Installer, Made, Role};
use crate::phases::alone::{Alone, Asked, PhaseFlags};
use crate::phases::{self, Phase, Progress, edge};

/// Make this machine an edge node
///
/// Checks the machine and the token, gets a certificate, writes `edgecore.yaml`, starts edgecore as
/// a service and waits until the node is there. Every step is a phase that can be left out, run
/// alone or only shown.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct JoinArgs {
    #[command(flatten)]
    flags: JoinFlags,
    #[command(subcommand)]
    action: Option<Alone<JoinFlags>>,
}

/// The flags of `join`.
#[derive(clap::Args, Debug, Clone)]
pub struct JoinFlags {
    /// Address and port of cloudcore's message link
    #[arg(
        short = 'e',
        long,
        value_name = "HOST:PORT",
        env = "KEADM_CLOUDCORE_IPPORT",
        hide_env_values = true
    )]
    cloudcore_ipport: Option<HostPort>,
    /// What `keadm gettoken` printed on the cloud side; better given in a file or the environment,
    /// which others on this machine cannot see
    #[arg(short, long, value_name = "TOKEN", env = "KEADM_TOKEN", hide_env_values = true)]
    token: Option<Hidden>,
    /// A file with the token; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<Utf8PathBuf>,
    /// The node's name [default: the host name]
    #[arg(short = 'i', long, value_name = "NAME")]
    edgenode_name: Option<String>,
    /// Port of cloudcore's certificate service
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 10002)]
    certport: u16,
    /// Socket of the container runtime, or `embedded` for our own
    /// [default: containerd's socket if it is there, else `embedded`]
    #[arg(short = 'p', long, value_name = "ENDPOINT")]
    remote_runtime_endpoint: Option<String>,
    /// Who manages cgroups
    #[arg(long, value_name = "DRIVER", default_value = "cgroupfs", value_parser = ["cgroupfs", "systemd"])]
    cgroupdriver: String,
    /// The protocol of the link
    #[arg(long, value_name = "PROTOCOL", default_value = "websocket", value_parser = ["websocket", "quic"])]
    hub_protocol: String,
    /// Labels of the node: `key=value,key2=value2`
    #[arg(short, long, value_name = "LABELS", value_delimiter = ',')]
    labels: Vec<String>,
    /// A setting of edgecore.yaml, in Helm's syntax: `modules.edgeStream.enable=true`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// The form of the result, of `--dry-run`, and of the list of phases
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    /// Phases to leave out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    skip_phases: Vec<String>,
    /// Checks whose failure is only a warning; `all` for all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore_preflight_errors: Vec<String>,
    /// Remove what an earlier join has left behind first
    #[arg(long)]
    clean: bool,
    /// How long to wait for the node
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    timeout: Duration,
    // Flags of KubeEdge that mean nothing here: there is nothing to download or unpack.
    #[arg(long = "certPath", hide = true)]
    _cert_path: Option<String>,
    #[arg(long = "tarballpath", hide = true)]
    _tarball_path: Option<String>,
    #[arg(long = "kubeedge-version", hide = true)]
    _kubeedge_version: Option<String>,
    #[arg(long = "image-repository", hide = true)]
    _image_repository: Option<String>,
}

impl JoinFlags {
    /// A file that was named wins over the environment.
    fn token(&self, cx: &Context) -> Result<Option<Hidden>, CommandError> {
        let Some(file) = &self.token_file else { return Ok(self.token.clone()) };
        let from = if file == "-" { "/dev/stdin".into() } else { file.as_path() };
        let text = cx.host.read(from).map_err(|e| file_error("read", file, &e))?;
        Ok(Some(Hidden(String::from_utf8_lossy(&text).trim().to_owned())))
    }
}

impl PhaseFlags for JoinFlags {
    fn skipped(&self, _whole: bool) -> Vec<String> {
        self.skip_phases.clone()
    }

    fn output(&self) -> Option<super::JsonOutput> {
        self.output
    }
}

/// A text that `Debug` does not show.
#[derive(Clone)]
pub struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl std::str::FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// What is to be done, as all phases see it.
pub struct Join {
    pub(crate) cx: Context,
    pub(crate) node: NodeName,
    /// The message link.
    pub(crate) link: HostPort,
    /// The certificate service.
    pub(crate) https: HostPort,
    pub(crate) token: Option<Token>,
    pub(crate) runtime: String,
    pub(crate) cgroup_driver: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) settings: Vec<String>,
    pub(crate) ignore: Vec<String>,
    pub(crate) timeout: Duration,
}

/// The phases, in order.
pub fn phases() -> [Phase<Join>; 6] {
    [edge::PREFLIGHT, edge::CERTS, edge::CONFIG, edge::INSTALL, edge::SERVICE, edge::WAIT]
}

/// Joins.
///
/// # Errors
/// The failure of the first phase that fails, with its cause and the next step.
pub fn join(args: &JoinArgs, cx: &Context) -> Result<(), CommandError> {
    let all = phases();
    let asked = Asked::of(&args.flags, args.action.as_ref());
    let (flags, whole) = (asked.flags, asked.whole);
    let Some(chosen) = asked.choose(&all, &cx.printer)? else { return Ok(()) };
    let mut join = Join::new(flags, cx)?;
    if flags.dry_run {
        return phases::dry_run(&chosen, &join, flags.output, &cx.printer);
    }
    if flags.clean {
        clean(cx)?;
    }
    let progress = Progress::new(&cx.printer);
    cx.block_on(phases::run(&chosen, &mut join, &progress))?;
    if whole {
        Installer::open(cx, Role::Edge)?.complete()?;
        cx.printer.say(format!("`{}` is an edge node now", join.node));
        let next = vec![format!("kubectl get node {}", join.node), "keadm check edge".to_owned()];
        cx.printer.say(format!("on the cloud side: {}", next[0]));
        cx.printer.say(format!("here:              {}", next[1]));
        progress.ready(&next);
        if flags.output.is_some() {
            cx.printer.json(&json!({ "node": join.node, "next": next }))?;
        }
    }
    Ok(())
}

fn clean(cx: &Context) -> Result<(), CommandError> {
    let made = Made::load(cx, Role::Edge)?;
    let made = made.unwrap_or_else(|| super::reset::left_by_kubeedge(cx, Role::Edge));
    for thing in made::remove(cx, Role::Edge, &made)? {
        cx.printer.say(format!("removed {thing}"));
    }
    Ok(())
}

impl Join {
    fn new(flags: &JoinFlags, cx: &Context) -> Result<Self, CommandError> {
        let usage = |message: String| CommandError::new(Kind::Usage, message);
        let link = flags.cloudcore_ipport.clone().ok_or_else(|| {
            usage("`--cloudcore-ipport HOST:PORT` is missing".to_owned())
                .hint("it is where cloudcore listens, for example `10.0.4.2:10000`")
        })?;
        if flags.hub_protocol == "quic" {
            return Err(CommandError::new(Kind::Unsupported, "the link cannot use QUIC")
                .because("KubeEdge speaks a draft of QUIC from 2018 that no library knows any more")
                .hint("leave out `--hub-protocol`: WebSocket works with every cloudcore"));
        }
        let name = flags.edgenode_name.clone().unwrap_or_else(|| cx.host.hostname().to_lowercase());
        let node: NodeName = name.parse().map_err(|e| {
            usage(format!("`{name}` cannot be the name of a node"))
                .caused_by(&e)
                .hint("`--edgenode-name NAME` gives another: small letters, digits, `-` and `.`")
        })?;
        let token = flags.token(cx)?.map(|t| t.0.parse::<Token>()).transpose().map_err(|_| {
            usage("the token is not complete".to_owned())
                .because("a token has four parts separated by dots")
                .hint("copy all that `keadm gettoken` prints on the cloud side")
        })?;
        let labels = flags.labels.iter().filter(|l| !l.is_empty()).map(|label| {
            let (key, value) = label.split_once('=').ok_or_else(|| {
                usage(format!("`{label}` is not a label")).hint("a label is `key=value`")
            })?;
            Ok((key.to_owned(), value.to_owned()))
        });
        let https = HostPort { host: link.host.clone(), port: flags.certport };
        Ok(Self {
            node,
            https,
            link,
            token,
            runtime: runtime(cx, flags.remote_runtime_endpoint.as_deref()),
            cgroup_driver: flags.cgroupdriver.clone(),
            labels: labels.collect::<Result<_, CommandError>>()?,
            settings: flags.set.clone(),
            ignore: flags.ignore_preflight_errors.clone(),
            timeout: flags.timeout,
            cx: cx.clone(),
        })
    }

    pub(crate) fn http_server(&self) -> String {
        format!("https://{}", self.https)
    }

    pub(crate) fn ca_file(&self) -> Utf8PathBuf {
        self.cx.paths.at("/etc/kubeedge/ca/rootCA.crt")
    }

    pub(crate) fn cert_file(&self) -> Utf8PathBuf {
        self.cx.paths.at("/etc/kubeedge/certs/server.crt")
    }

    pub(crate) fn key_file(&self) -> Utf8PathBuf {
        self.cx.paths.at("/etc/kubeedge/certs/server.key")
    }
}

/// KubeEdge's default socket.
pub(crate) const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";

/// The runtime's endpoint as edgecore.yaml has it.
pub(crate) fn runtime(cx: &Context, asked: Option<&str>) -> String {
    match asked {
        Some("embedded") => EMBEDDED_RUNTIME.to_owned(),
        Some(endpoint) if endpoint.starts_with('/') => format!("unix://{endpoint}"),
        Some(endpoint) => endpoint.to_owned(),
        None if cx.host.exists(CONTAINERD.trim_start_matches("unix://").into()) => {
            CONTAINERD.to_owned()
        }
        None => EMBEDDED_RUNTIME.to_owned(),
    }
}

#[cfg(test)]
mod tests;
