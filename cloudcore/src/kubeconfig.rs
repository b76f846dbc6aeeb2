//! The client for the API server that the configuration names.
//!
//! Owns: time limits of connections, and which CA edge nodes are told.
//! Called by: `app.rs`.
//! Never: repeats a request; `apiserver` does, within a limit.

use std::path::Path;
use std::time::Duration;

use api::config::cloudcore::KubeApiConfig;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::error::Error;

/// A client for the configured API server, and its CA as PEM.
pub(crate) async fn client(config: &KubeApiConfig) -> Result<(kube::Client, String), Error> {
    let path = &config.kube_config;
    let bad = |e: service::BoxError| Error::Kubeconfig { path: path.clone(), source: e };
    let mut kube = if path.as_os_str().is_empty() {
        kube::Config::incluster().map_err(|e| Error::NotInCluster(e.into()))?
    } else {
        let file = Kubeconfig::read_from(path).map_err(|e| bad(e.into()))?;
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|e| bad(e.into()))?
    };
    if !config.master.is_empty() {
        kube.cluster_url =
            config.master.parse().map_err(|e: http::uri::InvalidUri| bad(e.into()))?;
    }
    kube.connect_timeout = Some(Duration::from_secs(5));
    kube.write_timeout = Some(Duration::from_secs(30));
    // `ApiServer` repeats requests itself, within a limit.
    kube.default_retry = false;
    let ca = api_ca(&kube);
    let client = kube::Client::try_from(kube).map_err(|e| bad(e.into()))?;
    Ok((client, ca))
}

fn api_ca(config: &kube::Config) -> String {
    if let Some(Ok(pem)) = config.root_cert_file.as_deref().map(read_text) {
        return pem;
    }
    let mut out = String::new();
    for der in config.root_cert.iter().flatten() {
        out.push_str(&crate::status::pem(der));
    }
    out
}

fn read_text(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}
