//! `keadm ctl logs`: the log of a container on this node.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use serde_json::Value;
use tokio::time::timeout;

use crate::commands::NamespaceArg;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::node_api::NodeApiArgs;
use crate::pod_name::PodName;

/// Which log, and which part of it.
#[derive(clap::Args, Debug)]
pub struct LogsArgs {
    /// The pod
    #[arg(value_name = "POD", add = completions::ArgValueCompleter::new(crate::complete::pods))]
    pod: String,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// The container [default: the first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Go on as lines are written
    #[arg(short, long)]
    follow: bool,
    /// The log of the container's last run
    #[arg(short, long)]
    previous: bool,
    /// Only the last so many lines; -1 is all
    #[arg(long, value_name = "LINES", default_value_t = -1, allow_hyphen_values = true)]
    tail: i64,
    /// Only what was written in the last so long, for example `10m`
    #[arg(long, value_name = "DURATION", value_parser = crate::commands::duration, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// The same in seconds, as KubeEdge has it
    #[arg(long, visible_alias = "since-seconds", value_name = "SECONDS", conflicts_with_all = ["since", "since_time"])]
    since_second: Option<u32>,
    /// Only what was written after this time: `2026-01-02T03:04:05Z`
    #[arg(long, value_name = "TIME")]
    since_time: Option<jiff::Timestamp>,
    /// Only the first so many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    api: NodeApiArgs,
}

impl LogsArgs {
    /// The path and its parameters. Pure.
    fn path(&self, pod: &PodName, container: &str) -> String {
        let mut query = Vec::new();
        let mut flag = |name: &str, on: bool| {
            if on {
                query.push(format!("{name}=true"));
            }
        };
        flag("follow", self.follow);
        flag("previous", self.previous);
        flag("timestamps", self.timestamps);
        if let Ok(lines) = u64::try_from(self.tail) {
            query.push(format!("tailLines={lines}"));
        }
        let since = self.since.map(|d| d.as_secs().max(1));
        if let Some(seconds) = since.or(self.since_second.filter(|n| *n > 0).map(u64::from)) {
            query.push(format!("sinceSeconds={seconds}"));
        }
        if let Some(time) = self.since_time {
            query.push(format!("sinceTime={}", time.to_string().replace(':', "%3A")));
        }
        if let Some(bytes) = self.limit_bytes {
            query.push(format!("limitBytes={bytes}"));
        }
        let PodName { namespace, name } = pod;
        format!("/containerLogs/{namespace}/{name}/{container}?{}", query.join("&"))
    }
}

/// The container that is meant, among those of a pod. Pure.
fn container(args: &LogsArgs, pod: &Value, cx: &Context) -> Result<String, CommandError> {
    let named = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (main, init) = (named("containers"), named("initContainers"));
    match &args.container {
        Some(name) if main.contains(name) || init.contains(name) => Ok(name.clone()),
        Some(name) => {
            let text = format!("pod `{}` has no container `{name}`", args.pod);
            let all: Vec<String> = main.into_iter().chain(init).collect();
            Err(CommandError::new(Kind::NotFound, text).hint(format!("it has {}", all.join(", "))))
        }
        None => {
            let first = main.first().cloned().ok_or_else(|| {
                CommandError::new(Kind::NotFound, format!("pod `{}` has no container", args.pod))
            })?;
            if main.len() > 1 {
                let all = main.join(", ");
                cx.printer
                    .say(format!("note: this is container `{first}` of {all}; `-c` names one"));
            }
            Ok(first)
        }
    }
}

/// Prints it.
pub(super) fn logs(args: &LogsArgs, cx: &Context) -> Result<(), CommandError> {
    let wanted = PodName::read(&args.pod, &args.namespace.namespace)?;
    cx.block_on(async {
        let pods = args.api.pods(cx).await?;
        let pod = pods.iter().find(|pod| {
            pod["metadata"]["name"] == wanted.name.as_str()
                && pod["metadata"]["namespace"] == wanted.namespace.as_str()
        });
        let pod = pod.ok_or_else(|| {
            let text = format!("this node has no pod `{}/{}`", wanted.namespace, wanted.name);
            CommandError::new(Kind::NotFound, text)
                .hint("`keadm ctl get pods -A` shows those that it has")
        })?;
        let path = args.path(&wanted, &container(args, pod, cx)?);
        let mut body = args.api.ask(Method::GET, &path, cx).await?.into_body();
        let mut shown = Shown::new(cx);
        loop {
            // A log that is followed may be quiet for as long as its container is.
            let frame = match args.follow {
                true => body.frame().await,
                false => timeout(args.api.request_timeout, body.frame()).await.map_err(|_| {
                    CommandError::new(Kind::TimedOut, "the log breaks off: nothing more came")
                })?,
            };
            match frame {
                None => return shown.end(),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        shown.add(&piece)?;
                    }
                }
                Some(Err(e)) => {
                    shown.end()?;
                    return Err(
                        CommandError::new(Kind::Unreachable, "the log breaks off").caused_by(&e)
                    );
                }
            }
        }
    })
}

