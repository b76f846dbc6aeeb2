//! What nobody should send, and clients that do not do their part. The answers are those of Kubernetes'
//! API conventions ("HTTP Status codes", "Error codes") and of the pages named below; words are those
//! that a kube-apiserver answers with.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use control_plane::ClientLimits;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::Cluster;
use crate::wire::{PATIENCE, Wire, rest};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MIB: usize = 1 << 20;

fn map(name: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
        .to_string()
}

// "Size limits" of the API concepts: a request is no larger than 3 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_three_mib_is_refused_whatever_it_says_of_its_length() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let large = map("m", &json!({"a": "x".repeat(3 * MIB)}));
    let refused = (413, "RequestEntityTooLarge".to_owned());
    let (code, reason, message) = wire.post(MAPS, large.clone()).await.status();
    assert_eq!((code, reason), refused);
    assert_eq!(message, "Request entity too large: limit is 3145728");
    let at = format!("{MAPS}/m");
    let patch = wire.ask("PATCH", &at, "application/merge-patch+json", large.clone()).await;
    let (code, reason, _) = patch.status();
    assert_eq!((code, reason), refused);
    // In pieces of which nobody says how many there are.
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let mut stream = wire.send(&head).await;
    for piece in large.as_bytes().chunks(64 << 10) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        stream.write_all(piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let said = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    // Just below the limit it is read, and the object itself is too large.
    let most = map("m", &json!({"a": "x".repeat(3 * MIB - 200)}));
    let (code, reason, message) = wire.post(MAPS, most).await.status();
    assert_eq!((code, reason.as_str()), (422, "Invalid"), "{message}");
    assert!(message.contains("may not be more than 1048576 bytes"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_and_broken_texts_are_refused_and_others_go_on() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let bad = |answer: crate::wire::Answer| {
        let (code, reason, message) = answer.status();
        assert_eq!((code, reason.as_str()), (400, "BadRequest"), "{message}");
        assert!(message.len() < 4096, "{message}");
        message
    };
    let deep = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
    for n in [200, 100_000, MIB] {
        let message = bad(wire.post(MAPS, deep(n)).await);
        assert!(message.contains("exceeded max depth"), "{message}");
    }
    for text in ["", "{", "[]", "nul", "{\"a\":1}}", "{\"kind\":1}"] {
        bad(wire.post(MAPS, text).await);
    }
    // As YAML, and as YAML that says more than it has bytes.
    let apply = format!("{MAPS}/m?fieldManager=me");
    let yaml = "application/apply-patch+yaml";
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
    for n in [200, 100_000] {
        bad(wire.ask("PATCH", &apply, yaml, format!("{head}data: {}\n", deep(n))).await);
    }
    let mut bomb = format!("{head}data:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let again = format!("*a{}", i - 1);
        let _ = writeln!(bomb, "  a{i}: &a{i} [{}]", [again.as_str(); 10].join(", "));
    }
    bad(wire.ask("PATCH", &apply, yaml, bomb).await);
    for text in ["a: [", "a: *b", "{a: 1, a: 2}"] {
        bad(wire.ask("PATCH", &apply, yaml, format!("{head}{text}\n")).await);
    }
    // Go's decoder reads what is not UTF-8 as U+FFFD.
    let mut broken = map("broken", &json!({"a": "<>"})).into_bytes();
    let at = broken.iter().position(|b| *b == b'<').unwrap();
    broken[at] = 0xff;
    let made = wire.post(MAPS, broken).await;
    assert_eq!((made.code.as_u16(), &made.value()["data"]["a"]), (201, &json!("\u{fffd}>")));
}

// "Field validation" of the API concepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_stand_twice_are_refused_warned_of_or_ignored_as_is_asked_for() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let twice = |name: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{name}\"}},\"data\":{{\"a\":\"1\",\"a\":\"2\"}}}}"
        )
    };
    let (code, reason, message) =
        wire.post(&format!("{MAPS}?fieldValidation=Strict"), twice("m")).await.status();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert!(message.contains("strict decoding error: duplicate field \"data.a\""), "{message}");
    let made = wire.post(MAPS, twice("m")).await;
    assert_eq!((made.code.as_u16(), &made.value()["data"]["a"]), (201, &json!("2")));
    let warning = made.headers["warning"].to_str().unwrap();
    assert!(warning.contains("duplicate field"), "{warning}");
    let made = wire.post(&format!("{MAPS}?fieldValidation=Ignore"), twice("n")).await;
    assert!(made.code.as_u16() == 201 && !made.headers.contains_key("warning"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_of_content_that_nobody_knows_are_refused() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let body = map("m", &json!({}));
    for kind in ["text/html", "application/xml", "application/json-patch+json", "a/b/c"] {
        let (code, reason, message) = wire.ask("POST", MAPS, kind, body.clone()).await.status();
        assert_eq!((code, reason.as_str()), (415, "UnsupportedMediaType"), "{kind}: {message}");
    }
    wire.post(MAPS, body.clone()).await;
    let at = format!("{MAPS}/m");
    for kind in ["application/json", "text/plain", "application/patch"] {
        let (code, reason, message) = wire.ask("PATCH", &at, kind, body.clone()).await.status();
        assert_eq!((code, reason.as_str()), (415, "UnsupportedMediaType"), "{kind}: {message}");
    }
    let request =
        format!("GET {MAPS} HTTP/1.1\r\nhost: a\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    let mut stream = wire.send(&request).await;
    let said = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    assert!(said.starts_with("HTTP/1.1 406 ") && said.contains("NotAcceptable"), "{said}");
}

// "Retrieving large results sets in chunks" of the API concepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_below_zero_and_tokens_that_are_made_up_harm_nobody() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    // A map that each namespace has, sooner or later.
    c.until(&["get", "configmap", "kube-root-ca.crt"]).await;
    for i in 0..5 {
        wire.post(MAPS, map(&format!("m{i}"), &json!({}))).await;
    }
    let names = |v: &Value| -> Vec<String> {
        let items = v["items"].as_array().unwrap();
        items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    // No limit is given by one that is not positive.
    let all = wire.get(&format!("{MAPS}?limit=-5")).await.value();
    assert_eq!(names(&all).len(), 6, "{all}");
    for wrong in ["limit=x", "limit=99999999999999999999", "timeoutSeconds=x", "resourceVersion=-1"]
    {
        let (code, ..) = wire.get(&format!("{MAPS}?{wrong}")).await.status();
        assert_eq!(code, 400, "{wrong}");
    }
    let first = wire.get(&format!("{MAPS}?limit=2")).await.value();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = wire.get(&format!("{MAPS}?limit=9&continue={token}")).await.value();
    assert_eq!([names(&first), names(&second)].concat(), names(&all));

    let raw = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    let own: Value = serde_json::from_str(&raw).unwrap();
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut v = own.clone();
        change(&mut v);
        format!("{MAPS}?limit=2&continue={}", URL_SAFE_NO_PAD.encode(v.to_string()))
    };
    for (what, path) in [
        ("no base64", format!("{MAPS}?continue=%21%21")),
        ("no JSON", format!("{MAPS}?continue={}", URL_SAFE_NO_PAD.encode("x"))),
        ("another version", forged(&|v| v["v"] = "meta.k8s.io/v9".into())),
        ("a way out", forged(&|v| v["start"] = "../../secrets/a".into())),
        ("a number for a place", forged(&|v| v["start"] = 5.into())),
        ("a text for a revision", forged(&|v| v["rv"] = "5".into())),
        ("no revision", forged(&|v| v["rv"] = 0.into())),
        ("cut", format!("{MAPS}?continue={}", &token[..token.len() - 3])),
    ] {
        let (code, reason, message) = wire.get(&path).await.status();
        assert_eq!((code, reason.as_str()), (400, "BadRequest"), "{what}: {message}");
        assert!(message.contains("continue"), "{what}: {message}");
    }
    // A revision that never was: nobody is told that this is how things were.
    let (code, reason, message) =
        wire.get(&forged(&|v| v["rv"] = 1_000_000_u64.into())).await.status();
    assert_eq!((code, reason.as_str()), (504, "Timeout"), "{message}");
    assert!(message.contains("Too large resource version"), "{message}");
    // Another place of the same list is only another place.
    let from = |start: &str| forged(&|v| v["start"] = start.into());
    assert_eq!(names(&wire.get(&from("zzz/a")).await.value()), Vec::<String>::new());
    assert_eq!(names(&wire.get(&from("a/a")).await.value()), names(&all)[..2]);
}

// "410 Gone responses" of the API concepts: the list may go on where it was, as things are now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_continue_token_that_is_too_old_comes_with_one_that_goes_on() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    // A map that each namespace has, sooner or later.
    c.until(&["get", "configmap", "kube-root-ca.crt"]).await;
    for i in 0..4 {
        wire.post(MAPS, map(&format!("m{i}"), &json!({}))).await;
    }
    let first = wire.get(&format!("{MAPS}?limit=2")).await.value();
    let token = first["metadata"]["continue"].as_str().unwrap();
    // More than the history keeps, so that nobody knows how things were.
    for i in 0..60 {
        let change = map("m0", &json!({"a": format!("{i}{}", "x".repeat(900 << 10))}));
        wire.ask("PUT", &format!("{MAPS}/m0"), "application/json", change).await;
    }
    let expired = wire.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let (code, reason, _) = expired.status();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    let again = expired.value()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = wire.get(&format!("{MAPS}?limit=9&continue={again}")).await.value();
    let names: Vec<&str> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|i| i["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["m1", "m2", "m3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_selectors_are_refused_or_answered_soon() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    // A map that each namespace has, sooner or later.
    c.until(&["get", "configmap", "kube-root-ca.crt"]).await;
    for i in 0..50 {
        wire.post(MAPS, map(&format!("m{i}"), &json!({}))).await;
    }
    for selector in ["labelSelector", "fieldSelector"] {
        let request = format!(
            "GET {MAPS}?{selector}=a%3D{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            "b".repeat(100 << 10)
        );
        let said = rest(&mut wire.send(&request).await).await.expect("an answer");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with("HTTP/1.1 414 "), "{said}");
    }
    let many: Vec<String> = (0..4000).map(|i| format!("k{i}%21%3Dv")).collect();
    let answer = wire.get(&format!("{MAPS}?labelSelector={}", many.join(","))).await;
    assert_eq!(answer.value()["items"].as_array().map(Vec::len), Some(51), "{}", answer.code);
    let values: Vec<String> = (0..8000).map(|i| format!("v{i}")).collect();
    let answer = wire.get(&format!("{MAPS}?labelSelector=k+in+({})", values.join(","))).await;
    assert_eq!(answer.value()["items"].as_array().map(Vec::len), Some(0), "{}", answer.code);
}

