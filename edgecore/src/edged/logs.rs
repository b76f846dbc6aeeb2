//! Log files of containers: not too large, not too many.
//!
//! Owns: the rotation of `<pod logs>/<pod>/<container>/<n>.log`.
//! Called by: spawned by `mod.rs`. Never: reads what is written in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::runtime::{ContainerState, SeenContainer, label};
use super::worker::Shared;

/// How large, how many, how often looked at.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// `containerLogMaxSize`, in bytes; 0: no limit.
    pub max_size: u64,
    /// `containerLogMaxFiles`, the one being written included.
    pub max_files: u32,
    /// `containerLogMonitorInterval`
    pub every: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 5, every: Duration::from_secs(10) }
    }
}

/// Looks at all running containers' logs, again and again.
pub(crate) async fn run(shared: Arc<Shared>, limits: LogLimits) {
    if limits.max_size == 0 {
        return;
    }
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = tokio::time::sleep(limits.every) => {}
        }
        let Ok(listing) = shared.runtime.list(None).await else { continue };
        for c in listing.containers.iter().filter(|c| c.state == ContainerState::Running) {
            let Some(path) = path_of(&shared.site.logs, c) else { continue };
            if !fs::metadata(&path).is_ok_and(|meta| meta.len() > limits.max_size) {
                continue;
            }
            if let Err(e) = rotate(&shared, &c.id, path.clone(), limits.max_files).await {
                tracing::warn!(log = %path.display(), error = %e, "cannot rotate a container's log");
            }
        }
    }
}

/// Where the log of a container is.
pub(crate) fn path_of(root: &Path, c: &SeenContainer) -> Option<PathBuf> {
    let of = |key: &str| c.labels.get(key).map(String::as_str);
    let (ns, name, uid) = (of(label::POD_NAMESPACE)?, of(label::POD_NAME)?, of(label::POD_UID)?);
    let log = root.join(format!("{ns}_{name}_{uid}")).join(&c.name);
    Some(log.join(format!("{}.log", c.attempt)))
}

async fn rotate(shared: &Shared, id: &str, path: PathBuf, max_files: u32) -> io::Result<()> {
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut name = path.clone().into_os_string();
    name.push(format!(".{now}"));
    let old = PathBuf::from(name);
    fs::rename(&path, &old)?;
    if let Err(e) = shared.runtime.reopen_log(id).await {
        // The runtime goes on writing to the same file: give it its name back.
        fs::rename(&old, &path)?;
        return Err(io::Error::other(e));
    }
    let tidied = tokio::task::spawn_blocking(move || tidy(&path, &old, max_files)).await;
    tidied.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Compresses all rotated logs but the newest and removes the oldest.
fn tidy(path: &Path, newest: &Path, max_files: u32) -> io::Result<()> {
    let mut rotated = rotated(path)?;
    rotated.sort();
    // One is being written.
    let keep = usize::try_from(max_files.saturating_sub(1)).unwrap_or(usize::MAX);
    let surplus = rotated.len().saturating_sub(keep);
    for old in rotated.drain(..surplus) {
        fs::remove_file(old)?;
    }
    for old in rotated {
        if old != newest && old.extension().is_none_or(|e| e != "gz") {
            compress(&old)?;
        }
    }
    Ok(())
}

/// The rotated logs that belong to `path`; left-overs of a broken compression are removed.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(file) = file.to_str().filter(|f| f.starts_with(&prefix)) else { continue };
        match file.ends_with(".tmp") {
            true => fs::remove_file(entry.path())?,
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}

fn compress(path: &Path) -> io::Result<()> {
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (unfinished, done) = (named(".tmp"), named(".gz"));
    let mut from = fs::File::open(path)?;
    let to = fs::File::create(&unfinished)?;
    let mut gz = flate2::write::GzEncoder::new(to, flate2::Compression::fast());
    io::copy(&mut from, &mut gz)?;
    gz.finish()?;
    fs::rename(unfinished, done)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_logs_are_compressed_and_the_oldest_removed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let at = |n: u32| dir.path().join(format!("0.log.2026112{n}-000000"));
        fs::write(&log, "now").unwrap();
        for n in 1..=5 {
            fs::write(at(n), format!("day {n}")).unwrap();
        }
        fs::write(dir.path().join("0.log.20261121-000000.tmp"), "half").unwrap();
        fs::write(dir.path().join("1.log.20261121-000000"), "another's").unwrap();
        tidy(&log, &at(5), 4).unwrap();
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "0.log",
                "0.log.20261123-000000.gz",
                "0.log.20261124-000000.gz",
                "0.log.20261125-000000",
                "1.log.20261121-000000"
            ]
        );
        let gz = fs::File::open(dir.path().join(&names[1])).unwrap();
        let text = io::read_to_string(flate2::read::GzDecoder::new(gz)).unwrap();
        assert_eq!(text, "day 3");
    }

    #[test]
    fn a_containers_log_is_where_kubelet_has_it() {
        let labels =
            [(label::POD_NAMESPACE, "shop"), (label::POD_NAME, "web"), (label::POD_UID, "u1")];
        let c = SeenContainer {
            name: "main".to_owned(),
            attempt: 2,
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..SeenContainer::default()
        };
        let path = path_of(Path::new("/var/log/pods"), &c).unwrap();
        assert_eq!(path, Path::new("/var/log/pods/shop_web_u1/main/2.log"));
    }
}
