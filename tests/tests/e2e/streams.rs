//! `kubectl logs`, `exec`, `attach` and `port-forward`, after `init` and `join` with nothing else done.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tests::containerd::{BUSYBOX, Containerd};
use tests::host::{CLOUD_ADDRESS, Host, Pair};
use tests::keadm::{ANY_DISK, Running, service_pid};
use tests::kubectl::Kubectl;
use tests::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::join::{cloud, join, keadm_ok, kubectl};
use super::{PATIENCE, busybox, pod};

/// The port of the pods' echo.
pub(crate) const ECHO: u16 = 7000;
/// Nobody listens there.
const NOBODY: u16 = 7001;
/// A line that is cut is noticed by its silence.
const SILENCE: Duration = Duration::from_secs(120);

/// A running pod on the other machine.
#[track_caller]
fn running(kubectl: &Kubectl<'_>) {
    kubectl.apply(&pod("web", edgecore::sample::IMAGE, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    until_open(kubectl);
}

/// The tunnel may be a moment behind the link.
#[track_caller]
fn until_open(kubectl: &Kubectl<'_>) {
    let port = "/status/daemonEndpoints/kubeletEndpoint/Port";
    kubectl.until(&["node", "edge-2"], port, "10003", PATIENCE);
}

#[test]
fn logs_and_exec_reach_a_machine_that_nobody_can_dial() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    running(&kubectl);

    wait::until("a line of the log", PATIENCE, || {
        let out = kubectl.output(&["logs", "web"], "");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        match out.status.success() && said.contains("hello from") {
            true => Ok(()),
            false => Err(format!("{said}{}", String::from_utf8_lossy(&out.stderr))),
        }
    });
    let last = kubectl.run(&["logs", "web", "--tail=1", "--timestamps"]);
    assert_eq!(last.lines().count(), 1, "{last}");
    let out = kubectl.output(&["logs", "web", "-c", "other"], "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("container other is not valid"), "{said}");
    let out = kubectl.output(&["logs", "web", "--previous"], "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("previous terminated container"), "{said}");

    let said = kubectl.run(&["exec", "web", "--", "/bin/keadm", "version"]);
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    let out = kubectl.output(&["exec", "web", "--", "/bin/keadm", "no-such-command"], "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("no-such-command") && said.contains("exit code 2"), "{said}");
    let out = kubectl.output(&["exec", "web", "--", "/no/such/program"], "");
    assert!(!out.status.success());

    kubectl.run(&["delete", "pod", "web", "--timeout=40s"]);
}

/// kubectl while it forwards ports.
struct Forward<'a> {
    host: &'a Host,
    kubectl: Running,
    /// The local port of each remote one.
    ports: BTreeMap<u16, u16>,
    _folder: tempfile::TempDir,
}

impl<'a> Forward<'a> {
    #[track_caller]
    fn start(host: &'a Host, kubectl: &Kubectl<'_>, args: &[&str], remote: &[u16]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let all = [&["port-forward"], args].concat();
        let mut command = kubectl.command(&all);
        command.stdin(std::process::Stdio::null());
        let running = Running::start(command, &folder.path().join("port-forward.log"));
        let found = |said: &str, port: u16| {
            let line = said.lines().find(|l| l.ends_with(&format!(" -> {port}")))?;
            let local = line.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?;
            local.parse().ok()
        };
        let (ports, _) = wait::until("kubectl to forward", PATIENCE, || {
            let said = running.said();
            let ports: BTreeMap<u16, u16> =
                remote.iter().filter_map(|port| Some((*port, found(&said, *port)?))).collect();
            if ports.len() == remote.len() { Ok(ports) } else { Err(said) }
        });
        Self { host, kubectl: running, ports, _folder: folder }
    }

    #[track_caller]
    fn connect(&self, remote: u16) -> TcpStream {
        let local = self.ports[&remote];
        let stream = self.host.within(|| TcpStream::connect(("127.0.0.1", local))).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What comes back for `sent`, and then the end.
    #[track_caller]
    fn echo(&self, sent: &[u8]) -> Vec<u8> {
        let mut stream = self.connect(ECHO);
        let mut write = stream.try_clone().unwrap();
        let mut came = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                write.write_all(sent).unwrap();
                write.shutdown(Shutdown::Write).unwrap();
            });
            stream
                .read_to_end(&mut came)
                .unwrap_or_else(|e| panic!("{e}: {}", self.kubectl.said()));
        });
        came
    }
}

