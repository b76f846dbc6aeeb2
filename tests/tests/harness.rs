//! The harness itself: what it says of hosts is true.

use tests::host::{CLOUD_ADDRESS, Host, Pair};

fn text(mut command: std::process::Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_host_has_files_and_a_name_of_its_own_and_takes_its_processes_with_it() {
    let host = Host::named("kt-alone");
    let mut touch = host.command("touch");
    touch.args(["/etc/kt-file", "/var/lib/kubeedge/kt-file", "/run/kt-file"]);
    text(touch);
    assert!(host.path("/etc/kt-file").exists());
    for file in ["/etc/kt-file", "/var/lib/kubeedge/kt-file", "/run/kt-file"] {
        assert!(!std::path::Path::new(file).exists(), "{file} is on the machine itself");
    }
    assert_eq!(text(host.command("hostname")).trim(), "kt-alone");
    let mut sleep = host.command("sleep");
    let mut child = sleep.arg("1000").spawn().unwrap();
    drop(host);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_cable_can_be_cut_and_mended() {
    let pair = Pair::new();
    let reach = || {
        let mut ping = pair.edge.command("busybox");
        ping.args(["ping", "-c1", "-W1", CLOUD_ADDRESS]).output().unwrap().status.success()
    };
    tests::wait::until_true("the first ping", std::time::Duration::from_secs(10), reach);
    pair.cut();
    assert!(!reach());
    pair.mend();
    tests::wait::until_true("a ping after mending", std::time::Duration::from_secs(10), reach);
}
