//! Server-side apply, and who owns which field.
//!
//! Owns: `metadata.managedFields`, conflicts between managers, the merge of an applied configuration.
//! Called by: create and update (to record), patch (to apply).
//!
//! A set of fields is a tree, as `fieldsV1` writes it: `f:name` for a field, `k:{..}` for an element of
//! a list by its keys, `v:x` for a member of a set, `.` for the thing itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::auth::User;
use super::body::{self, WriteOptions};
use super::create::{Outcome, create};
use super::get;
use super::json;
use super::status::{FieldError, Status};
use super::update::modify;
use crate::plane::Plane;
use crate::registry::schema::{ListKind, Shape, schemas};
use crate::registry::structural::Node;
use crate::registry::{Part, Resource, meta};

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fields {
    /// The thing itself is in the set.
    here: bool,
    children: BTreeMap<String, Fields>,
}

/// How a place in an object behaves, whether its kind is built in or custom.
#[derive(Clone, Copy)]
enum Place<'a> {
    Shape(&'a Shape),
    Custom(&'a Node),
    /// The metadata of a custom object.
    Metadata,
    /// Nothing is known: maps merge, lists do not.
    Free,
    /// A map that is owned as a whole.
    Whole,
}

/// How a list merges at a place.
enum Lists<'a> {
    Atomic,
    Set,
    Keys(Vec<&'a str>),
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl<'a> Place<'a> {
    fn field(self, name: &str) -> Place<'a> {
        match self {
            Self::Shape(Shape::Ref(id)) => {
                let ty = schemas().get(*id);
                match (ty.name.rsplit('.').next(), name) {
                    (Some("PodSpec"), "nodeSelector") | (Some("ServiceSpec"), "selector") => {
                        Place::Whole
                    }
                    _ => ty.field(name).map_or(Place::Free, Place::Shape),
                }
            }
            Self::Shape(Shape::Map(items)) => Place::Shape(items),
            Self::Custom(_) if name == "metadata" => Place::Metadata,
            Self::Custom(n) => n.property(name).map_or(Place::Free, Place::Custom),
            Self::Metadata => {
                let ty = schemas().find(META).map(|id| schemas().get(id));
                ty.and_then(|t| t.field(name)).map_or(Place::Free, Place::Shape)
            }
            _ => Place::Free,
        }
    }

    /// Whether Kubernetes' types have a field also in an object that does not set it, so that it never
    /// comes to be: structs that are no pointers, and lists that are written as null.
    fn always_has(self, name: &str, at: Place<'_>) -> bool {
        let built_in = matches!(self, Self::Shape(_));
        match (name, at) {
            ("metadata", _) => true,
            ("containers" | "rules" | "endpoints", Place::Shape(Shape::List(..))) => built_in,
            (
                "spec" | "status" | "strategy" | "updateStrategy" | "template" | "resources"
                | "jobTemplate" | "clientConfig" | "loadBalancer" | "daemonEndpoints"
                | "kubeletEndpoint" | "nodeInfo" | "involvedObject" | "source" | "state"
                | "lastState" | "names" | "acceptedNames" | "target",
                Place::Shape(Shape::Ref(_)),
            ) => built_in,
            _ => false,
        }
    }

    fn element(self) -> Place<'a> {
        match self {
            Self::Shape(Shape::List(items, _)) => Place::Shape(items),
            Self::Custom(n) => n.element().map_or(Place::Free, Place::Custom),
            _ => Place::Free,
        }
    }

    fn list(self) -> Lists<'a> {
        match self {
            Self::Shape(Shape::List(_, ListKind::Set)) => Lists::Set,
            Self::Shape(Shape::List(_, ListKind::Map(keys))) => {
                Lists::Keys(keys.iter().map(|k| &**k).collect())
            }
            Self::Custom(n) => match n.list_kind() {
                ("set", _) => Lists::Set,
                ("map", keys) => Lists::Keys(keys.iter().map(String::as_str).collect()),
                _ => Lists::Atomic,
            },
            _ => Lists::Atomic,
        }
    }

    /// A map that is owned as a whole.
    fn is_atomic(self) -> bool {
        match self {
            // Selectors and references are atomic in Kubernetes.
            Self::Shape(Shape::Ref(id)) => matches!(
                schemas().get(*id).name.rsplit('.').next(),
                Some(
                    "LabelSelector"
                        | "ObjectReference"
                        | "LocalObjectReference"
                        | "SecretReference"
                        | "NodeSelector"
                        | "NodeSelectorTerm"
                        | "TypedLocalObjectReference"
                        | "ObjectFieldSelector"
                        | "ResourceFieldSelector"
                        | "ConfigMapKeySelector"
                        | "SecretKeySelector"
                        | "OwnerReference"
                        | "RoleRef"
                        | "Subject"
                        | "ScopeSelector"
                        | "TopologySelectorTerm"
                )
            ),
            Self::Shape(Shape::Any) | Self::Whole => true,
            Self::Custom(n) => n.is_atomic_map(),
            _ => false,
        }
    }
}

