//! delete and deletecollection
//!
//! Owns: grace, preconditions, propagation, finalizers. Called by: the router, the controllers.

use serde_json::{Map, Value, json};

use super::auth::User;
use super::create::Outcome;
use super::request::Query;
use super::restriction::{self, Write};
use super::status::{FieldError, GroupResource, Status};
use super::{get, list, webhooks};
use crate::plane::Plane;
use crate::registry::selectors::Selection;
use crate::registry::{Resource, core, meta};
use crate::store::{Draft, Expect, WriteError};

/// How dependents are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// DeleteOptions.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads the options of a body and, where that says nothing, of the query.
    ///
    /// # Errors
    /// When one has an unknown value.
    pub(crate) fn read(body: &Map<String, Value>, query: &Query) -> Result<Self, Status> {
        let invalid = |e: FieldError| Status::invalid("meta.k8s.io", "DeleteOptions", "", &[e]);
        let text = |f: &str| body.get(f).and_then(Value::as_str).or_else(|| query.get(f));
        let grace = match body.get("gracePeriodSeconds") {
            Some(v) => v.as_i64(),
            None => query.number("gracePeriodSeconds")?,
        };
        // As documented: a negative value is taken as one second.
        let grace = grace.map(|g| if g < 0 { 1 } else { g });
        let orphan = body
            .get("orphanDependents")
            .and_then(Value::as_bool)
            .or(query.get("orphanDependents").map(|_| query.flag("orphanDependents")));
        let propagation = match (text("propagationPolicy"), orphan) {
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (None, None) => None,
            (Some(other), _) => {
                return Err(invalid(FieldError::unsupported(
                    "propagationPolicy",
                    &json!(other),
                    &["Foreground", "Background", "Orphan", "nil"],
                )));
            }
        };
        if text("propagationPolicy").is_some() && orphan.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            let given = json!(text("propagationPolicy"));
            return Err(invalid(FieldError::invalid("propagationPolicy", &given, why)));
        }
        let listed = body.get("dryRun").and_then(Value::as_array);
        let dry: Vec<&str> = listed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .chain(query.all("dryRun").filter(|v| !v.is_empty()))
            .collect();
        if dry.iter().any(|v| *v != "All") {
            let shown: Vec<String> = dry.iter().map(|v| format!("{v:?}")).collect();
            return Err(invalid(FieldError {
                reason: "FieldValueNotSupported",
                field: "dryRun".into(),
                message: format!(
                    "Unsupported value: []string{{{}}}: supported values: \"All\"",
                    shown.join(", ")
                ),
            }));
        }
        let pre = body.get("preconditions");
        let pre_text =
            |f: &str| pre.and_then(|p| p.get(f)).and_then(Value::as_str).map(str::to_owned);
        let asked = |f: &str| query.get(f).map(str::to_owned);
        Ok(Self {
            grace,
            propagation,
            uid: pre_text("uid").or_else(|| asked("uid")),
            revision: pre_text("resourceVersion").or_else(|| asked("resourceVersion")),
            dry_run: !dry.is_empty(),
        })
    }
}

/// Who deletes a job and says nothing of its pods keeps them, as it always was, and is told so.
pub(crate) fn keep_pods_of_jobs(
    resource: &Resource,
    options: &mut DeleteOptions,
) -> Option<String> {
    if resource.table.as_ref() != "batch/jobs" || options.propagation.is_some() {
        return None;
    }
    options.propagation = Some(Propagation::Orphan);
    let said = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
    Some(said.to_owned())
}

/// What a deletion did.
pub(crate) enum Deleted {
    /// It is gone; this was its last state.
    Gone(Value),
    /// It is on its way.
    Waiting(Outcome),
}

const ATTEMPTS: usize = 16;

