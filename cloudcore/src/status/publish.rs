//! Where the status stream is, for whoever has only a kubeconfig.
//!
//! Owns: the ConfigMap `kubeedge/status-stream`.
//! Called by: `app.rs`, once it listens.
//! Never: publishes a secret: the address and the CA are what every node gets that joins.

use std::time::Duration;

use api::raw::RawJson;
use base64::Engine;
use serde_json::json;
use service::backoff::Backoff;
use tracing::{debug, warn};

use crate::apiserver::{ApiError, ApiServer, Patch, Path};

const NAME: &str = "status-stream";
const PAUSE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Writes it, again and again until the API server takes it.
pub(crate) async fn publish(api: ApiServer, host: String, port: u16, ca: Vec<u8>) {
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let endpoint = format!("https://{host}:{port}");
    let mut attempt = 0;
    loop {
        match write(&api, &endpoint, &pem(&ca)).await {
            Ok(()) => return debug!(endpoint, "published where the status stream is"),
            Err(error) if error.is_transient() => {
                tokio::time::sleep(PAUSE.next_delay(attempt)).await;
                attempt += 1;
            }
            Err(error) => {
                return warn!(
                    %error,
                    "cannot publish where the status stream is: keadm needs `--endpoint`"
                );
            }
        }
    }
}

async fn write(api: &ApiServer, endpoint: &str, ca: &str) -> Result<(), ApiError> {
    let all = Path::of("v1", "configmaps", Some("kubeedge"))?;
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": NAME, "namespace": "kubeedge", "labels": { "k8s-app": "kubeedge" } },
        "data": { "endpoint": endpoint, "ca.crt": ca },
    });
    let body = RawJson::of(&object).unwrap_or_else(|_| RawJson::null());
    match api.create(&all, &body).await {
        Err(error) if error.already_exists() => {
            api.patch(&all.named(NAME)?, Patch::Merge, &body).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// A certificate in PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}