/// The key of a list element as `fieldsV1` writes it.
fn element_key(lists: &Lists<'_>, v: &Value) -> Option<String> {
    match lists {
        Lists::Atomic => None,
        Lists::Set => Some(format!("v:{v}")),
        Lists::Keys(keys) => {
            let mut out = Map::new();
            for k in keys {
                // `protocol` is the one key that is often left to its default.
                let found =
                    v.get(*k).cloned().or_else(|| (*k == "protocol").then(|| "TCP".into()))?;
                out.insert((*k).to_owned(), found);
            }
            Some(format!("k:{}", Value::Object(out)))
        }
    }
}

impl Fields {
    fn leaf() -> Self {
        Self { here: true, children: BTreeMap::new() }
    }

    fn is_empty(&self) -> bool {
        !self.here && self.children.is_empty()
    }

    /// The fields that a value sets.
    fn of(v: &Value, place: Place<'_>) -> Self {
        Self::collect(v, place, false)
    }

    /// The same, and the maps and lists that come to be with them: who wrote an object owns them, who
    /// applied one does not.
    fn made(v: &Value, place: Place<'_>) -> Self {
        Self::collect(v, place, true)
    }

    fn collect(v: &Value, place: Place<'_>, made: bool) -> Self {
        match v {
            Value::Object(m) if !m.is_empty() && !place.is_atomic() => {
                let child = |(k, v): (&String, &Value)| {
                    let at = place.field(k);
                    let mut of = Self::collect(v, at, made);
                    of.here |= made && !place.always_has(k, at);
                    (format!("f:{k}"), of)
                };
                Self { here: false, children: m.iter().map(child).collect() }
            }
            Value::Array(a) if !a.is_empty() => {
                let lists = place.list();
                let mut children = BTreeMap::new();
                for item in a {
                    let Some(key) = element_key(&lists, item) else { return Self::leaf() };
                    let mut of = Self::collect(item, place.element(), made);
                    of.here = true;
                    children.insert(key, of);
                }
                Self { here: false, children }
            }
            _ => Self::leaf(),
        }
    }

    fn read(v: &Value) -> Self {
        let mut out = Self::default();
        let Value::Object(m) = v else { return out };
        if m.is_empty() {
            return Self::leaf();
        }
        for (k, v) in m {
            if k == "." {
                out.here = true;
            } else {
                out.children.insert(k.clone(), Self::read(v));
            }
        }
        out
    }

    fn write(&self) -> Value {
        let mut m = Map::new();
        if self.here && !self.children.is_empty() {
            m.insert(".".into(), json!({}));
        }
        for (k, c) in &self.children {
            m.insert(k.clone(), c.write());
        }
        Value::Object(m)
    }

    fn union(&mut self, other: &Self) {
        self.here |= other.here;
        for (k, c) in &other.children {
            self.children.entry(k.clone()).or_default().union(c);
        }
    }

    fn minus(&self, other: &Self) -> Self {
        let mut out = Self { here: self.here && !other.here, children: BTreeMap::new() };
        for (k, c) in &self.children {
            let left = other.children.get(k).map_or_else(|| c.clone(), |o| c.minus(o));
            if !left.is_empty() {
                out.children.insert(k.clone(), left);
            }
        }
        out
    }

    fn both(&self, other: &Self) -> Self {
        let mut out = Self { here: self.here && other.here, children: BTreeMap::new() };
        for (k, c) in &self.children {
            if let Some(o) = other.children.get(k) {
                let common = c.both(o);
                if !common.is_empty() {
                    out.children.insert(k.clone(), common);
                }
            }
        }
        out
    }

    /// The paths of the set, as conflicts name them: `.spec.containers[name="c"].image`.
    fn paths(&self, at: &str, out: &mut Vec<String>) {
        if self.here && self.children.is_empty() {
            out.push(at.to_owned());
        }
        for (k, c) in &self.children {
            let next = if let Some(f) = k.strip_prefix("f:") {
                format!("{at}.{f}")
            } else if let Some(keys) = k.strip_prefix("k:") {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let all: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{at}[{}]", all.join(","))
            } else {
                format!("{at}[={}]", k.trim_start_matches("v:"))
            };
            c.paths(&next, out);
        }
    }
}

