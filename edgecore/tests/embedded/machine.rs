//! The small programs that the tests run in containers, and what they look for on the machine.

use std::ffi::OsString;
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::time::Duration;

use edgecore::edged::runtime::embedded::{EmbeddedRuntime, Options};

/// Containers run this test program itself: `/bin/keadm PART ARGUMENT..`.
pub(super) fn play_a_part(argv: &[OsString]) -> Option<i32> {
    let argv: Vec<String> = argv.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let argument = |n: usize| argv.get(n).map(String::as_str).unwrap_or("");
    let mut out = std::io::stdout();
    Some(match argument(1) {
        "part-exit" => {
            writeln!(out, "to stdout").unwrap();
            eprintln!("to stderr");
            argument(2).parse().unwrap()
        }
        "part-sleep" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        "part-eat-memory" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 1 << 20]);
            }
        }
        "part-look" => {
            for path in &argv[2..] {
                match std::fs::read_to_string(path) {
                    Ok(text) => writeln!(out, "{path}={}", text.trim()).unwrap(),
                    Err(e) => writeln!(out, "{path}: {}", e.kind()).unwrap(),
                }
            }
            0
        }
        "part-write" => match std::fs::write(argument(2), argument(3)) {
            Ok(()) => 0,
            Err(e) => {
                eprintln!("{e}");
                1
            }
        },
        "part-echo-lines" => {
            for line in std::io::stdin().lock().lines() {
                writeln!(out, "echo {}", line.unwrap()).unwrap();
                out.flush().unwrap();
            }
            7
        }
        "part-env" => {
            for (name, value) in std::env::vars() {
                writeln!(out, "{name}={value}").unwrap();
            }
            writeln!(out, "cwd={}", std::env::current_dir().unwrap().display()).unwrap();
            0
        }
        "part-orphan" => {
            // Leaves a grandchild that holds standard output.
            drop(std::process::Command::new("/bin/keadm").arg("part-sleep").spawn().unwrap());
            0
        }
        "part-devices" => {
            let null = std::fs::OpenOptions::new().write(true).open("/dev/null").is_ok();
            let mut random = [0; 8];
            let read = std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).is_ok();
            i32::from(!(null && read))
        }
        // A second edgecore: starts a container, says its ids and waits to be killed.
        "part-edgecore" => super::cases::be_an_edgecore(argument(2)),
        _ => return None,
    })
}

pub(super) async fn open(root: &Path) -> EmbeddedRuntime {
    let options = Options { root: root.join("state"), insecure_registries: vec![] };
    EmbeddedRuntime::open(options).await.unwrap()
}

/// Everything on this machine that belongs to a runtime with this root, in words.
pub(super) fn traces(root: &Path) -> Vec<String> {
    let root = root.to_str().unwrap();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() || pid == std::process::id().to_string() {
            continue;
        }
        let read = |name: &str| std::fs::read(process.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let shim = command.contains("keadm-shim") && command.contains(root);
        let in_container = String::from_utf8_lossy(&read("cgroup")).contains(&cgroup(root));
        if shim || in_container {
            found.push(format!("process {pid}: {command}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|l| l.contains(root)).map(|l| format!("mount {l}")));
    find_cgroups(Path::new("/sys/fs/cgroup"), &cgroup(root), 4, &mut found);
    found
}

/// The cgroup parent that tests with this root use.
pub(super) fn cgroup(root: &str) -> String {
    let name = root.rsplit('/').next().unwrap();
    format!("/keadm-test{name}")
}

fn find_cgroups(folder: &Path, name: &str, depth: usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        if path.to_string_lossy().contains(name) {
            found.push(format!("cgroup {}", path.display()));
        } else if depth > 0 {
            find_cgroups(&path, name, depth - 1, found);
        }
    }
}
