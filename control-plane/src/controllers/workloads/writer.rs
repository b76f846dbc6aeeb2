//! Carrying out a plan.
//!
//! Owns: the order of writes, events about what was done or refused. Called by: the loop in `mod.rs`.
//! Never: decides.

use serde_json::{Value, json};
use std::sync::Arc;

use super::queue::Failure;
use super::{Action, Kind, Note, Target};
use crate::controllers::events;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::create::create;
use crate::http::delete::{DeleteOptions, delete};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, meta};

/// Objects made or deleted at the same time at most. It starts with one and doubles, so that what is
/// refused every time is refused once and not a hundred times.
const TOGETHER: usize = 64;

struct Writer<'a> {
    plane: &'a Arc<Plane>,
    component: &'static str,
    user: User,
    options: WriteOptions,
    about: &'a Value,
}

/// Carries out a plan: step by step, neighbouring creations and deletions together.
///
/// # Errors
/// The first refusal; what comes after it is left undone.
pub(crate) async fn carry_out(
    plane: &Arc<Plane>,
    component: &'static str,
    about: &Value,
    actions: Vec<Action>,
) -> Result<(), Failure> {
    let writer = Writer {
        plane,
        component,
        user: User::internal(&format!("serviceaccount:kube-system:{component}")),
        options: WriteOptions {
            manager: "kube-controller-manager".into(),
            ..WriteOptions::default()
        },
        about,
    };
    let mut actions = actions.into_iter().peekable();
    let mut width = 1;
    while let Some(first) = actions.next() {
        let mut batch = vec![first];
        while batch.len() < width && is_single(&batch[0]).is_none() {
            match actions.next_if(|a| is_single(a).is_none()) {
                Some(a) => batch.push(a),
                None => break,
            }
        }
        width = (width * 2).min(TOGETHER);
        let done = futures::future::join_all(batch.into_iter().map(|a| writer.act(a))).await;
        done.into_iter().collect::<Result<Vec<()>, Failure>>()?;
    }
    Ok(())
}

/// What must keep its place among the others.
fn is_single(action: &Action) -> Option<()> {
    match action {
        Action::Create(..) | Action::Delete(..) => None,
        Action::Patch(..) | Action::Status(..) | Action::Event(_) => Some(()),
    }
}

fn failure(e: Status) -> Failure {
    if e.reason == "Conflict" || e.code == 404 {
        Failure::Overtaken
    } else {
        Failure::Refused(e.message)
    }
}

impl Writer<'_> {
    async fn act(&self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Create(kind, object, note) => self.create(kind, object, note).await,
            Action::Delete(target, propagation, note) => {
                let options = DeleteOptions {
                    uid: Some(target.uid.clone()),
                    propagation,
                    ..DeleteOptions::default()
                };
                let resource =
                    self.plane.registry.builtin(target.kind.group(), target.kind.plural());
                let at = (target.namespace.as_str(), target.name.as_str());
                match delete(self.plane, &self.user, &resource, at, &options).await {
                    Ok(_) => self.note(note, &target.name).await,
                    Err(e) if e.code == 404 => {}
                    Err(e) => {
                        let message = not_deleted(self.about, &target.name, &e.message);
                        let failed = failure(e);
                        if matches!(failed, Failure::Refused(_)) {
                            self.note(Some(Note::warning("FailedDelete", message)), "").await;
                        }
                        return Err(failed);
                    }
                }
                Ok(())
            }
            Action::Patch(target, revision, patch) => {
                let change = |old: &Value| {
                    let mut new = old.clone();
                    json_patch::merge(&mut new, &patch);
                    Ok(pinned(new, &revision))
                };
                self.change(&target, Part::Main, change).await
            }
            Action::Status(target, revision, status) => {
                let change = |old: &Value| {
                    let mut new = old.clone();
                    new["status"] = status.clone();
                    Ok(pinned(new, &revision))
                };
                self.change(&target, Part::Status, change).await
            }
            Action::Event(note) => {
                self.note(Some(note), "").await;
                Ok(())
            }
        }
    }

    async fn create(&self, kind: Kind, object: Value, note: Option<Note>) -> Result<(), Failure> {
        let resource = self.plane.registry.builtin(kind.group(), kind.plural());
        let namespace = meta::namespace(&object).to_owned();
        let name = meta::name(&object).to_owned();
        let made =
            create(self.plane, &self.user, &resource, &namespace, object, &self.options).await;
        match made {
            Ok(outcome) => {
                if let Some(note) = note {
                    self.note(Some(note), meta::name(&outcome.value(&resource))).await;
                }
                Ok(())
            }
            // In a namespace that ends nothing is made, and nobody needs to be told.
            Err(e) if is_ending(&e) => Err(Failure::Refused(e.message)),
            Err(e) => {
                for note in not_made(self.about, kind, &name, &e) {
                    self.note(Some(note), "").await;
                }
                // What is taken already is not `Overtaken`: it would be tried at once for ever.
                Err(Failure::Refused(e.message))
            }
        }
    }

    async fn change(
        &self,
        target: &Target,
        part: Part,
        change: impl Fn(&Value) -> Result<Value, Status>,
    ) -> Result<(), Failure> {
        let resource = self.plane.registry.builtin(target.kind.group(), target.kind.plural());
        let at = (target.namespace.as_str(), target.name.as_str());
        let changed =
            modify(self.plane, &self.user, &resource, at, part, &self.options, change).await;
        changed.map(|_| ()).map_err(failure)
    }

    async fn note(&self, note: Option<Note>, name: &str) {
        let Some(note) = note else { return };
        let kind = self.about["kind"].as_str().unwrap_or_default();
        let severity = if note.warning { "Warning" } else { "Normal" };
        let message = note.message.replace("{}", name);
        events::record(
            self.plane,
            self.component,
            self.about,
            kind,
            severity,
            note.reason,
            &message,
        )
        .await;
    }
}

