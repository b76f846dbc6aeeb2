//! `keadm status`: is everything well, and if not, what is not.

use std::time::Duration;

use api::status::row::{DeviceRow, Millis, NodeRow, PodRow};
use api::status::stream::Update;
use serde::Serialize;
use tokio::time::Instant;

use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::fleet::{self, Fleet, FleetArgs, Want};
use crate::output::shape;
use crate::output::table::duration;
use crate::phases::Progress;
use crate::printer::{Mark, ProgressChoice};

/// A pod may be on its way to running for so long.
const START: Millis = 60_000;
/// A certificate that expires sooner is not well: nodes renew theirs long before.
const EXPIRES: Millis = 7 * 86_400_000;
/// Names shown per part.
const SHOWN: usize = 10;

/// Show on one screen whether nodes, pods, devices and certificates are well
///
/// The exit code says what is not: 31 nodes, 32 pods, 33 devices, 34 certificates, 3 more than one
/// of them, 6 nobody answers.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    /// One sentence a line, without symbols: for screen readers
    #[arg(long)]
    plain: bool,
    /// Wait until all is well
    #[arg(long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::duration, requires = "wait")]
    timeout: Duration,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Nodes,
    Pods,
    Devices,
    Certificates,
}

impl Name {
    fn kind(self) -> Kind {
        match self {
            Self::Nodes => Kind::UnhealthyNodes,
            Self::Pods => Kind::UnhealthyPods,
            Self::Devices => Kind::UnhealthyDevices,
            Self::Certificates => Kind::UnhealthyCertificates,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::Devices => "devices",
            Self::Certificates => "certificates",
        }
    }
}

/// Something that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Trouble {
    /// Its name.
    object: String,
    /// What is wrong with it.
    why: String,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Part {
    part: Name,
    healthy: bool,
    /// How many there are.
    total: usize,
    /// Those that are not well.
    troubles: Vec<Trouble>,
}

/// All of it; the shape of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    api_version: &'static str,
    kind: &'static str,
    at: String,
    source: String,
    healthy: bool,
    parts: Vec<Part>,
}

fn node(row: &NodeRow, links: bool, now: Millis) -> Option<String> {
    match (&row.link, row.lost_at) {
        (None, Some(at)) if links => {
            return Some(format!("not connected for {}: {}", duration(now - at), row.lost_why));
        }
        (None, None) if links => return Some("not connected since the cloud started".to_owned()),
        _ => {}
    }
    match (row.ready.as_str(), row.reason.as_str()) {
        ("True", _) => None,
        ("", _) => Some("has never reported".to_owned()),
        (_, "") => Some("not ready".to_owned()),
        (_, reason) => Some(format!("not ready: {reason}")),
    }
}

fn pod(row: &PodRow, now: Millis) -> Option<String> {
    let young = row.created.is_some_and(|at| now - at < START);
    match row.phase.as_str() {
        "Succeeded" => None,
        "Running" if row.ready >= row.containers => None,
        "Running" | "Pending" if young => None,
        "Running" => Some(format!("{} ({}/{} ready)", row.status, row.ready, row.containers)),
        "" => Some("has never reported".to_owned()),
        _ => Some(row.status.clone()),
    }
}

fn device(row: &DeviceRow) -> Option<String> {
    if matches!(row.state.as_str(), "offline" | "unhealthy") {
        return Some(row.state.clone());
    }
    let out: Vec<&str> =
        row.twins.iter().filter(|t| !t.in_sync()).map(|t| t.property.as_str()).collect();
    (!out.is_empty()).then(|| format!("not as desired: {}", out.join(", ")))
}

fn certificate(row: &NodeRow, now: Millis) -> Option<String> {
    let left = row.link.as_ref()?.certificate_expires? - now;
    match left {
        ..=0 => Some("expired".to_owned()),
        1..EXPIRES => Some(format!("expires in {}", duration(left))),
        _ => None,
    }
}

/// What is well and what is not. Pure.
fn judge(all: &Update, links: bool) -> Vec<Part> {
    let now = all.now;
    let part = |part, total: usize, troubles: Vec<Trouble>| Part {
        part,
        healthy: troubles.is_empty(),
        total,
        troubles,
    };
    let trouble = |object: &str, why: Option<String>| {
        why.map(|why| Trouble { object: object.to_owned(), why })
    };
    let nodes = all.nodes.iter().filter_map(|r| trouble(&r.name, node(r, links, now)));
    let pods = all.pods.iter();
    let pods = pods.filter_map(|r| trouble(&format!("{}/{}", r.namespace, r.name), pod(r, now)));
    let devices = all.devices.iter();
    let devices =
        devices.filter_map(|r| trouble(&format!("{}/{}", r.namespace, r.name), device(r)));
    let mut parts = vec![
        part(Name::Nodes, all.nodes.len(), nodes.collect()),
        part(Name::Pods, all.pods.len(), pods.collect()),
        part(Name::Devices, all.devices.len(), devices.collect()),
    ];
    if links {
        let shown = all
            .nodes
            .iter()
            .filter(|r| r.link.as_ref().is_some_and(|link| link.certificate_expires.is_some()));
        let bad = all.nodes.iter().filter_map(|r| trouble(&r.name, certificate(r, now)));
        parts.push(part(Name::Certificates, shown.count(), bad.collect()));
    }
    parts
}

