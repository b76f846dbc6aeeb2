//! The dashboard in a real terminal: in tmux over a real fleet, and on a pty with a recording.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tests::host::{Host, Pair};
use tests::keadm::{binary, service_pid, supervisor_pid};
use tests::screen::Screen;
use tests::wait;

use super::join::{cloud, join};
use super::{PATIENCE, Up};

/// A window of tmux on a host, and what is on its screen.
struct Tmux<'a> {
    host: &'a Host,
    socket: PathBuf,
}

impl<'a> Tmux<'a> {
    /// Runs a command line in a new window of 80x24.
    #[track_caller]
    fn start(host: &'a Host, folder: &Path, line: &[&str]) -> Self {
        let tmux = Self { host, socket: folder.join("tmux") };
        let mut args = vec!["new-session", "-d", "-x", "80", "-y", "24"];
        args.extend_from_slice(line);
        tmux.run(&args);
        // What a program has said must stay to be read when it has ended.
        tmux.run(&["set-option", "-g", "remain-on-exit", "on"]);
        tmux
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let mut command = self.host.command("tmux");
        command.arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(args);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("KUBECONFIG");
        command.env("LC_ALL", "C.UTF-8");
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "tmux {args:?}: {said}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Types text, or a key by its name.
    #[track_caller]
    fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend_from_slice(keys);
        self.run(&args);
    }

    #[track_caller]
    fn until(&self, text: &str) -> String {
        self.until_it(&format!("`{text}` on the screen"), |screen| screen.contains(text))
    }

    #[track_caller]
    fn until_it(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let shown = || {
            let screen = self.run(&["capture-pane", "-p"]);
            if is(&screen) { Ok(screen) } else { Err(format!("\n{screen}")) }
        };
        wait::until(what, PATIENCE, shown).0
    }
}

#[test]
fn keadm_up_opens_the_dashboard_at_enter_and_it_shows_and_does_everything() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let (program, data) = (binary(), folder.path().join("data"));
    let line = [program.to_str().unwrap(), "up", "--node-name", "edge-1", "--data-dir"];
    let line: Vec<&str> = line.into_iter().chain(data.to_str()).collect();
    let tmux = Tmux::start(&host, folder.path(), &line);
    tmux.until("Enter opens the dashboard");
    tmux.keys(&["Enter"]);
    tmux.until("[overview]");
    let overview = tmux.until_it("the node, ready", |screen| {
        screen.contains("● live") && screen.contains("1 ready")
    });
    assert!(overview.contains("messages a second"), "{overview}");

    tmux.keys(&[":nodes", "Enter"]);
    let nodes = tmux.until("[nodes 1]");
    assert!(nodes.contains("edge-1") && nodes.contains("Ready"), "{nodes}");
    assert!(!nodes.contains("RUNTIME"), "80 columns have no room for it\n{nodes}");
    tmux.run(&["resize-window", "-x", "200", "-y", "50"]);
    tmux.until("RUNTIME");
    tmux.keys(&["Enter"]);
    // A screen may be read while it is being drawn.
    let words = ["certificate until", "sent by the cloud", "climate"];
    tmux.until_it("all of the node", |screen| words.iter().all(|word| screen.contains(word)));
    tmux.keys(&["y"]);
    tmux.until("kind: Node");
    tmux.keys(&["Escape"]);
    tmux.until("certificate until");
    // A confirmation names what will happen; what is done is seen at once.
    tmux.keys(&["o"]);
    let asked = tmux.until("cordon node edge-1?");
    assert!(asked.contains("keadm cordon edge-1"), "{asked}");
    tmux.keys(&["y"]);
    tmux.until("Ready,Cordoned");
    tmux.keys(&["Escape"]);
    tmux.until("LINK");

    tmux.keys(&[":pods", "Enter"]);
    tmux.until("[pods 2]");
    tmux.keys(&["/hello", "Enter"]);
    tmux.until_it("one pod", |screen| !screen.contains("sample-mapper"));
    tmux.keys(&["l"]);
    tmux.until("log of default/hello | following");
    tmux.until("hello from hello, beat");
    tmux.keys(&["Escape"]);
    tmux.until("RESTARTS");

    tmux.keys(&[":devices", "Enter"]);
    tmux.until("heating=false");
    tmux.keys(&["e"]);
    tmux.until("set (Tab: another) heating=false");
    tmux.keys(&["C-u", "heating=true", "Enter"]);
    tmux.until("set heating of device default/climate to true?");
    tmux.keys(&["y"]);
    // The device has obeyed and said so: down to the edge, and up again.
    tmux.until_it("a device that obeys", |screen| {
        let row = screen.lines().find(|line| line.contains("climate  "));
        row.is_some_and(|row| row.contains("heating=true") && row.contains("in sync"))
    });

    tmux.keys(&[":flow", "Enter"]);
    tmux.until("[flow]");
    tmux.until("default/device/climate");
    tmux.keys(&["Space"]);
    tmux.until("HELD");
    tmux.keys(&["Space", "?"]);
    tmux.until("these keys");
    tmux.run(&["resize-window", "-x", "39", "-y", "9"]);
    tmux.until("too small: 39x9; 40x10 is needed");
    tmux.run(&["resize-window", "-x", "80", "-y", "24"]);
    tmux.until("these keys");
    // Leaving it ends nothing else.
    tmux.keys(&["Escape"]);
    tmux.until("OBJECT");
    deletes_and_drains(&tmux);
    tmux.keys(&["q"]);
    tmux.until("Ctrl-C stops everything");
    tmux.keys(&["C-c"]);
    tmux.until("state kept in");
}

