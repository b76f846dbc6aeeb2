//! A CA for the tests, and a certificate service that signs with it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};
use service::tls::{self, Identity};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    ca_der: Vec<u8>,
    ca_pem: String,
    /// How far the clock is ahead with which servers' certificates are made.
    ahead: Duration,
}

impl Pki {
    pub(crate) fn new() -> Arc<Self> {
        Self::ahead(Duration::ZERO)
    }

    /// One whose servers' clocks are ahead.
    pub(crate) fn ahead(ahead: Duration) -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "KubeEdge");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        Arc::new(Self {
            ca_der: ca.der().to_vec(),
            ca_pem: ca.pem(),
            issuer: Issuer::new(params, key),
            ahead,
        })
    }

    pub(crate) fn ca_der(&self) -> Vec<u8> {
        self.ca_der.clone()
    }

    pub(crate) fn server(&self, names: &[String]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        let theirs = SystemTime::now() + self.ahead;
        params.not_before = (theirs - Duration::from_secs(60)).into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = tls::private_key(&key.serialize_der(), "test key").unwrap();
        Identity::new(vec![certificate.der().to_vec().into()], key, "test").unwrap()
    }

    /// Writes the three files of a node that has joined.
    pub(crate) fn install(&self, folder: &Path, node: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(86_400)).into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join("ca.crt"), &self.ca_pem).unwrap();
        std::fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    }

    pub(crate) fn token(&self, expires: i64) -> String {
        let hash = ring::digest::digest(&ring::digest::SHA256, &self.ca_der);
        let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{expires}}}"));
        format!("{hash}.eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{claims}.c2lnbmF0dXJl")
    }

    fn sign(&self, csr: &[u8]) -> Vec<u8> {
        let mut csr = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        let now = SystemTime::now();
        csr.params.not_before = (now - Duration::from_secs(60)).into();
        csr.params.not_after = (now + Duration::from_secs(86_400)).into();
        csr.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

/// `Authorization` and `NodeName` of a request.
type Asked = (Option<String>, Option<String>);

/// Port 10002. Takes the token `good` only, and any client certificate.
pub(crate) struct CertService {
    pub(crate) at: SocketAddr,
    /// Each request for a certificate.
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl CertService {
    pub(crate) async fn start(pki: &Arc<Pki>, names: &[&str], good: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let identity = pki.server(&names);
        let config =
            tls::server_config(&identity, tls::ClientAuth::Requested, &[b"http/1.1"]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let (pki, seen) = (Arc::clone(pki), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (pki, seen, good) = (Arc::clone(&pki), Arc::clone(&seen), good.clone());
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let known = stream.get_ref().1.peer_certificates().is_some();
                    let answer = service_fn(move |request| {
                        let (pki, seen) = (Arc::clone(&pki), Arc::clone(&seen));
                        let good = good.clone();
                        async move {
                            Ok::<_, hyper::Error>(answer(request, &pki, &seen, &good, known).await)
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Self { at, asked }
    }
}

async fn answer(
    request: http::Request<Incoming>,
    pki: &Pki,
    seen: &Mutex<Vec<Asked>>,
    good: &str,
    known: bool,
) -> http::Response<Full<Bytes>> {
    let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    if request.uri().path() == "/ca.crt" {
        return http::Response::new(Full::new(pki.ca_der().into()));
    }
    let authorization = header("authorization");
    seen.lock().push((authorization.clone(), header("nodename")));
    let jwt = good.split_once('.').unwrap().1;
    if !known && authorization != Some(format!("Bearer {jwt}")) {
        let why = "token validation failure, err: token is expired by 1h0m0s";
        return http::Response::builder().status(401).body(Full::new(why.into())).unwrap();
    }
    let csr = request.into_body().collect().await.unwrap().to_bytes();
    http::Response::new(Full::new(pki.sign(&csr).into()))
}
