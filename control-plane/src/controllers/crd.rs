//! Custom kinds come and go with their definitions.
//!
//! Owns: the conditions NamesAccepted and Established, and the end of a definition's objects. What is
//! established is served at once: `Plane::kinds`. Called by: `controllers::spawn`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Follower;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, delete_collection};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::selectors::Selection;
use crate::registry::{Part, crd, meta};

const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const AGAIN: Duration = Duration::from_secs(1);

fn definitions(plane: &Plane) -> Vec<Value> {
    plane.store.list(crd::TABLE, "", None).objects.iter().map(|(_, o)| o.value()).collect()
}

/// Follows definitions.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut follower = Follower::new(&plane, crd::TABLE);
    let mut unfinished = false;
    loop {
        let wait = if unfinished { AGAIN } else { Duration::from_secs(3600) };
        tokio::select! {
            _ = follower.next() => {}
            () = tokio::time::sleep(wait) => {}
        }
        unfinished = false;
        for d in definitions(&plane) {
            match settle(&plane, &d).await {
                Ok(done) => unfinished |= !done,
                Err(e) if e.code == 404 => {}
                Err(e) => {
                    unfinished = true;
                    tracing::warn!(
                        definition = meta::name(&d),
                        "cannot settle a definition: {}",
                        e.message
                    );
                }
            }
        }
    }
}

fn has_cleanup(d: &Value) -> bool {
    d["metadata"]["finalizers"].as_array().is_some_and(|f| f.iter().any(|f| f == CLEANUP))
}

/// Brings one definition where it should be. Returns whether it is there.
async fn settle(plane: &Plane, d: &Value) -> Result<bool, Status> {
    let resource = plane.registry.builtin("apiextensions.k8s.io", "customresourcedefinitions");
    let user = User::internal("apiserver");
    let options = WriteOptions { manager: "kube-apiserver".into(), ..WriteOptions::default() };
    let name = meta::name(d).to_owned();
    if meta::is_terminating(d) {
        return end(plane, d, &user, &options).await;
    }
    if !has_cleanup(d) {
        let add = |old: &Value| {
            let mut new = old.clone();
            if !has_cleanup(&new) {
                let m = meta::metadata(&mut new).entry("finalizers").or_insert_with(|| json!([]));
                if let Some(list) = m.as_array_mut() {
                    list.push(CLEANUP.into());
                }
            }
            Ok(new)
        };
        modify(plane, &user, &resource, ("", &name), Part::Main, &options, add).await?;
    }
    let conflict = crd::name_conflict(d, &definitions(plane), &plane.kinds());
    if conflict.is_none()
        && crd::is_true(d, "Established")
        && d["status"]["acceptedNames"] == d["spec"]["names"]
    {
        return Ok(true);
    }
    let accept = |old: &Value| {
        let mut new = old.clone();
        let now = jiff::Timestamp::now();
        match &conflict {
            Some((reason, message)) => {
                meta::set_condition(&mut new, "NamesAccepted", "False", reason, message, now);
                meta::set_condition(
                    &mut new,
                    "Established",
                    "False",
                    "NotAccepted",
                    "not all names are accepted",
                    now,
                );
            }
            None => {
                new["status"]["acceptedNames"] = new["spec"]["names"].clone();
                meta::set_condition(
                    &mut new,
                    "NamesAccepted",
                    "True",
                    "NoConflicts",
                    "no conflicts found",
                    now,
                );
                meta::set_condition(
                    &mut new,
                    "Established",
                    "True",
                    "InitialNamesAccepted",
                    "the initial names have been accepted",
                    now,
                );
            }
        }
        let storage: Vec<Value> = new["spec"]["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|v| v["storage"] == true)
            .map(|v| v["name"].clone())
            .collect();
        if let Some(stored) = new["status"]["storedVersions"].as_array_mut() {
            for v in storage {
                if !stored.contains(&v) {
                    stored.push(v);
                }
            }
        }
        Ok(new)
    };
    modify(plane, &user, &resource, ("", &name), Part::Status, &options, accept).await?;
    Ok(true)
}

/// Deletes the objects of a definition that goes, then lets it go.
async fn end(
    plane: &Plane,
    d: &Value,
    user: &User,
    options: &WriteOptions,
) -> Result<bool, Status> {
    if !has_cleanup(d) {
        return Ok(true);
    }
    let group = meta::text(d, "/spec/group");
    let plural = meta::text(d, "/spec/names/plural");
    let snapshot = plane.kinds();
    if let Some(r) = snapshot.any_version(group, plural).filter(|r| r.custom.is_some()) {
        delete_collection(plane, user, r, "", &Selection::default(), &DeleteOptions::default())
            .await?;
        if plane.store.count(&r.table) > 0 {
            return Ok(false);
        }
    }
    let resource = plane.registry.builtin("apiextensions.k8s.io", "customresourcedefinitions");
    let remove = |old: &Value| {
        let mut new = old.clone();
        if let Some(f) =
            meta::metadata(&mut new).get_mut("finalizers").and_then(Value::as_array_mut)
        {
            f.retain(|f| f != CLEANUP);
        }
        Ok(new)
    };
    modify(plane, user, &resource, ("", meta::name(d)), Part::Main, options, remove).await?;
    Ok(true)
}