/// Deletes an object, or starts to.
///
/// # Errors
/// Everything that Kubernetes refuses.
pub(crate) async fn delete(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    (namespace, name): (&str, &str),
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    if resource.table.as_ref() == "core/namespaces"
        && matches!(name, "default" | "kube-system" | "kube-public")
    {
        return Err(Status::forbidden(
            resource.group_resource(),
            name,
            "this namespace may not be deleted",
        ));
    }
    for _ in 0..ATTEMPTS {
        let current = get::find(plane, resource, namespace, name)?;
        let old = get::with_kind(resource, &current);
        restriction::check(plane, user, resource, (namespace, name), Write::Delete(&old))?;
        check_preconditions(resource, &old, options)?;
        let write = webhooks::Write {
            user,
            resource,
            namespace,
            name,
            operation: webhooks::Operation::Delete,
            part: crate::registry::Part::Main,
            dry_run: options.dry_run,
            old: Some(&old),
        };
        webhooks::mutate(plane, &write, &mut Value::Null).await?;
        webhooks::validate(plane, &write, None).await?;
        let now = jiff::Timestamp::now();
        let plan = plan(resource, &old, options, now);
        let key = get::key(resource, namespace, name);
        let result = match plan {
            Plan::Remove if options.dry_run => return Ok(Deleted::Gone(ended(resource, old, now))),
            Plan::Remove => plane
                .store
                .delete(key, current.revision)
                .await
                .map(|s| Deleted::Gone(ended(resource, get::with_kind(resource, &s), now))),
            Plan::Mark(new) if options.dry_run => return Ok(Deleted::Waiting(Outcome::Dry(new))),
            Plan::Mark(new) => {
                let draft = Draft::of(&new);
                plane
                    .store
                    .put(key, Expect::Revision(current.revision), draft)
                    .await
                    .map(|s| Deleted::Waiting(Outcome::Stored(s)))
            }
            Plan::Nothing => return Ok(Deleted::Waiting(Outcome::Stored(current))),
        };
        match result {
            Err(WriteError::Conflict) if options.revision.is_none() => {}
            Err(WriteError::Conflict) => {
                return Err(Status::modified(resource.group_resource(), name));
            }
            Err(WriteError::Missing) => {
                return Err(Status::not_found(resource.group_resource(), name));
            }
            Err(e) => return Err(e.into()),
            Ok(done) => return Ok(done),
        }
    }
    Err(Status::modified(resource.group_resource(), name))
}

fn check_preconditions(
    resource: &Resource,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let name = meta::name(old);
    // Kubernetes names the kind here and not the resource.
    let kind = GroupResource { group: &resource.group, resource: &resource.kind };
    let of_definition = resource.table.as_ref() == "apiextensions.k8s.io/customresourcedefinitions";
    let failed = |what: &str, asked: &str, have: &str| {
        let why = format!(
            "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {have}"
        );
        Err(Status::conflict(resource.group_resource(), name, &why))
    };
    if let Some(uid) = options.uid.as_deref().filter(|u| *u != meta::uid(old)) {
        if of_definition {
            return failed("UID", uid, meta::uid(old));
        }
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            meta::uid(old)
        );
        return Err(Status::conflict(kind, name, &why));
    }
    let have = meta::text(old, "/metadata/resourceVersion");
    if let Some(want) = options.revision.as_deref().filter(|r| *r != have) {
        if of_definition {
            return failed("ResourceVersion", want, have);
        }
        let why = format!(
            "the ResourceVersion in the precondition ({want}) does not match the ResourceVersion in record ({have}). The object might have been modified"
        );
        return Err(Status::conflict(kind, name, &why));
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Plan {
    Remove,
    Mark(Value),
    Nothing,
}

/// What a deletion does to an object. All the judgement, and no I/O.
fn plan(resource: &Resource, old: &Value, options: &DeleteOptions, now: jiff::Timestamp) -> Plan {
    let mut new = old.clone();
    let finalizers = finalizers_after(old, options.propagation);
    let m = meta::metadata(&mut new);
    if finalizers.is_empty() {
        m.remove("finalizers");
    } else {
        m.insert("finalizers".into(), Value::Array(finalizers.clone()));
    }
    let is_namespace = resource.table.as_ref() == "core/namespaces";
    let grace =
        if resource.table.as_ref() == "core/pods" { pod_grace(old, options.grace) } else { 0 };
    let waits = !finalizers.is_empty()
        || (is_namespace
            && old
                .pointer("/spec/finalizers")
                .and_then(Value::as_array)
                .is_some_and(|f| !f.is_empty()));
    if grace == 0 && !waits {
        return Plan::Remove;
    }
    let before = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let shorter = !meta::is_terminating(old) || before.is_some_and(|b| grace < b);
    if shorter {
        let at = now + jiff::SignedDuration::from_secs(grace);
        let m = meta::metadata(&mut new);
        m.insert("deletionTimestamp".into(), meta::timestamp(at).into());
        // Namespaces and definitions end in ways of their own, which know of no grace.
        if !is_namespace && resource.plural != "customresourcedefinitions" {
            m.insert("deletionGracePeriodSeconds".into(), grace.into());
            if let Some(g) = m.get("generation").and_then(Value::as_i64) {
                m.insert("generation".into(), (g + 1).into());
            }
        }
    }
    if is_namespace {
        core::object(&mut new, "status")["phase"] = "Terminating".into();
    }
    if new == *old { Plan::Nothing } else { Plan::Mark(new) }
}

/// A pod that is gone says when it ended, and that it was given no time.
fn ended(resource: &Resource, mut gone: Value, now: jiff::Timestamp) -> Value {
    if resource.table.as_ref() == "core/pods" {
        let fresh = !meta::is_terminating(&gone);
        let m = meta::metadata(&mut gone);
        m.insert("deletionTimestamp".into(), meta::timestamp(now).into());
        m.insert("deletionGracePeriodSeconds".into(), 0.into());
        if let Some(g) = m.get("generation").and_then(Value::as_i64).filter(|_| fresh) {
            m.insert("generation".into(), (g + 1).into());
        }
    }
    gone
}

/// How long a pod may take to end: nobody waits for one that runs nowhere.
fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let phase = meta::text(pod, "/status/phase");
    if meta::text(pod, "/spec/nodeName").is_empty() || matches!(phase, "Failed" | "Succeeded") {
        return 0;
    }
    asked
        .or(pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64))
        .unwrap_or(30)
        .max(0)
}

