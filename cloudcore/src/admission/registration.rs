//! How the API server learns of the webhook.
//!
//! Owns: three configurations, under the names that the original gives them.
//! Called by: `mod.rs`, at start and now and then.
//! Never: leaves a configuration that trusts another CA than its own.

use api::raw::RawJson;
use base64::Engine as _;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use service::backoff::Backoff;
use std::time::Duration;
use tracing::{info, warn};

use super::Reach;
use crate::apiserver::{ApiError, ApiServer, Patch, Path};

const GROUP: &str = "admissionregistration.k8s.io/v1";
const PAUSE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// See the module.
#[derive(Debug)]
pub(super) struct Registration {
    /// Plural, and the object.
    objects: Vec<(&'static str, Value)>,
}

/// One webhook of a configuration.
struct Hook {
    name: &'static str,
    path: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
    resource: &'static str,
    /// Deletions are not asked about: nothing is ever against one.
    operations: &'static [&'static str],
    /// `Fail`: without the webhook nothing of the kind is written.
    policy: &'static str,
}

const WRITES: &[&str] = &["CREATE", "UPDATE"];

const VALIDATING: [Hook; 7] = [
    Hook {
        name: "validatedevice.kubeedge.io",
        path: "/devices",
        group: "devices.kubeedge.io",
        versions: &["v1beta1"],
        resource: "devices",
        operations: WRITES,
        policy: "Ignore",
    },
    Hook {
        name: "validatedevicemodel.kubeedge.io",
        path: "/devicemodels",
        group: "devices.kubeedge.io",
        versions: &["v1beta1"],
        resource: "devicemodels",
        operations: WRITES,
        policy: "Ignore",
    },
    Hook {
        name: "validatedrule.kubeedge.io",
        path: "/rules",
        group: "rules.kubeedge.io",
        versions: &["v1"],
        resource: "rules",
        operations: WRITES,
        policy: "Fail",
    },
    Hook {
        name: "validatedruleendpoint.kubeedge.io",
        path: "/ruleendpoints",
        group: "rules.kubeedge.io",
        versions: &["v1"],
        resource: "ruleendpoints",
        operations: WRITES,
        policy: "Fail",
    },
    Hook {
        name: "validatenodeupgradejob.kubeedge.io",
        path: "/nodeupgradejobs",
        group: "operations.kubeedge.io",
        versions: &["v1alpha1", "v1alpha2"],
        resource: "nodeupgradejobs",
        operations: WRITES,
        policy: "Fail",
    },
    Hook {
        name: "validateimageprepulljob.kubeedge.io",
        path: "/imageprepulljobs",
        group: "operations.kubeedge.io",
        versions: &["v1alpha1", "v1alpha2"],
        resource: "imageprepulljobs",
        operations: WRITES,
        policy: "Ignore",
    },
    Hook {
        name: "validateconfigupdatejob.kubeedge.io",
        path: "/configupdatejobs",
        group: "operations.kubeedge.io",
        versions: &["v1alpha2"],
        resource: "configupdatejobs",
        operations: WRITES,
        policy: "Ignore",
    },
];

const JOB_DEFAULTS: Hook = Hook {
    name: "mutatingnodeupgradejob.kubeedge.io",
    path: "/mutating/nodeupgradejobs",
    group: "operations.kubeedge.io",
    versions: &["v1alpha1", "v1alpha2"],
    resource: "nodeupgradejobs",
    operations: &["CREATE"],
    policy: "Ignore",
};

const AUTONOMY: Hook = Hook {
    name: "mutateofflinemigration.kubeedge.io",
    path: "/offlinemigration",
    group: "",
    versions: &["v1"],
    resource: "pods",
    operations: WRITES,
    policy: "Ignore",
};

