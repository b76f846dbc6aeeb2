//! What the server is asked for: logs, YAML, and what changes something, which needs a yes first. Pure.

use api::status::row::{RowKey, RowKind};
use api::status::stream::Request;
use api::status::upgrades::WAITING;

use super::{Effect, chosen};
use crate::keys::Action;
use crate::rows;
use crate::state::{Confirm, Layer, Logs, Prompt, Purpose, State};

/// Lines of a log that are asked for first.
const LOG_TAIL: u32 = 1000;

fn split(key: &RowKey) -> (String, String) {
    let (namespace, name) = key.key.split_once('/').unwrap_or(("", &key.key));
    (namespace.to_owned(), name.to_owned())
}

fn refuse(state: &mut State, what: &str) {
    let server = state.hello.as_ref().map_or("nobody", |h| h.server.as_str()).to_owned();
    state.say(format!("{what} is not possible here: {server} serves this stream"), true);
}

pub(super) fn open_logs(state: &mut State) -> Vec<Effect> {
    let Some(key) = chosen(state) else { return Vec::new() };
    if !state.can("logs") {
        refuse(state, "reading logs");
        return Vec::new();
    }
    let (namespace, pod) = split(&key);
    state.last_request += 1;
    let id = state.last_request;
    state.layers.push(Layer::Logs(Logs { id, title: key.key, follow: true, ..Logs::default() }));
    let request = Request::Logs {
        namespace,
        pod,
        container: String::new(),
        follow: true,
        tail: Some(LOG_TAIL),
    };
    vec![Effect::Request { id, request }]
}

pub(super) fn open_yaml(state: &mut State) -> Vec<Effect> {
    let Some(key) = chosen(state) else { return Vec::new() };
    if !state.can("yaml") {
        refuse(state, "showing YAML");
        return Vec::new();
    }
    state.last_request += 1;
    let id = state.last_request;
    state.layers.push(Layer::Yaml { id, title: key.key.clone(), text: None, scroll: 0 });
    vec![Effect::Request { id, request: Request::Yaml { key } }]
}

pub(super) fn ask(state: &mut State, action: Action) {
    let Some(key) = chosen(state) else { return };
    let (namespace, name) = split(&key);
    // An edge's own stream is found with a flag.
    let here = if state.hello.as_ref().is_some_and(|h| h.node.is_some()) { " --local" } else { "" };
    let (verb, question, command, request) = match action {
        Action::Delete => (
            "deletePod",
            format!("delete pod {}?", key.key),
            format!("keadm delete pod -n {namespace} {name}"),
            Request::DeletePod { namespace, pod: name, grace_period: None },
        ),
        Action::Restart => (
            "restartPod",
            format!("restart the containers of pod {}?", key.key),
            format!("keadm restart pod -n {namespace} {name}{here}"),
            Request::RestartPod { namespace, pod: name, dry_run: false },
        ),
        Action::Drain => (
            "drain",
            format!("drain node {name}: let no new pods onto it and evict those on it?"),
            format!("keadm drain {name}"),
            Request::Drain { node: name },
        ),
        Action::Confirm => {
            let upgrade = state.nodes.get(&key.key).and_then(|e| e.row.upgrade.clone());
            let waits = upgrade.filter(|u| u.state == WAITING);
            let Some(upgrade) = waits.filter(|_| state.can("confirmUpgrade")) else {
                if state.can("confirmUpgrade") {
                    state.say(format!("node {name} has no upgrade that waits for a yes"), true);
                } else {
                    refuse(state, "confirming an upgrade");
                }
                return;
            };
            (
                "confirmUpgrade",
                format!(
                    "upgrade node {name} {} now? its edgecore is replaced",
                    rows::versions(&upgrade)
                ),
                format!("keadm confirm upgrade {name}{here}"),
                Request::ConfirmUpgrade { node: name },
            )
        }
        _ => {
            let on = !state.nodes.get(&key.key).is_some_and(|e| e.row.cordoned);
            let verb = if on { "cordon" } else { "uncordon" };
            (
                "cordon",
                format!("{verb} node {name}?"),
                format!("keadm {verb} {name}"),
                Request::Cordon { node: name, on },
            )
        }
    };
    if state.can(verb) {
        state.confirm = Some(Confirm { question, command, request });
    } else {
        let doing = match action {
            Action::Delete => "deleting a pod",
            Action::Restart => "restarting a pod",
            Action::Drain => "draining a node",
            _ => "cordoning a node",
        };
        refuse(state, doing);
    }
}

pub(super) fn edit(state: &mut State) {
    let Some(key) = chosen(state) else { return };
    if key.kind != RowKind::Device {
        return;
    }
    if !state.can("setDesired") {
        refuse(state, "setting desired values");
        return;
    }
    let text = next_property(state, &key, "");
    if text.is_empty() {
        state.say("this device has no property that the cloud sets", true);
    } else {
        state.prompt = Some(Prompt { text, purpose: Purpose::Desired { device: key } });
    }
}

/// `property=desired` of the property after the one that is written; those that have a desired value
/// come first. Empty if there is none.
pub(super) fn next_property(state: &State, device: &RowKey, written: &str) -> String {
    let Some(entry) = state.devices.get(&device.key) else { return String::new() };
    let mut twins: Vec<_> = entry.row.twins.iter().collect();
    twins.sort_by_key(|t| t.desired.is_none());
    let now = written.split('=').next().unwrap_or_default();
    let at = twins.iter().position(|t| t.property == now);
    let next = at.map_or(0, |at| (at + 1) % twins.len().max(1));
    twins.get(next).map_or_else(String::new, |t| {
        format!("{}={}", t.property, t.desired.as_deref().unwrap_or_default())
    })
}
