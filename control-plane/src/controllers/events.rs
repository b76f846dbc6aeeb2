//! Events that the controllers write.
//!
//! Owns: their form, the counting of repetitions, and their end after an hour.
//! Called by: the controllers. Never: fails a controller; an event that cannot be written is logged.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::create::create;
use crate::http::delete::{DeleteOptions, delete};
use crate::plane::Plane;
use crate::registry::meta;

/// How long events are kept, as in Kubernetes.
const KEPT: Duration = Duration::from_secs(3600);
/// How often old ones are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Writes an event about an object.
pub(crate) async fn record(
    plane: &Arc<Plane>,
    component: &str,
    about: &Value,
    kind: &str,
    severity: &str,
    reason: &str,
    message: &str,
) {
    let now = jiff::Timestamp::now();
    let namespace = match meta::namespace(about) {
        "" => "default",
        n => n,
    };
    let resource = plane.registry.builtin("", "events");
    // The name is the object's with the time, in hexadecimal nanoseconds, as Kubernetes' recorder does.
    let name = format!("{}.{:x}", meta::name(about), now.as_nanosecond());
    let api_version = match about["apiVersion"].as_str() {
        Some(v) => v.to_owned(),
        None => "v1".to_owned(),
    };
    let at = meta::timestamp(now);
    let event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"kind": kind, "namespace": about["metadata"]["namespace"], "name": meta::name(about), "uid": meta::uid(about),
            "apiVersion": api_version, "resourceVersion": about["metadata"]["resourceVersion"]},
        "reason": reason, "message": message, "type": severity, "source": {"component": component},
        "reportingComponent": component, "firstTimestamp": at, "lastTimestamp": at, "count": 1,
    });
    let options = WriteOptions { manager: component.to_owned(), ..WriteOptions::default() };
    if let Err(e) =
        create(plane, &User::internal(component), &resource, namespace, event, &options).await
    {
        tracing::debug!(reason, "cannot write an event: {}", e.message);
    }
}

/// Removes events that are older than an hour.
pub(crate) async fn expire(plane: Arc<Plane>) {
    let resource = plane.registry.builtin("", "events");
    let user = User::internal("apiserver");
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = jiff::Timestamp::now();
        for (_, stored) in plane.store.list(&resource.table, "", None).objects {
            let event = stored.value();
            if !is_old(&event, now) {
                continue;
            }
            let at = (meta::namespace(&event), meta::name(&event));
            if let Err(e) = delete(&plane, &user, &resource, at, &DeleteOptions::default()).await
                && e.code != 404
            {
                tracing::debug!("cannot remove an old event: {}", e.message);
            }
        }
    }
}

fn is_old(event: &Value, now: jiff::Timestamp) -> bool {
    let times =
        ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    let newest =
        times.iter().filter_map(|p| meta::text(event, p).parse::<jiff::Timestamp>().ok()).max();
    newest.is_none_or(|t| {
        now.duration_since(t)
            > jiff::SignedDuration::try_from(KEPT).unwrap_or(jiff::SignedDuration::ZERO)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_an_hour_after_it_was_last_seen() {
        let now: jiff::Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let e = |last: &str| json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": last});
        assert!(is_old(&e("2026-01-01T00:59:59Z"), now));
        assert!(!is_old(&e("2026-01-01T01:00:01Z"), now));
    }
}
