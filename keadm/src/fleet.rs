//! The fleet as commands see it: rows, events and messages, from a status stream where there is one,
//! else from the Kubernetes API.
//!
//! Owns: which of them answers, and the word about it when it is not the best one.
//! Called by: `get`, `describe`, `status`, `top`, `events`, and the completion of names.
//! Never: changes anything that it was not asked to change.

mod find;
#[cfg(feature = "cloud")]
mod kubernetes;
mod stream;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api::status::row::{Row, RowKey};
use api::status::stream::{Request, Update};
use camino::Utf8PathBuf;

use crate::commands::RequestTimeoutArg;
use crate::context::Context;
#[cfg(feature = "edge")]
use crate::environment;
use crate::errors::CommandError;
#[cfg(feature = "cloud")]
use crate::errors::Kind;

pub use find::{EDGE_SOCKET, Endpoint, endpoint};
#[cfg(all(feature = "cloud", feature = "dashboard"))]
pub(crate) use find::{reachable, without_stream};
#[cfg(feature = "cloud")]
pub(crate) use kubernetes::list;
pub use stream::StreamReader;

/// Where to look.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Where to look")]
pub struct FleetArgs {
    /// The status stream: a socket of this machine, or `https://HOST:10002` of a cloudcore
    #[arg(long, value_name = "SOCKET|URL", env = "KEADM_ENDPOINT", hide_env_values = true)]
    pub endpoint: Option<String>,
    /// Ask the edge half of this machine, which answers also while the cloud is unreachable
    #[arg(long)]
    pub local: bool,
    /// The folder of the `keadm up` that runs here, if it was told another one
    #[arg(long, value_name = "DIR", env = "KEADM_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<Utf8PathBuf>,
    /// The CA of a cloudcore named with `--endpoint` [default: as its cluster publishes it]
    #[arg(long, value_name = "FILE", env = "KEADM_CERTIFICATE_AUTHORITY", hide_env_values = true)]
    pub certificate_authority: Option<Utf8PathBuf>,
    /// A file with a Kubernetes bearer token to read with [default: what the kubeconfig has]
    #[arg(long, value_name = "FILE", env = "KEADM_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<Utf8PathBuf>,
    /// The longest wait for an answer.
    #[command(flatten)]
    pub limit: RequestTimeoutArg,
    /// The API server, where no stream answers.
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    pub kube: crate::cloud::KubeConfigArg,
}

impl FleetArgs {
    /// To ask this machine's own edge half, unless another place is written. What the environment
    /// names is where others look.
    #[cfg(feature = "edge")]
    pub(crate) fn ask_this_node(&mut self) {
        let written = |named: &str| environment::comes_from("endpoint", named).is_none();
        self.local |= !self.endpoint.as_deref().is_some_and(written);
    }

    /// As without any flag: only the environment says something.
    pub(crate) fn from_environment(limit: Duration) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            endpoint: variable("KEADM_ENDPOINT"),
            local: false,
            data_dir: variable("KEADM_DATA_DIR").map(Into::into),
            certificate_authority: variable("KEADM_CERTIFICATE_AUTHORITY").map(Into::into),
            token_file: variable("KEADM_TOKEN_FILE").map(Into::into),
            limit: RequestTimeoutArg { request_timeout: limit },
            #[cfg(feature = "cloud")]
            kube: crate::cloud::KubeConfigArg {
                kube_config: variable("KUBECONFIG").map(Into::into),
                context: variable("KEADM_CONTEXT"),
            },
        }
    }
}

/// What a command wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Want {
    /// Events.
    pub events: bool,
    /// The message flow, which only a stream has.
    pub flow: bool,
    /// What nodes and pods use, kept up to date: a stream asks the nodes, the Kubernetes API may have
    /// metrics.
    pub usage: bool,
    /// Changes after the first answer.
    pub watch: bool,
    /// An API server that cannot be reached any more is an error; else it is asked until it answers.
    pub until_lost: bool,
}

/// Who answers.
pub enum Fleet {
    /// A status stream.
    Stream(Box<StreamReader>),
    /// The API server.
    #[cfg(feature = "cloud")]
    Kubernetes(Box<kubernetes::Watching>),
}

