//! A machine with systemd: the programs are its services.

use std::process::Command;

use tests::systemd::Machine;
use tests::wait;

use super::PATIENCE;

#[track_caller]
fn ok(mut command: Command) -> String {
    let out = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {}\n{said}", out.status);
    said
}

#[track_caller]
fn keadm(machine: &Machine, args: &[&str]) -> String {
    let mut command = machine.command("/opt/keadm");
    command.args(args);
    ok(command)
}

const SERVICES: [&str; 3] = ["control-plane", "cloudcore", "edgecore"];

/// Both halves on one machine: their default paths for certificates are the same, as KubeEdge's are.
#[test]
fn init_and_join_make_services_that_systemd_keeps_alive_and_reset_takes_away() {
    let machine = Machine::boot();
    let said = keadm(&machine, &["init", "--embedded", "--advertise-address", "127.0.0.1"]);
    assert!(said.contains("systemd service"), "{said}");
    let mut gettoken = machine.command("/opt/keadm");
    let token = gettoken.arg("gettoken").output().unwrap();
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let server = "127.0.0.1:10000";
    keadm(
        &machine,
        &["join", "--cloudcore-ipport", server, "--token", &token, "--edgenode-name", "edge-1"],
    );
    for service in SERVICES {
        assert_eq!(machine.property(service, "ActiveState"), "active", "{service}");
        assert_eq!(machine.property(service, "UnitFileState"), "enabled", "{service}");
    }

    for service in SERVICES {
        let before = machine.property(service, "MainPID");
        machine.kill_service(service);
        wait::until("the service again", PATIENCE, || {
            let now = machine.property(service, "MainPID");
            if now != before && now != "0" { Ok(()) } else { Err(format!("{service}: {now}")) }
        });
    }
    wait::until("a healthy machine", PATIENCE, || {
        let out = machine.command("/opt/keadm").arg("check").output().unwrap();
        if out.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&out.stdout).into_owned())
    });

    for role in ["edge", "cloud"] {
        keadm(&machine, &["reset", role, "--yes"]);
    }
    for service in SERVICES {
        assert_eq!(machine.property(service, "LoadState"), "not-found", "{service}");
    }
    let mut left = machine.command("ls");
    left.args(["/etc/kubeedge", "/usr/local/bin/keadm", "/var/lib/kubeedge"]);
    let out = left.output().unwrap();
    assert!(out.stdout.is_empty(), "{}", String::from_utf8_lossy(&out.stdout));
}
