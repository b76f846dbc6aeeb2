//! `keadm debug check`: KubeEdge's checks of an edge node by their names.
//!
//! Owns: what only these names ask for: the processor, processes, names, the container runtime.
//! Called by: `debug.rs`. Never: ends with 0 when something fails, as KubeEdge's does.

use std::time::Duration;

use api::config::edgecore::EdgeCoreConfig;
use api::config::kubelet::RuntimeEndpoint;
use edgecore::edged::runtime::ContainerRuntime as _;
use edgecore::edged::runtime::cri::CriRuntime;
use tokio::time::{sleep, timeout};

use super::probe::{self, ConfigArg, ProbeArgs};
use crate::checks::{self, Check};
use crate::commands::JsonOutput;
use crate::commands::check::{Checked, Group, report};
use crate::context::Context;
use crate::errors::{CommandError, Kind};

/// From one look at the processor to the next.
const LOOK: Duration = Duration::from_millis(500);
/// A runtime may take so long.
const LIMIT: Duration = Duration::from_secs(5);
/// Of a hundred; as much may be in use.
const CPU: u64 = 90;
const PROCESSES: u64 = 95;

/// As KubeEdge's `keadm debug check`.
#[derive(clap::Args, Debug)]
pub struct DebugCheckArgs {
    /// What to check
    #[arg(value_enum, value_name = "WHAT", default_value_t)]
    what: What,
    #[command(flatten)]
    probe: ProbeArgs,
    #[command(flatten)]
    config: ConfigArg,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
}

/// What can be checked alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum What {
    /// All of it, and what `keadm check machine edge` checks
    #[default]
    All,
    /// How busy the processor is
    Cpu,
    /// Free memory
    Mem,
    /// Free space where the data lies
    Disk,
    /// Whether names can be looked up
    Dns,
    /// Whether the cloud can be reached
    Network,
    /// How many processes there are
    Pid,
    /// Whether the container runtime answers
    Runtime,
}

/// Checks.
pub(super) fn check(args: &DebugCheckArgs, cx: &Context) -> Result<(), CommandError> {
    let config = super::super::config::read_edgecore(cx, &args.config.file(cx)).ok();
    let config = config.map(|(config, _)| config);
    let results = cx.block_on(async { Ok(all(args, config.as_ref(), cx).await) })?;
    report(&results, args.output, cx)
}

async fn all(args: &DebugCheckArgs, config: Option<&EdgeCoreConfig>, cx: &Context) -> Vec<Checked> {
    let machine = |checks| Checked { group: Group::Machine, checks };
    let edge = |checks| Checked { group: Group::Edge, checks };
    match args.what {
        What::All => {
            let mut here = checks::machine::all(cx);
            here.extend([processor(cx).await, processes(cx)]);
            let mut there = checks::edge::of(cx, &args.config.file(cx)).await;
            there.retain(|check| check.name != "Cloud-Link" || !args.probe.names_the_cloud());
            there.extend(args.probe.link().await);
            let probe = &args.probe;
            there.extend([probe.names(config).await, probe.ping(cx).await, runtime(config).await]);
            vec![machine(here), edge(there)]
        }
        What::Cpu => vec![machine(vec![processor(cx).await])],
        What::Mem => vec![machine(vec![checks::machine::memory(cx)])],
        What::Disk => vec![machine(vec![checks::machine::disk(cx, &cx.paths.lib())])],
        What::Pid => vec![machine(vec![processes(cx)])],
        What::Dns => vec![edge(vec![args.probe.names(config).await])],
        What::Runtime => vec![edge(vec![runtime(config).await])],
        What::Network => {
            let mut found = cloud(args, config.is_some(), cx).await;
            found.extend([args.probe.ping(cx).await, probe::local_api().await]);
            vec![edge(found)]
        }
    }
}

/// The way to the cloud: the one that is named, else the configured one.
async fn cloud(args: &DebugCheckArgs, configured: bool, cx: &Context) -> Vec<Check> {
    if let Some(named) = args.probe.link().await {
        return vec![named];
    }
    let mut found = checks::edge::of(cx, &args.config.file(cx)).await;
    // Without a configuration nobody knows where the cloud is.
    match configured {
        true => found.retain(|check| check.name.starts_with("Cloud-")),
        false => found.truncate(1),
    }
    found
}

fn text(cx: &Context, path: &str) -> Option<String> {
    String::from_utf8(cx.host.read(path.into()).ok()?).ok()
}

async fn processor(cx: &Context) -> Check {
    let ticks = || text(cx, "/proc/stat").as_deref().and_then(ticks);
    let before = ticks();
    if before.is_some() {
        sleep(LOOK).await;
    }
    match before.zip(ticks()).and_then(|(before, now)| busy(before, now)) {
        None => Check::skip("CPU", "how busy the processor is cannot be told"),
        Some(percent) if percent > CPU => Check::warn(
            "CPU",
            format!("{percent} % of the processor are in use"),
            "`top` shows by what; pods and heartbeats may come late",
        ),
        Some(percent) => Check::ok("CPU", format!("{percent} % of the processor are in use")),
    }
}

