//! `keadm get`: nodes, pods, devices, device models and messages, in any form.

#[cfg(feature = "cloud")]
mod models;

use std::collections::BTreeMap;
use std::time::Duration;

use api::status::row::Millis;
use api::status::stream::Update;
use serde_json::Value;
use tokio::time::Instant;

use crate::context::Context;
use crate::errors::{CommandError, Kind as Failure};
use crate::fleet::{self, Fleet, FleetArgs, Want};
use crate::output::jsonpath::Template;
use crate::output::print::{Change, Writer};
use crate::output::select::{Fields, Labels, sort, sort_by};
use crate::output::shape::{self, Kind};
use crate::output::{Form, OutputArgs, table};

/// List nodes, pods, devices, device models or messages
///
/// They come from cloudcore's status stream, which also knows what is on its way; where none answers,
/// from the Kubernetes API, and a note says so. `keadm get messages` listens to what passes between
/// cloud and edge.
#[derive(clap::Args, Debug, Clone)]
pub struct GetArgs {
    /// What: nodes, pods, devices, devicemodels or messages; or KIND/NAME
    #[arg(value_name = "KIND", add = completions::ArgValueCompleter::new(crate::complete::kinds))]
    what: String,
    /// Only these
    #[arg(value_name = "NAME", add = completions::ArgValueCompleter::new(crate::complete::names))]
    names: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Go on, and write what changes
    #[arg(short, long)]
    watch: bool,
    /// How long to listen for messages without `--watch`
    #[arg(long = "for", value_name = "DURATION", default_value = "5s", value_parser = super::duration)]
    listen: Duration,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl GetArgs {
    /// The same asked of this machine's own edge half, unless another place is named.
    #[cfg(feature = "edge")]
    pub(crate) fn local(&self) -> Self {
        let mut args = self.clone();
        args.fleet.ask_this_node();
        args
    }
}

/// Which objects, and in which order.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct SelectArgs {
    /// The namespace
    #[arg(
        short,
        long,
        value_name = "NAME",
        default_value = "default",
        env = "KEADM_NAMESPACE",
        hide_env_values = true,
        add = completions::ArgValueCompleter::new(crate::complete::namespaces)
    )]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only with these labels, for example `app=web,site in (north,south)`
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<Labels>,
    /// Only with these fields, for example `status.phase!=Running,spec.nodeName=edge-1`
    #[arg(long, value_name = "FIELDS")]
    pub field_selector: Option<Fields>,
    /// Sort by what this path finds, for example `.status.restarts`
    #[arg(long, value_name = "PATH", value_parser = Template::path, add = completions::ArgValueCompleter::new(crate::complete::paths))]
    pub sort_by: Option<Template>,
}

impl SelectArgs {
    /// Whether an object of a kind is asked for. Pure.
    pub fn matches(&self, kind: Kind, object: &Value) -> bool {
        let here = self.all_namespaces
            || !kind.namespaced()
            || object["metadata"]["namespace"] == self.namespace.as_str();
        here && self.selector.as_ref().is_none_or(|labels| labels.matches(object))
            && self.field_selector.as_ref().is_none_or(|fields| fields.matches(object))
    }

    /// Sorts as asked; by name otherwise.
    ///
    /// # Errors
    /// When none of them has what is asked for.
    pub fn sort(&self, objects: &mut [Value]) -> Result<(), CommandError> {
        if let Ok(name) = Template::path(".metadata.name") {
            sort(objects, &name);
        }
        if self.all_namespaces
            && let Ok(namespace) = Template::path(".metadata.namespace")
        {
            sort(objects, &namespace);
        }
        self.sort_by.as_ref().map_or(Ok(()), |by| sort_by(objects, by))
    }
}

/// A kind and names, from `pods web` or `pod/web`.
///
/// # Errors
/// When there is no such kind, or names of two kinds are mixed.
pub(crate) fn target(what: &str, names: &[String]) -> Result<(Kind, Vec<String>), CommandError> {
    let usage = |text: String| CommandError::new(Failure::Usage, text);
    let (first, name) = what.split_once('/').map_or((what, None), |(k, n)| (k, Some(n)));
    let kind = Kind::named(first).map_err(usage)?;
    let mut all: Vec<String> = name.map(str::to_owned).into_iter().collect();
    for given in names {
        match given.split_once('/') {
            Some((other, name)) if Kind::named(other).map_err(usage)? == kind => {
                all.push(name.to_owned());
            }
            Some((other, _)) => {
                return Err(usage(format!("`{other}` and `{first}` cannot be asked for at once")));
            }
            None => all.push(given.clone()),
        }
    }
    if all.iter().any(String::is_empty) {
        return Err(usage(format!("`{what}` names nothing after the `/`")));
    }
    Ok((kind, all))
}

