//! How a place in an object behaves when configurations meet there.
//!
//! Owns: which maps and lists merge, by which keys, and which are owned as a whole.
//! Called by: whoever walks along an object of a known kind, in `apply`.

use serde_json::{Map, Value};

use crate::registry::Resource;
use crate::registry::schema::{ListKind, Shape, schemas};
use crate::registry::structural::Node;

/// How a place in an object behaves, whether its kind is built in or custom.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
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
pub(super) enum Lists<'a> {
    Atomic,
    Set,
    Keys(Vec<&'a str>),
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl<'a> Place<'a> {
    pub(super) fn field(self, name: &str) -> Place<'a> {
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

    /// Whether the type of this place has a field, which is not just the key of a map.
    pub(super) fn declares(self, name: &str) -> bool {
        match self {
            Self::Shape(shape) => matches!(shape, Shape::Ref(_)),
            Self::Custom(n) => name == "metadata" || n.has_property(name),
            Self::Metadata => true,
            Self::Free | Self::Whole => false,
        }
    }

    /// Whether Kubernetes' types have a field also in an object that does not set it, so that it never
    /// comes to be: structs that are no pointers, and lists that are written as null.
    pub(super) fn always_has(self, name: &str, at: Place<'_>) -> bool {
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

    pub(super) fn element(self) -> Place<'a> {
        match self {
            Self::Shape(Shape::List(items, _)) => Place::Shape(items),
            Self::Custom(n) => n.element().map_or(Place::Free, Place::Custom),
            _ => Place::Free,
        }
    }

    pub(super) fn list(self) -> Lists<'a> {
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
    pub(super) fn is_atomic(self) -> bool {
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
pub(super) fn element_key(lists: &Lists<'_>, v: &Value) -> Option<String> {
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

pub(super) fn place(resource: &Resource) -> Place<'_> {
    match (&resource.custom, &resource.root) {
        (Some(c), _) => Place::Custom(&c.schema),
        (None, Some(shape)) => Place::Shape(shape),
        (None, None) => Place::Free,
    }
}
