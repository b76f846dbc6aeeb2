//! `keadm up`: control plane, cloudcore and an edge node on this machine, in one process.
//!
//! They talk over real sockets with mutual TLS, as they would on three machines.

mod background;
#[cfg(feature = "edge")]
mod device;
#[cfg(feature = "edge")]
mod edge;
mod parts;
mod plan;
mod sample;
#[cfg(feature = "dashboard")]
mod terminal;

use std::time::Duration;

use api::names::NodeName;
use camino::{Utf8Path, Utf8PathBuf};
use service::shutdown::Signals;

use crate::checks::{self, Check, machine};
use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::phases::{Outcome, Progress, Step, human, one};
use background::Lock;
use parts::Parts;

/// Run everything on this machine: a control plane, cloudcore and an edge node
///
/// Needs nothing but this program; root only for the containers. Stays in the foreground until
/// Ctrl-C, which stops everything and keeps the state; the next `keadm up` goes on with it.
#[derive(clap::Args, Debug, Clone)]
pub struct UpArgs {
    /// Where everything is kept [default: /var/lib/keadm, or ~/.local/state/keadm without root]
    #[arg(long, value_name = "DIR", env = "KEADM_DATA_DIR", hide_env_values = true)]
    data_dir: Option<Utf8PathBuf>,
    /// Name of the edge node [default: that of the run before, else the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Go to the background as soon as everything is up
    #[arg(long)]
    detach: bool,
    /// Stop what runs in the background
    #[arg(long, conflicts_with_all = ["detach", "reset"])]
    stop: bool,
    /// Start over: remove the state of earlier runs first
    #[arg(long)]
    reset: bool,
    /// Run no sample workload
    #[arg(long)]
    no_sample: bool,
    /// Run no edge node, only the control plane and cloudcore; needs no root
    #[arg(long)]
    cloud_only: bool,
    /// Addresses and names by which other machines reach this one
    /// [default: the addresses of this machine]
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    advertise_address: Vec<String>,
    /// Port of the API server
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    api_port: u16,
    /// How long a step may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    timeout: Duration,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of what `--dry-run` says
    #[arg(short, long, value_enum, value_name = "FORMAT", requires = "dry_run")]
    output: Option<super::JsonOutput>,
    /// Run as the background half of `--detach`
    #[arg(long, hide = true)]
    background: bool,
}

/// Below the data folder: the name of its edge node. Under another name the pods would be another's.
const NODE_NAME: &str = "node-name";

/// What a terminal is told at the end.
const STOPS: &str = "Ctrl-C stops everything.";

/// What is to be done, as all parts see it.
struct Up {
    cx: Context,
    dir: Utf8PathBuf,
    node: NodeName,
    edge: bool,
    #[cfg(feature = "edge")]
    sample: bool,
    advertise: Vec<String>,
    api_port: u16,
    timeout: Duration,
}

/// Runs everything until Ctrl-C.
///
/// # Errors
/// The failure of the first step that fails, or of a part that ended by itself.
pub fn up(args: &UpArgs, cx: &Context) -> Result<(), CommandError> {
    let up = Up::new(args, cx)?;
    if args.dry_run {
        return plan::show(args, &up);
    }
    if args.stop {
        return background::stop(cx, &up.dir);
    }
    if up.edge && !cx.host.is_root() {
        return Err(CommandError::new(
            Kind::Refused,
            "running containers needs root, and this is another user",
        )
        .hint("run `sudo keadm up`")
        .hint("or, for the control plane and cloudcore alone, `keadm up --cloud-only`"));
    }
    if args.detach {
        return background::detach(args, &up);
    }
    if args.background {
        background::leave_session();
    }
    let _lock = prepare(&up, args.reset)?;
    let log = up.dir.join("keadm.log");
    super::log_to(cx, "info", log_output(cx, &log))?;
    cx.block_on(async {
        let mut signals = Signals::install().map_err(|e| {
            CommandError::new(Kind::Failed, "cannot wait for signals").caused_by(&e)
        })?;
        let progress = Progress::new(&cx.printer);
        let mut parts = Parts::default();
        let failed = parts.failed();
        let outcome = tokio::select! {
            biased;
            _ = signals.next() => Ok(()),
            e = failed.wait() => Err(e),
            outcome = start(&up, &mut parts, &progress) => outcome,
        };
        let ran = parts.any();
        let stopped = tokio::select! {
            stopped = parts.stop(&up, &progress) => stopped,
            _ = signals.next() => Err(CommandError::new(
                Kind::Interrupted,
                "told twice to stop: containers may still be running",
            )
            .hint(format!("`keadm up --data-dir {}` takes them over again", up.dir))),
        };
        outcome.map_err(|e| if ran { e.hint(format!("the log is `{log}`")) } else { e })?;
        stopped?;
        let (go_on, anew) = (up.command_line(""), up.command_line(" --reset"));
        cx.printer.say(format!(
            "stopped; state kept in {}; `{go_on}` continues, `{anew}` starts over",
            up.dir
        ));
        Ok(())
    })
}