/// Limits that a test can wait for.
fn short() -> ClientLimits {
    let soon = Duration::from_millis(400);
    ClientLimits {
        handshake: soon,
        head: soon,
        body: soon,
        answer: soon,
        ..ClientLimits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_stop_half_way_are_closed_and_others_go_on() {
    let c = Cluster::limited(short()).await;
    let wire = Wire::of(&c);
    let closed = |what: &'static str, said: Option<Vec<u8>>| {
        let said = said.unwrap_or_else(|| panic!("{what}: still open"));
        String::from_utf8_lossy(&said).into_owned()
    };
    let mut tcp = wire.dial().await;
    assert_eq!(closed("no handshake", rest(&mut tcp).await), "");
    let mut tcp = wire.dial().await;
    tcp.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    closed("half a handshake", rest(&mut tcp).await);
    for protocol in ["http/1.1", "h2"] {
        let mut stream = wire.open(protocol).await;
        closed("no request", rest(&mut stream).await);
        let mut stream = wire.open(protocol).await;
        stream.write_all(b"PRI * HTTP").await.unwrap();
        closed("half a preface", rest(&mut stream).await);
    }
    let mut stream = wire.send("GET /version HTTP/1.1\r\nhost: a\r\nx-a: ").await;
    closed("half a head", rest(&mut stream).await);
    let mut stream = wire.send("GET /version HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let said = closed("no second request", rest(&mut stream).await);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{{"
    );
    let mut stream = wire.send(&head).await;
    let said = closed("half a body", rest(&mut stream).await);
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("it took too long"), "{said}");

    // Hundreds of them, and somebody asks.
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(wire.dial().await);
    }
    assert_eq!(wire.get(MAPS).await.code, 200);
    assert_eq!(wire.post(MAPS, map("m", &json!({}))).await.code, 201);
}