/// What cannot be taken back names what it is about and the command for it.
fn deletes_and_drains(tmux: &Tmux<'_>) {
    // The filter is still that of before.
    tmux.keys(&[":pods", "Enter"]);
    tmux.until("1/1");
    tmux.keys(&["x"]);
    let asked = tmux.until("delete pod default/hello?");
    assert!(asked.contains("keadm delete pod -n default hello"), "{asked}");
    tmux.keys(&["n"]);
    tmux.until("nothing was changed");
    tmux.keys(&["x"]);
    tmux.until("delete pod default/hello?");
    tmux.keys(&["y"]);
    tmux.until("no row passes the filter");
    tmux.keys(&["Escape", ":nodes", "Enter"]);
    tmux.until("[nodes 1]");
    tmux.keys(&["D"]);
    let asked = tmux.until("drain node edge-1: let no new pods onto it and evict those on it?");
    assert!(asked.contains("keadm drain edge-1"), "{asked}");
    tmux.keys(&["y"]);
    tmux.until("Ready,Cordoned");
    tmux.until("pods 0");
}

#[test]
fn a_cloudcore_that_is_killed_is_lost_with_the_reason_until_it_is_back() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let mut command = pair.cloud.command(binary());
    command.arg("dashboard");
    let mut screen = Screen::start(&command, 120, 30);
    screen.keys(":nodes\r");
    screen.until("a node that is connected", PATIENCE, |text| {
        text.contains("live") && text.contains("edge-2") && text.contains("up ")
    });
    let pid = |pid: u32| Pid::from_raw(pid.cast_signed());
    let supervisor = pid(supervisor_pid(&pair.cloud, "cloudcore").unwrap());
    let cloudcore = pid(service_pid(&pair.cloud, "cloudcore").unwrap());
    // It is down until it is started again below.
    nix::sys::signal::kill(supervisor, Signal::SIGSTOP).unwrap();
    nix::sys::signal::kill(cloudcore, Signal::SIGKILL).unwrap();
    screen.until("since when and why, and what was known", PATIENCE, |text| {
        let head = text.lines().next().unwrap_or_default();
        head.contains("LOST ")
            && head.contains("s ago: nobody serves it")
            && text.contains("edge-2")
    });
    nix::sys::signal::kill(supervisor, Signal::SIGCONT).unwrap();
    screen.until("the node, connected anew", PATIENCE, |text| {
        text.contains("live") && text.contains("edge-2") && text.contains("up ")
    });
}