/// The objects of a kind in an update. Pure.
pub(crate) fn objects(kind: Kind, update: &Update) -> Vec<Value> {
    match kind {
        Kind::Message => update.messages.iter().map(shape::message).collect(),
        Kind::Event => {
            // As kubectl has them: the one seen last comes last, whatever came first to us.
            let mut all: Vec<_> = update.events.iter().collect();
            all.sort_by_key(|event| event.at);
            all.into_iter().map(shape::event).collect()
        }
        Kind::DeviceModel => Vec::new(),
        Kind::Node | Kind::Pod | Kind::Device => {
            let name = kind.singular();
            let all = fleet::rows(update).map(|row| shape::row(&row));
            all.filter(|object| {
                object["kind"].as_str().is_some_and(|k| k.eq_ignore_ascii_case(name))
            })
            .collect()
        }
    }
}

/// Lists.
///
/// # Errors
/// When nobody answers, or something that was asked for by name is not there.
pub fn get(args: &GetArgs, cx: &Context) -> Result<(), CommandError> {
    let (kind, names) = target(&args.what, &args.names)?;
    if kind == Kind::Event {
        return Err(CommandError::new(Failure::Usage, "events have a command of their own")
            .hint("`keadm events`, `keadm events --follow`"));
    }
    cx.block_on(async {
        match kind {
            Kind::DeviceModel => models::models(args, &names, cx).await,
            Kind::Message => messages(args, cx).await,
            _ => rows(args, kind, &names, cx).await,
        }
    })
}

/// Those of `all` that are asked for, and an error for names that are not among them.
///
/// # Errors
/// When they cannot be sorted as asked.
fn chosen(
    args: &GetArgs,
    kind: Kind,
    names: &[String],
    all: Vec<Value>,
) -> Result<(Vec<Value>, Result<(), CommandError>), CommandError> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<Value> = all
        .into_iter()
        .filter(|object| args.select.matches(kind, object))
        .filter(|object| names.is_empty() || names.contains(&name(object)))
        .collect();
    args.select.sort(&mut found)?;
    let missing: Vec<&String> =
        names.iter().filter(|wanted| !found.iter().any(|o| name(o) == **wanted)).collect();
    let outcome = match missing.first() {
        None => Ok(()),
        Some(missing) => Err(not_found(kind, missing, &args.select)),
    };
    Ok((found, outcome))
}

/// That there is none of that name.
pub(crate) fn not_found(kind: Kind, name: &str, select: &SelectArgs) -> CommandError {
    let one = kind.singular();
    if !kind.namespaced() || select.all_namespaces {
        return CommandError::new(Failure::NotFound, format!("there is no {one} `{name}`"))
            .hint(format!("`keadm get {}` shows those that there are", kind.plural()));
    }
    let place = &select.namespace;
    CommandError::new(
        Failure::NotFound,
        format!("there is no {one} `{name}` in the namespace `{place}`"),
    )
    .hint("`-A` looks in all namespaces, `-n NAME` in another")
}

/// The word on standard error when there is nothing to show.
pub(crate) fn nothing(kind: Kind, select: &SelectArgs, cx: &Context) {
    let all = kind.plural();
    if kind.namespaced() && !select.all_namespaces {
        let place = &select.namespace;
        cx.printer.say(format!("no {all} in the namespace `{place}`; `-A` looks in all"));
    } else {
        cx.printer.say(format!("no {all}"));
    }
}

async fn rows(
    args: &GetArgs,
    kind: Kind,
    names: &[String],
    cx: &Context,
) -> Result<(), CommandError> {
    let want = Want { watch: args.watch, ..Want::default() };
    let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
    let first = fleet.first().await?;
    let (found, outcome) = chosen(args, kind, names, objects(kind, &first))?;
    let mut writer = Writer::new(&cx.printer, &args.output, kind, args.select.all_namespaces);
    if !args.watch {
        if found.is_empty() && names.is_empty() {
            nothing(kind, &args.select, cx);
        }
        writer.all(&found, names.len() == 1, first.now)?;
        return outcome;
    }
    let mut held = BTreeMap::new();
    write_first(&mut writer, found, &mut held, &args.output.output, first.now)?;
    loop {
        let update = fleet.next().await?;
        let wanted = |object: &Value| {
            let named = names.is_empty() || names.iter().any(|n| object["metadata"]["name"] == **n);
            named && args.select.matches(kind, object)
        };
        for (change, object) in changes(kind, &update, &mut held, wanted) {
            let key = shape::full_name(&object);
            if change == Change::Deleted {
                writer.changed(change, &object, update.now)?;
                continue;
            }
            let same = |old: &Value| seems_same(&args.output.output, kind, old, &object);
            if !held.get(&key).is_some_and(same) {
                writer.changed(change, &object, update.now)?;
                held.insert(key, object);
            }
        }
    }
}