impl Registration {
    /// For a webhook that is reached so, and whose certificate one of `ca` has signed.
    pub(super) fn new(reach: &Reach, port: u16, ca: &[CertificateDer<'_>]) -> Self {
        let pem: String = ca.iter().map(|der| crate::status::pem(der)).collect();
        let bundle = base64::engine::general_purpose::STANDARD.encode(pem);
        let hook = |hook: &Hook| webhook(hook, reach, port, &bundle);
        let validating: Vec<_> = VALIDATING.iter().map(hook).collect();
        let mut autonomy = hook(&AUTONOMY);
        autonomy["objectSelector"] =
            json!({ "matchLabels": { "app-offline.kubeedge.io": "autonomy" } });
        let configuration = |kind: &str, name: &str, webhooks: Value| {
            json!({
                "apiVersion": GROUP,
                "kind": kind,
                "metadata": { "name": name },
                "webhooks": webhooks,
            })
        };
        let mutating =
            |name, webhooks| configuration("MutatingWebhookConfiguration", name, webhooks);
        Self {
            objects: vec![
                (
                    "validatingwebhookconfigurations",
                    configuration(
                        "ValidatingWebhookConfiguration",
                        "kubeedge-crds-validate-webhook-configuration",
                        validating.into(),
                    ),
                ),
                (
                    "mutatingwebhookconfigurations",
                    mutating("kubeedge-mutating-webhook", json!([hook(&JOB_DEFAULTS)])),
                ),
                (
                    "mutatingwebhookconfigurations",
                    mutating("mutate-offlinemigration", json!([autonomy])),
                ),
            ],
        }
    }

    /// Writes what is missing or different, and tries again until it is written.
    pub(super) async fn keep(&self, api: &ApiServer) {
        for (plural, object) in &self.objects {
            let mut attempt = 0;
            while let Err(error) = write(api, plural, object).await {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                if error.is_not_found() {
                    warn!(name, "the API server does not know admission webhooks; none is called");
                    break;
                }
                if attempt == 0 {
                    warn!(name, %error, "the admission webhook is not registered yet");
                }
                tokio::time::sleep(PAUSE.next_delay(attempt)).await;
                attempt += 1;
            }
        }
    }
}

async fn write(api: &ApiServer, plural: &str, object: &Value) -> Result<(), ApiError> {
    let raw = |value: &Value| RawJson::of(value).map_err(|e| ApiError::Unreachable(e.to_string()));
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let collection = Path::of(GROUP, plural, None)?;
    match api.create(&collection, &raw(object)?).await {
        Err(error) if error.already_exists() => {}
        Ok(_) => {
            info!(name, "registered");
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    // A merge patch that changes nothing is no write.
    let patch = raw(&json!({ "webhooks": object["webhooks"] }))?;
    api.patch(&collection.named(name)?, Patch::Merge, &patch).await.map(drop)
}

fn webhook(hook: &Hook, reach: &Reach, port: u16, bundle: &str) -> Value {
    let mut client = match reach {
        Reach::Host(host) => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            json!({ "url": format!("https://{host}:{port}{}", hook.path) })
        }
        Reach::Service(namespace, name) => json!({
            "service": { "namespace": namespace, "name": name, "path": hook.path, "port": 443 },
        }),
    };
    client["caBundle"] = bundle.into();
    json!({
        "name": hook.name,
        "clientConfig": client,
        "rules": [{
            "apiGroups": [hook.group],
            "apiVersions": hook.versions,
            "resources": [hook.resource],
            "operations": hook.operations,
            "scope": "*",
        }],
        "failurePolicy": hook.policy,
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": 10,
        "admissionReviewVersions": ["v1"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::server::PATHS;

    #[test]
    fn every_path_that_is_registered_is_served_and_every_one_served_is_registered() {
        let reach = Reach::Host("10.0.0.1".to_owned());
        let registration = Registration::new(&reach, 9443, &[]);
        let mut urls: Vec<String> = registration
            .objects
            .iter()
            .flat_map(|(_, o)| o["webhooks"].as_array().unwrap())
            .map(|w| w["clientConfig"]["url"].as_str().unwrap().to_owned())
            .collect();
        urls.sort();
        let mut served: Vec<String> =
            PATHS.iter().map(|(p, _)| format!("https://10.0.0.1:9443{p}")).collect();
        served.sort();
        assert_eq!(urls, served);
    }

    #[test]
    fn a_service_is_named_and_an_ipv6_address_has_brackets() {
        let service = Reach::Service("kubeedge".to_owned(), "svc".to_owned());
        let hook = webhook(&AUTONOMY, &service, 9443, "x");
        assert_eq!(hook["clientConfig"]["service"]["path"], "/offlinemigration");
        let hook = webhook(&AUTONOMY, &Reach::Host("::1".to_owned()), 9443, "x");
        assert_eq!(hook["clientConfig"]["url"], "https://[::1]:9443/offlinemigration");
    }
}
