//! Each exit code of `keadm help exit-codes`, from the program itself, as a script sees it.

#![cfg(all(feature = "cloud", feature = "edge"))]
#![allow(clippy::unwrap_used, reason = "tests; a failure should show where")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use api::status::row::{DeviceRow, Link, NodeRow, PodRow};
use api::status::stream::{Hello, ToReader, Update, VERSION};
use tokio_tungstenite::tungstenite::{Message, accept};

fn keadm(line: &str) -> Command {
    // A test run in the background of a shell has this signal ignored, and so would its children.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_keadm")]);
    command.args(line.split(' ')).env("HOME", "/nonexistent").stdin(Stdio::null());
    for name in ["KUBECONFIG", "KEADM_ENDPOINT", "KEADM_ROOT", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    command
}

/// The exit code; whatever fails says so on standard error, and nothing but data on the other.
fn code(line: &str) -> i32 {
    let output = keadm(line).output().unwrap();
    let code = output.status.code().unwrap();
    assert_eq!(code == 0, output.stderr.is_empty(), "{line}: {output:?}");
    code
}

/// A status stream that tells every reader this, and then nothing more.
fn stream(folder: &Path, name: &str, update: Update) -> PathBuf {
    let path = folder.join(name);
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = accept(socket.unwrap()) else { continue };
            let hello = Hello { version: VERSION, server: "test".into(), ..Hello::default() };
            let update = ToReader::Update(Box::new(update.clone()));
            for message in [ToReader::Hello(hello), update] {
                let text = serde_json::to_string(&message).unwrap();
                let _ = socket.send(Message::text(text));
            }
            // Until the reader has gone.
            while socket.read().is_ok() {}
        }
    });
    path
}

const NOW: i64 = 1_767_323_045_000;

fn fleet() -> Update {
    let expires = Some(NOW + 30 * 86_400_000);
    Update {
        now: NOW,
        full: true,
        nodes: vec![NodeRow {
            name: "edge-1".into(),
            ready: "True".into(),
            link: Some(Link { certificate_expires: expires, ..Link::default() }),
            ..NodeRow::default()
        }],
        pods: vec![PodRow {
            namespace: "default".into(),
            name: "web".into(),
            phase: "Running".into(),
            status: "Running".into(),
            ready: 1,
            containers: 1,
            ..PodRow::default()
        }],
        devices: vec![DeviceRow {
            namespace: "default".into(),
            name: "lamp".into(),
            state: "online".into(),
            ..DeviceRow::default()
        }],
        ..Update::default()
    }
}

#[test]
fn what_a_command_meets_decides_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(code("version"), 0);
    std::fs::write(at("broken.yaml"), "modules: [").unwrap();
    assert_eq!(code(&format!("config check cloudcore {}", at("broken.yaml"))), 1);
    assert_eq!(code("version --ouput json"), 2);
    assert_eq!(code(&format!("check edge --root {}", at("empty"))), 3);
    assert_eq!(code("gettoken --kube-config /nonexistent/kubeconfig"), 4);
    assert_eq!(code(&format!("get nodes --endpoint {}", at("nobody.sock"))), 6);
    assert_eq!(code("upgrade cloud"), 9);
    assert_eq!(code("upgrade edge"), 2);
}

#[test]
fn a_stream_that_refuses_or_is_silent_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let refusing = folder.path().join("refusing.sock");
    let listener = UnixListener::bind(&refusing).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        socket.write_all(answer.as_bytes()).unwrap();
    });
    assert_eq!(code(&format!("get nodes --endpoint {}", refusing.display())), 5);
    let silent = folder.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let line = format!("get nodes --request-timeout 200ms --endpoint {}", silent.display());
    assert_eq!(code(&line), 7);
}

#[test]
fn a_data_folder_that_another_holds_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(folder.path().join("lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(code(&format!("up --cloud-only --data-dir {}", folder.path().display())), 8);
}

#[test]
fn status_says_with_its_code_which_part_is_not_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = 0;
    let mut of = |change: &dyn Fn(&mut Update)| {
        let mut update = fleet();
        change(&mut update);
        n += 1;
        let socket = stream(folder.path(), &format!("{n}.sock"), update);
        let line = format!("status --endpoint {}", socket.display());
        keadm(&line).output().unwrap().status.code().unwrap()
    };
    assert_eq!(of(&|_| ()), 0);
    assert_eq!(of(&|all| all.nodes[0].ready = "False".into()), 31);
    assert_eq!(of(&|all| all.pods[0].phase = "Failed".into()), 32);
    assert_eq!(of(&|all| all.devices[0].state = "offline".into()), 33);
    let soon = |all: &mut Update| {
        all.nodes[0].link.as_mut().unwrap().certificate_expires = Some(NOW + 1000);
    };
    assert_eq!(of(&soon), 34);
    assert_eq!(
        of(&|all| {
            soon(all);
            all.devices[0].state = "offline".into();
        }),
        3
    );
}

#[test]
fn an_interrupt_ends_it_and_a_reader_that_leaves_is_no_news() {
    let folder = tempfile::tempdir().unwrap();
    let socket = stream(folder.path(), "all.sock", fleet());
    let line = format!("get nodes --watch --endpoint {}", socket.display());
    let mut child = keadm(&line).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    // Kept until the end: without a reader it would end by itself.
    let mut read = BufReader::new(child.stdout.take().unwrap());
    read.read_line(&mut first).unwrap();
    assert!(first.starts_with("NAME"), "{first}");
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    // What a shell reports as 130.
    assert!(status.signal() == Some(2) || status.code() == Some(130), "{status}");

    let mut child = keadm("manifest --advertise-address 10.0.0.1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(said, "");
    assert!(status.signal() == Some(13) || status.code() == Some(141), "{status}");
}
