//! Memory that only the start needed.
//!
//! Owns: the advice to the kernel about the pages of the program's own file.
//! Called by: `keadm`, some time after a program has started, and shims, once their container runs.
//! Never: touches anything but what can be read from that file again.

use std::ops::Range;
use std::time::Duration;

use rustix::mm::{Advice, madvise};

/// After the start; what runs again and again has run by then.
const SETTLED: Duration = Duration::from_secs(10);

/// Runs a program. When it is `ready` and has settled, the pages of its file are given back: what goes on
/// running comes back by itself, the rest stays on the disk.
pub async fn give_back_during<T>(
    run: impl Future<Output = T>,
    ready: impl Future<Output = ()>,
) -> T {
    let settle = async {
        tokio::time::sleep(SETTLED).await;
        ready.await;
        match give_back() {
            Ok(bytes) => tracing::debug!(bytes, "gave back the pages that the start needed"),
            Err(error) => {
                tracing::debug!(%error, "cannot give back the pages that the start needed");
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        result = run => result,
        result = settle => result,
    }
}

/// Gives the pages of the program's file back. They stay in the kernel's cache while it has room, so
/// what is needed again is there at once.
/// Returns how many bytes were mapped.
///
/// # Errors
/// When `/proc` cannot be read or the kernel refuses. Nothing is lost then.
pub fn give_back() -> std::io::Result<usize> {
    let exe = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut bytes = 0;
    for range in own(&maps, &exe.to_string_lossy()) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        #[expect(
            unsafe_code,
            reason = "what is in these pages is in the file, and is read from there again"
        )]
        // SAFETY: the range is a mapping of the program's own file that is never unmapped, that nobody
        // can write to and of which no page differs from the file.
        let given = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        given?;
        bytes += range.len();
    }
    Ok(bytes)
}

/// The mappings of `exe` that are the same as the file: nobody can write to them, and nobody has, as
/// the linker does where it fills in addresses. Pure.
fn own(smaps: &str, exe: &str) -> Vec<Range<usize>> {
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let mapping = |line: &str| {
        let (head, path) = line.split_at_checked(line.find('/')?)?;
        let mut words = head.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let writable = words.next()?.contains('w');
        (path == exe && !writable).then_some(address(start)?..address(end)?)
    };
    let mut own = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Anonymous:") => {
                own.extend(candidate.take().filter(|_| words.next() == Some("0")));
            }
            Some(word) if !word.ends_with(':') => candidate = mapping(line),
            _ => {}
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_it_is_in_the_programs_file_is_given_back() {
        let maps = [
            ("1000-3000 r--p 00000000 fe:00 11 /usr/local/bin/keadm", 0),
            ("3000-4000 r-xp 00002000 fe:00 11 /usr/local/bin/keadm", 0),
            ("4000-5000 r--p 00003000 fe:00 11 /usr/local/bin/keadm", 4),
            ("5000-6000 rw-p 00004000 fe:00 11 /usr/local/bin/keadm", 0),
            ("6000-7000 rw-p 00000000 00:00 0 [heap]", 0),
            ("7000-8000 r-xp 00000000 fe:00 12 /usr/lib/libc.so.6", 0),
            ("8000-9000 r-xp 00000000 00:00 0", 0),
        ];
        let smaps = maps.map(|(head, anonymous)| {
            format!("{head}\nRss:     4 kB\nAnonymous:     {anonymous} kB\nVmFlags: rd mr mw me\n")
        });
        let given = own(&smaps.concat(), "/usr/local/bin/keadm");
        assert_eq!(given, [0x1000..0x3000, 0x3000..0x4000]);
    }

    #[test]
    fn a_program_goes_on_after_its_pages_are_given_back() {
        assert!(give_back().unwrap() > 0);
        assert_eq!(own("", "/a").len(), 0);
    }
}
