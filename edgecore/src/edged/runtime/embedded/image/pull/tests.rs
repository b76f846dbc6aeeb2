use std::collections::HashMap;
use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::super::sha256;
use super::*;

/// A registry on this machine's loopback, without TLS.
#[derive(Clone, Default)]
struct Registry {
    /// Path to media type and content.
    paths: HashMap<String, (&'static str, Vec<u8>)>,
    /// The `Authorization` header that it wants to see.
    wants: Option<String>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BYTES: &str = "application/octet-stream";

impl Registry {
    /// With one image `a/b:1` of one layer, which holds `content` in the file `f`.
    fn with_image(content: &[u8]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        tar.append_data(&mut header, "f", content).unwrap();
        let layer = tar.into_inner().unwrap();
        let config = serde_json::json!({
            "config": { "Cmd": ["/f"] },
            "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
        });
        let config = config.to_string().into_bytes();
        let descriptor = |media: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media, "digest": sha256(bytes), "size": bytes.len() });
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let mut registry = Registry::default();
        let manifest = manifest.to_string().into_bytes();
        registry.paths.insert("/v2/a/b/manifests/1".into(), (MANIFEST, manifest));
        for blob in [config, layer] {
            registry.paths.insert(format!("/v2/a/b/blobs/{}", sha256(&blob)), (BYTES, blob));
        }
        registry
    }

    fn layer_mut(&mut self) -> &mut Vec<u8> {
        let mut blobs = self.paths.iter_mut().filter(|(p, _)| p.contains("/blobs/"));
        blobs.find(|(_, (_, b))| !b.starts_with(b"{")).map(|(_, (_, b))| b).unwrap()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let seen = request.headers().get("authorization").and_then(|v| v.to_str().ok());
        let reply = Response::builder();
        if self.wants.is_some() && self.wants.as_deref() != seen {
            let reply = reply.status(StatusCode::UNAUTHORIZED);
            let reply = reply.header("www-authenticate", "Basic realm=\"test\"");
            return reply.body(Full::default()).unwrap();
        }
        match (request.uri().path(), self.paths.get(request.uri().path())) {
            (_, Some((media, content))) => {
                let reply = reply.header("content-type", *media);
                reply.body(Full::from(content.clone())).unwrap()
            }
            ("/v2/", None) => reply.body(Full::default()).unwrap(),
            _ => reply.status(StatusCode::NOT_FOUND).body(Full::default()).unwrap(),
        }
    }

    /// Serves until the test ends, and returns `host:port`.
    async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let registry = self.clone();
                let serve = service_fn(move |request| {
                    let reply = registry.answer(&request);
                    async move { Ok::<_, Infallible>(reply) }
                });
                let stream = TokioIo::new(stream);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(stream, serve),
                );
            }
        });
        address
    }

    async fn pull(
        self,
        dir: &Path,
        auth: Option<&PullAuth>,
    ) -> (Arc<Store>, Result<String, ImageError>) {
        // A test may not be the first to do this.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = self.serve().await;
        let store = Arc::new(Store::open(dir.join("images")).unwrap());
        let puller = Puller::new(Arc::clone(&store), vec![address.clone()]);
        let pulled = puller.pull(&format!("{address}/a/b:1"), auth).await;
        let left = std::fs::read_dir(dir.join("images/tmp")).unwrap().count();
        assert_eq!(left, 0, "nothing half done is left");
        (store, pulled)
    }
}

#[tokio::test]
async fn an_image_is_pulled_and_known_by_tag_and_digest() {
    let dir = tempfile::tempdir().unwrap();
    let (store, pulled) = Registry::with_image(b"hello").pull(dir.path(), None).await;
    let reference = pulled.unwrap();
    assert!(reference.contains("/a/b@sha256:"), "{reference}");
    let image = store.find(&reference).unwrap();
    assert_eq!(image.config.cmd, ["/f"]);
    assert_eq!(store.find(&image.tags[0]), Some(image.clone()));
    let file = store.layers_folder().join(&Store::lower_folders(&image)[0]).join("f");
    assert_eq!(std::fs::read(file).unwrap(), b"hello");
}

#[tokio::test]
async fn a_registry_that_wants_a_password_gets_the_pull_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = Registry::with_image(b"secret");
    registry.wants = Some(format!("Basic {}", STANDARD.encode("me:pass")));
    let auth = PullAuth { username: "me".into(), password: "pass".into(), ..PullAuth::default() };
    let (_, pulled) = registry.clone().pull(dir.path(), Some(&auth)).await;
    pulled.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (store, refused) = registry.pull(dir.path(), None).await;
    let why = refused.unwrap_err().to_string();
    assert!(!why.contains("pass") && store.list().is_empty(), "{why}");
}

#[tokio::test]
async fn a_layer_that_is_not_what_was_promised_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Registry::with_image(b"hello");
    other.layer_mut()[600] ^= 1;
    let (store, refused) = other.pull(dir.path(), None).await;
    assert!(refused.is_err() && store.list().is_empty());

    let dir = tempfile::tempdir().unwrap();
    let mut longer = Registry::with_image(b"hello");
    longer.layer_mut().extend([0; 4096]);
    let (store, refused) = longer.pull(dir.path(), None).await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("longer") && store.list().is_empty(), "{why}");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, refused) = Registry::default().pull(dir.path(), None).await;
    assert!(refused.unwrap_err().to_string().contains("a/b:1"));
}

fn auth(set: impl FnOnce(&mut PullAuth)) -> Result<RegistryAuth, ImageError> {
    let mut auth = PullAuth::default();
    set(&mut auth);
    credentials(&auth)
}

#[test]
fn credentials_are_read_as_docker_writes_them() {
    let basic = |got| matches!(got, Ok(RegistryAuth::Basic(u, p)) if u == "me" && p == "a:b");
    assert!(basic(auth(|a| a.auth = STANDARD.encode("me:a:b"))));
    assert!(basic(auth(|a| (a.username, a.password) = ("me".into(), "a:b".into()))));
    assert!(matches!(auth(|_| ()), Ok(RegistryAuth::Anonymous)));
    assert!(auth(|a| a.auth = "%%%".into()).is_err());
    assert!(auth(|a| a.identity_token = "x".into()).is_err());
}

#[test]
fn an_image_is_known_by_its_full_name() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let (tags, digests) = names(&parse_name("busybox").unwrap(), &digest);
    assert_eq!(tags, ["docker.io/library/busybox:latest"]);
    assert_eq!(digests, [format!("docker.io/library/busybox@{digest}")]);
    let pinned = format!("quay.io/a/b@{digest}");
    assert_eq!(names(&parse_name(&pinned).unwrap(), &digest).0, Vec::<String>::new());
}