/// What an update means for whoever watches the objects that are `wanted`: one that is so no longer is
/// gone, as for a watch of Kubernetes. Takes those that are gone out of `held`. Pure.
fn changes(
    kind: Kind,
    update: &Update,
    held: &mut BTreeMap<String, Value>,
    wanted: impl Fn(&Value) -> bool,
) -> Vec<(Change, Value)> {
    let (mut found, strays): (Vec<Value>, Vec<Value>) =
        objects(kind, update).into_iter().partition(wanted);
    found.sort_by_cached_key(shape::full_name);
    let gone = update.gone.iter().filter(|key| key_kind(key.kind) == kind);
    let mut gone: Vec<String> = gone.map(|key| key.key.clone()).collect();
    gone.extend(strays.iter().map(shape::full_name));
    if update.full {
        // Everything there is: what is not in it is gone.
        let there: Vec<String> = found.iter().map(shape::full_name).collect();
        gone.extend(held.keys().filter(|key| !there.contains(key)).cloned());
    }
    let gone = gone.iter().filter_map(|key| held.remove(key));
    let mut all: Vec<(Change, Value)> = gone.map(|object| (Change::Deleted, object)).collect();
    for object in found {
        let known = held.contains_key(&shape::full_name(&object));
        all.push((if known { Change::Modified } else { Change::Added }, object));
    }
    all
}

fn key_kind(kind: api::status::row::RowKind) -> Kind {
    use api::status::row::RowKind;
    match kind {
        RowKind::Node => Kind::Node,
        RowKind::Pod => Kind::Pod,
        RowKind::Device => Kind::Device,
    }
}

fn write_first(
    writer: &mut Writer<'_>,
    found: Vec<Value>,
    held: &mut BTreeMap<String, Value>,
    form: &Form,
    now: Millis,
) -> Result<(), CommandError> {
    match form {
        // Lined up together.
        Form::Table { .. } | Form::CustomColumns(_) | Form::Name => {
            writer.all(&found, false, now)?;
        }
        _ => {
            for object in &found {
                writer.changed(Change::Added, object, now)?;
            }
        }
    }
    held.extend(found.into_iter().map(|object| (shape::full_name(&object), object)));
    Ok(())
}

/// Whether a line for `new` would read as that for `old`: counters that tick are no news to a table.
fn seems_same(form: &Form, kind: Kind, old: &Value, new: &Value) -> bool {
    match form {
        Form::Table { wide } => {
            let columns = table::columns(kind, *wide, true);
            columns.iter().all(|c| c.cell(old, 0) == c.cell(new, 0))
        }
        Form::Name => true,
        Form::CustomColumns(paths) => paths.iter().all(|(_, p)| p.values(old) == p.values(new)),
        Form::JsonPath(template) => template.render(old) == template.render(new),
        _ => old == new,
    }
}

async fn messages(args: &GetArgs, cx: &Context) -> Result<(), CommandError> {
    let want = Want { flow: true, watch: true, ..Want::default() };
    let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
    if !args.watch {
        let seconds = args.listen.as_secs_f32();
        cx.printer.say(format!("listening for {seconds} s; `--watch` goes on"));
    }
    let end = Instant::now() + args.listen;
    let mut writer = Writer::new(&cx.printer, &args.output, Kind::Message, false);
    let mut all = Vec::new();
    let mut now = 0;
    let mut dropped = false;
    loop {
        let update = if args.watch {
            fleet.next().await?
        } else {
            match tokio::time::timeout_at(end, fleet.next()).await {
                Ok(update) => update?,
                Err(_) => break,
            }
        };
        now = update.now;
        if update.behind.is_some_and(|b| b.missed_messages > 0) && !dropped {
            dropped = true;
            cx.printer.warn("messages pass faster than they are read; some are left out");
        }
        for object in objects(Kind::Message, &update) {
            if !args.select.matches(Kind::Message, &object) {
                continue;
            }
            match args.watch {
                true => writer.changed(Change::Added, &object, now)?,
                false => all.push(object),
            }
        }
    }
    if all.is_empty() {
        cx.printer.say("no messages passed");
    }
    if let Some(by) = &args.select.sort_by {
        sort_by(&mut all, by)?;
    }
    Ok(writer.all(&all, false, now)?)
}

