//! The kinds that are served, and what each means.
//!
//! Owns: the table of kinds, and per kind its defaults, validation, selectable fields and columns.
//! Called by: `http` for every request; controllers for the tables they follow.
//! Never: reads or writes the store. What is not in the table is absent from discovery and a 404.

pub(crate) mod apps;
pub(crate) mod batch;
pub(crate) mod certificates;
mod checks;
pub(crate) mod column_help;
pub(crate) mod columns;
pub(crate) mod core;
pub(crate) mod crd;
mod crd_checks;
pub(crate) mod crd_schema;
mod crd_structure;
pub(crate) mod decode;
mod endpoints;
mod job_checks;
mod job_status;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod others;
pub(crate) mod pod_fields;
mod pod_lookup;
mod pod_placement;
mod pod_systems;
mod pod_volumes;
pub(crate) mod pods;
pub(crate) mod policy;
#[cfg(test)]
mod properties;
pub(crate) mod quantity;
pub(crate) mod restore;
pub(crate) mod rules;
pub(crate) mod schedule;
pub(crate) mod schema;
pub(crate) mod selectors;
pub(crate) mod services;
mod storage;
mod storage_checks;
pub(crate) mod strategic;
pub(crate) mod structural;
mod table;
pub(crate) mod warnings;
pub(crate) mod webhooks;
pub(crate) mod zeros;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::http::status::{FieldError, GroupResource};
use crate::store::Stored;
use selectors::Selectable;

/// Which part of an object a request may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status, if the kind has a status of its own.
    Main,
    /// The status only.
    Status,
    /// The conditions of a certificate signing request.
    Approval,
    /// The containers that are added to a pod to look into it.
    Ephemeral,
    /// What a namespace waits for before it goes.
    Finalize,
}

impl Part {
    /// The subresource through which it is changed.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Approval => "approval",
            Self::Ephemeral => "ephemeralcontainers",
            Self::Finalize => "finalize",
        }
    }
}

/// What a kind does beyond what all do.
pub(crate) struct Strategy {
    /// The form of names.
    pub(crate) name: fn(&str) -> Result<(), String>,
    /// Fills in what Kubernetes fills in when it reads the object.
    pub(crate) default: fn(&mut Value),
    /// What is taken from the stored object, or set, before a write.
    pub(crate) prepare: fn(&mut Value, Option<&Value>, Part),
    /// What is wrong with it.
    pub(crate) validate: fn(&Value, Option<&Value>, Part, &mut Vec<FieldError>),
    /// Selectable fields beyond name and namespace.
    pub(crate) fields: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the spec.
    pub(crate) generation: bool,
    /// What `kubectl get` shows.
    pub(crate) columns: &'static columns::Columns,
}

/// A subresource as discovery shows it.
#[derive(Debug, Clone)]
pub(crate) struct Subresource {
    pub(crate) name: &'static str,
    pub(crate) verbs: &'static [&'static str],
    /// `(group, version, kind)` if it is not the parent's.
    pub(crate) kind: Option<(&'static str, &'static str, &'static str)>,
}

/// A kind in one version.
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: &'static [&'static str],
    pub(crate) subresources: Vec<Subresource>,
    /// Its table in the store: `core/pods`.
    pub(crate) table: Arc<str>,
    /// Its type, if it is one of Kubernetes'.
    pub(crate) schema: Option<schema::TypeId>,
    /// The same as a shape, for whoever walks along it.
    pub(crate) root: Option<schema::Shape>,
    pub(crate) strategy: &'static Strategy,
    /// What its definition says, if it is a custom one.
    pub(crate) custom: Option<Arc<crd::Served>>,
    /// `{"kind":"Pod","apiVersion":"v1",`
    pub(crate) head: Bytes,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// What Go calls the type of a kind of this resource.
    pub(crate) fn go_type(&self, kind: &str) -> String {
        let list = if kind == self.list_kind { "List" } else { "" };
        match self.group.split('.').next() {
            _ if self.custom.is_some() => format!("*unstructured.Unstructured{list}"),
            None | Some("" | "events") => format!("*core.{kind}"),
            Some(package) => format!("*{package}.{kind}"),
        }
    }

    pub(crate) fn group_resource(&self) -> GroupResource<'_> {
        GroupResource { group: &self.group, resource: &self.plural }
    }

    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether changes of the status go through `/status` only.
    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Labels and selectable fields of an object.
    pub(crate) fn selectable(&self, object: &Value) -> Selectable {
        let text = |v: &Value| match v {
            Value::String(s) => s.as_str().into(),
            Value::Null => Box::from(""),
            v => v.to_string().into(),
        };
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        let labels =
            labels.into_iter().flatten().map(|(k, v)| (k.as_str().into(), text(v))).collect();
        let mut fields = Vec::new();
        for name in ["metadata.name", "metadata.namespace"].iter().chain(self.strategy.fields) {
            // Kubernetes lets one ask for this, and finds it nowhere.
            if *name == "status.podIPs" {
                fields.push(((*name).into(), Box::from("")));
                continue;
            }
            let pointer = format!("/{}", name.replace('.', "/"));
            let value =
                object.pointer(&pointer).map_or_else(|| Box::from(field_default(name)), text);
            fields.push(((*name).into(), value));
        }
        for path in self.custom.iter().flat_map(|c| &c.selectable_fields) {
            let value = object.pointer(&path.replace('.', "/")).map_or_else(|| Box::from(""), text);
            fields.push((path.trim_start_matches('.').into(), value));
        }
        Selectable { labels, fields }
    }

    /// Whether a field selector may name `field`.
    pub(crate) fn selects_by(&self, field: &str) -> bool {
        matches!(field, "metadata.name" | "metadata.namespace")
            || self.strategy.fields.contains(&field)
            || self
                .custom
                .iter()
                .flat_map(|c| &c.selectable_fields)
                .any(|f| f.trim_start_matches('.') == field)
    }
}