#[test]
fn without_a_stream_it_watches_the_kubernetes_api_and_says_so() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["--no-sample"]);
    let kubectl = up.kubectl(&host);
    let place = ["configmap", "status-stream", "--namespace=kubeedge"];
    let mut published = kubectl.get(&place).unwrap();
    kubectl.run(&[["delete"].as_slice(), &place].concat());
    let mut command = host.command(binary());
    command.args(["dashboard", "--kube-config"]).arg(up.kubeconfig());
    let mut screen = Screen::start(&command, 160, 40);
    screen.until_shows("no links, queues and messages", PATIENCE);
    screen.until_shows("1 ready", PATIENCE);
    screen.keys(":nodes\r");
    screen.until_shows("edge-1", PATIENCE);
    screen.keys("o");
    screen.until_shows("cordon node edge-1?", PATIENCE);
    screen.keys("y");
    screen.until_shows("Ready,Cordoned", PATIENCE);
    // What is used is said not to be known until somebody measures it.
    screen.keys("\r");
    screen.until_shows("not known: the Kubernetes API has no metrics of it", PATIENCE);
    super::look::measure(&kubectl);
    screen.until_shows("250m of", PATIENCE);
    screen.keys("\x1b:flow\r");
    screen.until_shows("the Kubernetes API knows no messages", PATIENCE);
    // Once a stream answers, it is shown instead.
    for field in ["resourceVersion", "uid", "creationTimestamp"] {
        published["metadata"].as_object_mut().unwrap().remove(field);
    }
    kubectl.apply(&published.to_string());
    screen.until_shows("live", PATIENCE);
    screen.until("messages on their way", PATIENCE, |text| {
        text.contains("lease") && !text.contains("the Kubernetes API knows no messages")
    });
    screen.keys(":nodes\r");
    screen.until_shows("LINK", PATIENCE);
}

#[test]
fn an_api_server_that_hangs_is_lost_since_its_last_word_and_found_again() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let kubeconfig = folder.path().join("config");
    let mut plane = tests::keadm::command(&host, ["control-plane", "--data-dir"]);
    plane.arg(folder.path().join("data")).arg("--kubeconfig").arg(&kubeconfig);
    let plane = tests::keadm::Running::start(plane, &folder.path().join("plane.log"));
    wait::until_true("a kubeconfig", PATIENCE, || kubeconfig.exists());
    let mut command = host.command(binary());
    command.args(["dashboard", "--kube-config"]).arg(&kubeconfig);
    let mut screen = Screen::start(&command, 160, 40);
    let live = |screen: &str| screen.lines().next().is_some_and(|head| head.contains("live"));
    screen.until("what there is", PATIENCE, live);
    let pid = Pid::from_raw(plane.pid().cast_signed());
    // It keeps its connections, and says nothing more.
    nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    screen.until("since when and why", PATIENCE, |screen| {
        let head = screen.lines().next().unwrap_or_default();
        let since = head.split_once("LOST ").and_then(|(_, rest)| rest.split_once("s ago: "));
        since.is_some_and(|(since, why)| {
            since.parse::<u32>().is_ok_and(|since| since >= 15)
                && why.contains("does not answer: nothing came for 15 s")
        })
    });
    nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
    screen.until("what there is again", PATIENCE, live);
}

/// A recording of a real run; the picture in the README is made from it.
fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/dashboard.jsonl")
}

fn replay(more: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["dashboard", "--replay"]).arg(recording()).args(more);
    command
}

