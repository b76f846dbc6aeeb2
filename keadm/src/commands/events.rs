//! `keadm events`: what has happened, and what happens.

use api::status::stream::Update;
use serde_json::Value;

use super::get;
use crate::context::Context;
use crate::errors::CommandError;
use crate::fleet::{Fleet, FleetArgs, Want};
use crate::output::OutputArgs;
use crate::output::print::{Change, Writer};
use crate::output::select::Fields;
use crate::output::shape::Kind;

/// Show what has happened to nodes, pods and devices
///
/// Events that edges report, and those of their links, which the Kubernetes API does not have.
#[derive(clap::Args, Debug)]
pub struct EventsArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Go on as they happen
    #[arg(short, long, visible_alias = "watch", visible_short_alias = 'w')]
    follow: bool,
    /// Only of this object: `node/edge-1`, `pod/web`
    #[arg(long = "for", value_name = "KIND/NAME", add = completions::ArgValueCompleter::new(crate::complete::objects))]
    of: Option<String>,
    /// Only of objects in this namespace
    #[arg(
        short,
        long,
        value_name = "NAME",
        env = "KEADM_NAMESPACE",
        hide_env_values = true,
        add = completions::ArgValueCompleter::new(crate::complete::namespaces)
    )]
    namespace: Option<String>,
    /// Of objects in all namespaces and in none, as without `--namespace`
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = ["Normal", "Warning"])]
    kind: Option<String>,
    /// Only with these fields, for example `reason=LinkDown`
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<Fields>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Whether an event is about `kind/name` or `kind/namespace/name`. Pure.
pub(crate) fn about(event: &Value, kind: Kind, namespace: Option<&str>, name: &str) -> bool {
    let object = event["object"].as_str().unwrap_or_default();
    let parts: Vec<&str> = object.split('/').collect();
    match parts.as_slice() {
        [of, is] => *of == kind.singular() && *is == name,
        [of, place, is] => {
            *of == kind.singular() && *is == name && namespace.is_none_or(|n| n == *place)
        }
        _ => false,
    }
}

impl EventsArgs {
    fn wanted(&self, of: Option<&(Kind, String)>, event: &Value) -> bool {
        let namespace = self.namespace.as_deref().filter(|_| !self.all_namespaces);
        let object = event["object"].as_str().unwrap_or_default();
        of.is_none_or(|(kind, name)| about(event, *kind, namespace, name))
            && namespace.is_none_or(|n| {
                object.split('/').nth(1) == Some(n) && object.matches('/').count() == 2
            })
            && self.kind.as_deref().is_none_or(|kind| event["type"] == kind)
            && self.field_selector.as_ref().is_none_or(|fields| fields.matches(event))
    }
}

/// Prints events.
///
/// # Errors
/// When nobody answers.
pub fn events(args: &EventsArgs, cx: &Context) -> Result<(), CommandError> {
    let of = match &args.of {
        None => None,
        Some(text) => {
            let (kind, names) = get::target(text, &[])?;
            let Some(name) = names.into_iter().next() else {
                let text = format!("`{text}` names no object; write `node/edge-1`");
                return Err(CommandError::new(crate::errors::Kind::Usage, text));
            };
            Some((kind, name))
        }
    };
    cx.block_on(async {
        let want = Want { events: true, watch: args.follow, ..Want::default() };
        let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
        let first = fleet.first().await?;
        let mut writer = Writer::new(&cx.printer, &args.output, Kind::Event, false);
        let wanted = |update: &Update| {
            let mut all = get::objects(Kind::Event, update);
            all.retain(|event| args.wanted(of.as_ref(), event));
            all
        };
        let found = wanted(&first);
        if !args.follow {
            if found.is_empty() {
                cx.printer.say("no events");
            }
            return Ok(writer.all(&found, false, first.now)?);
        }
        for event in found {
            writer.changed(Change::Added, &event, first.now)?;
        }
        loop {
            let update = fleet.next().await?;
            for event in wanted(&update) {
                writer.changed(Change::Added, &event, update.now)?;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_found_by_what_they_are_about() {
        let pod = json!({"object": "pod/default/web"});
        assert!(
            about(&pod, Kind::Pod, None, "web") && about(&pod, Kind::Pod, Some("default"), "web")
        );
        assert!(
            !about(&pod, Kind::Pod, Some("other"), "web") && !about(&pod, Kind::Node, None, "web")
        );
        assert!(about(&json!({"object": "node/edge-1"}), Kind::Node, None, "edge-1"));
    }
}