/// With `-v` the log goes to the terminal, otherwise to a file.
fn log_output(cx: &Context, log: &Utf8Path) -> service::telemetry::Output {
    if cx.logging.verbose > 0 {
        service::telemetry::Output::Stderr
    } else {
        service::telemetry::Output::File(log.into())
    }
}

/// Starts everything; ends only with an error.
async fn start(up: &Up, parts: &mut Parts, progress: &Progress) -> Result<(), CommandError> {
    one("preflight", progress, |_| async { preflight(up) }).await?;
    one("control plane", progress, |step| parts::control_plane(up, parts, step)).await?;
    one("cloudcore", progress, |step| parts::cloudcore(up, parts, step)).await?;
    #[cfg(feature = "edge")]
    if up.edge {
        one("edgecore", progress, |step| edge::edgecore(up, parts, step)).await?;
        one("node", progress, |step| sample::node_ready(up, parts, step)).await?;
        if up.sample {
            one("sample", progress, |step| sample::running(up, parts, step)).await?;
            one("device", progress, |step| device::reporting(up, parts, step)).await?;
        }
    }
    what_next(up, parts, progress).await;
    let stay = async {
        #[cfg(feature = "dashboard")]
        if terminal::has_a_user(up) {
            terminal::enter_opens_the_dashboard(up).await;
        }
        std::future::pending().await
    };
    service::pages::give_back_during(stay, std::future::ready(())).await
}

async fn what_next(up: &Up, parts: &Parts, progress: &Progress) {
    let kubeconfig = up.kubeconfig();
    let look = if up.edge { "kubectl get nodes,pods -o wide" } else { "kubectl get nodes" };
    let mut next = vec![format!("export KUBECONFIG={kubeconfig}"), look.to_owned()];
    if let Some(address) = up.advertise.first() {
        let link = host_port(address, 10000);
        next.push("keadm gettoken".to_owned());
        next.push(format!("keadm join --cloudcore-ipport {link} --token TOKEN"));
    }
    up.cx.printer.say("");
    for line in sample::table(parts).await {
        up.cx.printer.say(&line);
    }
    say_next(up, &next, progress.elapsed());
    #[cfg(feature = "dashboard")]
    let hint = if terminal::has_a_user(up) { terminal::HINT } else { STOPS };
    #[cfg(not(feature = "dashboard"))]
    let hint = STOPS;
    up.cx.printer.say(hint);
    progress.ready(&next);
}

fn say_next(up: &Up, next: &[String], elapsed: Duration) {
    let say = |line: &str| up.cx.printer.say(line);
    say(&format!("keadm is up after {}. What to type next, in another terminal:", human(elapsed)));
    for (n, command) in next.iter().enumerate() {
        let note = match n {
            2 => "    # for a second node, and then on the other machine:",
            _ => "",
        };
        say(&format!("  {command}{note}"));
    }
}

/// The folder, its lock, and nothing of earlier runs if that was asked for.
fn prepare(up: &Up, reset: bool) -> Result<Lock, CommandError> {
    let host = &up.cx.host;
    host.create_dir(&up.dir, 0o700).map_err(|e| file_error("make", &up.dir, &e))?;
    let lock = Lock::take(&up.dir)?;
    if reset {
        #[cfg(feature = "edge")]
        edge::remove_left_over(up)?;
        for name in host.list(&up.dir) {
            if name != background::LOCK {
                let path = up.dir.join(name);
                host.remove(&path).map_err(|e| file_error("remove", &path, &e))?;
            }
        }
    }
    if up.edge {
        let path = up.dir.join(NODE_NAME);
        let name = format!("{}\n", up.node);
        host.write(&path, name.as_bytes(), 0o600).map_err(|e| file_error("write", &path, &e))?;
    }
    Ok(lock)
}