/// A watch of all maps as it is written on the wire.
fn watch(revision: &str) -> String {
    format!(
        "GET {MAPS}?watch=true&resourceVersion={revision} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
}

// "Efficient detection of changes" of the API concepts: who is too far behind is told 410.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_reads_nothing_is_told_that_it_is_too_old_once_it_reads_again() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    wire.post(MAPS, map("m", &json!({}))).await;
    let now =
        wire.get(MAPS).await.value()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut stalled = wire.send(&watch(&now)).await;
    let mut head = [0; 12];
    stalled.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // More than the history keeps.
    let sent = 60;
    for i in 0..sent {
        let change = map("m", &json!({"a": format!("{i:03}{}", "x".repeat(900 << 10))}));
        let answer = wire.ask("PUT", &format!("{MAPS}/m"), "application/json", change).await;
        assert_eq!(answer.code, 200);
    }
    let said = String::from_utf8(rest(&mut stalled).await.expect("it ends")).unwrap();
    let told = said.matches("\"type\":\"MODIFIED\"").count();
    assert!(told < sent, "{told} changes were kept for who did not read");
    assert!(said.contains("\"type\":\"ERROR\"") && said.contains("\"code\":410"), "{told} changes");
    assert!(said.contains("too old resource version"), "{told} changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_for_too_long_is_cut_off_and_others_go_on() {
    let c = Cluster::limited(ClientLimits {
        answer: Duration::from_millis(400),
        ..ClientLimits::default()
    })
    .await;
    let wire = Wire::of(&c);
    let mut watching = wire.send(&watch("0")).await;
    for i in 0..20 {
        let large = map(&format!("m{i}"), &json!({"a": "x".repeat(900 << 10)}));
        assert_eq!(wire.post(MAPS, large).await.code, 201);
    }
    let mut listing = wire.send(&format!("GET {MAPS} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    // Others are served meanwhile, and what the two have left is far from all.
    let until = tokio::time::Instant::now() + Duration::from_millis(1200);
    while tokio::time::Instant::now() < until {
        assert_eq!(wire.get(&format!("{MAPS}/m0")).await.code, 200);
    }
    for stream in [&mut watching, &mut listing] {
        let said = rest(stream).await.expect("it was cut off");
        assert!(said.len() < 18 * (900 << 10), "{} bytes came", said.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_watches_at_once_hear_of_a_change_and_others_are_answered() {
    const EACH: usize = 500;
    let c = Cluster::limited(ClientLimits { watches: 3_000, ..ClientLimits::default() }).await;
    let wire = Arc::new(Wire::of(&c));
    let path = |query: &str| {
        let uri = format!("https://127.0.0.1{MAPS}?watch=true&resourceVersion=0{query}");
        Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap()
    };
    let (heard, mut hears) = tokio::sync::mpsc::channel::<bool>(3_000);
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (wire, heard) = (Arc::clone(&wire), heard.clone());
        connections.spawn(async move {
            let sender = wire.many().await;
            let mut watches = tokio::task::JoinSet::new();
            for _ in 0..EACH {
                let (mut sender, heard) = (sender.clone(), heard.clone());
                let request = path("");
                watches.spawn(async move {
                    sender.ready().await.unwrap();
                    let answer = sender.send_request(request).await.unwrap();
                    assert_eq!(answer.status(), 200);
                    heard.send(false).await.unwrap();
                    let mut body = answer.into_body();
                    let mut said = Vec::new();
                    while let Some(Ok(frame)) = body.frame().await {
                        said.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
                        if said.windows(8).any(|w| w == b"\"storm\":") {
                            heard.send(true).await.unwrap();
                            break;
                        }
                    }
                    // Open until all have heard.
                    std::future::pending::<()>().await;
                    drop(body);
                });
            }
            watches.join_all().await;
        });
    }
    let mut all = async |change: bool| {
        let mut count = 0;
        while count < 6 * EACH {
            let next = tokio::time::timeout(PATIENCE, hears.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("{count} watches, change: {change}"));
            assert_eq!(next, Some(change));
            count += 1;
        }
    };
    all(false).await;
    // One more is told to come again, and everybody else is answered.
    let (code, reason, _) =
        wire.get(&format!("{MAPS}?watch=true&resourceVersion=0")).await.status();
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(wire.get(MAPS).await.code, 200);
    assert_eq!(wire.post(MAPS, map("m", &json!({"storm": "1"}))).await.code, 201);
    all(true).await;
    connections.abort_all();
}

// `--max-requests-inflight` and `--max-mutating-requests-inflight` of kube-apiserver.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_seat_is_told_to_come_again_and_reads_do_not_wait_for_writes() {
    let c = Cluster::limited(ClientLimits { writes: 2, ..ClientLimits::default() }).await;
    let wire = Wire::of(&c);
    let slow = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{{"
    );
    let held = (wire.send(&slow).await, wire.send(&slow).await);
    let refused = async {
        loop {
            let answer = wire.post(MAPS, map("m", &json!({}))).await;
            if answer.code == 429 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("the seats are taken");
    let (_, reason, message) = refused.status();
    assert_eq!(reason, "TooManyRequests");
    assert_eq!(message, "Too many requests, please try again later.");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(wire.get(MAPS).await.code, 200);
    drop(held);
    let again = async { while wire.post(MAPS, map("n", &json!({}))).await.code != 201 {} };
    tokio::time::timeout(PATIENCE, again).await.expect("the seats are free again");
}
