//! cloudcore as its edge nodes and its API server see it: real sockets on loopback, real TLS, an API
//! server in memory.

#![expect(clippy::unwrap_used, reason = "in a test an unexpected error is a failure")]

mod bootstrap;
mod devices;
mod edge;
mod fake;
mod limits;
mod messages;
mod restart;
mod stream;
mod upgrades;

use std::net::SocketAddr;
use std::time::Duration;

use api::config::Document;
use api::config::cloudcore::CloudCoreConfig;
use cloudcore::apiserver::ApiServer;
use cloudcore::cloudhub::secrets;
use cloudcore::{Addresses, CloudCore, Options};
use edge::{Link, PATIENCE};
use fake::Fake;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use service::tls::Identity;
use service::{CancellationToken, Service, Stopped};

/// A running cloudcore.
struct Cloud {
    fake: Fake,
    api: ApiServer,
    at: Addresses,
    ca: CertificateDer<'static>,
    token: String,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), Stopped>>,
}

fn config(settings: &[&str]) -> CloudCoreConfig {
    let host = api::config::Host::default();
    let mut config = Document::<CloudCoreConfig>::defaults(&host);
    let base = [
        "commonConfig.monitorServer.bindAddress=127.0.0.1:0",
        "modules.cloudHub.advertiseAddress={127.0.0.1}",
        "modules.cloudHub.websocket.address=127.0.0.1",
        "modules.cloudHub.websocket.port=0",
        "modules.cloudHub.https.address=127.0.0.1",
        "modules.cloudHub.https.port=0",
        "modules.cloudHub.tlsCAFile=/nonexistent/ca.crt",
        "modules.cloudHub.tlsCAKeyFile=/nonexistent/ca.key",
        "modules.cloudHub.tlsCertFile=/nonexistent/server.crt",
        "modules.cloudHub.tlsPrivateKeyFile=/nonexistent/server.key",
    ];
    for setting in base.iter().chain(settings) {
        config.set(setting).unwrap();
    }
    config.config().unwrap().0
}

impl Cloud {
    async fn start() -> Self {
        Self::start_on(Fake::default(), &[]).await
    }

    async fn start_on(fake: Fake, settings: &[&str]) -> Self {
        let client = Some((fake.client(), "PEM".to_owned()));
        let options = Options { client, ..Options::default() };
        let app = CloudCore::build(config(settings), options).await.unwrap();
        let (at, ca, api) =
            (app.addresses(), app.pki().ca.certificate().clone(), app.api().clone());
        let token = secrets::stored_token(&api).await.unwrap().unwrap();
        let mut svc = Service::new("cloudcore").drain_within(PATIENCE);
        let stop = svc.stopping();
        app.spawn(&mut svc);
        let ready = svc.readiness().clone();
        let running = tokio::spawn(svc.until_stopped());
        tokio::time::timeout(PATIENCE, ready.ready()).await.expect("not ready");
        Self { fake, api, at, ca, token, stop, running }
    }

    async fn stop(self) -> Fake {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        self.fake
    }

    fn https(&self) -> SocketAddr {
        self.at.https.unwrap()
    }

    fn websocket(&self) -> SocketAddr {
        self.at.websocket.unwrap()
    }

    async fn join(&self, node: &str) -> Identity {
        edge::join(self.https(), &self.ca, &self.token, node).await
    }

    async fn dial(&self, identity: &Identity, node: &str) -> Link {
        Link::dial(self.websocket(), &self.ca, identity, node).await
    }
}

/// Puts an edge node into the API server, as if it had registered.
fn add_node(fake: &Fake, name: &str) -> Value {
    let labels = json!({"node-role.kubernetes.io/edge": ""});
    fake.put(&format!("/api/v1/nodes/{name}"), json!({"metadata": {"labels": labels}, "spec": {}}))
}

/// The same, and it says already that this cloudcore serves it, so that nothing is to be said anew.
fn add_served_node(fake: &Fake, name: &str) -> Value {
    let labels = json!({"node-role.kubernetes.io/edge": ""});
    let metadata = json!({"labels": labels, "annotations": {"cloudcore": "127.0.0.1"}});
    fake.put(&format!("/api/v1/nodes/{name}"), json!({"metadata": metadata, "spec": {}}))
}

fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

fn add_pod(fake: &Fake, name: &str, node: &str) -> Value {
    let spec = json!({"nodeName": node, "imagePullSecrets": [{"name": "pull"}]});
    fake.put(&pod_path(name), json!({"spec": spec, "status": {"phase": "Pending"}}))
}

/// Waits until something holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