#[cfg(not(feature = "cloud"))]
mod models {
    use super::*;

    pub(super) async fn models(_: &GetArgs, _: &[String], _: &Context) -> Result<(), CommandError> {
        Err(CommandError::new(Failure::Unsupported, "this build has no Kubernetes client"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_and_names_are_understood_in_kubectls_forms() {
        let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(target("pods", &names(&["a", "b"])).unwrap(), (Kind::Pod, names(&["a", "b"])));
        assert_eq!(target("pod/a", &names(&["po/b"])).unwrap(), (Kind::Pod, names(&["a", "b"])));
        for (what, rest) in [("pods", vec!["node/x".to_owned()]), ("pod/", vec![]), ("x", vec![])] {
            assert_eq!(target(what, &rest).unwrap_err().kind, Failure::Usage, "{what}");
        }
    }

    #[test]
    fn events_come_in_the_order_in_which_they_were_last_seen() {
        use api::status::row::EventRow;
        let event =
            |at, reason: &str| EventRow { at, reason: reason.into(), ..EventRow::default() };
        let events = vec![event(9, "d"), event(3, "a"), event(5, "b"), event(5, "c")];
        let all = objects(Kind::Event, &Update { events, ..Update::default() });
        let reasons: Vec<&str> = all.iter().filter_map(|event| event["reason"].as_str()).collect();
        assert_eq!(reasons, ["a", "b", "c", "d"]);
    }

    #[test]
    fn what_is_no_longer_asked_for_is_gone_for_who_watches() {
        use api::status::row::{NodeRow, RowKey};
        let node = |name: &str, site: &str| NodeRow {
            name: name.into(),
            labels: [("site".to_owned(), site.to_owned())].into(),
            ..NodeRow::default()
        };
        let mut held = BTreeMap::new();
        let north = |o: &Value| o["metadata"]["labels"]["site"] == "north";
        let mut told = |update: Update| -> Vec<(Change, String)> {
            let all = changes(Kind::Node, &update, &mut held, north);
            all.into_iter()
                .map(|(change, object)| {
                    let name = shape::full_name(&object);
                    if change != Change::Deleted {
                        held.insert(name.clone(), object);
                    }
                    (change, name)
                })
                .collect()
        };
        let update = |nodes: Vec<NodeRow>| Update { nodes, ..Update::default() };
        let says = |change, name: &str| vec![(change, name.to_owned())];
        assert_eq!(
            told(update(vec![node("a", "north"), node("b", "south")])),
            says(Change::Added, "a")
        );
        assert_eq!(told(update(vec![node("a", "north")])), says(Change::Modified, "a"));
        assert_eq!(told(update(vec![node("a", "south")])), says(Change::Deleted, "a"));
        assert_eq!(told(update(vec![node("a", "south")])), []);
        assert_eq!(told(update(vec![node("a", "north")])), says(Change::Added, "a"));
        let gone = Update { gone: vec![RowKey::node("a")], ..Update::default() };
        assert_eq!(told(gone), says(Change::Deleted, "a"));
        told(update(vec![node("a", "north")]));
        let anew = Update { full: true, nodes: vec![node("c", "north")], ..Update::default() };
        assert_eq!(
            told(anew),
            [(Change::Deleted, "a".to_owned()), (Change::Added, "c".to_owned())]
        );
    }

    #[test]
    fn a_counter_that_ticks_is_no_news_to_a_table_but_to_json_it_is() {
        let node = |received: u64, ready: &str| {
            json!({"metadata": {"name": "e"}, "status": {
            "ready": ready, "queue": {"received": received}, "lastReport": "2026-01-02T03:04:05Z"}})
        };
        let table = Form::Table { wide: false };
        assert!(seems_same(&table, Kind::Node, &node(1, "True"), &node(2, "True")));
        assert!(!seems_same(&table, Kind::Node, &node(1, "True"), &node(1, "False")));
        assert!(!seems_same(&Form::Json, Kind::Node, &node(1, "True"), &node(2, "True")));
    }
}
