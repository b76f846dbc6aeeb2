//! The event bus with real sockets: clients of the built-in broker, and mosquitto as the external one.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::config::edgecore::EdgeCoreConfig;
use api::config::{ConfigFile, Host};
use api::crd::devices::DeviceSpec;
use api::raw::RawJson;
use api::wire::downstream::RuleTarget;
use api::wire::upstream::Upstream;
use futures::{SinkExt, StreamExt};
use rumqttc::mqttbytes::v4::{
    Codec, Connect, Packet, PubComp, PubRec, PubRel, Publish, Subscribe, SubscribeReasonCode,
};
use serde_json::{Value, json};
use service::CancellationToken;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::*;
use crate::devicetwin::{DeviceTwin, FromCloud};
use crate::edgehub::link::LinkState;
use crate::metamanager::apply::DeviceChange;

const PATIENCE: Duration = Duration::from_secs(30);

struct Edge {
    svc: Service,
    address: Option<SocketAddr>,
    devices: devicetwin::Handle,
    rules: Rules,
    to_cloud: ToCloud,
    store_ended: CancellationToken,
    _link: watch::Sender<LinkState>,
}

/// The device twin and the event bus, as `app.rs` puts them together.
async fn edge(folder: &Path, mode: u8, external: u16) -> Edge {
    edge_with(folder, settings(mode, external)).await
}

fn settings(mode: u8, external: u16) -> config::EventBus {
    let mut settings = EdgeCoreConfig::default_for(&Host::default()).modules.event_bus;
    settings.mqtt_mode = mode;
    settings.mqtt_server_internal = "tcp://127.0.0.1:1".to_owned();
    settings.mqtt_server_external = format!("tcp://127.0.0.1:{external}");
    settings
}

async fn edge_with(folder: &Path, mut settings: config::EventBus) -> Edge {
    if settings.mqtt_mode <= 1 {
        // Port 0 is refused in a configuration; a free one is found so.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        settings.mqtt_server_internal = format!("tcp://{free}");
    }
    let store = Store::open(&folder.join("edgecore.db")).unwrap();
    let to_cloud = ToCloud::new(store.clone(), Arc::new(Notify::new()));
    to_cloud.link_up();
    let mut svc = Service::new("test");
    let bus = EventBus::bind(&settings).await.unwrap();
    let (node, publish) = ("edge-1".parse().unwrap(), bus.publications());
    let (twin, devices) = DeviceTwin::new(node, store.clone(), to_cloud.clone(), Some(publish));
    let (link_sender, link) = watch::channel(LinkState::default());
    svc.spawn("devicetwin", Policy::StopAll, twin.run(link, svc.stopping()));
    let (address, rules, store_ended) = (bus.address(), bus.rules(), store.ended());
    bus.spawn(&mut svc, store, Some(devices.clone()), to_cloud.clone());
    Edge { svc, address, devices, rules, to_cloud, store_ended, _link: link_sender }
}

impl Edge {
    async fn device(&self, name: &str, desired: &str) {
        let spec: DeviceSpec = serde_json::from_value(json!({"nodeName": "edge-1",
            "properties": [{"name": "t", "desired": {"value": desired}}]}))
        .unwrap();
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        let key = format!("default/device/{name}").parse().unwrap();
        let object = Some(RawJson::of(&object).unwrap());
        self.devices.cloud(FromCloud::Object(DeviceChange { key, object })).await;
    }

    async fn rule(&self, operation: &str, resource: &str, content: &str) {
        let command = RuleCommand {
            target: RuleTarget::EventBus,
            operation: operation.into(),
            resource: resource.into(),
            parent: None,
            content: RawJson::string(content),
        };
        self.rules.command(command).await;
    }

