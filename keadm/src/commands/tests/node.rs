//! What the commands print that need no status stream: on a machine where nothing is, and before an
//! edgecore that gives one answer to each path.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use crate::host::fake::Fake;
use crate::testing::Machine;

/// Each as short as it can be said.
const LINES: [&str; 27] = [
    "keadm backup cloud /none/file",
    "keadm backup edge",
    "keadm check cloud --kube-config /none",
    "keadm config check cloudcore",
    "keadm ctl confirm --node-port 1",
    "keadm ctl exec web --node-port 1 -- ls",
    "keadm ctl exec web",
    "keadm ctl logs web --node-port 1",
    "keadm ctl restart pod web --node-port 1",
    "keadm ctl unhold-upgrade pod web --node-port 1",
    "keadm ctl unhold-upgrade pod --node-port 1",
    "keadm ctl edit device lamp",
    "keadm debug check dns -D nonsense",
    "keadm debug diagnose node",
    "keadm debug diagnose pod web",
    "keadm debug get pods",
    "keadm debug get frogs",
    "keadm device set lamp brightness=40 --kube-config /none",
    "keadm device set lamp brightness --kube-config /none",
    "keadm gettoken --kube-config /none",
    "keadm gettoken list --kube-config /none",
    "keadm gettoken revoke abc --kube-config /none",
    "keadm restore cloud /none/file --yes",
    "keadm reset cloud --yes --kube-config /none",
    "keadm rollback edge --yes",
    "keadm uncordon edge-1 --kube-config /none",
    "keadm upgrade edge --yes --to-version v1.24.0",
];

#[test]
fn where_nothing_is_each_command_says_what_is_missing() {
    let machine = Machine::new(Fake::default());
    let all: Vec<String> = LINES.iter().map(|line| machine.keadm(line)).collect();
    insta::assert_snapshot!("nothing_there", all.join("\n"));
}

/// edgecore's local API, as far as it is asked here.
fn answer(path: &str, body: &str, root: bool) -> (&'static str, &'static str) {
    let pods = r#"{"kind":"PodList","items":[{"metadata":{"namespace":"default","name":"web"},
        "spec":{"containers":[{"name":"main"},{"name":"side"}]}}]}"#;
    match (path, body) {
        ("/pods", _) => ("200 OK", pods),
        ("/api/v1/pods/unhold-upgrade", "default/web") => {
            ("200 OK", r#"{"dryRun":false,"pods":[{"namespace":"default","pod":"web"}]}"#)
        }
        ("/api/v1/pods/unhold-upgrade", _) => ("400 Bad Request", "pod \"free\" is not held back"),
        ("/api/v1/nodes/unhold-upgrade?dryRun=true", "") => {
            ("200 OK", r#"{"dryRun":true,"pods":[]}"#)
        }
        ("/api/v1/taskupgrade/confirm-upgrade", _) => {
            ("200 OK", r#"{"job":"spring","dryRun":false,"confirmed":true}"#)
        }
        ("/restart/default/guarded", _) if !root => {
            ("401 Unauthorized", "commands are run only for who shows the token")
        }
        ("/restart/default/web" | "/restart/default/guarded", _) => {
            ("200 OK", r#"{"namespace":"default","pod":"web","containers":["main","side"]}"#)
        }
        ("/restart/default/other", _) => ("404 Not Found", "pod \"other\" does not exist"),
        (path, _) if path.starts_with("/containerLogs/default/web/main?") => {
            ("200 OK", "one line\nand another\n")
        }
        _ => ("401 Unauthorized", "commands are run only for who shows the token"),
    }
}

/// Serves as many requests as there will be; the port.
fn serve(requests: usize) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        for _ in 0..requests {
            let (mut to, _) = listener.accept().unwrap();
            let mut from = BufReader::new(to.try_clone().unwrap());
            let (mut first, mut length, mut line) = (String::new(), 0, String::new());
            let mut root = false;
            from.read_line(&mut first).unwrap();
            while from.read_line(&mut line).unwrap() > 2 {
                if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                root |= line.trim().eq_ignore_ascii_case("authorization: Bearer opened");
                line.clear();
            }
            let mut body = vec![0; length];
            from.read_exact(&mut body).unwrap();
            let path = first.split(' ').nth(1).unwrap();
            let (status, said) = answer(path, &String::from_utf8(body).unwrap(), root);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}", said.len());
            to.write_all(format!("{head}\r\nConnection: close\r\n\r\n{said}").as_bytes()).unwrap();
        }
    });
    (port, thread)
}

#[test]
fn what_the_node_itself_is_asked_for_is_done_said_or_refused() {
    let lines = [
        ("keadm ctl unhold-upgrade pod web", 1),
        ("keadm ctl unhold-upgrade pod web -o json", 1),
        ("keadm ctl unhold-upgrade pod free", 1),
        ("keadm ctl unhold-upgrade node --dry-run", 1),
        ("keadm ctl confirm", 1),
        ("keadm ctl confirm -o json", 1),
        ("keadm ctl restart pod web", 1),
        ("keadm ctl restart pod web -o json", 1),
        ("keadm ctl restart pod other", 1),
        ("keadm ctl logs web", 2),
        ("keadm ctl logs other", 1),
        ("keadm ctl exec web --dry-run -- ls /", 1),
        ("keadm ctl exec web -c none -- ls", 1),
        ("keadm ctl exec web -- ls", 2),
    ];
    let (port, serving) = serve(lines.iter().map(|(_, requests)| requests).sum());
    let machine = Machine::new(Fake::default());
    let said = |line: &str| {
        let line = match line.split_once(" -- ") {
            Some((line, command)) => format!("{line} --node-port {port} -- {command}"),
            None => format!("{line} --node-port {port}"),
        };
        machine.keadm(&line).replace(&port.to_string(), "PORT")
    };
    let all: Vec<String> = lines.iter().map(|(line, _)| said(line)).collect();
    serving.join().unwrap();
    insta::assert_snapshot!("ctl", all.join("\n"));
}

#[test]
fn who_does_not_find_the_token_hears_where_was_looked_and_how_to_name_the_place() {
    let (port, serving) = serve(3);
    let line = format!("keadm ctl restart pod guarded --node-port {port}");
    let not_root = Machine::new(Fake::new(|state| state.not_root = true));
    let said = not_root.keadm(&line);
    assert!(said.contains("run it as root") && !said.contains("--data-dir"), "{said}");

    let machine = Machine::new(Fake::default());
    let folder = machine.path("elsewhere/edgecore/kubelet");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("local-api.token"), "opened\n").unwrap();
    let said = machine.keadm(&line);
    assert!(said.contains("exit code: 5"), "{said}");
    for word in [
        "`/var/lib/kubelet/local-api.token` and `/var/lib/keadm/edgecore/kubelet/local-api.token`",
        "--data-dir DIR",
        "KEADM_DATA_DIR",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("run it as root"), "{said}");
    let said = machine.keadm(&format!("{line} --data-dir {}/elsewhere", machine.root()));
    assert!(said.contains("exit code: 0"), "{said}");
    serving.join().unwrap();
}
