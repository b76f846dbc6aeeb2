//! A control plane in this process, and kubectl beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use control_plane::{ClientLimits, Config, ControlPlane, Running};
use rcgen::{CertificateParams, KeyPair};
use service::Service;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// A control plane that runs in this process.
pub(crate) struct Cluster {
    pub(crate) running: Running,
    dir: Option<tempfile::TempDir>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<Result<(), service::Stopped>>,
}

/// A TLS server on a free port, with a certificate of its own; each connection is handed to `serve`.
/// Returns where it is, and its certificate in PEM.
pub(crate) async fn tls_server<F>(
    serve: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> (SocketAddr, String)
where
    F: Future<Output = ()> + Send + 'static,
{
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let cert = params.self_signed(&key).expect("a certificate");
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream).await;
                }
            });
        }
    });
    (address, cert.pem())
}

/// What kubectl said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) ok: bool,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder")).await
    }

    /// A control plane whose clients have these limits.
    pub(crate) async fn limited(limits: ClientLimits) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::start_with(dir, limits).await
    }

    /// A control plane that others reach by this address.
    pub(crate) async fn reached_at(address: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config::new(dir.path().join("cp"));
        config.bind.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
        config.extra_sans.push(address.to_owned());
        Self::start_as(dir, config).await
    }

    async fn start_in(dir: tempfile::TempDir) -> Self {
        Self::start_with(dir, ClientLimits::default()).await
    }

    async fn start_with(dir: tempfile::TempDir, limits: ClientLimits) -> Self {
        let config = Config { limits, ..Config::new(dir.path().join("cp")) };
        Self::start_as(dir, config).await
    }

    async fn start_as(dir: tempfile::TempDir, mut config: Config) -> Self {
        let mut svc = Service::new("control-plane");
        config.bind.set_port(0);
        let built = ControlPlane::build(config, &svc).await.expect("the control plane starts");
        let running = built.spawn(&mut svc);
        let stop = svc.stopping();
        Self { running, dir: Some(dir), stop, done: tokio::spawn(svc.until_stopped()) }
    }

    /// Stops it and starts another on the same folder.
    pub(crate) async fn restart(mut self) -> Self {
        let dir = self.dir.take().expect("it has a folder");
        self.stop.cancel();
        (&mut self.done).await.expect("no panic").expect("a clean stop");
        Self::start_in(dir).await
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        self.running.kubeconfig()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(kubectl());
        c.arg("--kubeconfig").arg(self.kubeconfig()).args(args);
        // Its caches stay in the test's own folder.
        c.env("HOME", self.dir.as_ref().expect("it has a folder").path());
        c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        c
    }

    /// Runs kubectl with a text on its standard input.
    pub(crate) async fn kubectl_in(&self, args: &[&str], input: &str) -> Said {
        let mut child = self.command(args).spawn().unwrap_or_else(|e| {
            panic!("kubectl cannot be started ({e}); these tests need it on the PATH, or its path in KUBECTL")
        });
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.expect("kubectl reads");
        drop(stdin);
        let Output { status, stdout, stderr } =
            tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
                .await
                .unwrap_or_else(|_| panic!("kubectl {args:?} did not end"))
                .expect("kubectl runs");
        let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
        Said { out: text(stdout), err: text(stderr), ok: status.success() }
    }

    pub(crate) async fn kubectl(&self, args: &[&str]) -> Said {
        self.kubectl_in(args, "").await
    }

    /// Runs kubectl, which must succeed; returns what it printed.
    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        let said = self.kubectl(args).await;
        assert!(said.ok, "kubectl {args:?} failed: {}{}", said.out, said.err);
        said.out
    }

    /// Runs kubectl until it succeeds.
    pub(crate) async fn until(&self, args: &[&str]) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let said = self.kubectl(args).await;
            if said.ok {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "kubectl {args:?}: {}", said.err);
        }
    }

    /// Asks kubectl again and again until it prints what is expected.
    pub(crate) async fn becomes(&self, args: &[&str], expected: &str) {
        let asked = std::cell::RefCell::new(String::new());
        let asking = async {
            loop {
                let said = self.kubectl(args).await;
                if said.ok && said.out.trim() == expected {
                    return;
                }
                asked.replace(format!("{}{}", said.out, said.err));
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), asking).await.is_err() {
            panic!("kubectl {args:?} says {:?}, not {expected:?}", asked.borrow());
        }
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &str) -> String {
        let said = self.kubectl_in(&["apply", "-f", "-"], manifest).await;
        assert!(said.ok, "kubectl apply failed: {}{}", said.out, said.err);
        said.out
    }

    /// Runs kubectl, which must fail; returns its complaint.
    pub(crate) async fn fails(&self, args: &[&str], input: &str) -> String {
        let said = self.kubectl_in(args, input).await;
        assert!(!said.ok, "kubectl {args:?} succeeded: {}", said.out);
        said.err
    }
}

/// Says of every pod that it runs, and lets go of every pod that is to end, as a kubelet does.
pub(crate) struct Kubelet {
    done: tokio::task::JoinHandle<()>,
}

impl Kubelet {
    /// Follows the pods of all namespaces; `phase` is what becomes of them.
    pub(crate) fn start(cluster: &Arc<Cluster>, phase: &'static str) -> Self {
        let columns = "custom-columns=A:.metadata.namespace,B:.metadata.name,C:.status.phase,D:.metadata.deletionTimestamp";
        let args = ["get", "pods", "-A", "--no-headers", "--watch", "-o", columns];
        let mut child = cluster.command(&args).spawn().expect("kubectl starts");
        let out = child.stdout.take().expect("a pipe");
        let cluster = Arc::downgrade(cluster);
        let done = tokio::spawn(async move {
            let _child = child;
            let mut lines = tokio::io::BufReader::new(out).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let words: Vec<&str> = line.split_whitespace().collect();
                let (Some(cluster), [ns, name, now, deleted]) = (cluster.upgrade(), &words[..])
                else {
                    break;
                };
                if *deleted != "<none>" {
                    let force = ["delete", "pod", "-n", ns, name, "--grace-period=0", "--force"];
                    cluster.kubectl(&force).await;
                } else if *now == "Pending" {
                    cluster.mark(ns, name, phase).await;
                }
            }
        });
        Self { done }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.done.abort();
    }
}

impl Cluster {
    /// Writes a pod's status, as a kubelet does. It may be gone.
    pub(crate) async fn mark(&self, namespace: &str, pod: &str, phase: &str) {
        let ready = if phase == "Running" { "True" } else { "False" };
        let hash = pod.bytes().fold(1_u16, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let ip = format!("10.1.{}.{}", hash >> 8, hash & 255);
        let status = format!(
            "{{\"status\":{{\"phase\":\"{phase}\",\"podIP\":\"{ip}\",\"podIPs\":[{{\"ip\":\"{ip}\"}}],\"conditions\":[{{\"type\":\"Ready\",\"status\":\"{ready}\"}},{{\"type\":\"ContainersReady\",\"status\":\"{ready}\"}}]}}}}"
        );
        let patch = ["patch", "pod", "-n", namespace, pod, "--subresource=status", "-p", &status];
        self.kubectl(&patch).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn kubectl() -> PathBuf {
    std::env::var_os("KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from)
}