    /// The next message to the cloud that is not the question for devices.
    async fn told(&self) -> Upstream {
        let until = Instant::now() + PATIENCE;
        loop {
            let next = self.to_cloud.outbox().next_spare(Instant::now());
            match next {
                Some((_, Upstream::MembershipDetail(_))) => {}
                Some((id, message)) => {
                    self.to_cloud.device_confirmed(&id);
                    return message;
                }
                None => {
                    assert!(Instant::now() < until, "the cloud is told nothing");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    async fn stop(self) {
        self.svc.stopping().cancel();
        self.svc.until_stopped().await.unwrap();
        drop(self.to_cloud);
        // The file is closed before another edge opens it.
        self.store_ended.cancelled().await;
    }
}

struct Client(Framed<TcpStream, Codec>);

impl Client {
    async fn connect(to: SocketAddr, name: &str, clean: bool) -> (Self, bool) {
        let mut connect = Connect::new(name);
        connect.clean_session = clean;
        Self::connect_with(to, connect).await
    }

    async fn connect_with(to: SocketAddr, connect: Connect) -> (Self, bool) {
        let mut client = Self::raw(to).await;
        client.send(Packet::Connect(connect)).await;
        let Some(Packet::ConnAck(ack)) = client.next().await else { panic!("no CONNACK") };
        (client, ack.session_present)
    }

    async fn raw(to: SocketAddr) -> Self {
        Self(Framed::new(TcpStream::connect(to).await.unwrap(), broker::codec()))
    }

    async fn send(&mut self, packet: Packet) {
        self.0.send(packet).await.unwrap();
    }

    async fn next(&mut self) -> Option<Packet> {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("nothing came");
        next.and_then(Result::ok)
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) -> SubscribeReasonCode {
        let mut packet = Subscribe::new(filter, qos);
        packet.pkid = 1;
        self.send(Packet::Subscribe(packet)).await;
        loop {
            if let Some(Packet::SubAck(ack)) = self.next().await {
                return ack.return_codes[0];
            }
        }
    }

    async fn publish(&mut self, topic: &str, payload: &str) {
        self.send(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, payload))).await;
    }

    async fn message(&mut self) -> (String, Value) {
        loop {
            match self.next().await {
                Some(Packet::Publish(p)) => {
                    let text = String::from_utf8(p.payload.to_vec()).unwrap();
                    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    return (p.topic, value);
                }
                Some(_) => {}
                None => panic!("the broker closed the connection"),
            }
        }
    }
}

const UPDATE: &str = "$hw/events/device/default/a/twin/update";

#[tokio::test]
async fn a_device_reports_over_the_built_in_broker_and_is_answered_and_the_cloud_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path(), 0, 1).await;
    let (mut client, _) = Client::connect(edge.address.unwrap(), "device", true).await;
    let granted = client.subscribe(&format!("{UPDATE}/+"), QoS::AtMostOnce).await;
    assert_eq!(granted, SubscribeReasonCode::Success(QoS::AtMostOnce));
    edge.device("a", "20").await;
    let (topic, _) = client.message().await;
    assert_eq!(topic, format!("{UPDATE}/document"), "a desired value reaches a device by MQTT");
    let (topic, delta) = client.message().await;
    assert_eq!((topic, &delta["delta"]), (format!("{UPDATE}/delta"), &json!({"t": "20"})));
    client.publish(UPDATE, r#"{"event_id":"e","twin":{"t":{"actual":{"value":"20"}}}}"#).await;
    let (topic, result) = client.message().await;
    assert_eq!((topic, &result["event_id"]), (format!("{UPDATE}/result"), &json!("e")));
    let Upstream::DeviceTwin { name, content, .. } = edge.told().await else { panic!() };
    assert_eq!(&*name, "a");
    assert!(content.get().contains(r#""value":"20""#), "{}", content.get());
    edge.stop().await;
}

#[tokio::test]
async fn other_topics_go_to_the_cloud_and_rules_bring_topics_and_messages() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path(), 0, 1).await;
    let (mut client, _) = Client::connect(edge.address.unwrap(), "app", true).await;
    client.subscribe("from/cloud", QoS::AtMostOnce).await;
    edge.rule("publish", "from/cloud", "hello").await;
    assert_eq!(client.message().await, ("from/cloud".into(), json!("hello")));
    edge.rule("subscribe", "default/readings", "").await;
    edge.rule("subscribe", "default/#", "").await;
    edge.rule("publish", "from/cloud", "again").await;
    client.message().await;
    client.publish("default/other", "no rule wants it").await;
    client.publish("default/readings", "21").await;
    client.publish("anybody/user/x", "22").await;
    for expected in [("default/readings", "21"), ("anybody/user/x", "22")] {
        let Upstream::Upload { resource, content, .. } = edge.told().await else { panic!() };
        assert_eq!((&*resource, &*content.text()), expected);
    }
    edge.stop().await;
    // The topic of the rule is kept.
    let edge = self::edge(dir.path(), 0, 1).await;
    let (mut client, _) = Client::connect(edge.address.unwrap(), "app", true).await;
    edge.rule("unsubscribe", "default/none", "").await;
    client.subscribe("sync", QoS::AtMostOnce).await;
    edge.rule("publish", "sync", "").await;
    client.message().await;
    client.publish("default/readings", "23").await;
    let Upstream::Upload { content, .. } = edge.told().await else { panic!() };
    assert_eq!(&*content.text(), "23");
    edge.stop().await;
}

#[tokio::test]
async fn qos_2_brings_a_message_exactly_once_and_a_session_survives_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path(), 0, 1).await;
    let to = edge.address.unwrap();
    let (mut hears, _) = Client::connect(to, "hears", false).await;
    hears.subscribe("q", QoS::ExactlyOnce).await;
    let (mut speaks, _) = Client::connect(to, "speaks", true).await;
    let mut publish = Publish::new("q", QoS::ExactlyOnce, "once");
    publish.pkid = 9;
    for dup in [false, true] {
        publish.dup = dup;
        speaks.send(Packet::Publish(publish.clone())).await;
        assert_eq!(speaks.next().await, Some(Packet::PubRec(PubRec { pkid: 9 })));
    }
    speaks.send(Packet::PubRel(PubRel { pkid: 9 })).await;
    assert_eq!(speaks.next().await, Some(Packet::PubComp(PubComp { pkid: 9 })));
    let Some(Packet::Publish(got)) = hears.next().await else { panic!() };
    assert_eq!((got.qos, got.dup), (QoS::ExactlyOnce, false));
    drop(hears);
    // Nothing was acknowledged: it comes again, to the session's next connection.
    let (mut hears, present) = Client::connect(to, "hears", false).await;
    assert!(present);
    let Some(Packet::Publish(again)) = hears.next().await else { panic!() };
    assert_eq!((again.pkid, again.dup), (got.pkid, true));
    hears.send(Packet::PubRec(PubRec { pkid: again.pkid })).await;
    assert_eq!(hears.next().await, Some(Packet::PubRel(PubRel { pkid: again.pkid })));
    hears.send(Packet::PubComp(PubComp { pkid: again.pkid })).await;
    hears.send(Packet::PingReq).await;
    assert_eq!(hears.next().await, Some(Packet::PingResp), "it came once and no more");
    edge.stop().await;
}

