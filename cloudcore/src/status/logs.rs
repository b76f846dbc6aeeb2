//! The log of a container, line by line, from the API server.
//!
//! Owns: how long a line may be; what is longer is cut, and never held as a whole.
//! Called by: `actions.rs`.
//! Never: reads on while whoever asked has not taken what there is.

use futures::{AsyncBufRead, AsyncBufReadExt};

use super::actions::{Lines, pod_path};
use crate::apiserver::{ApiError, ApiServer};

/// A line has at most so many bytes: 16 KiB.
const LINE: usize = 16 << 10;

/// Which part of a pod's log.
pub(super) struct Part {
    /// The container; empty for the first.
    pub(super) container: String,
    /// Go on as lines are written.
    pub(super) follow: bool,
    /// Only the last so many lines.
    pub(super) tail: Option<u32>,
}

/// Reads until the log ends, or `lines` says that nobody listens.
pub(super) async fn read(
    api: &ApiServer,
    namespace: &str,
    pod: &str,
    part: &Part,
    lines: Lines<'_>,
) -> Result<String, ApiError> {
    let mut path = pod_path(namespace, pod)?.named("log")?;
    path = path.query(&format!("follow={}", part.follow));
    if let Some(tail) = part.tail {
        path = path.query(&format!("tailLines={tail}"));
    }
    if !part.container.is_empty() {
        // For its check alone: a container's name has the form of any other.
        pod_path(namespace, &part.container)?;
        path = path.query(&format!("container={}", part.container));
    }
    let body = api.stream(&path).await?;
    copy(body, lines)
        .await
        .map_err(|e| ApiError::Unreachable(format!("the log broke off: {e}")))?;
    Ok(String::new())
}

/// Whatever is there at one time is told at one time.
async fn copy(body: impl AsyncBufRead, lines: Lines<'_>) -> std::io::Result<()> {
    let mut body = std::pin::pin!(body);
    let mut line = Line::default();
    loop {
        let chunk = body.fill_buf().await?;
        let read = chunk.len();
        if read == 0 {
            break;
        }
        let mut found = Vec::new();
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            line.take_in(&rest[..end]);
            found.push(line.end());
            rest = &rest[end + 1..];
        }
        line.take_in(rest);
        body.as_mut().consume(read);
        if !found.is_empty() && !lines(found).await {
            return Ok(());
        }
    }
    if !line.is_empty() {
        lines(vec![line.end()]).await;
    }
    Ok(())
}

/// A line that is not yet whole.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    cut: u64,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn take_in(&mut self, more: &[u8]) {
        let fits = more.len().min(LINE - self.bytes.len());
        self.bytes.extend_from_slice(&more[..fits]);
        self.cut += (more.len() - fits) as u64;
    }

    /// The line as text, and an empty one begins.
    fn end(&mut self) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        let mut text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        let cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            text.push_str(&format!(" [{cut} more bytes of this line are left out]"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;
    use futures::{StreamExt, TryStreamExt};
    use parking_lot::Mutex;

    async fn told(chunks: Vec<Vec<u8>>) -> Vec<String> {
        let body = futures::stream::iter(chunks).map(Ok::<_, std::io::Error>);
        let all = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&all);
        let lines = move |lines: Vec<String>| -> BoxFuture<'static, bool> {
            into.lock().extend(lines);
            Box::pin(std::future::ready(true))
        };
        copy(body.into_async_read(), &lines).await.unwrap();
        std::mem::take(&mut *all.lock())
    }

    #[tokio::test]
    async fn lines_are_whole_however_they_come() {
        let chunks = ["one\ntw", "o\r\n", "\n", "bad \u{1b}[2J", " \u{e4}"];
        let mut chunks: Vec<Vec<u8>> = chunks.iter().map(|c| c.as_bytes().to_vec()).collect();
        chunks.push(vec![0xff, b'!']);
        let lines = told(chunks).await;
        assert_eq!(lines, ["one", "two", "", "bad \u{1b}[2J \u{e4}\u{fffd}!"]);
    }

    #[tokio::test]
    async fn a_huge_line_is_cut_and_what_follows_is_not_lost() {
        let mut chunks = vec![vec![b'x'; 1 << 20]; 64];
        chunks.push(b"\nafter\n".to_vec());
        let lines = told(chunks).await;
        assert_eq!(lines[1], "after");
        let left_out = (64 << 20) - LINE;
        assert!(lines[0].ends_with(&format!(" [{left_out} more bytes of this line are left out]")));
        assert!(lines[0].len() < LINE + 100);
    }

    #[tokio::test]
    async fn nobody_who_listens_ends_it() {
        let body = futures::stream::repeat(b"again\n".to_vec()).map(Ok::<_, std::io::Error>);
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let lines = move |_: Vec<String>| -> BoxFuture<'static, bool> {
            let before = count.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(before < 2))
        };
        copy(body.into_async_read(), &lines).await.unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 3);
    }
}
