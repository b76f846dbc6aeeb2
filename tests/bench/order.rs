//! Which functions run once a program has started: the order in which the linker lays them out.
//!
//! Owns: `keadm/order.txt`, which `keadm/build.rs` gives to the linker.
//! Called by: `main.rs` with `order`. The binary must have its symbols, and valgrind is needed.
//!
//! Most of what an idle program has in memory is pages of its own file, and the kernel maps at least
//! 64 KiB around each that is used. What runs together therefore has to lie together.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::containerd::BUSYBOX;
use tests::host::Host;
use tests::keadm::service_pid;
use tests::wait;

use crate::site::{NODE, Site, pause, signal};

/// The first argument of this program.
pub(crate) const ORDER: &str = "order";

/// In place of the installed program: the same under valgrind, which counts nothing until it is told.
const UNDER_VALGRIND: &str = r#"#!/bin/sh
exec valgrind --quiet --tool=callgrind --instr-atstart=no --demangle=no \
    --callgrind-out-file=/var/order/callgrind.%p "/var/order/${0##*/}" "$@"
"#;

/// The programs, as their services are called. What an edge needs comes first.
const PROGRAMS: [&str; 3] = ["edgecore", "cloudcore", "control-plane"];

/// Nothing here is quick under valgrind.
const PATIENCE: Duration = Duration::from_secs(300);
/// As long as the slowest thing that an idle program does again and again.
const IDLE: Duration = Duration::from_secs(70);

/// Lets pods come and go, and some time pass; writes down what has run.
pub(crate) fn main() {
    let site = Site::new("churn");
    for program in PROGRAMS.iter().rev() {
        restart(host(&site, program), program);
    }
    wait::until_true("the node to be ready again", PATIENCE, || {
        let ready = ["wait", "node", NODE, "--for=condition=Ready", "--timeout=5s"];
        site.kubectl().output(&ready, "").status.success()
    });
    pause(IDLE);
    for program in PROGRAMS {
        let pid = service_pid(host(&site, program), program).unwrap();
        control(host(&site, program), &["-i", "on"], pid);
    }
    site.scene(&["churn", NODE, BUSYBOX, "order", "6"]);
    pause(IDLE);
    let mut known = BTreeSet::new();
    let mut text = String::from(HEAD);
    for program in PROGRAMS {
        let ran = functions(&account(host(&site, program), program));
        text.push_str(&format!("\n# {program}\n"));
        for name in ran.into_iter().filter(|name| known.insert(name.clone())) {
            text.push_str(&name);
            text.push('\n');
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("keadm/order.txt");
    std::fs::write(&file, text).unwrap();
    println!("{} functions in {}", known.len(), file.display());
}

const HEAD: &str = "\
# Functions that run again and again in a program that has started, as the linker knows them. Written
# by `tests/bench/run order`; a line that names nothing does no harm.
";

fn host<'a>(site: &'a Site, program: &str) -> &'a Host {
    if program == "edgecore" { &site.pair.edge } else { &site.pair.cloud }
}

/// Puts valgrind in the place of the installed program and has its supervisor start it.
fn restart(host: &Host, program: &str) {
    let installed = host.path("/usr/local/bin/keadm");
    let there = host.path("/var/order");
    if !there.exists() {
        std::fs::create_dir(&there).unwrap();
        std::fs::copy(&installed, there.join("keadm")).unwrap();
        for name in ["edgecore", "cloudcore"] {
            std::os::unix::fs::symlink("keadm", there.join(name)).unwrap();
        }
        let new = host.path("/usr/local/bin/keadm.new");
        std::fs::write(&new, UNDER_VALGRIND).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(new, installed).unwrap();
    }
    let old = service_pid(host, program).unwrap();
    signal(old, Signal::SIGKILL);
    wait::until_true(&format!("{program} under valgrind"), PATIENCE, || {
        service_pid(host, program).is_ok_and(|pid| pid != old)
    });
}

fn control(host: &Host, order: &[&str], pid: u32) {
    let status = host.command("callgrind_control").args(order).arg(pid.to_string()).status();
    assert!(status.unwrap().success(), "callgrind_control {order:?} {pid}");
}

/// What has run in it.
fn account(host: &Host, program: &str) -> PathBuf {
    let pid = service_pid(host, program).unwrap();
    let file = host.path(&format!("/var/order/callgrind.{pid}"));
    control(host, &["-d"], pid);
    let dump = file.with_extension(format!("{pid}.1"));
    wait::until_true("valgrind's account", PATIENCE, || dump.exists());
    dump
}

/// The functions of the program itself in an account of callgrind, sorted.
fn functions(account: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(account).unwrap();
    let names = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("fn=(").or_else(|| line.strip_prefix("cfn=("))?;
        rest.split_once(") ").map(|(_, name)| name)
    });
    names.filter_map(symbol).collect()
}

/// A symbol without what valgrind and the compiler put behind it; none where it says nothing.
fn symbol(name: &str) -> Option<String> {
    let name = name.split('\'').next()?;
    let end = name.find("E.").map_or(name.len(), |at| at + 1);
    let name = name.get(..end)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    (!name.is_empty() && !name.starts_with("0x") && name.chars().all(plain))
        .then(|| name.to_owned())
}