impl Fleet {
    /// Finds somebody who answers.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn open(args: &FleetArgs, want: Want, cx: &Context) -> Result<Self, CommandError> {
        #[cfg_attr(
            not(feature = "cloud"),
            expect(clippy::infallible_destructuring_match, reason = "with `cloud` there are two")
        )]
        let mut reader = match find::stream(args, cx).await? {
            find::Found::Stream(reader) => reader,
            #[cfg(feature = "cloud")]
            find::Found::Kubernetes(cloud, why) => {
                if want.flow {
                    return Err(CommandError::new(
                        Kind::Unreachable,
                        "only a status stream shows messages, and none answers",
                    )
                    .because(why)
                    .hint("`keadm get messages --endpoint https://HOST:10002` names one"));
                }
                cx.printer.say(format!(
                    "note: this comes from the Kubernetes API at `{}`: {why}",
                    cloud.server
                ));
                let limit = args.limit.request_timeout;
                let watching = kubernetes::Watching::begin(*cloud, want, limit).await?;
                return Ok(Self::Kubernetes(Box::new(watching)));
            }
        };
        if want.flow {
            reader.flow().await?;
        }
        if want.usage {
            reader.usage().await?;
        }
        Ok(Self::Stream(reader))
    }

    /// What a cluster's API server has.
    ///
    /// # Errors
    /// None so far; the first answer has them.
    #[cfg(all(feature = "cloud", feature = "dashboard"))]
    pub(crate) async fn of_cluster(
        cloud: crate::cloud::Cloud,
        want: Want,
        limit: Duration,
    ) -> Result<Self, CommandError> {
        let watching = kubernetes::Watching::begin(cloud, want, limit).await?;
        Ok(Self::Kubernetes(Box::new(watching)))
    }

    /// Everything.
    ///
    /// # Errors
    /// When no answer comes, or none that makes sense.
    pub async fn first(&mut self) -> Result<Update, CommandError> {
        match self {
            Self::Stream(reader) => reader.first().await,
            #[cfg(feature = "cloud")]
            Self::Kubernetes(watching) => watching.first().await,
        }
    }

    /// What changed since. Waits until something does.
    ///
    /// # Errors
    /// When whoever answered answers no longer.
    pub async fn next(&mut self) -> Result<Update, CommandError> {
        match self {
            Self::Stream(reader) => reader.update().await,
            #[cfg(feature = "cloud")]
            Self::Kubernetes(watching) => watching.next().await,
        }
    }

    /// Asks for something to be done; what was done, in words.
    ///
    /// # Errors
    /// When it is refused, or whoever answers cannot do it.
    pub async fn request(&mut self, request: Request) -> Result<String, CommandError> {
        match self {
            Self::Stream(reader) => reader.request(request).await,
            #[cfg(feature = "cloud")]
            Self::Kubernetes(watching) => watching.request(request).await,
        }
    }

    /// Who answers, in words.
    pub fn source(&self) -> String {
        match self {
            Self::Stream(reader) => {
                format!("the status stream of {} at {}", reader.hello().server, reader.endpoint())
            }
            #[cfg(feature = "cloud")]
            Self::Kubernetes(watching) => format!("the Kubernetes API at {}", watching.server()),
        }
    }

    /// Whether links, queues and hop times are known. The Kubernetes API has none of them.
    pub fn knows_links(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// The rows of an update, with their kinds.
pub fn rows(update: &Update) -> impl Iterator<Item = Row> {
    let nodes = update.nodes.iter().cloned().map(Row::Node);
    let pods = update.pods.iter().cloned().map(Row::Pod);
    nodes.chain(pods).chain(update.devices.iter().cloned().map(Row::Device))
}

/// Adds a later update to an earlier one, so that it is as if it had been told at once.
pub fn merge(into: &mut Update, later: Update) {
    if later.full {
        *into = later;
        return;
    }
    let gone: HashSet<RowKey> = later.gone.into_iter().collect();
    put(&mut into.nodes, later.nodes, &gone, |row| RowKey::node(&row.name));
    put(&mut into.pods, later.pods, &gone, |row| RowKey::pod(&row.namespace, &row.name));
    put(&mut into.devices, later.devices, &gone, |row| RowKey::device(&row.namespace, &row.name));
    into.events.extend(later.events);
    into.messages.extend(later.messages);
    (into.now, into.totals, into.more) = (later.now, later.totals, later.more);
}

/// Takes away the rows that are gone and puts new ones in, each in the place of the one before.
fn put<T>(all: &mut Vec<T>, new: Vec<T>, gone: &HashSet<RowKey>, key: impl Fn(&T) -> RowKey) {
    if !gone.is_empty() {
        all.retain(|row| !gone.contains(&key(row)));
    }
    if new.is_empty() {
        return;
    }
    let mut places: HashMap<RowKey, usize> =
        all.iter().enumerate().map(|(at, row)| (key(row), at)).collect();
    for row in new {
        let at = *places.entry(key(&row)).or_insert(all.len());
        match all.get_mut(at) {
            Some(old) => *old = row,
            None => all.push(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::status::row::{NodeRow, PodRow};

    #[test]
    fn updates_add_up_to_what_is_there_now() {
        let node = |name: &str, version: &str| NodeRow {
            name: name.into(),
            version: version.into(),
            ..NodeRow::default()
        };
        let pod = PodRow { namespace: "d".into(), name: "p".into(), ..PodRow::default() };
        let mut all = Update {
            nodes: vec![node("a", "1"), node("b", "1")],
            pods: vec![pod],
            ..Update::default()
        };
        merge(
            &mut all,
            Update {
                now: 7,
                nodes: vec![node("b", "2"), node("c", "1")],
                gone: vec![RowKey::node("a"), RowKey::pod("d", "p")],
                ..Update::default()
            },
        );
        let names: Vec<_> =
            all.nodes.iter().map(|n| (n.name.as_str(), n.version.as_str())).collect();
        assert_eq!(names, [("b", "2"), ("c", "1")]);
        assert_eq!((all.pods.len(), all.now), (0, 7));
        merge(&mut all, Update { full: true, ..Update::default() });
        assert!(all.nodes.is_empty());
    }
}