/// The fields whose values differ between two values, among those either has.
fn changed(old: &Value, new: &Value, place: Place<'_>) -> Fields {
    if old == new {
        return Fields::default();
    }
    match (old, new) {
        (Value::Object(o), Value::Object(n))
            if !place.is_atomic() && !o.is_empty() && !n.is_empty() =>
        {
            let mut out = Fields::default();
            for k in o.keys().chain(n.keys().filter(|k| !o.contains_key(*k))) {
                let part = match (o.get(k), n.get(k)) {
                    (Some(a), Some(b)) => changed(a, b, place.field(k)),
                    (Some(v), None) | (None, Some(v)) => {
                        let at = place.field(k);
                        let mut made = Fields::made(v, at);
                        made.here |= !place.always_has(k, at);
                        made
                    }
                    (None, None) => continue,
                };
                if !part.is_empty() {
                    out.children.insert(format!("f:{k}"), part);
                }
            }
            out
        }
        (Value::Array(o), Value::Array(n)) => {
            let lists = place.list();
            let index = |a: &'_ [Value]| -> Option<BTreeMap<String, Value>> {
                a.iter().map(|v| Some((element_key(&lists, v)?, v.clone()))).collect()
            };
            let (Some(o), Some(n)) = (index(o), index(n)) else { return Fields::leaf() };
            let mut out = Fields::default();
            for k in o.keys().chain(n.keys().filter(|k| !o.contains_key(*k))) {
                let part = match (o.get(k), n.get(k)) {
                    (Some(a), Some(b)) => changed(a, b, place.element()),
                    (Some(v), None) | (None, Some(v)) => {
                        let mut of = Fields::made(v, place.element());
                        of.here = true;
                        of
                    }
                    (None, None) => continue,
                };
                if !part.is_empty() {
                    out.children.insert(k.clone(), part);
                }
            }
            out
        }
        (Value::Null, v) | (v, Value::Null) => Fields::made(v, place),
        _ => Fields::leaf(),
    }
}

/// Merges an applied configuration into an object.
fn merge(live: &mut Value, applied: &Value, place: Place<'_>) {
    match (&mut *live, applied) {
        (Value::Object(l), Value::Object(a)) if !place.is_atomic() => {
            for (k, v) in a {
                match l.get_mut(k) {
                    Some(slot) => merge(slot, v, place.field(k)),
                    None => {
                        l.insert(k.clone(), v.clone());
                    }
                }
            }
        }
        (Value::Array(l), Value::Array(a)) => {
            let lists = place.list();
            let keyed = |v: &Value| element_key(&lists, v);
            if a.iter().any(|v| keyed(v).is_none()) || l.iter().any(|v| keyed(v).is_none()) {
                *live = applied.clone();
                return;
            }
            // What is applied comes in its own order; what only the server has stays before what it
            // stood before.
            let mut rest: std::collections::VecDeque<Value> = std::mem::take(l).into();
            let is_applied = |x: &Value| a.iter().any(|v| keyed(v) == keyed(x));
            for v in a {
                while rest.front().is_some_and(|x| !is_applied(x)) {
                    l.extend(rest.pop_front());
                }
                let at = rest.iter().position(|x| keyed(x) == keyed(v));
                l.push(match at.and_then(|i| rest.remove(i)) {
                    Some(mut x) => {
                        merge(&mut x, v, place.element());
                        x
                    }
                    None => v.clone(),
                });
            }
            l.extend(rest);
        }
        _ => *live = applied.clone(),
    }
}

/// Removes fields from an object.
fn remove(live: &mut Value, fields: &Fields, place: Place<'_>) {
    match live {
        Value::Object(m) => {
            for (k, c) in &fields.children {
                let Some(name) = k.strip_prefix("f:") else { continue };
                let Some(v) = m.get_mut(name) else { continue };
                if c.children.is_empty() {
                    m.remove(name);
                    continue;
                }
                remove(v, c, place.field(name));
                if v.as_object().is_some_and(Map::is_empty)
                    || v.as_array().is_some_and(Vec::is_empty)
                {
                    m.remove(name);
                }
            }
        }
        Value::Array(a) => {
            let lists = place.list();
            a.retain_mut(|v| {
                let Some(c) = element_key(&lists, v).and_then(|k| fields.children.get(&k)) else {
                    return true;
                };
                if c.here {
                    return false;
                }
                remove(v, c, place.element());
                true
            });
        }
        _ => {}
    }
}

/// One entry of `managedFields`.
#[derive(Debug, Clone)]
struct Entry {
    manager: String,
    operation: &'static str,
    api_version: String,
    subresource: &'static str,
    time: String,
    fields: Fields,
}