#[tokio::test]
async fn who_breaks_the_protocol_is_cut_off_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path(), 0, 1).await;
    let to = edge.address.unwrap();
    let (mut good, _) = Client::connect(to, "good", true).await;
    for packet in [
        Packet::PingReq,
        Packet::Publish(Publish::new("t", QoS::AtMostOnce, "")),
        Packet::Connect(Connect { clean_session: false, ..Connect::new("") }),
        Packet::Connect(Connect {
            protocol: rumqttc::mqttbytes::Protocol::V5,
            ..Connect::new("x")
        }),
    ] {
        let mut bad = Client::raw(to).await;
        bad.send(packet.clone()).await;
        match bad.next().await {
            Some(Packet::ConnAck(ack)) => assert_ne!(ack.code as u8, 0, "{packet:?}"),
            other => assert_eq!(other, None, "{packet:?}"),
        }
    }
    for topic in ["a/+", "a/#", ""] {
        let (mut bad, _) = Client::connect(to, "bad", true).await;
        bad.publish(topic, "x").await;
        assert_eq!(bad.next().await, None, "{topic}");
    }
    let (mut odd, _) = Client::connect(to, "odd", true).await;
    assert_eq!(odd.subscribe("a/#/b", QoS::AtMostOnce).await, SubscribeReasonCode::Failure);
    // A length that would be gigabytes is not waited for.
    let mut huge = TcpStream::connect(to).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut huge, &[0x10, 0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut huge, &mut answer);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    good.send(Packet::PingReq).await;
    assert_eq!(good.next().await, Some(Packet::PingResp));
    edge.stop().await;
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// mosquitto on a port of this machine, if it is installed.
struct Mosquitto {
    process: Child,
    port: u16,
}

impl Mosquitto {
    fn start(folder: &Path, more: &str) -> Option<Self> {
        let port = free_port();
        let config = folder.join(format!("mosquitto-{port}.conf"));
        let text = format!("listener {port} 127.0.0.1\nuser root\n{more}\n");
        std::fs::write(&config, text).unwrap();
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        let Some(program) = program else {
            // Written past the test runner, which keeps what a test that passes prints.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: mosquitto is not installed, so there is no external broker to test with"
            );
            return None;
        };
        let process = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, port })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    async fn until_up(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).await.is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Publishes until the twin has heard: nobody says when the subscription stands.
