//! `join` against a small certificate service of the test's own, over real TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use service::tls::{self, ClientAuth, Identity};

use crate::host::Process;
use crate::host::fake::Fake;
use crate::testing::Machine;

/// A cloud as an edge sees it: the link's port, and the certificate service.
struct Cloud {
    ca: CertificateDer<'static>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// What the certificate names.
    names: Vec<String>,
    node_exists: bool,
    refuse: Option<&'static str>,
    clock_off: Duration,
}

impl Cloud {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().der().clone();
        Self {
            ca,
            issuer: Arc::new(Issuer::new(params, key)),
            names: vec!["127.0.0.1".into()],
            node_exists: false,
            refuse: None,
            clock_off: Duration::ZERO,
        }
    }

    fn token_for(ca: &[u8], lives: i64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let exp = now as i64 + lives;
        let hash = ring::digest::digest(&ring::digest::SHA256, ca);
        let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let head = encode(r#"{"alg":"HS256","typ":"JWT"}"#.into());
        format!("{hash}.{head}.{}.c2ln", encode(format!(r#"{{"exp":{exp}}}"#)))
    }

    fn token(&self) -> String {
        Self::token_for(&self.ca, 3600)
    }

    /// Serves in a thread of its own for as long as the test runs: link port, certificate port.
    fn serve(self) -> (u16, u16) {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let link = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let https = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let port = |l: &tokio::net::TcpListener| l.local_addr().unwrap().port();
                tell.send((port(&link), port(&https))).unwrap();
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(self.tls()));
                let this = Arc::new(self);
                loop {
                    let (stream, _): (_, SocketAddr) = https.accept().await.unwrap();
                    let (acceptor, this) = (acceptor.clone(), Arc::clone(&this));
                    tokio::spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let answer = service_fn(move |request| {
                            let this = Arc::clone(&this);
                            async move { Ok::<_, Infallible>(this.answer(request).await) }
                        });
                        let http = hyper::server::conn::http1::Builder::new();
                        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
                    });
                }
            });
        });
        told.recv().unwrap()
    }

    fn tls(&self) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(self.names.clone()).unwrap();
        let certificate = params.signed_by(&key, &*self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let identity = Identity::new(vec![certificate.der().clone()], key, "test").unwrap();
        tls::server_config(&identity, ClientAuth::None, &[]).unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let (status, body) = match path.as_str() {
            "/ca.crt" => (StatusCode::OK, self.ca.to_vec()),
            "/edge.crt" => match self.refuse {
                Some(why) => (StatusCode::UNAUTHORIZED, why.into()),
                None => {
                    let csr = CertificateSigningRequestDer::from(body.to_vec());
                    let csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
                    (StatusCode::OK, csr.signed_by(&*self.issuer).unwrap().der().to_vec())
                }
            },
            _ if self.node_exists => (StatusCode::OK, b"Node found".to_vec()),
            _ => (StatusCode::NOT_FOUND, b"Node not found".to_vec()),
        };
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        if self.clock_off > Duration::ZERO {
            let theirs = jiff::Timestamp::try_from(SystemTime::now() - self.clock_off).unwrap();
            let date = jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&theirs)
                .unwrap();
            answer.headers_mut().insert(header::DATE, date.parse().unwrap());
        }
        answer
    }
}

/// Joins a machine to a cloud, up to the service, and returns the transcript with what differs from
/// run to run blotted out.
fn join(cloud: Cloud, token: &str, more: &str, fake: Fake) -> (String, Machine) {
    let (link, https) = cloud.serve();
    let machine = Machine::new(fake);
    let line = format!(
        "keadm join --cloudcore-ipport 127.0.0.1:{link} --certport {https} --token {token} \
         --skip-phases wait{more}"
    );
    let text = machine
        .keadm(&line)
        .replace(&format!(":{link}"), ":10000")
        .replace(&https.to_string(), "10002")
        .replace(token, "TOKEN");
    (text, machine)
}

#[test]
fn a_machine_that_has_joined_has_private_keys_and_a_service() {
    let cloud = Cloud::new();
    let token = cloud.token();
    let (text, machine) =
        join(cloud, &token, " -l zone=a --set modules.edgeHub.heartbeat=7", Fake::default());
    insta::assert_snapshot!(format!("{text}\n{}", machine.tree()));
    let yaml = std::fs::read_to_string(machine.path("etc/kubeedge/config/edgecore.yaml")).unwrap();
    assert!(yaml.contains("heartbeat: 7") && yaml.contains("zone: a"), "{yaml}");
    assert!(!yaml.contains(&token));
    // A second time without `--clean` is refused, and says what to do.
    let again = machine.keadm(&format!("keadm join -e 127.0.0.1:9 -t {token} --skip-phases wait"));
    assert!(again.contains("exit code: 8"), "{again}");
    assert!(again.contains("Clean: this machine has joined a cloud already"), "{again}");
    let reset = machine.keadm("keadm reset edge --yes");
    assert_eq!(machine.tree(), "program 0644", "{reset}");
}

#[test]
fn a_token_that_is_not_whole_is_a_usage_error() {
    let machine = Machine::new(Fake::default());
    insta::assert_snapshot!(machine.keadm("keadm join -e 127.0.0.1:1 --token abc"));
}