#[test]
fn a_replay_stands_still_goes_step_by_step_and_to_another_time() {
    let mut screen = Screen::start(&replay(&[]), 100, 30);
    screen.until_shows("playing", PATIENCE);
    screen.keys(" ");
    screen.until_shows("held", PATIENCE);
    let at = |screen: &str| {
        let (_, rest) = screen.split_once("held ")?;
        rest.split('s').next()?.parse::<u32>().ok()
    };
    let before = at(&screen.text()).unwrap();
    screen.keys("\x1b[C");
    screen.until("five seconds later", PATIENCE, |s| at(s) == Some(before + 5));
    for n in (0..=before).step_by(5) {
        screen.keys("\x1b[D");
        screen.until("five seconds before that", PATIENCE, |s| at(s) == Some(before - n));
    }
    screen.keys("\x1b[D");
    screen.until_shows("held 0s", PATIENCE);
    screen.keys(".");
    screen.until("a step", PATIENCE, |screen| screen.contains("held") && screen.contains("x1"));
    screen.keys("+");
    screen.until_shows("x2", PATIENCE);
    screen.keys("+");
    screen.until_shows("x4", PATIENCE);
    screen.keys(" ");
    screen.until_shows("playing", PATIENCE);
    screen.keys("q");
    assert_eq!(screen.until_ended(PATIENCE).exit_code(), 0);
    assert_eq!(screen.not_restored(), [] as [&str; 0]);
}

#[test]
fn sigterm_gives_the_terminal_back_as_it_was() {
    let mut screen = Screen::start(&replay(&[]), 100, 30);
    screen.until_shows("[overview]", PATIENCE);
    assert!(screen.not_restored().len() >= 4, "it has taken the terminal over");
    let pid = Pid::from_raw(screen.pid().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(screen.until_ended(PATIENCE).exit_code(), 0);
    assert_eq!(screen.not_restored(), [] as [&str; 0]);
}

#[test]
fn a_terminal_that_vanishes_ends_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let tmux = |args: &[&str]| {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(folder.path().join("tmux")).args(["-f", "/dev/null"]).args(args);
        let out = command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").output().unwrap();
        assert!(out.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let (program, recording) = (binary(), recording());
    let mut line = vec!["new-session", "-d", "-x", "80", "-y", "24", program.to_str().unwrap()];
    line.extend(["dashboard", "--replay", recording.to_str().unwrap()]);
    tmux(line.as_slice());
    wait::until("the dashboard", PATIENCE, || {
        let screen = tmux(&["capture-pane", "-p"]);
        if screen.contains("[overview]") { Ok(()) } else { Err(screen) }
    });
    let pid = tmux(&["display-message", "-p", "#{pane_pid}"]).trim().to_owned();
    let process = Path::new("/proc").join(&pid);
    assert!(process.exists());
    tmux(&["kill-server"]);
    wait::until_true("the end of the dashboard", Duration::from_secs(10), || !process.exists());
}

#[test]
fn no_colour_means_none_and_ascii_no_tofu() {
    let mut coloured = Screen::start(&replay(&[]), 100, 30);
    coloured.until_shows("[overview]", PATIENCE);
    assert!(coloured.has_colour());
    let mut command = replay(&["--ascii"]);
    command.env("NO_COLOR", "1");
    let mut plain = Screen::start(&command, 100, 30);
    plain.until_shows("[overview]", PATIENCE);
    plain.keys(":nodes\r");
    plain.until_shows("[nodes", PATIENCE);
    assert!(!plain.has_colour() && plain.text().is_ascii(), "{}", plain.text());
}

#[test]
fn the_picture_in_the_readme_is_what_the_command_beside_it_makes() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("dashboard.svg");
    let out = replay(&["--svg", svg.to_str().unwrap()]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let made = std::fs::read_to_string(svg).unwrap();
    let kept = std::fs::read_to_string(recording().with_extension("svg")).unwrap();
    assert!(
        made == kept,
        "`keadm dashboard --replay docs/dashboard.jsonl --svg docs/dashboard.svg` makes it anew"
    );
}
