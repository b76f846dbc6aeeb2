//! The history of templates that daemon sets and stateful sets keep as ControllerRevisions.
//!
//! Owns: finding the revision of the present template, making it, deleting old ones.
//! Called by: `daemonset.rs`, `statefulset`. kubectl reads the revisions for `rollout history` and
//! applies their data as a strategic merge patch for `rollout undo`.

use serde_json::{Value, json};

use super::world::World;
use super::{Action, Kind, Plan, Target, number, owner_reference, template};
use crate::registry::meta;

/// The label by which a pod says what template it was made from.
pub(crate) const LABEL: &str = "controller-revision-hash";

/// The revisions of a workload.
pub(crate) struct History<'a> {
    /// Oldest first.
    all: Vec<&'a Value>,
    /// That of the present template, if it is there already.
    pub(crate) update: Option<&'a Value>,
}

/// The template as a patch that puts it in place of any other.
fn data(workload: &Value) -> Value {
    let mut template = workload["spec"]["template"].clone();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

fn same(revision: &Value, data: &Value) -> bool {
    template::plain(&revision["data"]) == template::plain(data)
}

/// The hash that a revision's label holds.
pub(crate) fn hash_of(revision: &Value) -> &str {
    meta::text(revision, "/metadata/labels/controller-revision-hash")
}

impl<'a> History<'a> {
    pub(crate) fn read(world: &'a World, workload: &Value) -> Self {
        let mut all = world.owned(Kind::Revision, meta::uid(workload));
        all.sort_by_key(|r| (number(r, "/revision", 0), meta::name(r).to_owned()));
        let now = data(workload);
        let update = all.iter().copied().rfind(|r| same(r, &now));
        Self { all, update }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&'a Value> {
        self.all.iter().copied().find(|r| meta::name(r) == name)
    }

    /// Makes the revision of the present template, or makes an older one the newest. Returns whether
    /// there was something to do.
    pub(crate) fn keep_up(
        &self,
        world: &World,
        kind: Kind,
        workload: &Value,
        plan: &mut Plan,
    ) -> bool {
        let newest = self.all.iter().map(|r| number(r, "/revision", 0)).max().unwrap_or(0);
        if let Some(update) = self.update {
            if number(update, "/revision", 0) < newest {
                plan.patch(Kind::Revision, update, json!({"revision": newest + 1}));
                return true;
            }
            return false;
        }
        let t = &workload["spec"]["template"];
        let collisions = number(workload, "/status/collisionCount", 0);
        // A name that another template has is passed over here and now: the hash gets longer.
        let free = (0..64).map(|n| template::hash(t, collisions + n)).find(|hash| {
            let key = format!("{}/{}-{hash}", meta::namespace(workload), meta::name(workload));
            world.get(Kind::Revision, &key).is_none()
        });
        let Some(hash) = free else { return false };
        let mut labels = t["metadata"]["labels"].clone();
        if !labels.is_object() {
            labels = json!({});
        }
        labels[LABEL] = hash.as_str().into();
        let mut annotations =
            workload["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let revision = json!({"metadata": {"name": format!("{}-{hash}", meta::name(workload)),
            "namespace": meta::namespace(workload), "labels": labels, "annotations": annotations,
            "ownerReferences": [owner_reference(kind, workload)]},
            "data": data(workload), "revision": newest + 1});
        plan.push(Action::Create(Kind::Revision, revision, None));
        true
    }

    /// Deletes what is beyond the limit and not used by any pod.
    pub(crate) fn clean_up(
        &self,
        workload: &Value,
        used: impl Fn(&Value) -> bool,
        plan: &mut Plan,
    ) {
        let limit =
            usize::try_from(number(workload, "/spec/revisionHistoryLimit", 10)).unwrap_or(0);
        let update = self.update.map(meta::name);
        let idle: Vec<&Value> = self
            .all
            .iter()
            .copied()
            .filter(|r| Some(meta::name(r)) != update && !used(r))
            .collect();
        let surplus = idle.len().saturating_sub(limit);
        for r in idle.into_iter().take(surplus) {
            plan.push(Action::Delete(Target::of(Kind::Revision, r), None, None));
        }
    }
}