#[test]
fn an_expired_token_is_told_with_its_end() {
    let cloud = Cloud::new();
    let token = Cloud::token_for(&cloud.ca, -1_000_000_000);
    let (text, machine) = join(cloud, &token, "", Fake::default());
    assert!(text.contains("exit code: 5"), "{text}");
    assert!(text.contains("error: the token expired at 199"), "{text}");
    assert!(text.contains("hint: run `keadm gettoken` on the cloud side"), "{text}");
    assert_eq!(machine.tree(), "");
}

#[test]
fn a_token_that_the_cloud_refuses_is_told_with_the_clouds_words() {
    let mut cloud = Cloud::new();
    cloud.refuse = Some("token validation failure, err: token signature is invalid");
    let token = cloud.token();
    insta::assert_snapshot!(join(cloud, &token, "", Fake::default()).0);
}

#[test]
fn another_ca_than_the_tokens_is_refused_before_a_secret_is_sent() {
    let cloud = Cloud::new();
    let token = Cloud::new().token();
    let (text, machine) = join(cloud, &token, "", Fake::default());
    assert!(text.contains("exit code: 5"), "{text}");
    assert!(text.contains("its CA certificate is not the one that the token is for"), "{text}");
    assert!(!machine.path("etc/kubeedge/ca/rootCA.crt").exists());
}

#[test]
fn a_certificate_that_does_not_name_the_address_says_which_it_names() {
    let mut cloud = Cloud::new();
    cloud.names = vec!["10.9.8.7".into(), "cloud.example".into()];
    let token = cloud.token();
    insta::assert_snapshot!(join(cloud, &token, "", Fake::default()).0);
}

#[test]
fn a_clock_that_is_off_is_found_by_comparing_it_with_the_clouds() {
    let mut cloud = Cloud::new();
    cloud.clock_off = Duration::from_secs(7200);
    let token = cloud.token();
    let (text, _) = join(cloud, &token, "", Fake::default());
    assert!(text.contains("error: this machine's clock is 7200 s ahead of the cloud's"), "{text}");
    assert!(text.contains("hint: set the clock"), "{text}");
}

#[test]
fn a_name_that_is_taken_is_a_conflict() {
    let mut cloud = Cloud::new();
    cloud.node_exists = true;
    let token = cloud.token();
    insta::assert_snapshot!(join(cloud, &token, "", Fake::default()).0);
}

#[test]
fn all_that_is_wrong_with_a_machine_is_told_together() {
    let cloud = Cloud::new();
    let token = cloud.token();
    let fake = Fake::new(|state| {
        state.not_root = true;
        state.ports.insert(10350, Process { pid: 77, name: "kubelet".into() });
        state.processes.push(Process { pid: 77, name: "kubelet".into() });
    });
    let more = " --remote-runtime-endpoint unix:///nowhere/crio.sock";
    insta::assert_snapshot!(join(cloud, &token, more, fake).0);
}

#[test]
fn a_full_disk_names_the_file_and_the_next_try_goes_on() {
    let cloud = Cloud::new();
    let token = cloud.token();
    let fake = Fake::new(|state| state.disk_full = true);
    let (link, https) = cloud.serve();
    let machine = Machine::new(fake.clone());
    let line = format!("keadm join -e 127.0.0.1:{link} -s {https} -t {token} --skip-phases wait");
    let full = machine.keadm(&line);
    assert!(full.contains("No space left on device") && full.contains("exit code: 1"), "{full}");
    assert!(full.contains("hint: free some space"), "{full}");
    fake.0.lock().disk_full = false;
    let again = machine.keadm(&line);
    assert!(again.contains("exit code: 0"), "{again}");
}

#[test]
fn a_cloud_that_does_not_answer_is_unreachable() {
    let machine = Machine::new(Fake::default());
    let token = Cloud::new().token();
    // Nothing listens on port 1.
    let line = format!("keadm join -e 127.0.0.1:1 -s 1 -t {token}");
    insta::assert_snapshot!(machine.keadm(&line).replace(&token, "TOKEN"));
}

#[test]
fn left_overs_are_named_and_clean_removes_them() {
    let cloud = Cloud::new();
    let token = cloud.token();
    let (link, https) = cloud.serve();
    let machine = Machine::new(Fake::default());
    let left = machine.path("etc/kubeedge/config");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("edgecore.yaml"), "{}").unwrap();
    let line = format!("keadm join -e 127.0.0.1:{link} -s {https} -t {token} --skip-phases wait");
    let refused = machine.keadm(&line);
    assert!(refused.contains("exit code: 8"), "{refused}");
    assert!(refused.contains("something is left of an earlier join"), "{refused}");
    let joined = machine.keadm(&format!("{line} --clean"));
    assert!(joined.contains("exit code: 0"), "{joined}");
}

#[test]
fn a_dry_run_shows_every_phase_and_changes_nothing() {
    let machine = Machine::new(Fake::default());
    let text = machine.keadm("keadm join -e 10.0.4.2:10000 --dry-run");
    insta::assert_snapshot!(text);
    insta::assert_snapshot!("phases", machine.keadm("keadm join phase"));
    assert_eq!(machine.tree(), "");
}
