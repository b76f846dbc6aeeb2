//! The log of a container, line by line, from the API server.
//!
//! Owns: which part of a log is asked for.
//! Called by: `actions.rs`.
//! Never: reads on while whoever asked has not taken what there is.

use api::status::lines;
use futures::{AsyncBufRead, AsyncBufReadExt};

use super::actions::{Lines, pod_path};
use crate::apiserver::{ApiError, ApiServer};

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
async fn copy(body: impl AsyncBufRead, told: Lines<'_>) -> std::io::Result<()> {
    let mut body = std::pin::pin!(body);
    let mut lines = lines::Lines::default();
    loop {
        let piece = body.fill_buf().await?;
        let read = piece.len();
        if read == 0 {
            break;
        }
        let found = lines.push(piece);
        body.as_mut().consume(read);
        if !found.is_empty() && !told(found).await {
            return Ok(());
        }
    }
    if let Some(last) = lines.end() {
        told(vec![last]).await;
    }
    Ok(())
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
    async fn of_a_line_without_an_end_only_the_first_mebibyte_is_told() {
        // The same bytes again and again: 64 MiB.
        let piece: &[u8] = Box::leak(vec![b'x'; 64 << 10].into_boxed_slice());
        let endless = futures::stream::repeat(piece).take(1 << 10);
        let body = endless.chain(futures::stream::iter([&b"\nafter\n"[..]]));
        let all = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&all);
        let lines = move |lines: Vec<String>| -> BoxFuture<'static, bool> {
            into.lock().extend(lines);
            Box::pin(std::future::ready(true))
        };
        let body = body.map(Ok::<_, std::io::Error>);
        copy(body.into_async_read(), &lines).await.unwrap();
        let all = std::mem::take(&mut *all.lock());
        let (after, parts) = all.split_last().unwrap();
        assert!(parts.iter().all(|part| part.len() < 17 << 10));
        assert!(parts.iter().map(String::len).sum::<usize>() < (1 << 20) + (4 << 10));
        assert!(parts[parts.len() - 1].contains("more bytes of this line are left out"));
        assert_eq!((after.as_str(), parts.len()), ("after", 64));
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
