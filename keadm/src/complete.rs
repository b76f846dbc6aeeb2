//! What a shell is offered beyond flags: kinds, names, namespaces, forms, paths.
//!
//! Owns: the time that a completion may take.
//! Called by: the clap tree, when a shell asks.
//! Never: prints, or says why it has nothing to offer.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use api::status::stream::Update;
use camino::Utf8Path;
use completions::CompletionCandidate;

use crate::context::{Context, Logging, Paths};
use crate::fleet::{Fleet, FleetArgs, Want};
use crate::host::Linux;
use crate::output::shape::Kind;
use crate::printer::{Manner, Printer};

/// Nobody waits longer for a completion.
const LIMIT: Duration = Duration::from_millis(800);

const KINDS: [&str; 5] = ["nodes", "pods", "devices", "devicemodels", "messages"];

fn starting<'a>(
    current: &OsStr,
    all: impl IntoIterator<Item = impl Into<String> + 'a>,
) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    let all = all.into_iter().map(Into::into).filter(|text: &String| text.starts_with(&*begun));
    all.map(CompletionCandidate::new).collect()
}

/// `nodes`, `pods` ..
pub(crate) fn kinds(current: &OsStr) -> Vec<CompletionCandidate> {
    match current.to_str().and_then(|text| text.split_once('/')) {
        Some(_) => objects(current),
        None => starting(current, KINDS),
    }
}

/// `node/edge-1`
pub(crate) fn objects(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    let Some((kind, _)) = text.split_once('/') else {
        return starting(current, ["node/", "pod/", "device/"]);
    };
    let Ok(of) = Kind::named(kind) else { return Vec::new() };
    let found = fleet().map(|fleet| named(&fleet, of)).unwrap_or_default();
    starting(current, found.into_iter().map(|name| format!("{kind}/{name}")))
}

/// Names of nodes.
pub(crate) fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    starting(current, fleet().map(|fleet| named(&fleet, Kind::Node)).unwrap_or_default())
}

/// Names of devices.
#[cfg(feature = "cloud")]
pub(crate) fn devices(current: &OsStr) -> Vec<CompletionCandidate> {
    starting(current, fleet().map(|fleet| named(&fleet, Kind::Device)).unwrap_or_default())
}

/// Properties of the device that was typed before, with a `=` to go on from.
#[cfg(feature = "cloud")]
pub(crate) fn properties(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = typed_words();
    let devices = fleet().map(|fleet| fleet.devices).unwrap_or_default();
    let of = devices.into_iter().filter(|row| words.contains(&row.name));
    starting(current, of.flat_map(|row| row.twins).map(|twin| format!("{}=", twin.property)))
}

/// Names of pods.
pub(crate) fn pods(current: &OsStr) -> Vec<CompletionCandidate> {
    starting(current, fleet().map(|fleet| named(&fleet, Kind::Pod)).unwrap_or_default())
}

fn typed_words() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Names of the kind that was typed before.
pub(crate) fn names(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(kind) = typed(&typed_words()) else { return Vec::new() };
    let found = fleet().map(|fleet| named(&fleet, kind)).unwrap_or_default();
    starting(current, found)
}

/// Namespaces in which something of the fleet is.
pub(crate) fn namespaces(current: &OsStr) -> Vec<CompletionCandidate> {
    let all: BTreeSet<String> = fleet()
        .map(|fleet| {
            let pods = fleet.pods.into_iter().map(|row| row.namespace);
            pods.chain(fleet.devices.into_iter().map(|row| row.namespace)).collect()
        })
        .unwrap_or_default();
    starting(current, all)
}

/// Forms of the output, and the columns of a table as paths.
pub(crate) fn forms(current: &OsStr) -> Vec<CompletionCandidate> {
    let plain = ["table", "wide", "json", "jsonl", "yaml", "name", "jsonpath={", "custom-columns="];
    let text = current.to_string_lossy();
    let Some(columns) = text.strip_prefix("custom-columns=") else {
        return starting(current, plain);
    };
    // After the last comma, the next column is begun.
    let done = columns.rfind(',').map_or("", |at| &columns[..=at]);
    let offered = paths_of(typed(&typed_words())).into_iter().map(|path| {
        let title = path.rsplit('.').next().unwrap_or_default().to_uppercase();
        format!("custom-columns={done}{title}:{path}")
    });
    starting(current, offered)
}

/// What documents of every kind have, apart from messages and events.
const COMMON: [&str; 2] = [".metadata.name", ".metadata.creationTimestamp"];

/// Fields of a kind that are often sorted by or shown, as docs/output.md has them.
fn fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Node => &[
            ".spec.unschedulable",
            ".status.ready",
            ".status.version",
            ".status.address",
            ".status.runtime",
            ".status.lastReport",
            ".status.link.since",
            ".status.link.from",
            ".status.link.roundTripUs",
            ".status.queue.waiting",
            ".status.queue.unacknowledged",
            ".status.usage.cpuMillis",
            ".status.usage.memory",
        ],
        Kind::Pod => &[
            ".metadata.namespace",
            ".spec.nodeName",
            ".spec.images",
            ".status.phase",
            ".status.summary",
            ".status.ready",
            ".status.restarts",
            ".status.ip",
            ".status.lastReport",
            ".status.hops.edgeToHubUs",
            ".status.usage.cpuMillis",
            ".status.usage.memory",
        ],
        Kind::Device => &[
            ".metadata.namespace",
            ".spec.nodeName",
            ".spec.deviceModelRef.name",
            ".spec.protocol.protocolName",
            ".status.state",
            ".status.inSync",
            ".status.lastOnline",
            ".status.lastReport",
        ],
        Kind::DeviceModel => &[".metadata.namespace", ".spec.protocol", ".spec.properties[*].name"],
        Kind::Message => &[
            ".at",
            ".node",
            ".direction",
            ".messageKind",
            ".object",
            ".size",
            ".firstUs",
            ".secondUs",
            ".outcome",
        ],
        Kind::Event => &[".at", ".type", ".reason", ".object", ".node", ".message", ".count"],
    }
}