fn read_entries(object: &Value) -> Vec<Entry> {
    let one = |v: &Value| Entry {
        manager: v["manager"].as_str().unwrap_or_default().to_owned(),
        operation: if v["operation"] == "Apply" { "Apply" } else { "Update" },
        api_version: v["apiVersion"].as_str().unwrap_or_default().to_owned(),
        subresource: match v["subresource"].as_str() {
            Some("status") => "status",
            Some("scale") => "scale",
            Some("approval") => "approval",
            _ => "",
        },
        time: v["time"].as_str().unwrap_or_default().to_owned(),
        fields: Fields::read(&v["fieldsV1"]),
    };
    object["metadata"]["managedFields"].as_array().into_iter().flatten().map(one).collect()
}

fn is_entry(v: &Value) -> bool {
    matches!(v["operation"].as_str(), Some("Apply" | "Update"))
        && v["fieldsType"] == "FieldsV1"
        && v["fieldsV1"].is_object()
}

fn write_entries(object: &mut Value, entries: Vec<Entry>) {
    let m = meta::metadata(object);
    let list: Vec<Value> = entries
        .into_iter()
        .filter(|e| !e.fields.is_empty())
        .map(|e| {
            let mut v = json!({"manager": e.manager, "operation": e.operation, "apiVersion": e.api_version, "time": e.time,
                "fieldsType": "FieldsV1", "fieldsV1": e.fields.write()});
            if !e.subresource.is_empty() {
                v["subresource"] = e.subresource.into();
            }
            v
        })
        .collect();
    if list.is_empty() {
        m.remove("managedFields");
    } else {
        m.insert("managedFields".into(), list.into());
    }
}

fn place(resource: &Resource) -> Place<'_> {
    match (&resource.custom, &resource.root) {
        (Some(c), _) => Place::Custom(&c.schema),
        (None, Some(shape)) => Place::Shape(shape),
        (None, None) => Place::Free,
    }
}

/// An object without what nobody owns.
fn ownable(object: &Value) -> Value {
    let mut v = object.clone();
    if let Value::Object(m) = &mut v {
        m.remove("kind");
        m.remove("apiVersion");
        if let Some(Value::Object(m)) = m.get_mut("metadata") {
            for f in [
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "generation",
                "resourceVersion",
                "managedFields",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            ] {
                m.remove(f);
            }
            if m.is_empty()
                && let Value::Object(m) = &mut v
            {
                m.remove("metadata");
            }
        }
    }
    v
}

fn now() -> String {
    meta::timestamp(jiff::Timestamp::now())
}

/// What of a new object belongs to its writer: no status, which has a path of its own, and nothing
/// that an object has without being asked for it.
fn written(resource: &Resource, sent: &Value) -> Value {
    let mut v = ownable(sent);
    if let Value::Object(m) = &mut v {
        if resource.has_status() {
            m.remove("status");
        }
        if resource.custom.is_none() {
            m.values_mut().for_each(without_nulls);
            let empty = |v: &Value| match v {
                Value::Null => true,
                Value::String(s) => s.is_empty(),
                Value::Object(m) => m.is_empty(),
                Value::Array(a) => a.is_empty(),
                _ => false,
            };
            m.retain(|_, v| !empty(v));
        }
    }
    v
}

/// Drops nulls, outside lists: an element of a list is owned as a whole.
fn without_nulls(v: &mut Value) {
    let Value::Object(m) = v else { return };
    m.retain(|_, v| !v.is_null());
    m.retain(|_, v| {
        let had = v.as_object().is_some_and(|m| !m.is_empty());
        without_nulls(v);
        // An object that had nothing but nulls is as good as none.
        !(had && v.as_object().is_some_and(Map::is_empty))
    });
}

/// Notes who made an object. What was applied owns what it names; other writers own what they sent,
/// with its defaults.
pub(crate) fn record_create(
    resource: &Resource,
    new: &mut Value,
    sent: &Value,
    applied: Option<&Value>,
    options: &WriteOptions,
) {
    let at = place(resource);
    let fields = match applied {
        Some(applied) => Fields::of(&ownable(applied), at),
        None => Fields::made(&written(resource, sent), at),
    };
    let entry = Entry {
        manager: options.manager.clone(),
        operation: if options.applying { "Apply" } else { "Update" },
        api_version: resource.api_version(),
        subresource: "",
        time: now(),
        fields,
    };
    write_entries(new, if entry.fields.children.is_empty() { Vec::new() } else { vec![entry] });
}