/// Bytes as they are in a pipe; on a terminal no line may command it.
struct Shown<'c> {
    cx: &'c Context,
    terminal: bool,
    held: Vec<u8>,
}

/// A longer line is shown in pieces.
const LINE: usize = 16 << 10;

impl<'c> Shown<'c> {
    fn new(cx: &'c Context) -> Self {
        Self { cx, terminal: cx.printer.manner().columns.is_some(), held: Vec::new() }
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), CommandError> {
        if !self.terminal {
            return Ok(self.cx.printer.bytes(piece)?);
        }
        self.held.extend_from_slice(piece);
        while let Some(end) = self.held.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.held.drain(..=end).collect();
            self.line(&line[..end], true)?;
        }
        if self.held.len() > LINE {
            let piece = std::mem::take(&mut self.held);
            self.line(&piece, false)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), CommandError> {
        let rest = std::mem::take(&mut self.held);
        if rest.is_empty() { Ok(()) } else { self.line(&rest, true) }
    }

    fn line(&self, line: &[u8], whole: bool) -> Result<(), CommandError> {
        let text = String::from_utf8_lossy(line);
        let mut text = api::printable::printable(&text, usize::MAX).to_string();
        if whole {
            text.push('\n');
        }
        Ok(self.cx.printer.bytes(text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        logs: LogsArgs,
    }

    fn args(line: &str) -> LogsArgs {
        Line::parse_from(line.split(' ')).logs
    }

    #[test]
    fn the_flags_become_the_parameters_of_the_kubelets_api() {
        let path = |line: &str| {
            let args = args(line);
            args.path(&PodName::read("web", &args.namespace.namespace).unwrap(), "main")
        };
        assert_eq!(path("logs web"), "/containerLogs/default/web/main?");
        assert_eq!(
            path("logs web -n shop -f -p --tail 5 --since 2m --limit-bytes 9 --timestamps"),
            "/containerLogs/shop/web/main?follow=true&previous=true&timestamps=true&tailLines=5\
             &sinceSeconds=120&limitBytes=9"
        );
        assert_eq!(
            path("logs web --tail -1 --since-time 2026-01-02T03:04:05Z"),
            "/containerLogs/default/web/main?sinceTime=2026-01-02T03%3A04%3A05Z"
        );
    }

    #[test]
    fn the_first_container_is_meant_unless_another_is_named() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}],
                                  "initContainers": [{"name": "i"}]}});
        let (cx, _, said) = crate::testing::capturing(&Fake::default());
        assert_eq!(container(&args("logs web"), &pod, &cx).unwrap(), "a");
        assert!(said.text().contains("container `a` of a, b"), "{}", said.text());
        assert_eq!(container(&args("logs web -c i"), &pod, &cx).unwrap(), "i");
        let e = container(&args("logs web -c x"), &pod, &cx).unwrap_err();
        assert_eq!((e.kind, e.hints()), (Kind::NotFound, &["it has a, b, i".to_owned()][..]));
    }

    #[test]
    fn a_log_goes_as_it_is_into_a_pipe_and_without_commands_to_a_terminal() {
        let (cx, out, _) = crate::testing::capturing(&Fake::default());
        let raw = b"a\x1b[31mb\n\xffhalf";
        let mut shown = Shown::new(&cx);
        shown.add(raw).unwrap();
        shown.end().unwrap();
        assert_eq!(out.bytes(), raw);
        let (cx, out, _) = crate::testing::capturing(&Fake::default());
        let mut shown = Shown { terminal: true, ..Shown::new(&cx) };
        shown.add(b"a\x1b[31mb\nha").unwrap();
        shown.add(b"lf").unwrap();
        shown.end().unwrap();
        let text = out.text();
        assert!(!text.contains('\x1b') && text.ends_with("half\n"), "{text:?}");
    }
}
