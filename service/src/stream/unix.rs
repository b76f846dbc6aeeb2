//! A unix socket for the user who runs the program.
//!
//! Owns: the socket file: its mode, its place, its removal.
//! Called by: whoever serves a stream on this machine.
//! Never: talks to another user than its own and root.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Linux has room for so many bytes of a socket's path.
const PATH_LIMIT: usize = 107;

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the status stream on `{path}`")]
pub struct SocketError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// A socket that is bound and not yet served. The file goes with it.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
    inode: u64,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Unless another program has put its own there.
        if std::fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl UnixSocket {
    /// Binds the socket, readable by its owner alone from the first moment. What a program that
    /// is no more has left there is replaced.
    ///
    /// # Errors
    /// When the folder cannot be written to, another program serves this socket, or the path is
    /// longer than a socket's may be.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError { path: path.to_owned(), source };
        let length = path.as_os_str().as_bytes().len();
        if length > PATH_LIMIT {
            return Err(failed(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                format!(
                    "the path of a unix socket has at most {PATH_LIMIT} bytes and this one has \
                     {length}; name a shorter one"
                ),
            )));
        }
        if UnixStream::connect(path).await.is_ok() {
            let why = "another program serves this socket";
            return Err(failed(std::io::Error::new(std::io::ErrorKind::AddrInUse, why)));
        }
        Self::replace(path).map_err(failed)
    }

    /// Under a name of its own first: the socket is never there with wider permissions.
    fn replace(path: &Path) -> std::io::Result<Self> {
        let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) else {
            return Err(std::io::Error::other("the path names no folder"));
        };
        std::fs::create_dir_all(folder)?;
        // Through the folder's descriptor, so that the temporary name always has room.
        let open = std::fs::File::open(folder)?;
        let name = format!(".{}-{}.sock", std::process::id(), descriptor(&open));
        let temporary = folder.join(&name);
        let short = Path::new("/proc/self/fd").join(descriptor(&open)).join(&name);
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&short)?;
        let meta = match settle(&temporary, path) {
            Ok(meta) => meta,
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                return Err(error);
            }
        };
        Ok(Self { listener, path: path.to_owned(), owner: meta.uid(), inode: meta.ino() })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands each connection of the owner or root to `serve`, at most `limit` at one time, until
    /// told to stop; then waits for those under way, which see `stopping` themselves.
    pub async fn accept<S, F>(self, limit: usize, stopping: CancellationToken, serve: S)
    where
        S: Fn(UnixStream) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let seats = Arc::new(Semaphore::new(limit));
        let mut readers = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stopping.cancelled() => break,
                Some(_) = readers.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: those that end give some back.
                    warn!(%error, "cannot accept a reader of the status stream");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // The mode of the file says the same; this also holds where modes mean nothing.
            let peer = stream.peer_cred().map(|c| c.uid());
            if !peer.is_ok_and(|uid| uid == 0 || uid == self.owner) {
                warn!("a reader of the status stream is another user's and is refused");
                continue;
            }
            let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
                warn!(limit, "too many readers of the status stream, one is refused");
                continue;
            };
            let reader = serve(stream);
            readers.spawn(async move {
                reader.await;
                drop(seat);
            });
        }
        while readers.join_next().await.is_some() {}
    }
}

fn descriptor(file: &std::fs::File) -> String {
    use std::os::fd::AsRawFd;
    file.as_raw_fd().to_string()
}

/// Gives a new socket its mode and its place.
fn settle(temporary: &Path, path: &Path) -> std::io::Result<std::fs::Metadata> {
    std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(0o600))?;
    let meta = std::fs::metadata(temporary)?;
    std::fs::rename(temporary, path)?;
    Ok(meta)
}
