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

/// Names of the kind that was typed before.
pub(crate) fn names(current: &OsStr) -> Vec<CompletionCandidate> {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some(kind) = typed(&words) else { return Vec::new() };
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
    let offered = PATHS.map(|path| {
        let title = path.rsplit('.').next().unwrap_or_default().to_uppercase();
        format!("custom-columns={done}{title}:{path}")
    });
    starting(current, offered)
}

/// Paths that are often sorted by or shown.
const PATHS: [&str; 12] = [
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.creationTimestamp",
    ".spec.nodeName",
    ".status.phase",
    ".status.summary",
    ".status.restarts",
    ".status.ready",
    ".status.lastReport",
    ".status.version",
    ".status.queue.waiting",
    ".status.usage.memory",
];

/// Paths for `--sort-by`.
pub(crate) fn paths(current: &OsStr) -> Vec<CompletionCandidate> {
    starting(current, PATHS)
}

/// The kind behind the command, among the words of a command line that a shell hands over. Pure.
fn typed(words: &[String]) -> Option<Kind> {
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
        assert_eq!(offered(paths(OsStr::new(".spec"))), [".spec.nodeName"]);
        let next = offered(forms(OsStr::new("custom-columns=A:.x,PH")));
        assert_eq!(next, ["custom-columns=A:.x,PHASE:.status.phase"]);
    }

    #[test]
    fn the_kind_is_taken_from_the_words_before() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(typed(&words("keadm -- keadm get pods w")), Some(Kind::Pod));
        assert_eq!(typed(&words("keadm -- keadm -q describe node e")), Some(Kind::Node));
        assert_eq!(typed(&words("keadm -- keadm get")), None);
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
