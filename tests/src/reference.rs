//! The original: KubeEdge's and Kubernetes' own programs, where whoever runs the tests has them.
//!
//! Each is named by an environment variable and runs on a host of the test's own. Nothing here
//! knows how they are made.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::host::Host;
use crate::keadm::Running;
use crate::kubectl::Kubectl;
use crate::wait;

/// How long a program may take to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A program of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// KubeEdge's cloud half.
    CloudCore,
    /// KubeEdge's edge half.
    EdgeCore,
    /// Kubernetes' API server.
    ApiServer,
    /// Its database.
    Etcd,
}

impl Program {
    /// The environment variable that says where it is.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::CloudCore => "KUBEEDGE_CLOUDCORE",
            Self::EdgeCore => "KUBEEDGE_EDGECORE",
            Self::ApiServer => "KUBE_APISERVER",
            Self::Etcd => "ETCD",
        }
    }

    /// Where it is; if nothing says so, that is said aloud.
    ///
    /// # Panics
    /// When the variable names something that is not there.
    pub fn find(self) -> Option<PathBuf> {
        let variable = self.variable();
        let Some(path) = std::env::var_os(variable).filter(|p| !p.is_empty()) else {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            crate::skipped(&format!("{variable} names no program: {test}"));
            return None;
        };
        let path = PathBuf::from(path);
        assert!(path.exists(), "{variable}: there is no program at {}", path.display());
        Some(path)
    }
}

/// KubeEdge's edgecore on a host, with the `edgecore.yaml` that `keadm join` wrote there.
///
/// # Panics
/// When it does not start.
pub fn edgecore(host: &Host, program: &Path, log: &Path) -> Running {
    let mut command = host.command(program);
    command.args(["--config", "/etc/kubeedge/config/edgecore.yaml"]);
    // It looks at all processes of the machine, and other tests' kubelets are none of its business.
    command.env("CHECK_EDGECORE_ENVIRONMENT", "false");
    Running::start(command, log)
}

/// KubeEdge's cloudcore on a host, with the `cloudcore.yaml` that `keadm init` wrote there.
///
/// # Panics
/// When it does not start.
pub fn cloudcore(host: &Host, program: &Path, log: &Path) -> Running {
    let mut command = host.command(program);
    command.args(["--config", "/etc/kubeedge/config/cloudcore.yaml"]);
    Running::start(command, log)
}

/// What KubeEdge's installer makes for the stream server of its cloudcore, and ours has by itself.
///
/// # Panics
/// When the files cannot be written.
pub fn stream_certificate(host: &Host, address: IpAddr) {
    let authority = Authority::new("stream");
    let (certificate, key) = authority.sign("cloudcore", "", &[address.to_string()]);
    for (path, text) in [
        ("/etc/kubeedge/ca/streamCA.crt", authority.certificate()),
        ("/etc/kubeedge/certs/stream.crt", &certificate),
        ("/etc/kubeedge/certs/stream.key", &key),
    ] {
        let path = host.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A certificate authority of a test's own.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its certificate in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate and its key in PEM, for a user or a server.
    ///
    /// # Panics
    /// When a name cannot be one.
    pub fn sign(&self, user: &str, group: &str, names: &[String]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }
}

/// A Kubernetes of an etcd and a kube-apiserver, without controllers, on one host.
pub struct Kubernetes {
    /// In the order in which they have to end.
    _running: [Running; 2],
    folder: tempfile::TempDir,
}

impl Kubernetes {
    /// Starts one that is reached at `address`; `None` if the environment names no programs for it.
    ///
    /// # Panics
    /// When a program does not start.
    pub fn start(host: &Host, address: IpAddr) -> Option<Self> {
        let (etcd, server) = (Program::Etcd.find()?, Program::ApiServer.find()?);
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let authority = Authority::new("kubernetes");
        let names = [address.to_string(), "127.0.0.1".to_owned(), "kubernetes".to_owned()];
        let pairs = [
            ("server", authority.sign("kube-apiserver", "", &names)),
            ("kubelet-client", authority.sign("kube-apiserver", "system:masters", &[])),
        ];
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.crt", authority.certificate());
        for (name, (certificate, key)) in &pairs {
            write(&format!("{name}.crt"), certificate);
            write(&format!("{name}.key"), key);
        }
        let accounts = KeyPair::generate().unwrap();
        write("accounts.key", &accounts.serialize_pem());
        write("accounts.pub", &accounts.public_key_pem());
        let (certificate, key) = authority.sign("admin", "system:masters", &[]);
        let kubeconfig = kubeconfig(address, authority.certificate(), &certificate, &key);
        write("kubeconfig", &kubeconfig);

        let mut command = host.command(etcd);
        command.arg(format!("--data-dir={}", at("etcd")));
        let mut etcd = Running::start(command, &folder.path().join("etcd.log"));
        etcd.until_said("ready to serve client requests", LIMIT);
        let mut command = host.command(server);
        command.args([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            // cloudcore stands for the nodes, whose names nobody can look up.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--advertise-address={address}"),
            format!("--client-ca-file={}", at("ca.crt")),
            format!("--tls-cert-file={}", at("server.crt")),
            format!("--tls-private-key-file={}", at("server.key")),
            format!("--kubelet-client-certificate={}", at("kubelet-client.crt")),
            format!("--kubelet-client-key={}", at("kubelet-client.key")),
            format!("--service-account-key-file={}", at("accounts.pub")),
            format!("--service-account-signing-key-file={}", at("accounts.key")),
            format!("--cert-dir={}", at("certs")),
        ]);
        let server = Running::start(command, &folder.path().join("apiserver.log"));
        let this = Self { _running: [server, etcd], folder };
        let kubectl = Kubectl::new(host, &this.kubeconfig());
        wait::until("kube-apiserver to be ready", LIMIT, || {
            let out = kubectl.output(&["get", "--raw", "/readyz"], "");
            if out.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        });
        Some(this)
    }

    /// The administrator's credentials.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }
}

fn kubeconfig(address: IpAddr, ca: &str, certificate: &str, key: &str) -> String {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{}", std::net::SocketAddr::new(address, 6443)),
            "certificate-authority-data": base64(ca),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": base64(certificate), "client-key-data": base64(key),
        }}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    })
    .to_string()
}