/// Says it and waits until it is back.
#[track_caller]
fn say(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

/// Bytes of every value.
fn megabyte() -> Vec<u8> {
    (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sockets that a process has, and its threads.
fn held(pid: u32) -> (usize, usize) {
    let of = |folder: &str| std::fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap().flatten();
    let is_socket = |path: std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    (of("fd").filter(|e| is_socket(e.path())).count(), of("task").count())
}

/// All that a forward has to do, to a target that echoes.
pub(crate) fn forwards(pair: &Pair, kubectl: &Kubectl<'_>, target: &str) {
    let edgecore = service_pid(&pair.edge, "edgecore").unwrap();
    let (sockets, _) = held(edgecore);
    let (echo, nobody) = (format!(":{ECHO}"), format!(":{NOBODY}"));
    let forward = Forward::start(&pair.cloud, kubectl, &[target, &echo], &[ECHO]);
    assert_eq!(forward.echo(b"hello"), b"hello");
    let (mut one, mut other) = (forward.connect(ECHO), forward.connect(ECHO));
    say(&mut one, b"one");
    say(&mut other, b"two");
    say(&mut one, b"the first again");
    drop(one);
    say(&mut other, b"the other goes on");
    let megabyte = megabyte();
    assert!(forward.echo(&megabyte) == megabyte, "a megabyte comes back as it went");

    // A port on which nobody listens is told; kubectl of some versions ends then, others go on.
    let refusing = Forward::start(&pair.cloud, kubectl, &[target, &nobody], &[NOBODY]);
    let mut refused = refusing.connect(NOBODY);
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0);
    let why = format!("cannot connect to port {NOBODY} of the pod: Connection refused");
    wait::until("the reason", PATIENCE, || {
        let said = refusing.kubectl.said();
        if said.contains(&why) { Ok(()) } else { Err(said) }
    });
    drop((refused, refusing));
    say(&mut other, b"still here");
    drop((other, forward));
    wait::until("edgecore to hold no more than before", PATIENCE, || match held(edgecore) {
        (now, _) if now <= sockets => Ok(()),
        held => Err(format!("{held:?} after {sockets}")),
    });
}

#[test]
fn a_port_of_a_pod_of_the_embedded_runtime_is_forwarded_until_the_line_is_cut() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    let program = busybox();
    let manifest = |name: &str, network: &str, port: u16| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},
"spec":{{{network}"terminationGracePeriodSeconds":1,"containers":[{{"name":"main","image":"{}",
"command":["/busybox","nc","-ll","-p","{port}","-e","/busybox","cat"],
"volumeMounts":[{{"name":"b","mountPath":"/busybox","readOnly":true}}]}}],
"volumes":[{{"name":"b","hostPath":{{"path":"{program}","type":"File"}}}}]}}}}"#,
            edgecore::sample::IMAGE
        )
    };
    kubectl.apply(&manifest("echo", "", ECHO));
    kubectl.apply(&manifest("host", r#""hostNetwork":true,"#, ECHO + 10));
    for name in ["echo", "host"] {
        kubectl.until(&["pod", name], "/status/phase", "Running", PATIENCE);
    }
    until_open(&kubectl);
    forwards(&pair, &kubectl, "pod/echo");
    // On the node's own network.
    let forward =
        Forward::start(&pair.cloud, &kubectl, &["host", &format!(":{}", ECHO + 10)], &[ECHO + 10]);
    say(&mut forward.connect(ECHO + 10), b"hello");
    drop(forward);
    let out = kubectl.output(&["exec", "-i", "echo", "--", "/busybox", "cat"], megabyte());
    assert!(out.status.success() && out.stdout == megabyte());

    assert!(kubectl.run(&["get", "--raw", "/api/v1"]).contains("\"pods/portforward\""));
    let refused = kubectl.output(&["port-forward", "no-such-pod", ":80"], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("NotFound"), "{refused:?}");

    // The line is cut: both ends of a forward end.
    let args = ["pod/echo", &format!(":{ECHO}")];
    let mut forward = Forward::start(&pair.cloud, &kubectl, &args, &[ECHO]);
    let mut open = forward.connect(ECHO);
    say(&mut open, b"hello");
    let edgecore = service_pid(&pair.edge, "edgecore").unwrap();
    let (before, _) = held(edgecore);
    pair.cut();
    open.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(open.read(&mut [0; 1]).unwrap_or(0), 0);
    forward.kubectl.until_ended(SILENCE);
    wait::until("edgecore to let the pod's connection go", SILENCE, || match held(edgecore) {
        (now, _) if now < before => Ok(()),
        held => Err(format!("{held:?} after {before}")),
    });
    pair.mend();
    let again = || {
        let forward = Forward::start(&pair.cloud, &kubectl, &args, &[ECHO]);
        forward.echo(b"back")
    };
    wait::until("the tunnel to be back", SILENCE, || {
        let out = kubectl.output(&["exec", "echo", "--", "/busybox", "true"], "");
        if out.status.success() { Ok(()) } else { Err(format!("{out:?}")) }
    });
    assert_eq!(again(), b"back");
}

/// kube-rs asks with a WebSocket on which each port has a channel.
async fn by_kube_rs(kubeconfig: &std::path::Path) {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
    let pods: kube::Api<Pod> = kube::Api::default_namespaced(config.try_into().unwrap());
    let mut forward = pods.portforward("echo", &[ECHO, NOBODY]).await.unwrap();
    let mut stream = forward.take_stream(ECHO).unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    // One port is refused, and the other goes on.
    let why = forward.take_error(NOBODY).unwrap().await.unwrap();
    assert!(why.contains("cannot connect to port"), "{why}");
    stream.write_all(b"again").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"again");
    forward.abort();
}

