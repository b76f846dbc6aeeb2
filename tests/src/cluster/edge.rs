//! An edge node of a [`Cluster`](super::Cluster).
//!
//! Owns: edgecore's files and its pretended containers, which outlive it.
//! Called by: the cluster and its tests. Never: writes into edgecore's database.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::config::edgecore::EdgeCoreConfig;
use api::config::{ConfigFile, Host};
use edgecore::edged::runtime::fake::FakeRuntime;
use serde_json::{Value, json};
use service::Service;

use super::{IMAGE, PATIENCE, Part};
use crate::link::Link;
use crate::wait::eventually;

/// An edge node.
pub struct Edge {
    /// Its name.
    pub name: String,
    /// Its containers, which outlive edgecore.
    pub runtime: FakeRuntime,
    /// Its wire to the cloud.
    pub link: Link,
    folder: PathBuf,
    config: EdgeCoreConfig,
    part: Option<Part>,
}

impl Edge {
    /// One that will join with `token` at the certificate service `https`; not started.
    pub(super) fn new(
        name: &str,
        folder: PathBuf,
        link: Link,
        https: SocketAddr,
        token: &str,
    ) -> Self {
        let mut config = edge_config(name, &folder, &link);
        config.modules.edge_hub.http_server = format!("https://{https}");
        config.modules.edge_hub.token = token.to_owned().into();
        let runtime = FakeRuntime::new();
        runtime.add_image(IMAGE);
        Self { name: name.to_owned(), runtime, link, folder, config, part: None }
    }

    /// Starts edgecore.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(&mut self) {
        let options = edgecore::Options {
            bootstrap_file: self.folder.join("bootstrap-edgecore.conf"),
            runtime: Some(Arc::new(self.runtime.clone())),
            ..edgecore::Options::default()
        };
        let app = edgecore::EdgeCore::build(self.config.clone(), options).await.unwrap();
        let mut svc = Service::new("edgecore");
        app.spawn(&mut svc).unwrap();
        self.part = Some(Part::start("edgecore", svc));
    }

    /// Stops edgecore; its containers go on.
    ///
    /// # Panics
    /// When it ends with an error.
    pub async fn stop(&mut self) {
        self.part.take().unwrap().stop().await;
    }

    /// Removes the database of an edgecore that is stopped.
    ///
    /// # Panics
    /// When there is none.
    pub fn lose_database(&self) {
        assert!(self.part.is_none(), "edgecore has its database open");
        let file = &self.config.database.data_source;
        std::fs::remove_file(file).unwrap();
        for more in ["-wal", "-shm"] {
            let mut name = file.clone().into_os_string();
            name.push(more);
            let _ = std::fs::remove_file(name);
        }
    }

    /// The pods, configmaps and secrets on its disk, by `namespace/kind/name`.
    ///
    /// # Errors
    /// When the database cannot be read just now.
    pub fn stored(&self) -> anyhow::Result<BTreeMap<String, Value>> {
        let file = &self.config.database.data_source;
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let db = rusqlite::Connection::open_with_flags(file, flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        let mut rows =
            db.prepare("SELECT key, value FROM meta WHERE type IN ('pod', 'configmap', 'secret')")?;
        let rows = rows.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?.unwrap_or_default()))
        })?;
        rows.map(|row| {
            let (key, text) = row?;
            let object = serde_json::from_str(&text).with_context(|| key.clone())?;
            Ok((key, object))
        })
        .collect()
    }

    /// Waits until an object on its disk is as wanted, or, with `None`, is not there.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn until_stored(&self, key: &str, is: impl Fn(Option<&Value>) -> bool) -> Duration {
        eventually(&format!("{key} on the disk of {}", self.name), PATIENCE, async || {
            let stored = self.stored().map_err(|e| e.to_string())?;
            if is(stored.get(key)) { Ok(()) } else { Err(format!("{:?}", stored.get(key))) }
        })
        .await
        .1
    }
}

/// A pod for a node, with one container of the pod's own name, which reads these configmaps.
pub fn pod(name: &str, node: &str, config_maps: &[&str]) -> Value {
    let from: Vec<Value> =
        config_maps.iter().map(|c| json!({ "configMapRef": { "name": c } })).collect();
    json!({
        "metadata": { "name": name },
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": name,
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "envFrom": from,
            }],
        },
    })
}

fn edge_config(name: &str, folder: &Path, link: &Link) -> EdgeCoreConfig {
    let mut config = EdgeCoreConfig::default_for(&Host::default());
    config.database.data_source = folder.join("edgecore.db");
    let hub = &mut config.modules.edge_hub;
    hub.websocket.server = link.address().to_string();
    hub.websocket.handshake_timeout = 3;
    hub.heartbeat = 1;
    hub.tls_ca_file = folder.join("ca.crt");
    hub.tls_cert_file = folder.join("server.crt");
    hub.tls_private_key_file = folder.join("server.key");
    let edged = &mut config.modules.edged;
    edged.hostname_override = name.parse().unwrap();
    edged.root_directory = folder.join("kubelet");
    let kubelet = &mut edged.tailored_kubelet_config;
    kubelet.static_pod_path = folder.join("manifests");
    kubelet.pod_logs_dir = folder.join("logs");
    // However full this machine's disk is.
    kubelet.eviction_hard.clear();
    kubelet.image_gc_high_threshold_percent = 100;
    // Several nodes share this machine's ports.
    kubelet.read_only_port = 0;
    config.modules.event_bus.enable = false;
    config.modules.device_twin.dmi_sock_path = folder.join("dmi");
    config
}
