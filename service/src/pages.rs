//! Memory that only the start needed.
//!
//! Owns: the advice to the kernel about the pages of the program's own file.
//! Called by: `keadm`, some time after a program has started.
//! Never: touches anything but what can be read from that file again.

use std::ops::Range;
use std::time::Duration;

use rustix::mm::{Advice, madvise};

use crate::readiness::Readiness;

/// After the start; what runs again and again has run by then.
const SETTLED: Duration = Duration::from_secs(10);

/// Waits until the program is ready and has settled, and then gives the pages of its file back. What
/// goes on running comes back by itself, the rest stays on the disk.
pub async fn give_back_after(readiness: Readiness) {
    tokio::time::sleep(SETTLED).await;
    readiness.ready().await;
    match give_back() {
        Ok(bytes) => tracing::debug!(bytes, "gave back the pages that the start needed"),
        Err(error) => tracing::debug!(%error, "cannot give back the pages that the start needed"),
    }
}

/// Returns how much of the file was mapped.
fn give_back() -> std::io::Result<usize> {
    let exe = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for range in own(&maps, &exe.to_string_lossy()) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        #[expect(
            unsafe_code,
            reason = "this advice changes where pages are, never what is in them"
        )]
        // SAFETY: the range is a mapping of the program's own, and is never unmapped.
        let given = unsafe { madvise(start, range.len(), Advice::LinuxPageOut) };
        given?;
        bytes += range.len();
    }
    Ok(bytes)
}

/// The mappings of `exe` that nobody writes to. Pure.
fn own(maps: &str, exe: &str) -> Vec<Range<usize>> {
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let mapping = |line: &str| {
        let (head, path) = line.split_at_checked(line.find('/')?)?;
        let mut words = head.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let writable = words.next()?.contains('w');
        (path == exe && !writable).then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_programs_file_and_not_written_to_is_given_back() {
        let maps = "\
1000-3000 r--p 00000000 fe:00 11 /usr/local/bin/keadm
3000-4000 r-xp 00002000 fe:00 11 /usr/local/bin/keadm
4000-5000 rw-p 00003000 fe:00 11 /usr/local/bin/keadm
5000-6000 rw-p 00000000 00:00 0 [heap]
6000-7000 r-xp 00000000 fe:00 12 /usr/lib/libc.so.6
7000-8000 r-xp 00000000 00:00 0
";
        assert_eq!(own(maps, "/usr/local/bin/keadm"), [0x1000..0x3000, 0x3000..0x4000]);
    }

    #[test]
    fn a_program_goes_on_after_its_pages_are_given_back() {
        assert!(give_back().unwrap() > 0);
        assert_eq!(own("", "/a").len(), 0);
    }
}