#[test]
fn ports_and_streams_of_pods_in_containerd_are_reached_and_end_when_they_should() {
    let pair = Pair::new();
    let token = cloud(&pair);
    let containerd = Containerd::start_on(&pair.edge).unwrap();
    let (server, endpoint) = (format!("{CLOUD_ADDRESS}:10000"), containerd.endpoint());
    let mut join = vec!["join", "--cloudcore-ipport", &server, "--token", &token];
    join.extend(["--edgenode-name", "edge-2", "--remote-runtime-endpoint", &endpoint]);
    join.extend(["--set", ANY_DISK]);
    keadm_ok(&pair.edge, &join);
    let kubectl = kubectl(&pair);
    let echo = format!(r#","command":["nc","-ll","-p","{ECHO}","-e","cat"]"#);
    let manifest = pod("echo", BUSYBOX, &echo)
        .replace(r#""name":"echo""#, r#""name":"echo","labels":{"app":"echo"}"#);
    kubectl.apply(&manifest);
    kubectl.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"echo"}},
"spec":{{"selector":{{"app":"echo"}},"ports":[{{"port":80,"targetPort":{ECHO}}}]}}}}"#
    ));
    kubectl.until(&["pod", "echo"], "/status/phase", "Running", PATIENCE);
    until_open(&kubectl);
    forwards(&pair, &kubectl, "pod/echo");

    // kubectl finds a pod of the service, and its port.
    let service = Forward::start(&pair.cloud, &kubectl, &["svc/echo", ":80"], &[ECHO]);
    assert_eq!(service.echo(b"by its service"), b"by its service");
    drop(service);
    // As kubectl did before 1.31, and as API servers ask kubelets.
    let folder = tempfile::tempdir().unwrap();
    let mut command = kubectl.command(&["port-forward", "echo", &format!(":{ECHO}")]);
    command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
    let mut spdy = Running::start(command, &folder.path().join("spdy.log"));
    spdy.until_said("Forwarding from 127.0.0.1:", PATIENCE);
    let said = spdy.said();
    let local = said.split("127.0.0.1:").nth(1).and_then(|s| s.split(' ').next()).unwrap();
    let local: u16 = local.parse().unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", local)).unwrap();
    say(&mut pair.cloud.within(connect), b"over SPDY");
    drop(spdy);
    let kubeconfig = pair.cloud.path("/etc/kubeedge/config/admin.kubeconfig");
    pair.cloud.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(by_kube_rs(&kubeconfig));
    });

    // The end of standard input, with a runtime that does not know `v5.channel.k8s.io`.
    let exec = |script: &str, input: &[u8]| {
        kubectl.output(&["exec", "-i", "echo", "--", "sh", "-c", script], input)
    };
    assert_eq!(kubectl.output(&["exec", "-i", "echo", "--", "cat"], "hello\n").stdout, b"hello\n");
    let all = megabyte();
    let out = exec("exec cat", &all);
    assert!(out.status.success() && out.stdout == all, "{} bytes", out.stdout.len());
    let out = exec("head -c 1; cat >/dev/null; echo said >&2; exit 7", &all);
    assert_eq!((out.status.code(), &out.stdout[..]), (Some(7), &all[..1]), "{out:?}");
    assert!(out.stderr.starts_with(b"said\n"), "{out:?}");
    let out = exec("exit 3", b"nobody reads this");
    assert_eq!(out.status.code(), Some(3), "{out:?}");

    let reads = r#","stdin":true,"stdinOnce":true,"command":["sh","-c","cat; echo done"]"#;
    let manifest =
        pod("reader", BUSYBOX, reads).replace(r#""spec":{"#, r#""spec":{"restartPolicy":"Never","#);
    kubectl.apply(&manifest);
    kubectl.until(&["pod", "reader"], "/status/phase", "Running", PATIENCE);
    let out = kubectl.output(&["attach", "-i", "reader"], "typed\n");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.contains("typed\ndone\n"), "{out:?}");
    kubectl.until(&["pod", "reader"], "/status/phase", "Succeeded", PATIENCE);
}
