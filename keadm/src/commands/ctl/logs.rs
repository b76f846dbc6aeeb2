//! `keadm ctl logs`: the log of a container on this node.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use tokio::time::timeout;

use super::shown::Shown;
use super::which;
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

/// Prints it.
pub(super) fn logs(args: &LogsArgs, cx: &Context) -> Result<(), CommandError> {
    let wanted = PodName::read(&args.pod, &args.namespace.namespace)?;
    cx.block_on(async {
        let pod = which::pod(&args.api, &wanted, cx).await?;
        let container = which::container(args.container.as_deref(), &wanted, &pod, cx)?;
        let path = args.path(&wanted, &container);
        let mut body = args.api.ask(Method::GET, &path, cx).await?.into_body();
        let mut shown = Shown::new(cx);
        loop {
            // A log that is followed may be quiet for as long as its container is.
            let frame = match args.follow {
                true => body.frame().await,
                false => {
                    timeout(args.api.at.request_timeout, body.frame()).await.map_err(|_| {
                        CommandError::new(Kind::TimedOut, "the log breaks off: nothing more came")
                    })?
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

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
}
