//! KubeEdge's own kinds, and their CustomResourceDefinitions made from the types.
//!
//! A kind is a struct made by the [`custom_resource!`] macro, which gives it `apiVersion` and `kind`
//! on the wire and [`k8s_openapi`]'s traits; any client that takes those takes ours. The manifests
//! are in `api/crds/`; a test keeps them equal to what the types say.
//!
//! Owns: the list of kinds, their names, the rendering.
//! Called by: `keadm` (installs the manifests), the control plane (serves the kinds), the
//! controllers (use the types).
//! Never: depends on a client library.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub mod apps;
pub mod check;
mod definition;
pub mod devices;
pub mod operations;
pub mod policy;
pub mod reliablesyncs;
pub mod rules;
mod schema;

pub use apps::{EdgeApplication, NodeGroup};
pub use devices::{Device, DeviceModel, DeviceStatus};
pub use operations::{ConfigUpdateJob, ImagePrePullJob, NodeUpgradeJob};
pub use policy::ServiceAccountAccess;
pub use reliablesyncs::{ClusterObjectSync, ObjectSync};
pub use rules::{Rule, RuleEndpoint};

/// A free JSON object.
pub type AnyObject = serde_json::Map<String, serde_json::Value>;

/// The definitions of all our kinds.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        definition::of::<Device>(),
        definition::of::<DeviceModel>(),
        definition::of::<DeviceStatus>(),
        definition::of::<ObjectSync>(),
        definition::of::<ClusterObjectSync>(),
        definition::of::<Rule>(),
        definition::of::<RuleEndpoint>(),
        definition::of::<NodeUpgradeJob>(),
        definition::of::<ImagePrePullJob>(),
        definition::of::<ConfigUpdateJob>(),
        definition::of::<NodeGroup>(),
        definition::of::<EdgeApplication>(),
        definition::of::<ServiceAccountAccess>(),
    ]
}

/// The definitions of all our kinds as YAML, each with the name of its file in `api/crds/`.
///
/// # Errors
/// Never in practice: the definitions have a YAML form.
pub fn manifests() -> Result<Vec<(String, String)>, String> {
    let file = |crd: CustomResourceDefinition| {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        // Through a tree, so that the keys are sorted.
        let tree = serde_json::to_value(&crd).map_err(|e| e.to_string())?;
        Ok((name, crate::config::yaml::write(&tree)?))
    };
    all().into_iter().map(file).collect()
}

/// Defines a kind: the struct, its JSON with `apiVersion` and `kind`, and k8s-openapi's traits.
macro_rules! custom_resource {
    (
        $(#[$doc:meta])*
        $name:ident: $group:literal / $version:literal, $plural:literal, $scope:ident,
        spec: $spec:ty $(, status: $status:ty)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            /// Standard object metadata.
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What is wanted.
            pub spec: $spec,
            $(
                /// What is.
                pub status: Option<$status>,
            )?
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                #[derive(serde::Serialize)]
                #[serde(rename_all = "camelCase")]
                struct Wire<'a> {
                    api_version: &'static str,
                    kind: &'static str,
                    metadata: &'a k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
                    spec: &'a $spec,
                    $(
                        #[serde(skip_serializing_if = "Option::is_none")]
                        status: &'a Option<$status>,
                    )?
                }
                let wire = Wire {
                    api_version: <Self as k8s_openapi::Resource>::API_VERSION,
                    kind: <Self as k8s_openapi::Resource>::KIND,
                    metadata: &self.metadata,
                    spec: &self.spec,
                    $( status: <&Option<$status>>::from(&self.status), )?
                };
                wire.serialize(serializer)
            }
        }

        impl k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::ListableResource for $name {
            const LIST_KIND: &'static str = concat!(stringify!($name), "List");
        }

        impl k8s_openapi::Metadata for $name {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }

        impl $crate::crd::definition::Parts for $name {
            const SCOPE: &'static str =
                <<Self as k8s_openapi::Resource>::Scope as $crate::crd::definition::Scope>::NAME;
            fn spec(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <$spec as schemars::JsonSchema>::json_schema(generator)
            }
            $(
                fn status(generator: &mut schemars::SchemaGenerator) -> Option<schemars::Schema> {
                    Some(<$status as schemars::JsonSchema>::json_schema(generator))
                }
            )?
        }
    };
}
use custom_resource;

#[cfg(test)]
mod tests;