fn finalizers_after(old: &Value, propagation: Option<Propagation>) -> Vec<Value> {
    let mut all =
        old.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(p) = propagation else { return all };
    all.retain(|f| f != "orphan" && f != "foregroundDeletion");
    match p {
        Propagation::Background => {}
        Propagation::Foreground => all.push("foregroundDeletion".into()),
        Propagation::Orphan => all.push("orphan".into()),
    }
    all
}

/// Deletes what a selection names; returns the objects as they last were.
///
/// # Errors
/// Those of [`delete`], but for objects that somebody else deleted meanwhile.
pub(crate) async fn delete_collection(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    namespace: &str,
    selection: &Selection,
    options: &DeleteOptions,
) -> Result<Vec<Value>, Status> {
    let objects = list::matching(plane, resource, namespace, selection);
    delete_all(plane, user, resource, objects, options).await
}

/// Deletes objects of a list; returns them as they last were.
///
/// # Errors
/// As [`delete_collection`].
pub(crate) async fn delete_all(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    objects: list::Objects,
    options: &DeleteOptions,
) -> Result<Vec<Value>, Status> {
    let mut gone = Vec::new();
    for (_, object) in objects {
        let value = object.value();
        let at = (meta::namespace(&value), meta::name(&value));
        match delete(plane, user, resource, at, options).await {
            Ok(_) if resource.custom.is_some() => gone.push(get::with_kind(resource, &object)),
            Ok(_) => gone.push(value),
            Err(e) if e.code == 404 => {}
            Err(e) => return Err(e),
        }
    }
    Ok(gone)
}

/// Kinds whose deletion answers with the object instead of a Status.
pub(crate) fn answers_with_object(resource: &Resource) -> bool {
    matches!(
        resource.plural.as_str(),
        "pods"
            | "services"
            | "serviceaccounts"
            | "persistentvolumes"
            | "persistentvolumeclaims"
            | "csidrivers"
            | "csinodes"
            | "storageclasses"
            | "volumeattachments"
    ) && resource.custom.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn now() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_pod_on_a_node_gets_its_grace_and_one_without_goes_at_once() {
        let pods = Registry::new().builtin("", "pods");
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 5}, "status": {"phase": "Running"}});
        let Plan::Mark(marked) = plan(&pods, &pod, &DeleteOptions::default(), now()) else {
            panic!("it must be marked")
        };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 5);
        assert_eq!(plan(&pods, &marked, &DeleteOptions::default(), now()), Plan::Nothing);
        let force = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
        assert_eq!(plan(&pods, &marked, &force, now()), Plan::Remove);
        pod["spec"]["nodeName"] = "".into();
        assert_eq!(plan(&pods, &pod, &DeleteOptions::default(), now()), Plan::Remove);
    }

    #[test]
    fn finalizers_hold_an_object_back() {
        let maps = Registry::new().builtin("", "configmaps");
        let map = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
        assert!(matches!(plan(&maps, &map, &DeleteOptions::default(), now()), Plan::Mark(_)));
        let orphan =
            DeleteOptions { propagation: Some(Propagation::Orphan), ..DeleteOptions::default() };
        let Plan::Mark(m) = plan(&maps, &json!({"metadata": {"name": "a"}}), &orphan, now()) else {
            panic!("it must wait")
        };
        assert_eq!(m["metadata"]["finalizers"], json!(["orphan"]));
    }

    // What a kube-apiserver 1.33 does.
    #[test]
    fn a_query_may_ask_for_what_options_ask_for() {
        let query = Query::parse("uid=u&resourceVersion=7&propagationPolicy=Orphan&dryRun=All");
        let o = DeleteOptions::read(&Map::new(), &query).unwrap();
        assert_eq!((o.uid.as_deref(), o.revision.as_deref()), (Some("u"), Some("7")));
        assert_eq!((o.propagation, o.dry_run), (Some(Propagation::Orphan), true));
    }
}
