//! Device models, which no status stream has: from the Kubernetes API.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;

use super::{GetArgs, chosen, nothing, seems_same, write_first};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::errors::{CommandError, Kind as Failure};
use crate::fleet;
use crate::output::print::{Change, Writer};
use crate::output::shape::{self, Kind};

pub(super) async fn models(
    args: &GetArgs,
    names: &[String],
    cx: &Context,
) -> Result<(), CommandError> {
    if args.fleet.local {
        return Err(CommandError::new(
            Failure::Unsupported,
            "device models are in the cluster; this machine knows only its own devices",
        ));
    }
    // A watch is quiet for as long as nobody changes a model; the list has a limit of its own.
    let cloud = args.fleet.kube.client_with(cx, None).await;
    let cloud =
        cloud.map_err(|e| e.because("device models are in the cluster, not in a status stream"))?;
    let kind = GroupVersionKind::gvk("devices.kubeedge.io", "v1beta1", "DeviceModel");
    let resource = ApiResource::from_gvk_with_plural(&kind, "devicemodels");
    let limit = args.fleet.limit.request_timeout;
    let all = fleet::list(&cloud, &resource, Default::default(), limit).await?;
    let all = all.into_iter().map(|object| shape::object(Kind::DeviceModel, object)).collect();
    let (found, outcome) = chosen(args, Kind::DeviceModel, names, all)?;
    if found.is_empty() && names.is_empty() {
        nothing(Kind::DeviceModel, &args.select, cx);
    }
    let now = jiff::Timestamp::now().as_millisecond();
    let all_namespaces = args.select.all_namespaces;
    let mut writer = Writer::new(&cx.printer, &args.output, Kind::DeviceModel, all_namespaces);
    if args.watch {
        return watch_models(args, names, &cloud, &resource, &mut writer, found).await;
    }
    writer.all(&found, names.len() == 1, now)?;
    outcome
}

/// Goes on from `found`. A watch that is lost is said, and the end.
async fn watch_models(
    args: &GetArgs,
    names: &[String],
    cloud: &Cloud,
    resource: &ApiResource,
    writer: &mut Writer<'_>,
    found: Vec<Value>,
) -> Result<(), CommandError> {
    let mut held = BTreeMap::new();
    let form = &args.output.output;
    let now = || jiff::Timestamp::now().as_millisecond();
    write_first(writer, found, &mut held, form, now())?;
    let api: kube::Api<DynamicObject> = kube::Api::all_with(cloud.client.clone(), resource);
    let mut events = Box::pin(watcher::watcher(api, watcher::Config::default()));
    let read = |object: DynamicObject| {
        let object = serde_json::to_value(object).ok()?;
        Some(shape::object(Kind::DeviceModel, object))
    };
    let wanted = |object: &Value| {
        let named = names.is_empty() || names.iter().any(|n| object["metadata"]["name"] == **n);
        named && args.select.matches(Kind::DeviceModel, object)
    };
    // Those of the list with which the watch begins, or begins again.
    let mut listed: Option<Vec<String>> = None;
    while let Some(event) = events.next().await {
        let (change, object) = match event {
            Ok(Event::Init) => {
                listed = Some(Vec::new());
                continue;
            }
            Ok(Event::InitDone) => {
                let there = listed.take().unwrap_or_default();
                let gone: Vec<String> =
                    held.keys().filter(|key| !there.contains(key)).cloned().collect();
                for key in gone {
                    if let Some(object) = held.remove(&key) {
                        writer.changed(Change::Deleted, &object, now())?;
                    }
                }
                continue;
            }
            Ok(Event::Apply(object) | Event::InitApply(object)) => (Change::Modified, object),
            Ok(Event::Delete(object)) => (Change::Deleted, object),
            Err(watcher::Error::InitialListFailed(e) | watcher::Error::WatchStartFailed(e)) => {
                return Err(cloud.error("watch devicemodels", &e));
            }
            Err(e) => {
                return Err(
                    CommandError::new(Failure::Unreachable, "the watch is lost").caused_by(&e)
                );
            }
        };
        let Some(object) = read(object) else { continue };
        let key = shape::full_name(&object);
        if !wanted(&object) {
            // For whoever watches, what is no longer asked for is gone.
            if let Some(old) = held.remove(&key) {
                writer.changed(Change::Deleted, &old, now())?;
            }
            continue;
        }
        if let Some(listed) = &mut listed {
            listed.push(key.clone());
        }
        if change == Change::Deleted {
            held.remove(&key);
            writer.changed(Change::Deleted, &object, now())?;
            continue;
        }
        let change = match held.get(&key) {
            None => Change::Added,
            Some(old) if seems_same(form, Kind::DeviceModel, old, &object) => continue,
            Some(_) => Change::Modified,
        };
        writer.changed(change, &object, now())?;
        held.insert(key, object);
    }
    Ok(())
}