/// The failure that the parts make, if any.
fn verdict(parts: &[Part]) -> Option<CommandError> {
    let bad: Vec<&Part> = parts.iter().filter(|part| !part.healthy).collect();
    let kind = match bad.as_slice() {
        [] => return None,
        [one] => one.part.kind(),
        _ => Kind::Unhealthy,
    };
    let text: Vec<String> = bad
        .iter()
        .map(|part| format!("{} of {} {}", part.troubles.len(), part.total, part.part.text()))
        .collect();
    Some(CommandError::new(kind, format!("not all is well: {}", text.join(", "))))
}

/// Looks, and waits if that is asked for.
///
/// # Errors
/// When something is not well, or nobody answers.
pub fn status(args: &StatusArgs, cx: &Context) -> Result<(), CommandError> {
    cx.block_on(async {
        let (report, verdict) =
            if args.wait { awaited(args, cx).await? } else { once(args, cx).await? };
        match args.output {
            Some(super::JsonOutput::Json) => {
                cx.printer.json(&report)?;
            }
            // Whoever reads the events has the verdict among them.
            None if args.wait && cx.printer.manner().progress == ProgressChoice::Jsonl => {}
            None if args.plain => {
                for line in sentences(&report) {
                    cx.printer.data(api::printable::printable(&line, 400).to_string())?;
                }
            }
            None => print(&report, cx)?,
        }
        verdict.map_or(Ok(()), Err)
    })
}

/// The wait as a step, which fails when all is not well at its end.
async fn awaited(args: &StatusArgs, cx: &Context) -> Result<Looked, CommandError> {
    let mut seen = None;
    let look = async {
        let (report, verdict) = wait(args, cx).await?;
        let why = verdict.as_ref().map(|e| CommandError::new(e.kind, e.message()));
        seen = Some((report, verdict));
        why.map_or(Ok(()), Err)
    };
    let outcome = Progress::wait(&cx.printer, "all is well", look).await;
    match (seen, outcome) {
        (Some(looked), _) => Ok(looked),
        (None, Err(e)) => Err(e),
        (None, Ok(())) => once(args, cx).await,
    }
}

type Looked = (Report, Option<CommandError>);

fn report(all: &Update, fleet: &Fleet) -> Looked {
    let parts = judge(all, fleet.knows_links());
    let verdict = verdict(&parts);
    let report = Report {
        api_version: shape::VERSION,
        kind: "Status",
        at: shape::time(all.now),
        source: fleet.source(),
        healthy: verdict.is_none(),
        parts,
    };
    (report, verdict)
}

async fn once(args: &StatusArgs, cx: &Context) -> Result<Looked, CommandError> {
    let mut fleet = Fleet::open(&args.fleet, Want::default(), cx).await?;
    let all = fleet.first().await?;
    Ok(report(&all, &fleet))
}