async fn report_until_told(edge: &Edge, client: &mut Client, value: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let payload = format!(r#"{{"twin":{{"t":{{"actual":{{"value":"{value}"}}}}}}}}"#);
        client.publish(UPDATE, &payload).await;
        let next = edge.to_cloud.outbox().next_spare(Instant::now());
        if let Some((id, Upstream::DeviceTwin { content, .. })) = next {
            edge.to_cloud.device_confirmed(&id);
            if content.get().contains(&format!("\"value\":\"{value}\"")) {
                return;
            }
        }
        assert!(Instant::now() < until, "the report does not arrive");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_external_broker_is_used_found_again_after_it_was_away_and_both_brokers_work_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(first) = Mosquitto::start(dir.path(), "allow_anonymous true") else { return };
    first.until_up().await;
    let edge = edge(dir.path(), 1, first.port).await;
    edge.device("a", "20").await;
    let (mut client, _) = Client::connect(first.address(), "device", true).await;
    client.subscribe(&format!("{UPDATE}/result"), QoS::AtLeastOnce).await;
    report_until_told(&edge, &mut client, "21").await;
    assert_eq!(client.message().await.0, format!("{UPDATE}/result"));
    let (mut inside, _) = Client::connect(edge.address.unwrap(), "inside", true).await;
    report_until_told(&edge, &mut inside, "22").await;
    let port = first.port;
    drop(first);
    let config = dir.path().join(format!("mosquitto-{port}.conf"));
    let again = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let again = Mosquitto { process: again, port };
    again.until_up().await;
    let (mut client, _) = Client::connect(again.address(), "device", true).await;
    report_until_told(&edge, &mut client, "23").await;
    edge.stop().await;
}

/// A CA and what it has signed, in files: `ca.crt`, `broker.crt`, `edge.crt`, and their keys.
fn certificates(folder: &Path) {
    let named = |name: &str, host: &[&str]| {
        let hosts: Vec<String> = host.iter().map(|h| (*h).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = named("ca", &[]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(folder.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    let ca = rcgen::Issuer::new(params, key);
    for (name, host) in [("broker", "127.0.0.1"), ("edge", "edge-1")] {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = named(name, &[host]).signed_by(&key, &ca).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn an_external_broker_is_reached_by_tls_with_a_certificate_and_a_password() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    certificates(dir.path());
    let passwords = file("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", passwords.to_str().unwrap(), "edge", "pa ss"])
        .status();
    // Devices come by a listener without TLS, the edge by one that asks for a certificate too.
    let (devices, of_ca) = (free_port(), free_port());
    let more = format!(
        "cafile {ca}\ncertfile {crt}\nkeyfile {key}\nrequire_certificate true\n\
         listener {of_ca} 127.0.0.1\ncafile {ca}\ncertfile {crt}\nkeyfile {key}\n\
         listener {devices} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}",
        ca = file("ca.crt").display(),
        crt = file("broker.crt").display(),
        key = file("broker.key").display(),
        passwords = passwords.display(),
    );
    let Some(broker) = Mosquitto::start(dir.path(), &more) else { return };
    assert!(made.unwrap().success(), "mosquitto_passwd");
    broker.until_up().await;

    let mut settings = settings(2, broker.port);
    settings.mqtt_server_external = format!("ssl://127.0.0.1:{}", broker.port);
    (settings.mqtt_username, settings.mqtt_password) = ("edge".into(), "pa ss".to_owned().into());
    settings.tls.enable = true;
    settings.tls.tls_mqtt_ca_file = file("ca.crt");
    settings.tls.tls_mqtt_cert_file = file("edge.crt");
    settings.tls.tls_mqtt_private_key_file = file("edge.key");
    let external = External {
        host: "127.0.0.1".into(),
        port: broker.port,
        username: "edge".into(),
        password: "pa ss".to_owned().into(),
        tls: Some(settings.tls.clone()),
    };
    let edge = edge_with(dir.path(), settings).await;
    edge.device("a", "20").await;
    let mut login = Connect::new("device");
    login.set_login("edge", "pa ss");
    let (mut client, _) = Client::connect_with(([127, 0, 0, 1], devices).into(), login).await;
    client.subscribe(&format!("{UPDATE}/result"), QoS::AtLeastOnce).await;
    report_until_told(&edge, &mut client, "21").await;
    assert_eq!(client.message().await.0, format!("{UPDATE}/result"));
    edge.stop().await;

    let why = async |external: &External| match external.dial("other").await {
        Ok(_) => "connected".to_owned(),
        Err(why) => service::error_chain(&why),
    };
    let without = |mut external: External| {
        let tls = external.tls.as_mut().unwrap();
        tls.tls_mqtt_cert_file.clear();
        tls.tls_mqtt_private_key_file.clear();
        external
    };
    let wrong = External { password: "no".to_owned().into(), ..external.clone() };
    let refused = why(&wrong).await;
    assert!(refused.contains("not authorized") || refused.contains("password"), "{refused}");
    assert_ne!(why(&without(external.clone())).await, "connected", "it asks for a certificate");
    let password_only = without(External { port: of_ca, ..external.clone() });
    assert_eq!(why(&password_only).await, "connected");
    let mut stranger = external.clone();
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    stranger.tls.as_mut().unwrap().tls_mqtt_ca_file = other.path().join("ca.crt");
    let refused = why(&stranger).await;
    assert!(refused.contains("certificate"), "{refused}");
}