/// The paths of a kind; those of all kinds, if none has been typed yet. Pure.
fn paths_of(kind: Option<Kind>) -> Vec<&'static str> {
    match kind {
        Some(kind @ (Kind::Message | Kind::Event)) => fields(kind).to_vec(),
        Some(kind) => COMMON.iter().chain(fields(kind)).copied().collect(),
        None => {
            let all = [Kind::Node, Kind::Pod, Kind::Device].into_iter().flat_map(fields);
            let all: BTreeSet<&str> = COMMON.iter().chain(all).copied().collect();
            all.into_iter().collect()
        }
    }
}

/// Paths for `--sort-by`.
pub(crate) fn paths(current: &OsStr) -> Vec<CompletionCandidate> {
    starting(current, paths_of(typed(&typed_words())))
}

/// The kind behind the command, among the words of a command line that a shell hands over. Pure.
fn typed(words: &[String]) -> Option<Kind> {
    if words.iter().any(|w| w == "events") {
        return Some(Kind::Event);
    }
    let command = words.iter().position(|w| matches!(w.as_str(), "get" | "describe" | "top"))?;
    words[command + 1..].iter().find_map(|word| Kind::named(word).ok())
}

fn named(fleet: &Update, kind: Kind) -> Vec<String> {
    match kind {
        Kind::Node => fleet.nodes.iter().map(|row| row.name.clone()).collect(),
        Kind::Pod => fleet.pods.iter().map(|row| row.name.clone()).collect(),
        Kind::Device => fleet.devices.iter().map(|row| row.name.clone()).collect(),
        Kind::DeviceModel | Kind::Message | Kind::Event => Vec::new(),
    }
}

/// What there is, if somebody answers at once.
fn fleet() -> Option<Update> {
    let manner =
        Manner { quiet: true, ..Manner::of(Default::default(), Default::default(), true, true) };
    let root = std::env::var("KEADM_ROOT").unwrap_or_else(|_| "/".to_owned());
    let paths = Paths::below(Utf8Path::new(&root));
    let cx = Context {
        printer: Printer::new(manner, Box::new(std::io::sink()), Box::new(std::io::sink())),
        host: Arc::new(Linux::new(paths.clone())),
        paths,
        logging: Logging::default(),
    };
    let args = FleetArgs::from_environment(LIMIT);
    cx.block_on(async {
        let asked = async { Fleet::open(&args, Want::default(), &cx).await?.first().await };
        Ok(tokio::time::timeout(LIMIT, asked).await.ok().and_then(Result::ok))
    })
    .ok()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table;

    fn offered(found: Vec<CompletionCandidate>) -> Vec<String> {
        found.iter().map(|c| c.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn kinds_forms_and_paths_are_offered_as_far_as_they_are_typed() {
        assert_eq!(offered(kinds(OsStr::new("de"))), ["devices", "devicemodels"]);
        assert_eq!(offered(forms(OsStr::new("js"))), ["json", "jsonl", "jsonpath={"]);
        assert_eq!(offered(paths(OsStr::new(".spec.n"))), [".spec.nodeName"]);
        let next = offered(forms(OsStr::new("custom-columns=A:.x,PH")));
        assert_eq!(next, ["custom-columns=A:.x,PHASE:.status.phase"]);
    }

    #[test]
    fn the_kind_is_taken_from_the_words_before() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(typed(&words("keadm -- keadm get pods w")), Some(Kind::Pod));
        assert_eq!(typed(&words("keadm -- keadm -q describe node e")), Some(Kind::Node));
        assert_eq!(typed(&words("keadm -- keadm get")), None);
        assert_eq!(typed(&words("keadm -- keadm events -o x")), Some(Kind::Event));
        assert_eq!(typed(&words("keadm -- keadm ctl get pods w")), Some(Kind::Pod));
    }

    #[test]
    fn columns_are_those_of_the_kind_that_was_typed() {
        assert!(paths_of(Some(Kind::Pod)).contains(&".status.restarts"));
        assert!(!paths_of(Some(Kind::Node)).contains(&".status.restarts"));
        assert!(!paths_of(Some(Kind::Message)).contains(&".metadata.name"));
        let all = paths_of(None);
        assert!(all.contains(&".status.restarts") && all.contains(&".status.version"));
    }

    #[test]
    fn every_path_that_is_offered_is_one_of_the_documents() {
        let documented = include_str!("../../docs/output.md");
        for kind in [Kind::Node, Kind::Pod, Kind::Device, Kind::Message, Kind::Event] {
            for path in paths_of(Some(kind)) {
                let last = path.rsplit('.').next().unwrap_or_default();
                assert!(documented.contains(&format!("\"{last}\"")), "{path} of {kind:?}");
            }
        }
    }

    #[test]
    fn every_column_of_a_table_has_a_title_of_its_own() {
        for kind in [Kind::Node, Kind::Pod, Kind::Device, Kind::DeviceModel, Kind::Message] {
            let titles: Vec<_> = table::columns(kind, true, true).iter().map(|c| c.title).collect();
            let unique: BTreeSet<_> = titles.iter().collect();
            assert_eq!(unique.len(), titles.len(), "{titles:?}");
        }
    }
}