/// What a boolean or number that is not there reads as.
fn field_default(name: &str) -> &'static str {
    match name {
        "spec.hostNetwork" | "spec.unschedulable" => "false",
        _ => "",
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All that is served at one moment.
pub(crate) struct Snapshot {
    by_path: HashMap<(String, String, String), Arc<Resource>>,
    /// In the order of discovery.
    pub(crate) resources: Vec<Arc<Resource>>,
}

impl Snapshot {
    fn new(resources: Vec<Arc<Resource>>) -> Self {
        let by_path = resources
            .iter()
            .map(|r| ((r.group.clone(), r.version.clone(), r.plural.clone()), Arc::clone(r)))
            .collect();
        Self { by_path, resources }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Any version of a resource; the first of discovery.
    pub(crate) fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.group == group && r.plural == plural)
    }

    #[allow(dead_code, reason = "for the garbage collector's graph")]
    pub(crate) fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.group == group && r.version == version && r.kind == kind)
    }

    /// Groups with their versions, in the order of discovery; the core group is not among them.
    pub(crate) fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut out: Vec<(&str, Vec<&str>)> = Vec::new();
        for r in self.resources.iter().filter(|r| !r.group.is_empty()) {
            match out.iter_mut().find(|(g, _)| *g == r.group) {
                Some((_, versions)) if versions.contains(&r.version.as_str()) => {}
                Some((_, versions)) => versions.push(&r.version),
                None => out.push((&r.group, vec![&r.version])),
            }
        }
        out
    }

    pub(crate) fn in_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources.iter().filter(move |r| r.group == group && r.version == version)
    }
}

/// The kinds of one definition, and the revision of it that they are of.
type Defined = (u64, Vec<Arc<Resource>>);

/// The table of kinds; custom ones come and go with their definitions.
pub(crate) struct Registry {
    builtin: Vec<Arc<Resource>>,
    bodies: Vec<Arc<Resource>>,
    /// What is served, and how new the definitions are that it is of: see [`Self::current`].
    current: RwLock<(u64, Arc<Snapshot>)>,
    /// By the name of the definition.
    custom: Mutex<BTreeMap<Box<str>, Defined>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let builtin = table::builtin();
        let current = RwLock::new((0, Arc::new(Snapshot::new(builtin.clone()))));
        Self { builtin, bodies: table::bodies(), current, custom: Mutex::default() }
    }

    /// The kinds that Kubernetes has.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn builtins(&self) -> &[Arc<Resource>] {
        &self.builtin
    }

    /// All kinds, by definitions that are at least as new as `age`, a number that grows with each
    /// change of one; `definitions` reads them. Only what changed is compiled again.
    pub(crate) fn current(
        &self,
        age: u64,
        definitions: impl FnOnce() -> Vec<(Box<str>, Arc<Stored>)>,
    ) -> Arc<Snapshot> {
        let known = || Some(&*self.current.read()).filter(|c| c.0 >= age).map(|c| Arc::clone(&c.1));
        if let Some(kinds) = known() {
            return kinds;
        }
        let mut custom = self.custom.lock();
        if let Some(kinds) = known() {
            return kinds;
        }
        let mut before = std::mem::take(&mut *custom);
        for (name, stored) in definitions() {
            let defined = match before.remove(&name) {
                Some(same) if same.0 == stored.revision => same,
                _ => (stored.revision, crd::resources(&stored.value())),
            };
            custom.insert(name, defined);
        }
        // Groups by name, the best version of a group first, whichever definition it is in.
        let mut all: Vec<_> = custom.values().flat_map(|(_, kinds)| kinds).collect();
        all.sort_by_cached_key(|r| (r.group.clone(), Reverse(crd::version_order(&r.version))));
        let kinds = Arc::new(Snapshot::new(self.builtin.iter().chain(all).cloned().collect()));
        *self.current.write() = (age, Arc::clone(&kinds));
        kinds
    }

    /// A kind that a subresource takes as its body, which our own code names.
    pub(crate) fn body(&self, kind: &str) -> Arc<Resource> {
        let found = self.bodies.iter().find(|r| r.kind == kind);
        found.map_or_else(|| Arc::clone(&self.bodies[0]), Arc::clone)
    }

    /// A built-in kind that our own code names.
    pub(crate) fn builtin(&self, group: &str, plural: &str) -> Arc<Resource> {
        let found = self.builtin.iter().find(|r| r.group == group && r.plural == plural);
        // Every caller names a row of `table.rs`; a test walks them all.
        found.map_or_else(|| Arc::clone(&self.builtin[0]), Arc::clone)
    }
}
