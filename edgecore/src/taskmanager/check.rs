//! Whether a node is fit for a job: use of its processors, memory and disk, and room for the files.
//!
//! Owns: the limits. Called by: `mod.rs`, in the step `Check`. Never: changes anything.

use std::io;
use std::path::Path;
use std::time::Duration;

use api::crd::operations::CheckItem;

/// No more than this may be in use, in percent.
const MOST: f64 = 80.0;
/// How long the processors are watched.
const SAMPLE: Duration = Duration::from_millis(100);
/// Room that must be left beside what is written, in bytes.
const SPARE: u64 = 32 << 20;

/// Looks at each item.
///
/// # Errors
/// The first that is over its limit, with its number.
pub(super) async fn usage(items: &[CheckItem]) -> Result<(), String> {
    for item in items {
        let (what, used) = match item {
            CheckItem::Cpu => ("cpu", cpu().await),
            CheckItem::Mem => ("mem", memory()),
            CheckItem::Disk => ("disk", disk(Path::new("/"))),
        };
        let used = used.map_err(|e| format!("the use of {what} cannot be read: {e}"))?;
        within(what, used)?;
    }
    Ok(())
}

fn within(what: &str, used: f64) -> Result<(), String> {
    if used <= MOST {
        return Ok(());
    }
    Err(format!("{what} is used to {used:.1} %, and at most {MOST} % may be"))
}

/// Whether `bytes` more can be written below `folder`.
///
/// # Errors
/// How much is free, and how much is needed.
pub(super) fn room(folder: &Path, bytes: u64) -> Result<(), String> {
    let there = folder.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(there)
        .map_err(|e| format!("what is free below `{}` is not known: {e}", folder.display()))?;
    let (free, needed) = (stat.f_bavail.saturating_mul(stat.f_frsize), bytes + SPARE);
    if free >= needed {
        return Ok(());
    }
    Err(format!(
        "{} MiB are free below `{}`, and {} MiB are needed",
        free >> 20,
        folder.display(),
        needed.div_ceil(1 << 20)
    ))
}

async fn cpu() -> io::Result<f64> {
    let before = ticks(&tokio::fs::read_to_string("/proc/stat").await?);
    tokio::time::sleep(SAMPLE).await;
    let after = ticks(&tokio::fs::read_to_string("/proc/stat").await?);
    match (before, after) {
        (Some(before), Some(after)) => Ok(busy(before, after)),
        _ => Err(io::Error::other("`/proc/stat` has no line `cpu`")),
    }
}

/// Idle ticks and all ticks since the start.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let all: Vec<u64> = line.split_whitespace().take(8).filter_map(|n| n.parse().ok()).collect();
    Some((all.get(3)? + all.get(4).unwrap_or(&0), all.iter().sum()))
}

fn busy(before: (u64, u64), after: (u64, u64)) -> f64 {
    let all = after.1.saturating_sub(before.1);
    let idle = after.0.saturating_sub(before.0).min(all);
    if all == 0 { 0.0 } else { (all - idle) as f64 * 100.0 / all as f64 }
}

fn memory() -> io::Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    used_memory(&text).ok_or_else(|| io::Error::other("`/proc/meminfo` lacks a line"))
}

fn used_memory(text: &str) -> Option<f64> {
    let of = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (all, free) = (of("MemTotal:").filter(|n| *n > 0)?, of("MemAvailable:")?);
    Some(all.saturating_sub(free) as f64 * 100.0 / all as f64)
}

fn disk(path: &Path) -> io::Result<f64> {
    let stat = rustix::fs::statvfs(path)?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    // What is kept for root counts as neither.
    let all = used + stat.f_bavail;
    Ok(if all == 0 { 0.0 } else { used as f64 * 100.0 / all as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_are_allowed_and_no_more() {
        assert_eq!(within("mem", 80.0), Ok(()));
        let why = within("mem", 80.1).unwrap_err();
        assert_eq!(why, "mem is used to 80.1 %, and at most 80 % may be");
    }

    #[test]
    fn use_is_what_lies_between_two_looks() {
        let at = |user: u64, idle: u64| ticks(&format!("cpu  {user} 0 0 {idle} 0 0 0 0 5 5\n"));
        let (before, after) = (at(100, 900).unwrap(), at(175, 925).unwrap());
        assert_eq!(busy(before, after), 75.0);
        assert_eq!(busy(after, after), 0.0);
        let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    250 kB\n";
        assert_eq!(used_memory(text), Some(75.0));
        assert_eq!(used_memory(""), None);
    }

    #[tokio::test]
    async fn a_look_at_this_machine_gives_a_share() {
        for used in [cpu().await.unwrap(), memory().unwrap(), disk(Path::new("/")).unwrap()] {
            assert!((0.0..=100.0).contains(&used), "{used}");
        }
        assert_eq!(room(Path::new("/nonexistent/x"), 0), Ok(()));
        assert!(room(Path::new("/"), 1 << 60).unwrap_err().contains("are needed"));
    }
}
