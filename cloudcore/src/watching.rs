//! One watch of one kind: lists, watches, and lists anew when the watch is lost.
//!
//! Owns: the pause after a failure, and the reading of objects as text.
//! Called by: `edgecontroller::downstream`, `devicecontroller::downstream`.
//! Never: keeps objects.

use std::time::Duration;

use api::names::Kind;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use service::backoff::Backoff;
use tracing::warn;

use crate::apiserver::ApiServer;
use crate::metrics::{Drop as Dropped, Metrics};
use crate::object::{Object, gvk};

/// The pause after a failed list or watch. The API server may be restarting, and edges wait.
pub(crate) const PAUSE: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// How long one watch lasts before it is renewed.
const WATCH_SECONDS: u32 = 60;

/// What a watch has seen.
#[derive(Debug)]
pub(crate) enum Seen {
    /// All objects are listed anew from here on.
    Begin,
    /// The list is complete: what was not in it is gone.
    Listed,
    /// It is there, new or changed.
    There(Object),
    /// It is gone; this is how it was last seen.
    Gone(Object),
}

/// An object of a watch: its text. kube wants to see its version, so that is read, too.
#[derive(Debug, Clone)]
struct Raw {
    meta: ObjectMeta,
    text: Box<str>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            metadata: Meta,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Meta {
            name: Option<String>,
            resource_version: Option<String>,
        }
        let raw = Box::<RawValue>::deserialize(de)?;
        let head: Head = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let meta = ObjectMeta {
            name: head.metadata.name,
            resource_version: head.metadata.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Self { meta, text: Box::<str>::from(raw) })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// How the API names a kind.
fn resource(kind: &Kind) -> Option<ApiResource> {
    let (api_version, name, plural) = gvk(kind)?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Some(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: name.to_owned(),
        plural: plural.to_owned(),
    })
}

/// Watches a kind in all namespaces for ever. An object that does not read as one is skipped,
/// said and counted.
pub(crate) async fn watch(
    api: &ApiServer,
    metrics: &Metrics,
    kind: &Kind,
    labels: Option<&str>,
    mut on: impl FnMut(Seen),
) {
    let Some(resource) = resource(kind) else { return };
    let objects: Api<Raw> = Api::all_with(api.client().clone(), &resource);
    // A connection that has died in silence is noticed when its time is up.
    let mut config = watcher::Config::default().page_size(500).timeout(WATCH_SECONDS);
    if let Some(labels) = labels {
        config = config.labels(labels);
    }
    let mut events = Box::pin(watcher::watcher(objects, config));
    let mut failures = 0;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                failures = 0;
                if let Some(seen) = read(kind, event, metrics) {
                    on(seen);
                }
            }
            Err(error) => {
                let pause = PAUSE.next_delay(failures);
                // Once: a server that is away fails every watch again and again.
                if failures == 0 {
                    let error = service::error_chain(&error);
                    warn!(kind = resource.kind, error, "the watch is interrupted");
                }
                failures += 1;
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn read(kind: &Kind, event: Event<Raw>, metrics: &Metrics) -> Option<Seen> {
    let (raw, gone) = match event {
        Event::Init => return Some(Seen::Begin),
        Event::InitDone => return Some(Seen::Listed),
        Event::Apply(raw) | Event::InitApply(raw) => (raw, false),
        Event::Delete(raw) => (raw, true),
    };
    match Object::read(kind.clone(), &raw.text) {
        Ok(object) if gone => Some(Seen::Gone(object)),
        Ok(object) => Some(Seen::There(object)),
        Err(error) => {
            let name = raw.meta.name.unwrap_or_default();
            warn!(kind = kind.as_str(), name, %error, "an object is skipped");
            metrics.dropped(Dropped::ObjectUnreadable, 1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    #[test]
    fn the_text_of_an_object_survives_lists_and_watches() {
        let pod = r#"{"metadata":{"name":"web","resourceVersion":"7"},"spec":{"new":1.50}}"#;
        let list = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{pod}]}}"#
        );
        let list: ObjectList<Raw> = serde_json::from_str(&list).unwrap();
        assert_eq!(&*list.items[0].text, pod);
        let event = format!(r#"{{"type":"MODIFIED","object":{pod}}}"#);
        let WatchEvent::Modified(raw) = serde_json::from_str::<WatchEvent<Raw>>(&event).unwrap()
        else {
            panic!("not a change")
        };
        assert_eq!(&*raw.text, pod);
        assert_eq!(raw.meta.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn core_kinds_have_no_group_and_ours_have_one() {
        let pod = resource(&Kind::Pod).unwrap();
        assert_eq!((pod.group.as_str(), pod.version.as_str()), ("", "v1"));
        let device = resource(&Kind::Device).unwrap();
        assert_eq!(
            (device.group.as_str(), device.version.as_str()),
            ("devices.kubeedge.io", "v1beta1")
        );
    }
}