/// Notes who changed which fields of an object.
pub(crate) fn record_update(
    resource: &Resource,
    new: &mut Value,
    old: &Value,
    part: Part,
    options: &WriteOptions,
) {
    // A client may give up all records by sending an empty list, or write them, as kubectl does when it
    // starts to apply by the server; but not through a subresource, and not without knowing of them.
    let sent = new["metadata"].get("managedFields").cloned();
    let list = sent.as_ref().and_then(Value::as_array).filter(|_| part == Part::Main);
    let reset = list.is_some_and(|l| l.iter().all(|e| e.as_object().is_some_and(Map::is_empty)));
    let own = list.is_some_and(|l| !l.is_empty() && l.iter().all(is_entry));
    if !options.applying {
        let kept = match sent {
            _ if reset => None,
            Some(sent) if own => Some(sent),
            _ => old["metadata"].get("managedFields").cloned(),
        };
        match kept {
            Some(k) => meta::metadata(new).insert("managedFields".into(), k),
            None => meta::metadata(new).remove("managedFields"),
        };
        let at = place(resource);
        let (before, after) = (ownable(old), ownable(new));
        let difference = changed(&before, &after, at);
        if difference.is_empty() {
            return;
        }
        let now_there = Fields::made(&after, at);
        let mut entries = read_entries(new);
        for e in &mut entries {
            e.fields = e.fields.minus(&difference);
        }
        let subresource = if options.scaling { "scale" } else { part.subresource() };
        let mine = difference.both_or_under(&now_there);
        let known = entries.iter_mut().find(|e| {
            e.manager == options.manager
                && e.operation == "Update"
                && e.subresource == subresource
                && e.api_version == resource.api_version()
        });
        match known {
            Some(e) => {
                e.fields.union(&mine);
                e.time = now();
            }
            None => entries.push(Entry {
                manager: options.manager.clone(),
                operation: "Update",
                api_version: resource.api_version(),
                subresource,
                time: now(),
                fields: mine,
            }),
        }
        write_entries(new, entries);
    }
}

impl Fields {
    /// What of this set is in `there`; a leaf here stands for all that is under it there.
    fn both_or_under(&self, there: &Self) -> Self {
        if self.children.is_empty() {
            return there.clone();
        }
        let mut out = Self { here: self.here && there.here, children: BTreeMap::new() };
        for (k, c) in &self.children {
            if let Some(t) = there.children.get(k) {
                out.children.insert(k.clone(), c.both_or_under(t));
            }
        }
        out
    }
}

/// Applies a configuration.
///
/// # Errors
/// `Conflict` when fields belong to other managers and `force` is not set; all that an update refuses.
pub(crate) async fn apply(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    at: (&str, &str),
    part: Part,
    text: &Bytes,
    options: &WriteOptions,
) -> Result<(Outcome, bool, Vec<String>), Status> {
    if options.manager_unset {
        let e = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::bad_option("PatchOptions", e));
    }
    let (mut applied, warnings) = configuration(resource, at, text, options)?;
    let options = WriteOptions { applying: true, ..options.clone() };
    if plane.store.get(&get::key(resource, at.0, at.1)).is_none() {
        if part != Part::Main {
            return Err(Status::not_found(resource.group_resource(), at.1));
        }
        meta::metadata(&mut applied).insert("name".into(), at.1.into());
        let made = create(plane, user, resource, at.0, applied.clone(), &options).await;
        match made {
            Err(e) if e.reason == "AlreadyExists" => {}
            made => return made.map(|o| (o, true, warnings)),
        }
    }
    let change = |old: &Value| applied_to(resource, old, &applied, part, &options);
    let outcome = modify(plane, user, resource, at, part, &options, change).await?;
    Ok((outcome, false, warnings))
}

/// Reads an applied configuration; returns it and warnings.
///
/// # Errors
/// When it is not one of this resource, or has what the schema does not.
pub(crate) fn configuration(
    resource: &Resource,
    at: (&str, &str),
    text: &[u8],
    options: &WriteOptions,
) -> Result<(Value, Vec<String>), Status> {
    let mut parsed = json::parse_yaml(text)
        .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
    if !parsed.value.is_object() {
        return Err(Status::bad_request("error decoding YAML: not an object"));
    }
    let said = |f: &str| parsed.value[f].as_str().unwrap_or_default();
    if said("apiVersion") != resource.api_version() || said("kind") != resource.kind {
        let version = match said("apiVersion") {
            v if v.contains('/') => v.to_owned(),
            v => format!("/{v}"),
        };
        let kind = said("kind");
        return Err(Status::bad_request(format!("invalid object type: {version}, Kind={kind}")));
    }
    if parsed.value["metadata"]["managedFields"].as_array().is_some_and(|l| !l.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let unknown = body::check(resource, &mut parsed.value.clone())?;
    let mut wrong: Vec<String> =
        unknown.iter().map(|u| format!(".{u}: field not declared in schema")).collect();
    duplicates(&parsed.value, place(resource), "", &mut wrong);
    if !wrong.is_empty() {
        let (namespace, name) = (meta::namespace(&parsed.value), meta::name(&parsed.value));
        let kind = format!("{}, Kind={}", resource.api_version(), resource.kind);
        let kind = if resource.group.is_empty() { format!("/{kind}") } else { kind };
        return Err(Status::untyped(&format!("({namespace}/{name}; {kind})"), &wrong));
    }
    let warnings = body::object(resource, &mut parsed, options.validation)?;
    let applied = parsed.value;
    let namespace = meta::namespace(&applied);
    if resource.namespaced && !namespace.is_empty() && namespace != at.0 {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let own = meta::name(&applied);
    if !own.is_empty() && own != at.1 {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({})",
            at.1
        )));
    }
    Ok((applied, warnings))
}