/// Names the revision that a change was made for, so that it is refused if it is not the newest.
fn pinned(mut object: Value, revision: &str) -> Value {
    meta::metadata(&mut object).insert("resourceVersion".into(), json!(revision));
    object
}

/// What is told of an object that could not be made, in the words of the controller that made it.
fn not_made(about: &Value, kind: Kind, name: &str, e: &Status) -> Vec<Note> {
    let (why, owner) = (&e.message, meta::name(about));
    let failed = |message: String| vec![Note::warning("FailedCreate", message)];
    let taken = e.reason == "AlreadyExists";
    match (about["kind"].as_str().unwrap_or_default(), kind) {
        // What is there already is looked at again soon enough.
        ("StatefulSet", Kind::Pod | Kind::Claim) | ("CronJob", Kind::Job) if taken => Vec::new(),
        ("StatefulSet", Kind::Pod) => {
            failed(format!("create Pod {name} in StatefulSet {owner} failed error: {why}"))
        }
        ("StatefulSet", Kind::Claim) => {
            // A claim is called after its pod.
            let pod = name.rfind(&format!("-{owner}-")).map_or(name, |at| &name[at + 1..]);
            let of_set = format!("in StatefulSet {owner} failed error:");
            vec![
                Note::warning(
                    "FailedCreate",
                    format!("create Claim {name} for Pod {pod} {of_set} {why}"),
                ),
                Note::warning(
                    "FailedCreate",
                    format!("create Pod {pod} {of_set} failed to create PVC {name}: {why}"),
                ),
            ]
        }
        ("Deployment", Kind::ReplicaSet) => {
            let message = format!("Failed to create new replica set {name:?}: {why}");
            vec![Note::warning("ReplicaSetCreateError", message)]
        }
        ("CronJob", Kind::Job) => failed(format!("Error creating job: {why}")),
        _ => failed(format!("Error creating: {why}")),
    }
}

/// The same of an object that could not be deleted.
fn not_deleted(about: &Value, name: &str, why: &str) -> String {
    let owner = meta::name(about);
    match about["kind"].as_str().unwrap_or_default() {
        "StatefulSet" => format!("delete Pod {name} in StatefulSet {owner} failed error: {why}"),
        "CronJob" => format!("Deleted job: {why}"),
        _ => format!("Error deleting: {why}"),
    }
}

fn is_ending(e: &Status) -> bool {
    let causes = e.details.as_ref().map(|d| &d["causes"]);
    causes.is_some_and(|c| {
        c.as_array().into_iter().flatten().any(|c| c["reason"] == "NamespaceTerminating")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Kubernetes' controllers of each kind say it so; "Debug a StatefulSet" of
    // https://kubernetes.io/docs/tasks/debug/debug-application/ reads such events.
    #[test]
    fn what_could_not_be_made_is_told_in_the_words_of_its_controller() {
        let told = |owner: &str, kind: Kind, name: &str, e: &Status| {
            let about = json!({"kind": owner, "metadata": {"name": "web"}});
            let notes = not_made(&about, kind, name, e);
            notes.into_iter().map(|n| format!("{}: {}", n.reason, n.message)).collect::<Vec<_>>()
        };
        let e = Status::bad_request("no");
        for (owner, kind, name, expected) in [
            (
                "StatefulSet",
                Kind::Pod,
                "web-0",
                "FailedCreate: create Pod web-0 in StatefulSet web failed error: no",
            ),
            ("ReplicaSet", Kind::Pod, "", "FailedCreate: Error creating: no"),
            ("DaemonSet", Kind::Pod, "", "FailedCreate: Error creating: no"),
            ("Job", Kind::Pod, "", "FailedCreate: Error creating: no"),
            ("CronJob", Kind::Job, "web-1", "FailedCreate: Error creating job: no"),
            (
                "Deployment",
                Kind::ReplicaSet,
                "web-1",
                "ReplicaSetCreateError: Failed to create new replica set \"web-1\": no",
            ),
        ] {
            assert_eq!(told(owner, kind, name, &e), [expected]);
        }
        assert_eq!(
            told("StatefulSet", Kind::Claim, "data-web-0", &e),
            [
                "FailedCreate: create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: no",
                "FailedCreate: create Pod web-0 in StatefulSet web failed error: failed to create PVC data-web-0: no",
            ]
        );
        let pods = crate::http::status::GroupResource { group: "", resource: "pods" };
        let taken = Status::already_exists(pods, "web-0");
        assert_eq!(told("StatefulSet", Kind::Pod, "web-0", &taken), Vec::<String>::new());
        let set = json!({"kind": "StatefulSet", "metadata": {"name": "web"}});
        assert_eq!(
            not_deleted(&set, "web-0", "no"),
            "delete Pod web-0 in StatefulSet web failed error: no"
        );
        assert_eq!(not_deleted(&json!({"kind": "Job"}), "a", "no"), "Error deleting: no");
    }

    #[test]
    fn a_change_is_made_for_the_revision_that_was_looked_at() {
        assert_eq!(
            pinned(json!({"metadata": {"name": "a", "resourceVersion": "9"}}), "7"),
            json!({"metadata": {"name": "a", "resourceVersion": "7"}})
        );
    }
}
