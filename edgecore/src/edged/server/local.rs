//! The local API without a port, and who may use it through the port.
//!
//! Owns: the token of the port; the wait until edged can answer.
//! Called by: edgestream connects; `mod.rs` asks for the token.
//! Never: writes the token anywhere but into its file.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Api, Caller};

/// Until the container runtime has answered for the first time.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// What is on its way in either direction.
const PIPE: usize = 64 << 10;

/// edged's own API, for the other parts of this program: they have looked at who asks.
#[derive(Clone)]
pub struct LocalApi(watch::Receiver<Option<Api>>);

impl std::fmt::Debug for LocalApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalApi")
    }
}

/// edged cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("edged does not answer: it is stopping, or waits for its container runtime")]
pub struct NotReady;

/// Says when there is an API.
#[derive(Debug)]
pub(crate) struct Publish(watch::Sender<Option<Api>>);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Publish {
    pub(crate) fn ready(&self, api: Api) {
        self.0.send_replace(Some(api));
    }
}

impl LocalApi {
    /// One that will answer once edged does.
    pub(crate) fn pending() -> (Publish, Self) {
        let (tell, api) = watch::channel(None);
        (Publish(tell), Self(api))
    }

    /// A connection on which one HTTP/1 request can be made. Its end is the end of the answer.
    ///
    /// # Errors
    /// When edged does not answer within seconds.
    pub async fn connect(&self) -> Result<DuplexStream, NotReady> {
        let mut api = self.0.clone();
        let ready = timeout(READY_LIMIT, api.wait_for(Option::is_some)).await;
        let ready = ready.map_err(|_| NotReady)?.map_err(|_| NotReady)?.clone();
        let api = ready.ok_or(NotReady)?;
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(api.serve(far, Caller::Trusted));
        Ok(near)
    }
}

/// Where the port's token lies.
pub(super) fn token_path(root: &Path) -> PathBuf {
    root.join("local-api.token")
}

/// A new token, in its file; `None`, and nobody can run commands through the port, if it cannot be
/// written.
pub(super) fn token(root: &Path) -> Option<Arc<str>> {
    let token: String = rand::random::<[u8; 32]>().iter().map(|b| format!("{b:02x}")).collect();
    let path = token_path(root);
    let next = path.with_extension("new");
    let write = || {
        std::fs::create_dir_all(root)?;
        let _ = std::fs::remove_file(&next);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(token.as_bytes())?;
        std::fs::rename(&next, &path)
    };
    match write() {
        Ok(()) => Some(token.into()),
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "the local API has no token");
            None
        }
    }
}

/// Whether the headers show the token. Takes as long for a wrong one as for the right one.
pub(super) fn holds(token: Option<&str>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return false };
    let shown = headers
        .get(http::header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let Some(shown) = shown.filter(|s| s.len() == token.len()) else { return false };
    shown.bytes().zip(token.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_is_new_each_time_and_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = token(dir.path()).unwrap();
        let second = token(dir.path()).unwrap();
        assert_ne!(first, second);
        let path = token_path(dir.path());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), *second);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_the_token_opens() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
            headers
        };
        assert!(holds(Some("abc"), &with("Bearer abc")));
        for wrong in ["Bearer abd", "Bearer ab", "Bearer abcd", "abc", "Basic abc", "Bearer "] {
            assert!(!holds(Some("abc"), &with(wrong)), "{wrong}");
        }
        assert!(!holds(Some("abc"), &HeaderMap::new()));
        assert!(!holds(None, &with("Bearer abc")));
        assert!(!holds(None, &with("Bearer ")));
    }
}