/// Elements of a list with keys that stand twice in a configuration.
fn duplicates(v: &Value, place: Place<'_>, at: &str, out: &mut Vec<String>) {
    match v {
        Value::Object(m) if !place.is_atomic() => {
            for (k, v) in m {
                duplicates(v, place.field(k), &format!("{at}.{k}"), out);
            }
        }
        Value::Array(a) => {
            let lists = place.list();
            let mut seen = std::collections::BTreeSet::new();
            for item in a {
                let Some(key) = element_key(&lists, item) else { return };
                let mut shown = Vec::new();
                let single =
                    Fields { children: [(key.clone(), Fields::leaf())].into(), here: false };
                single.paths("", &mut shown);
                if !seen.insert(key) {
                    out.push(format!("{at}: duplicate entries for key {}", shown.concat()));
                    continue;
                }
                duplicates(item, place.element(), &format!("{at}{}", shown.concat()), out);
            }
        }
        _ => {}
    }
}

/// Whether all that would change is still as `kubectl apply` left it when it applied by itself: it
/// then goes on by the server without being told to force.
///
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply>
fn was_applied_by_kubectl(
    resource: &Resource,
    old: &Value,
    difference: &Fields,
    part: Part,
    options: &WriteOptions,
) -> bool {
    if options.manager != "kubectl" || part != Part::Main {
        return false;
    }
    let last =
        meta::text(old, "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    let Ok(last) = serde_json::from_str::<Value>(last) else { return false };
    let at = place(resource);
    let (last, now) = (ownable(&last), ownable(old));
    let mut back = now.clone();
    merge(&mut back, &last, at);
    let named = Fields::of(&last, at);
    let unchanged = named.minus(&changed(&now, &back, at));
    difference.minus(&unchanged).is_empty()
}

/// The object after a configuration was applied. All the judgement, and no I/O.
pub(crate) fn applied_to(
    resource: &Resource,
    old: &Value,
    applied: &Value,
    part: Part,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let at = place(resource);
    let subresource = part.subresource();
    let config = ownable(applied);
    let wanted = Fields::of(&config, at);
    let mut entries = read_entries(old);
    let mut new = old.clone();
    // Conflicts: fields that others own and that would change.
    let mut merged = ownable(old);
    merge(&mut merged, &config, at);
    let difference = changed(&ownable(old), &merged, at).both(&wanted);
    let mine = |e: &Entry| {
        e.manager == options.manager && e.operation == "Apply" && e.subresource == subresource
    };
    let conflicts: Vec<(String, Vec<String>)> = entries
        .iter()
        .filter(|e| !mine(e))
        .filter_map(|e| {
            let mut paths = Vec::new();
            e.fields.both(&difference).paths("", &mut paths);
            let by = if e.operation == "Update" {
                format!("\"{}\" using {}", e.manager, e.api_version)
            } else {
                format!("\"{}\"", e.manager)
            };
            (!paths.is_empty()).then_some((by, paths))
        })
        .collect();
    if !conflicts.is_empty()
        && !options.force
        && !was_applied_by_kubectl(resource, old, &difference, part, options)
    {
        return Err(conflict(&conflicts));
    }
    // What this manager applied before and does not any more goes, unless somebody else has it too.
    let before = entries.iter().find(|e| mine(e)).map(|e| e.fields.clone()).unwrap_or_default();
    let mut others = Fields::default();
    entries.iter().filter(|e| !mine(e)).for_each(|e| others.union(&e.fields));
    let dropped = before.minus(&wanted).minus(&others);
    remove(&mut new, &dropped, at);
    merge(&mut new, &config, at);
    for e in entries.iter_mut().filter(|e| !mine(e)) {
        e.fields = e.fields.minus(&difference);
    }
    let unchanged = before == wanted && ownable(&new) == ownable(old);
    match entries.iter_mut().find(|e| mine(e)) {
        Some(_) if unchanged => {}
        Some(e) => {
            e.fields = wanted;
            e.time = now();
        }
        None => entries.push(Entry {
            manager: options.manager.clone(),
            operation: "Apply",
            api_version: resource.api_version(),
            subresource,
            time: now(),
            fields: wanted,
        }),
    }
    write_entries(&mut new, entries);
    for field in ["resourceVersion", "uid"] {
        if let Some(v) = applied["metadata"].get(field) {
            new["metadata"][field] = v.clone();
        }
    }
    Ok(new)
}

fn conflict(conflicts: &[(String, Vec<String>)]) -> Status {
    let total: usize = conflicts.iter().map(|(_, p)| p.len()).sum();
    let mut causes = Vec::new();
    let mut parts = Vec::new();
    for (by, paths) in conflicts {
        for p in paths {
            causes.push(json!({"reason": "FieldManagerConflict", "message": format!("conflict with {by}"), "field": p}));
        }
        parts.push(if let [only] = &paths[..] {
            format!("conflict with {by}: {only}")
        } else {
            let list: String = paths.iter().map(|p| format!("\n- {p}")).collect();
            format!("conflicts with {by}:{list}")
        });
    }
    let noun = if total == 1 { "conflict" } else { "conflicts" };
    Status::apply_conflict(
        format!("Apply failed with {total} {noun}: {}", parts.join("\n")),
        causes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn options(manager: &str, force: bool) -> WriteOptions {
        WriteOptions { manager: manager.into(), force, applying: true, ..WriteOptions::default() }
    }

    fn deployment(spec: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "resourceVersion": "1"}, "spec": spec})
    }

    fn run(old: &Value, applied: &Value, manager: &str, force: bool) -> Result<Value, Status> {
        let r = Registry::new().builtin("apps", "deployments");
        applied_to(&r, old, applied, Part::Main, &options(manager, force))
    }

    #[test]
    fn fields_are_written_as_kubernetes_writes_them() {
        let r = Registry::new().builtin("", "pods");
        let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/y"]},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
        let fields = Fields::of(&ownable(&pod), place(&r));
        let expected = json!({
            "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}});
        assert_eq!(fields.write(), expected);
        assert_eq!(Fields::read(&expected), fields);
    }

    // "Upgrading from client-side apply to server-side apply" of the page: kubectl hands its records over.
    #[test]
    fn a_client_may_write_records_that_make_sense_and_nobody_loses_them_by_mistake() {
        let r = Registry::new().builtin("", "configmaps");
        let entry = |manager: &str, operation: &str| {
            json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}})
        };
        let old = json!({"metadata": {"name": "m", "managedFields": [entry("csa", "Update")]}, "data": {"a": "1"}});
        let written = |list: Value, part: Part| {
            let mut new = old.clone();
            new["metadata"]["managedFields"] = list;
            record_update(
                &r,
                &mut new,
                &old,
                part,
                &WriteOptions { manager: "me".into(), ..WriteOptions::default() },
            );
            new["metadata"].get("managedFields").cloned().unwrap_or_default()
        };
        let (mine, theirs) = (json!([entry("kubectl", "Apply")]), json!([entry("csa", "Update")]));
        assert_eq!(written(mine.clone(), Part::Main), mine);
        assert_eq!(written(mine, Part::Status), theirs);
        assert_eq!(written(json!([{"manager": "x"}]), Part::Main), theirs);
        assert_eq!(written(Value::Null, Part::Main), theirs);
        assert_eq!(written(json!([]), Part::Main), Value::Null);
        assert_eq!(written(json!([{}]), Part::Main), Value::Null);
    }

    // The first example of
    // https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management, and
    // `kubectl create deployment` as published in many places.
    #[test]
    fn who_wrote_an_object_owns_the_maps_and_lists_that_came_with_it() {
        let maps = Registry::new().builtin("", "configmaps");
        let map =
            json!({"metadata": {"name": "m", "labels": {"l": "v"}}, "data": {"key": "some value"}});
        let expected = json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:data": {".": {}, "f:key": {}}});
        assert_eq!(Fields::made(&ownable(&map), place(&maps)).write(), expected);
        let r = Registry::new().builtin("apps", "deployments");
        let d = deployment(
            json!({"strategy": {"rollingUpdate": {"maxSurge": 1}, "type": "RollingUpdate"},
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeSelector": {"x": "y"},
                "containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}}]}}}),
        );
        let expected = json!({"f:spec": {
            "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:nodeSelector": {},
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}}}});
        assert_eq!(Fields::made(&ownable(&d), place(&r)).write(), expected);
    }

    #[test]
    fn a_list_that_is_applied_to_keeps_the_order_that_it_had() {
        let r = Registry::new().builtin("apps", "deployments");
        let list = |names: &[&str]| {
            let all: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
            deployment(json!({"template": {"spec": {"containers": all}}}))
        };
        let merged = |live: &[&str], applied: &[&str]| {
            let mut live = list(live);
            merge(&mut live, &list(applied), place(&r));
            live == list(&["a", "b", "c", "d"])
        };
        assert!(merged(&["a", "b", "c"], &["d"]));
        assert!(merged(&["a", "b", "c"], &["b", "d"]));
        assert!(merged(&["b", "a"], &["a", "b", "c", "d"]));
    }

    #[test]
    fn elements_of_the_same_key_are_named() {
        let r = Registry::new().builtin("apps", "deployments");
        let d = deployment(json!({"template": {"spec": {"containers": [{"name": "c",
            "ports": [{"containerPort": 80}, {"containerPort": 80}], "env": [{"name": "A"}, {"name": "A"}]}]}}}));
        let mut found = Vec::new();
        duplicates(&d, place(&r), "", &mut found);
        found.sort();
        let at = ".spec.template.spec.containers[name=\"c\"]";
        assert_eq!(
            found,
            [
                format!("{at}.env: duplicate entries for key [name=\"A\"]"),
                format!(
                    "{at}.ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]"
                )
            ]
        );
    }

    // https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts
    #[test]
    fn another_managers_field_is_a_conflict_unless_forced() {
        let first = run(
            &deployment(json!({})),
            &deployment(json!({"replicas": 1, "paused": true})),
            "a",
            false,
        )
        .unwrap();
        let e = run(&first, &deployment(json!({"replicas": 2})), "b", false).unwrap_err();
        assert_eq!(e.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
        assert_eq!(e.code, 409);
        let forced = run(&first, &deployment(json!({"replicas": 2})), "b", true).unwrap();
        assert_eq!(forced["spec"], json!({"replicas": 2, "paused": true}));
        let owner = |o: &Value, m: &str| {
            read_entries(o).into_iter().find(|e| e.manager == m).unwrap().fields.write()
        };
        assert_eq!(owner(&forced, "b"), json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(owner(&forced, "a"), json!({"f:spec": {"f:paused": {}}}));
        // The same value is no conflict: the field is shared.
        let shared = run(&first, &deployment(json!({"replicas": 1})), "b", false).unwrap();
        assert_eq!(owner(&shared, "a"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
    }

    #[test]
    fn what_is_not_applied_any_more_goes_unless_it_is_shared() {
        let c = |list: Value| deployment(json!({"template": {"spec": {"containers": list}}}));
        let first = run(
            &deployment(json!({})),
            &c(json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}])),
            "a",
            false,
        )
        .unwrap();
        let second = run(&first, &c(json!([{"name": "x", "image": "1"}])), "a", false).unwrap();
        assert_eq!(
            second["spec"]["template"]["spec"]["containers"],
            json!([{"name": "x", "image": "1"}])
        );
        let shared = run(&first, &c(json!([{"name": "y", "image": "1"}])), "b", false).unwrap();
        let third = run(&shared, &c(json!([{"name": "x", "image": "1"}])), "a", false).unwrap();
        assert_eq!(third["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
    }

    // What a kube-apiserver 1.33 recorded of the same.
    #[test]
    fn who_makes_an_object_owns_what_was_sent_and_no_status() {
        let record = |plural: &str, sent: Value, new: Value| {
            let r = Registry::new().builtin("", plural);
            let (mut new, options) = (new, options("m", false));
            record_create(&r, &mut new, &sent, None, &WriteOptions { applying: false, ..options });
            new["metadata"]["managedFields"][0]["fieldsV1"].clone()
        };
        let sent = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "reason": "R",
            "firstTimestamp": null, "eventTime": null, "source": {}, "reportingComponent": ""});
        assert_eq!(
            record("events", sent.clone(), sent),
            json!({"f:involvedObject": {}, "f:reason": {}})
        );
        let sent =
            json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}}});
        let mut new = sent.clone();
        new["spec"] = json!({"finalizers": ["kubernetes"]});
        new["status"] = json!({"phase": "Active"});
        assert_eq!(
            record("namespaces", sent, new),
            json!({"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}})
        );
    }

    // https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
    #[test]
    fn kubectl_goes_on_by_the_server_where_it_applied_by_itself() {
        let last = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1}});
        let mut old = deployment(json!({"replicas": 1}));
        old["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
        old["metadata"]["managedFields"] = json!([{"manager": "kubectl-client-side-apply", "operation": "Update",
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
        let wanted = deployment(json!({"replicas": 2}));
        assert_eq!(run(&old, &wanted, "kubectl", false).unwrap()["spec"]["replicas"], 2);
        assert_eq!(run(&old, &wanted, "other", false).unwrap_err().code, 409);
        // Somebody changed it since.
        old["spec"]["replicas"] = 5.into();
        assert_eq!(run(&old, &wanted, "kubectl", false).unwrap_err().code, 409);
    }
}