/// Until all is well or the time is over; the last look counts then. While nobody answers, somebody
/// may come.
async fn wait(args: &StatusArgs, cx: &Context) -> Result<Looked, CommandError> {
    let end = Instant::now() + args.timeout;
    let mut last: Option<Result<Looked, CommandError>> = None;
    let look = async {
        loop {
            let failed = match follow(args, cx, &mut last).await {
                Ok(()) => return,
                Err(failed) => failed,
            };
            last = Some(Err(failed));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    // Not well in time: what was seen last is told.
    let _ = tokio::time::timeout_at(end, look).await;
    last.unwrap_or_else(|| {
        let text = format!("nobody answered within {} s", args.timeout.as_secs());
        Err(CommandError::new(Kind::TimedOut, text))
    })
}

/// Returns when all is well.
async fn follow(
    args: &StatusArgs,
    cx: &Context,
    last: &mut Option<Result<Looked, CommandError>>,
) -> Result<(), CommandError> {
    let want = Want { watch: true, ..Want::default() };
    let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
    let mut all = fleet.first().await?;
    loop {
        let looked = report(&all, &fleet);
        let well = looked.1.is_none();
        *last = Some(Ok(looked));
        if well {
            return Ok(());
        }
        // Time alone can make a pod late.
        match tokio::time::timeout(Duration::from_secs(5), fleet.next()).await {
            Ok(update) => fleet::merge(&mut all, update?),
            Err(_) => all.now += 5000,
        }
    }
}

/// What `--plain` says. Pure.
fn sentences(report: &Report) -> Vec<String> {
    let mut lines = vec![format!("This comes from {}.", report.source)];
    for part in &report.parts {
        let name = part.part.text();
        let one = name.trim_end_matches('s');
        lines.push(match (part.total, part.troubles.len()) {
            (0, 0) => format!("There are no {name}."),
            (1, 0) => format!("The only {one} is well."),
            (1, _) => format!("The only {one} is not well."),
            (total, 0) => format!("All {total} {name} are well."),
            (total, 1) => format!("1 of {total} {name} is not well."),
            (total, bad) => format!("{bad} of {total} {name} are not well."),
        });
        let troubles = part.troubles.iter().take(SHOWN);
        lines.extend(troubles.map(|t| format!("The {one} {}: {}.", t.object, t.why)));
        if part.troubles.len() > SHOWN {
            lines.push(format!("And {} more {name}.", part.troubles.len() - SHOWN));
        }
    }
    lines
}

fn print(report: &Report, cx: &Context) -> Result<(), CommandError> {
    let printer = &cx.printer;
    printer.data(format!("from {}", report.source))?;
    for part in &report.parts {
        let mark = printer.data_mark(if part.healthy { Mark::Ok } else { Mark::Fail });
        let name = part.part.text();
        let well = part.total.saturating_sub(part.troubles.len());
        printer.data(format!("{mark} {name:<13} {well}/{}", part.total))?;
        for trouble in part.troubles.iter().take(SHOWN) {
            let line = format!("    {}: {}", trouble.object, trouble.why);
            printer.data(api::printable::printable(&line, 400).to_string())?;
        }
        if part.troubles.len() > SHOWN {
            printer.data(format!("    and {} more", part.troubles.len() - SHOWN))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::status::row::{Link, TwinRow};

    const NOW: Millis = 1_767_323_045_000;

    fn well() -> Update {
        Update {
            now: NOW,
            nodes: vec![NodeRow {
                name: "edge-1".into(),
                ready: "True".into(),
                link: Some(Link {
                    certificate_expires: Some(NOW + 2 * EXPIRES),
                    ..Link::default()
                }),
                ..NodeRow::default()
            }],
            pods: vec![PodRow {
                namespace: "default".into(),
                name: "web".into(),
                phase: "Running".into(),
                status: "Running".into(),
                ready: 1,
                containers: 1,
                ..PodRow::default()
            }],
            devices: vec![DeviceRow { state: "online".into(), ..DeviceRow::default() }],
            ..Update::default()
        }
    }

    fn code(all: &Update) -> u8 {
        verdict(&judge(all, true)).map_or(0, |e| e.kind as u8)
    }

    #[test]
    fn the_exit_code_names_the_part_that_is_not_well() {
        assert_eq!(code(&well()), 0);
        let mut all = well();
        all.nodes[0].ready = "False".into();
        assert_eq!(code(&all), 31);
        let mut all = well();
        (all.pods[0].status, all.pods[0].ready) = ("CrashLoopBackOff".into(), 0);
        assert_eq!(code(&all), 32);
        all.pods[0].created = Some(NOW - 1000);
        assert_eq!(code(&all), 0, "it has only just been made");
        let mut all = well();
        all.devices[0].twins = vec![TwinRow { desired: Some("1".into()), ..TwinRow::default() }];
        assert_eq!(code(&all), 33);
        let mut all = well();
        all.nodes[0].link.as_mut().unwrap().certificate_expires = Some(NOW + 1);
        assert_eq!(code(&all), 34);
        all.devices[0].state = "offline".into();
        assert_eq!(code(&all), 3);
    }

    #[test]
    fn a_screen_reader_gets_a_sentence_a_line() {
        let mut all = well();
        all.nodes[0].ready = "False".into();
        let parts = judge(&all, true);
        let report = Report {
            api_version: shape::VERSION,
            kind: "Status",
            at: String::new(),
            source: "a test".into(),
            healthy: false,
            parts,
        };
        assert_eq!(
            sentences(&report),
            [
                "This comes from a test.",
                "The only node is not well.",
                "The node edge-1: not ready.",
                "The only pod is well.",
                "The only device is well.",
                "The only certificate is well.",
            ]
        );
    }

    #[test]
    fn a_link_counts_only_where_it_is_known() {
        let mut all = well();
        (all.nodes[0].link, all.nodes[0].lost_at) = (None, Some(NOW - 300_000));
        all.nodes[0].lost_why = "nothing was heard for 30 s".into();
        let parts = judge(&all, true);
        assert_eq!(parts[0].troubles[0].why, "not connected for 5m: nothing was heard for 30 s");
        assert!(judge(&all, false).iter().all(|part| part.healthy));
    }
}
