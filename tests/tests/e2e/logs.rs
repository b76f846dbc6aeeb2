//! A line of a log that is longer than the memory that anybody may use for it, on its whole way.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::host::Pair;
use tests::keadm::{binary, command, memory_kib, service_pid};
use tests::kubectl::Kubectl;
use tests::screen::Screen;

use super::PATIENCE;
use super::join::{cloud, join, kubectl};

/// How long the line is.
const LINE: u64 = 2_000_000_000;
/// What a process may need more at one time than before, in KiB.
const ROOM: u64 = 48 << 10;

/// A pod whose container has ended, so that nobody else writes to its log; where that is.
#[track_caller]
fn ended(pair: &Pair, kubectl: &Kubectl<'_>) -> PathBuf {
    kubectl.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"long"}},"spec":{{
"restartPolicy":"Never","containers":[{{"name":"main","image":"{}","command":["/bin/keadm","version"]}}]}}}}"#,
        edgecore::sample::IMAGE
    ));
    kubectl.until(&["pod", "long"], "/status/phase", "Succeeded", PATIENCE);
    let port = "/status/daemonEndpoints/kubeletEndpoint/Port";
    kubectl.until(&["node", "edge-2"], port, "10003", PATIENCE);
    let pod = kubectl.get(&["pod", "long"]).unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    pair.edge.path(&format!("/var/log/pods/default_long_{uid}/main/0.log"))
}

/// Adds a line of zeros, which are a hole in the file and take no room, and one after it.
fn write(log: &std::path::Path) {
    let mut file = OpenOptions::new().append(true).open(log).unwrap();
    write!(file, "2026-11-22T00:00:01Z stdout F ").unwrap();
    let begun = file.metadata().unwrap().len();
    file.set_len(begun + LINE).unwrap();
    write!(file, "\n2026-11-22T00:00:02Z stdout F after\n").unwrap();
}

/// Reads what a program says: what stands before the line, how many zeros there are, and what
/// follows. `watched` is called near the end of the line.
#[track_caller]
fn read(mut command: Command, watched: impl FnOnce(u32)) -> (String, u64, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut before, mut zeros, mut after) = (Vec::new(), 0, Vec::new());
    let mut watched = Some(watched);
    let all_zeros = vec![0; 1 << 20];
    let mut piece = all_zeros.clone();
    loop {
        let piece = match out.read(&mut piece).unwrap() {
            0 => break,
            read => &piece[..read],
        };
        // Nearly all of it; byte by byte it would take longer than its way.
        let same = *piece == all_zeros[..piece.len()];
        zeros += if same { piece.len() as u64 } else { 0 };
        for byte in piece.iter().filter(|_| !same) {
            match *byte {
                0 => zeros += 1,
                byte if zeros == 0 => before.push(byte),
                byte => after.push(byte),
            }
        }
        if zeros > LINE - (8 << 20)
            && let Some(watched) = watched.take()
        {
            // It still has more to say than a pipe can hold.
            watched(child.id());
        }
    }
    assert!(child.wait().unwrap().success());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(before), zeros, text(after))
}

#[test]
fn a_log_line_of_2_gb_goes_all_the_way_and_nobody_holds_it() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    let log = ended(&pair, &kubectl);
    let before = std::fs::read_to_string(&log).unwrap();
    let services =
        [(&pair.edge, "edgecore"), (&pair.cloud, "cloudcore"), (&pair.cloud, "control-plane")]
            .map(|(host, name)| (name, service_pid(host, name).unwrap()));
    let needed = services.map(|(_, pid)| memory_kib(pid, "VmRSS:"));
    write(&log);

    // All the way: file, edgecore, tunnel, cloudcore, API server. (`kubectl logs` itself holds a
    // line until it has all of it.)
    let path = "/api/v1/namespaces/default/pods/long/log";
    let (first, zeros, after) = read(kubectl.command(&["get", "--raw", path]), |_| {});
    assert!(before.ends_with(&first), "{first}");
    assert_eq!((zeros, after.as_str()), (LINE, "\nafter\n"));

    // On the node itself.
    let local = command(&pair.edge, ["ctl", "logs", "long"]);
    let mut used = 0;
    let (_, zeros, after) = read(local, |pid| used = memory_kib(pid, "VmHWM:"));
    assert_eq!((zeros, after.as_str()), (LINE, "\nafter\n"));
    // Most of it is the program itself.
    assert!(used > 0 && used < 2 * ROOM, "keadm ctl logs used {used} KiB");

    // On the screen: a mebibyte of the line, in parts, how much is left out, and what follows.
    let mut dashboard = pair.cloud.command(binary());
    dashboard.arg("dashboard");
    let mut screen = Screen::start(&dashboard, 120, 40);
    screen.until_shows("live", PATIENCE);
    let began = memory_kib(screen.pid(), "VmRSS:");
    screen.keys(":pods\r");
    screen.until_shows("long", PATIENCE);
    screen.keys("l");
    // Two gigabytes through five unoptimised programs, beside all other tests.
    screen.until_shows("after", 6 * PATIENCE);
    screen.keys("$");
    screen.until_shows("more bytes of this line are left out; `kubectl logs` has them]", PATIENCE);
    let used = memory_kib(screen.pid(), "VmHWM:");
    assert!(used < began + ROOM, "the dashboard used {used} KiB, {began} before");

    for ((name, pid), before) in services.into_iter().zip(needed) {
        let used = memory_kib(pid, "VmHWM:");
        assert!(used < before + ROOM, "{name} used {used} KiB, {before} before");
    }
}
