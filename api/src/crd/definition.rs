//! A CustomResourceDefinition from a type.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::schema;

/// How a definition names a scope.
pub(super) trait Scope {
    const NAME: &'static str;
}

impl Scope for NamespaceResourceScope {
    const NAME: &'static str = "Namespaced";
}

impl Scope for ClusterResourceScope {
    const NAME: &'static str = "Cluster";
}

/// What the macro knows of a kind.
pub(super) trait Parts: Resource {
    const SCOPE: &'static str;
    fn spec(generator: &mut SchemaGenerator) -> Schema;
    fn status(_generator: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

/// What the macro cannot know of a kind.
pub(super) trait Definition: Parts {
    const SHORT_NAMES: &'static [&'static str] = &[];
    /// Whether `status` is written through a subresource.
    const STATUS_SUBRESOURCE: bool = false;
    /// Whether an object without a `spec` is refused.
    const SPEC_REQUIRED: bool = false;
    /// An older version that is still served. All versions share the stored bytes, so its schema
    /// lets everything through.
    const OLD_VERSION: Option<&'static str> = None;
    /// Name, type and JSON path of the columns that `kubectl get` shows.
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}

/// The definition of `K`.
pub(super) fn of<K: Definition>() -> CustomResourceDefinition {
    let kind = K::KIND.to_owned();
    let (plural, group) = (K::URL_PATH_SEGMENT.to_owned(), K::GROUP.to_owned());
    let mut versions = vec![version::<K>(K::VERSION, full_schema::<K>(), true)];
    versions.extend(K::OLD_VERSION.map(|old| version::<K>(old, open_schema(), false)));
    CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(format!("{plural}.{group}")), ..ObjectMeta::default() },
        spec: CustomResourceDefinitionSpec {
            group,
            names: CustomResourceDefinitionNames {
                list_kind: Some(format!("{kind}List")),
                singular: Some(kind.to_lowercase()),
                short_names: (!K::SHORT_NAMES.is_empty())
                    .then(|| K::SHORT_NAMES.iter().map(|&name| name.to_owned()).collect()),
                kind,
                plural,
                ..CustomResourceDefinitionNames::default()
            },
            scope: K::SCOPE.to_owned(),
            versions,
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

fn version<K: Definition>(
    name: &str,
    schema: Value,
    storage: bool,
) -> CustomResourceDefinitionVersion {
    let age = ("Age", "date", ".metadata.creationTimestamp");
    let columns = K::COLUMNS.iter().chain([&age]).map(|&(name, type_, json_path)| {
        CustomResourceColumnDefinition {
            name: name.to_owned(),
            type_: type_.to_owned(),
            json_path: json_path.to_owned(),
            ..CustomResourceColumnDefinition::default()
        }
    });
    CustomResourceDefinitionVersion {
        name: name.to_owned(),
        served: true,
        storage,
        subresources: K::STATUS_SUBRESOURCE.then(|| CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(json!({}))),
            scale: None,
        }),
        additional_printer_columns: (storage && !K::COLUMNS.is_empty()).then(|| columns.collect()),
        schema: Some(CustomResourceValidation { open_api_v3_schema: Some(props(schema)) }),
        ..CustomResourceDefinitionVersion::default()
    }
}

#[expect(clippy::expect_used, reason = "made from our own types, and every kind is tested")]
fn props(schema: Value) -> JSONSchemaProps {
    serde_json::from_value(schema).expect("a schema of ours")
}

fn full_schema<K: Definition>() -> Value {
    let mut generator = schema::generator();
    let mut properties = json!({
        "apiVersion": {
            "type": "string",
            "description": "Version of the schema that this object has.",
        },
        "kind": { "type": "string", "description": "What this object is." },
        "metadata": { "type": "object" },
        "spec": K::spec(&mut generator),
    });
    if let Some(status) = K::status(&mut generator) {
        properties["status"] = status.into();
    }
    let mut whole = json!({ "type": "object", "properties": properties });
    if K::SPEC_REQUIRED {
        whole["required"] = json!(["spec"]);
    }
    schema::make_structural(&mut whole);
    whole
}

fn open_schema() -> Value {
    json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