fn preflight(up: &Up) -> Outcome {
    let cx = &up.cx;
    let mut found = vec![machine::memory(cx), machine::disk(cx, &up.dir), machine::clock(cx)];
    let api_other = ", or choose another with `--api-port`";
    found.push(machine::port(cx, machine::ANY, up.api_port, "the API server", api_other));
    found.push(machine::port(cx, machine::ANY, 10000, "the links of edges", ""));
    found.push(machine::port(cx, machine::ANY, 10002, "certificates of edges", ""));
    found.push(machine::port(cx, machine::ANY, 10003, "logs and exec of edges", ""));
    found.push(machine::port(cx, machine::ANY, 10004, "the tunnels of edges", ""));
    let local = [127, 0, 0, 1].into();
    found.push(machine::port(cx, local, 9091, "cloudcore's health and metrics", ""));
    #[cfg(feature = "edge")]
    if up.edge {
        found.push(machine::port(cx, local, 10350, "the local node API", ""));
        found.push(machine::port(cx, local, 1884, "the node's MQTT broker", ""));
        found.push(machine::port(
            cx,
            local,
            edgecore::ADMIN_PORT,
            "edgecore's health and metrics",
            "",
        ));
    }
    if up.advertise.is_empty() {
        found.push(Check::warn(
            "Addresses",
            "this machine has no address but loopback: no other machine can join",
            "`--advertise-address` names one",
        ));
    }
    checks::preflight(cx, &found, None)
}

impl Up {
    fn new(args: &UpArgs, cx: &Context) -> Result<Self, CommandError> {
        let dir = match &args.data_dir {
            Some(dir) => absolute(dir)?,
            None => default_dir(cx)?,
        };
        let name = match &args.node_name {
            Some(name) => name.clone(),
            None => (!args.reset)
                .then(|| node_before(cx, &dir))
                .flatten()
                .unwrap_or_else(|| cx.host.hostname().to_lowercase()),
        };
        let node = name.parse::<NodeName>().map_err(|e| {
            CommandError::new(Kind::Usage, format!("`{name}` cannot be the name of a node"))
                .caused_by(&e)
                .hint("`--node-name NAME` gives another: small letters, digits, `-` and `.`")
        })?;
        let advertise = match args.advertise_address.as_slice() {
            [] => cx.host.addresses().iter().map(ToString::to_string).collect(),
            given => given.to_vec(),
        };
        Ok(Self {
            cx: cx.clone(),
            dir,
            node,
            edge: cfg!(feature = "edge") && !args.cloud_only,
            #[cfg(feature = "edge")]
            sample: !args.no_sample,
            advertise,
            api_port: args.api_port,
            timeout: args.timeout,
        })
    }

    fn kubeconfig(&self) -> Utf8PathBuf {
        self.dir.join("kubeconfig")
    }

    /// What to type to run this again.
    fn command_line(&self, more: &str) -> String {
        let here = match default_dir(&self.cx) {
            Ok(default) if default == self.dir => String::new(),
            _ => format!(" --data-dir {}", self.dir),
        };
        let half = if self.edge { "" } else { " --cloud-only" };
        format!("keadm up{here}{half}{more}")
    }
}

/// The edge node of an earlier run.
fn node_before(cx: &Context, dir: &Utf8Path) -> Option<String> {
    let name = String::from_utf8(cx.host.read(&dir.join(NODE_NAME)).ok()?).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// `10.0.4.2:10000`, `[fd00::1]:10000`
fn host_port(address: &str, port: u16) -> String {
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(v6) => format!("[{v6}]:{port}"),
        Err(_) => format!("{address}:{port}"),
    }
}

fn absolute(dir: &Utf8Path) -> Result<Utf8PathBuf, CommandError> {
    let wrong = || CommandError::new(Kind::Usage, format!("`{dir}` cannot be the data folder"));
    let path = std::path::absolute(dir).map_err(|e| wrong().caused_by(&e))?;
    Utf8PathBuf::from_path_buf(path).map_err(|_| wrong().because("it is not UTF-8"))
}

fn default_dir(cx: &Context) -> Result<Utf8PathBuf, CommandError> {
    if cx.host.is_root() {
        return Ok(cx.paths.at("/var/lib/keadm"));
    }
    let of = |name: &str| std::env::var(name).ok().filter(|v| v.starts_with('/'));
    let state = of("XDG_STATE_HOME").or_else(|| of("HOME").map(|home| home + "/.local/state"));
    state.map(|state| Utf8PathBuf::from(state).join("keadm")).ok_or_else(|| {
        CommandError::new(Kind::Usage, "there is no home folder to keep the state in")
            .hint("`--data-dir DIR` says where")
    })
}

/// Waits until `look` has found what it looks for; says meanwhile what is missing.
async fn until<T, F>(
    step: &Step,
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(why) if tokio::time::Instant::now() >= deadline => {
                return Err(CommandError::new(
                    Kind::TimedOut,
                    format!("{what} did not come within {}", human(limit)),
                )
                .because(why));
            }
            Err(why) => step.waiting(why),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