/// Idle ticks and all ticks, as the first line of `/proc/stat` has them. Pure.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = fields.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let waiting = fields.get(3)?.saturating_add(*fields.get(4)?);
    // Of guests' time the kernel has counted all in the first two fields.
    Some((waiting, fields.iter().take(8).fold(0, |sum, n| sum.saturating_add(*n))))
}

/// Pure.
fn busy(before: (u64, u64), now: (u64, u64)) -> Option<u64> {
    let (idle, all) = (now.0.checked_sub(before.0)?, now.1.checked_sub(before.1)?);
    (all.checked_sub(idle)? * 100).checked_div(all)
}

fn processes(cx: &Context) -> Check {
    let most =
        text(cx, "/proc/sys/kernel/pid_max").and_then(|text| text.trim().parse::<u64>().ok());
    let now = text(cx, "/proc/loadavg").and_then(|text| running(&text));
    match (now, most) {
        (Some(now), Some(most)) if now * 100 > most * PROCESSES => Check::fail(
            "PID",
            Kind::Failed,
            format!("{now} of {most} processes and threads are there"),
            "no container can be started soon: `ps -eLf` shows whose they are",
        ),
        (Some(now), Some(most)) => {
            Check::ok("PID", format!("{now} of {most} processes and threads are there"))
        }
        _ => Check::skip("PID", "how many processes there are cannot be told"),
    }
}

/// How many there are, from `/proc/loadavg`: `0.2 0.3 0.4 2/1234 5678`. Pure.
fn running(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

async fn runtime(config: Option<&EdgeCoreConfig>) -> Check {
    let kubelet = config.map(|c| &c.modules.edged.tailored_kubelet_config);
    let socket = match kubelet.and_then(|kubelet| kubelet.runtime()) {
        None => return Check::skip("Runtime", "which container runtime is used is not known"),
        Some(RuntimeEndpoint::Embedded) => {
            return Check::ok("Runtime", "edgecore runs the containers itself");
        }
        Some(RuntimeEndpoint::Cri { runtime, .. }) => runtime,
    };
    let shown = socket.display().to_string();
    let asked = async { CriRuntime::new(&socket.to_string_lossy())?.version().await };
    let hint = "is it running? `systemctl status containerd` tells, for example";
    match timeout(LIMIT, asked).await {
        Ok(Ok(is)) => {
            Check::ok("Runtime", format!("{} {} answers at `{shown}`", is.name, is.version))
        }
        Ok(Err(e)) => Check::fail("Runtime", Kind::Unreachable, e.to_string(), hint),
        Err(_) => Check::fail("Runtime", Kind::TimedOut, format!("`{shown}` is silent"), hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;
    use crate::testing::keadm;

    #[test]
    fn the_processor_is_as_busy_as_its_ticks_say() {
        let before = ticks("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n").unwrap();
        assert_eq!(before, (800, 1000));
        assert_eq!(busy(before, (850, 1200)), Some(75));
        assert_eq!(busy(before, before), None, "no time has passed");
        assert_eq!(busy(before, (10, 20)), None, "it was another boot");
        assert_eq!(ticks("intr 1 2 3"), None);
    }

    fn machine(pids: &str) -> Fake {
        Fake::new(|state| {
            let file = |text: &str| (0o444, text.as_bytes().to_vec());
            state.files.insert("/proc/sys/kernel/pid_max".into(), file("1000\n"));
            state.files.insert("/proc/loadavg".into(), file(&format!("0 0 0 2/{pids} 7\n")));
        })
    }

    #[test]
    fn each_of_kubeedges_names_checks_that_alone_and_the_exit_code_tells() {
        let said = keadm("keadm debug check pid", &machine("500"));
        assert!(said.contains("exit code: 0") && said.contains("500 of 1000"), "{said}");
        assert_eq!(said.matches('✔').count(), 1, "{said}");
        let said = keadm("keadm debug check pid", &machine("951"));
        assert!(said.contains("exit code: 3") && said.contains("951 of 1000"), "{said}");
        for (name, word) in [
            ("cpu", "processor"),
            ("mem", "memory"),
            ("disk", "free below"),
            ("dns", "--domain"),
            ("network", "edgecore.yaml"),
            ("runtime", "container runtime"),
        ] {
            let said = keadm(&format!("keadm debug check {name}"), &Fake::default());
            assert!(said.contains(word), "{name}: {said}");
            assert!(!said.contains("running as root"), "{name}: {said}");
        }
        let all = keadm("keadm debug check all -o json", &machine("500"));
        for name in ["Root", "Memory", "Disk", "CPU", "PID", "DNS", "Runtime"] {
            assert!(all.contains(&format!(r#""name": "{name}""#)), "{name}: {all}");
        }
        assert!(keadm("keadm debug check ram", &Fake::default()).contains("exit code: 2"));
    }
}
