//! Devices: how fast a value gets up and down, and what many of them cost the edge.

use std::time::{Duration, Instant};

use api::crd::devices::{Device, DeviceModel, DeviceStatus};
use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use tests::host::{EDGE_ADDRESS, Host};
use tests::keadm::{Running, command, rss_kib};
use tokio::sync::mpsc;

use super::Group;
use crate::client::{Inside, WATCHING, ms};
use crate::page::{Figure, Unit};
use crate::site::{NODE, Site, pause};

pub(super) const GROUP: Group =
    Group { name: "devices", title: "Devices", figures, inside: INSIDE };

/// cloudcore writes the status of a device at most once a second.
const BETWEEN: Duration = Duration::from_millis(1300);
const MANY: usize = 1000;
/// Their reports.
const EACH_SECOND: f64 = 2000.0;

fn figures() -> Vec<Figure> {
    let settings =
        "modules.eventBus.mqttMode=0,modules.eventBus.mqttServerInternal=tcp://0.0.0.0:1884";
    let site = Site::with(GROUP.name, &["--set", settings]);
    let reported = site.scene(&["report", "20"]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mapper = Running::start(command(&site.pair.edge, ["mapper", "--simulate"]), log.path());
    let desired = site.scene(&["desired", "20"]);
    let (mut memory, mut cpu, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    site.seconds_until(&["load"], || {
        let pid = site.edgecore();
        pause(Duration::from_secs(5));
        for _ in 0..10 {
            let reports = updates(&site);
            let (from, before) = (Instant::now(), cpu_seconds(pid));
            pause(Duration::from_secs(1));
            let seconds = from.elapsed().as_secs_f64();
            cpu.push((cpu_seconds(pid) - before) / seconds);
            taken.push(EACH_SECOND * seconds / (updates(&site) - reports));
            #[expect(clippy::cast_precision_loss, reason = "MiB")]
            memory.push(rss_kib(pid) as f64 / 1024.0);
        }
    });
    drop((mapper, site));
    let written = written(&format!(
        "{settings},modules.edgeHub.messageQPS={MANY},modules.edgeHub.messageBurst={MANY}"
    ));
    let figure = |what, unit, at_most, values, method| Figure {
        what,
        original: "",
        unit,
        at_most,
        values,
        method,
    };
    vec![
        figure(
            "a value reported over MQTT to DeviceStatus",
            Unit::Millis,
            20.0,
            reported,
            "from the PUBLISH at edgecore's own broker to the watch event; one report each 1.3 s",
        ),
        figure(
            "a desired value to a mapper, and its report of it back in DeviceStatus",
            Unit::Millis,
            35.0,
            desired,
            "from the PATCH of the Device to the watch event; `keadm mapper --simulate` obeys at once",
        ),
        figure(
            "1,000 devices, each reporting twice a second: memory of edgecore",
            Unit::MiB,
            40.0,
            memory,
            "VmRSS, ten looks a second apart after five seconds of load; at the default messageQPS",
        ),
        figure(
            "the same: processor time of edgecore in a second",
            Unit::Seconds,
            1.0,
            cpu,
            "user and system time, ten times a second",
        ),
        figure(
            "the same: time in which it takes 2,000 reports",
            Unit::Seconds,
            1.05,
            taken,
            "from its counter devicetwin_updates_total, ten times; more than a second: it does not keep up",
        ),
        figure(
            "the same at a messageQPS of 1,000: DeviceStatuses written in a second",
            Unit::PerSecond,
            500.0,
            written,
            "from cloudcore's counter devicecontroller_writes_total, ten times; a device has one a second",
        ),
    ]
}

/// The DeviceStatuses that are written in a second, of an edge with these settings.
fn written(settings: &str) -> Vec<f64> {
    let site = Site::with(GROUP.name, &["--set", settings]);
    let so_far = || counter(&site.pair.cloud, 9091, "devicecontroller_writes_total");
    let mut written = Vec::new();
    site.seconds_until(&["load"], || {
        pause(Duration::from_secs(5));
        for _ in 0..10 {
            let (from, before) = (Instant::now(), so_far());
            pause(Duration::from_secs(1));
            written.push((so_far() - before) / from.elapsed().as_secs_f64());
        }
    });
    written
}

/// The reports that edgecore has taken so far.
fn updates(site: &Site) -> f64 {
    counter(&site.pair.edge, 9092, "devicetwin_updates_total")
}

/// A number at the `/metrics` of a program on a host.
fn counter(host: &Host, port: u16, name: &str) -> f64 {
    let ask = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; \
        printf 'GET /metrics HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3"
    );
    let out = host.command("bash").args(["-c", &ask]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

const INSIDE: Inside = |client, scene| {
    async move {
        match scene.name.as_str() {
            "report" => report(&client, scene.number(0)).await,
            "desired" => desired(&client, scene.number(0)).await,
            "load" => load(&client).await,
            other => panic!("no scene `{other}`"),
        }
    }
    .boxed_local()
};

/// A client of edgecore's own broker, and what it hears.
fn broker() -> (AsyncClient, mpsc::UnboundedReceiver<(String, Value)>) {
    let mut options = MqttOptions::new("bench", EDGE_ADDRESS, 1884);
    options.set_max_packet_size(2 << 20, 2 << 20);
    let (client, mut events) = AsyncClient::new(options, 4096);
    let (hear, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(p)) = event {
                let _ = hear.send((p.topic, serde_json::from_slice(&p.payload).unwrap()));
            }
        }
    });
    (client, heard)
}

async fn create(client: &Client, name: &str, protocol: &str) {
    let device = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
        "metadata": {"name": name}, "spec": {"nodeName": NODE,
            "deviceModelRef": {"name": protocol}, "protocol": {"protocolName": protocol},
            "properties": [{"name": "n", "reportCycle": 3_600_000, "reportToCloud": true,
                "desired": {"value": "0"}, "visitors": {"protocolName": protocol,
                    "configData": {"simulate": "obey"}}}]}});
    let devices: Api<Device> = Api::default_namespaced(client.clone());
    let device = serde_json::from_value(device).unwrap();
    devices.create(&PostParams::default(), &device).await.unwrap();
}

/// Makes the model of a protocol, if there is none yet.
async fn model(client: &Client, protocol: &str) {
    let model = json!({"metadata": {"name": protocol}, "spec": {"protocol": protocol,
        "properties": [{"name": "n", "type": "INT", "accessMode": "ReadWrite"}]}});
    let models: Api<DeviceModel> = Api::default_namespaced(client.clone());
    let model = serde_json::from_value(model).unwrap();
    match models.create(&PostParams::default(), &model).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        made => drop(made.unwrap()),
    }
}

/// Watches the status of one device; gives each reported value.
async fn statuses(client: &Client, name: &str) -> mpsc::UnboundedReceiver<String> {
    let api: Api<DeviceStatus> = Api::default_namespaced(client.clone());
    let field = format!("metadata.name={name}");
    let stream = api.watch(&WatchParams::default().fields(&field), "0").await.unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut stream = stream.boxed();
        while let Ok(Some(event)) = stream.try_next().await {
            let (WatchEvent::Added(status) | WatchEvent::Modified(status)) = event else {
                continue;
            };
            let twins = status.status.map(|s| s.twins).unwrap_or_default();
            for reported in twins.into_iter().filter_map(|t| t.reported) {
                let _ = tell.send(reported.value);
            }
        }
    });
    told
}

async fn until(told: &mut mpsc::UnboundedReceiver<String>, value: &str) {
    let wait = async { while told.recv().await.expect("the watch goes on") != value {} };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the value arrives");
}

fn reports(value: usize) -> String {
    json!({"event_id": "", "timestamp": 0, "twin": {"n": {"actual": {"value": value.to_string()}}}})
        .to_string()
}

fn topic(name: &str) -> String {
    format!("$hw/events/device/default/{name}/twin/update")
}

async fn report(client: &Client, n: usize) -> Vec<f64> {
    model(client, "mqtt").await;
    create(client, "reporter", "mqtt").await;
    let (mqtt, mut heard) = broker();
    mqtt.subscribe(format!("{}/result", topic("reporter")), QoS::AtMostOnce).await.unwrap();
    let mut told = statuses(client, "reporter").await;
    // Until the edge has the device.
    loop {
        mqtt.publish(topic("reporter"), QoS::AtMostOnce, false, reports(0)).await.unwrap();
        match tokio::time::timeout(Duration::from_millis(200), heard.recv()).await {
            Ok(Some((_, result))) if result.get("code").is_none() => break,
            _ => {}
        }
    }
    until(&mut told, "0").await;
    let mut times = Vec::new();
    for value in 1..=n {
        tokio::time::sleep(BETWEEN).await;
        let from = Instant::now();
        mqtt.publish(topic("reporter"), QoS::AtMostOnce, false, reports(value)).await.unwrap();
        until(&mut told, &value.to_string()).await;
        times.push(ms(from));
    }
    times
}

async fn desired(client: &Client, n: usize) -> Vec<f64> {
    model(client, "simulated").await;
    create(client, "switch", "simulated").await;
    let mut told = statuses(client, "switch").await;
    until(&mut told, "0").await;
    let devices: Api<Device> = Api::default_namespaced(client.clone());
    let mut times = Vec::new();
    for value in 1..=n {
        tokio::time::sleep(BETWEEN).await;
        let path = "/spec/properties/0/desired/value";
        let patch = json!([{"op": "replace", "path": path, "value": value.to_string()}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
        let from = Instant::now();
        devices.patch("switch", &PatchParams::default(), &patch).await.unwrap();
        until(&mut told, &value.to_string()).await;
        times.push(ms(from));
    }
    times
}

/// Many devices; prints that they report, and goes on reporting for as long as it is looked at.
async fn load(client: &Client) -> Vec<f64> {
    model(client, "mqtt").await;
    for n in 0..MANY {
        create(client, &format!("many-{n}"), "mqtt").await;
    }
    let (mqtt, mut heard) = broker();
    let members = format!("$hw/events/node/{NODE}/membership/get");
    mqtt.subscribe(format!("{members}/result"), QoS::AtMostOnce).await.unwrap();
    loop {
        mqtt.publish(&members, QoS::AtMostOnce, false, "{}").await.unwrap();
        let list = heard.recv().await.expect("the broker goes on");
        if list.1["devices"].as_array().is_some_and(|d| d.len() >= MANY) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("{WATCHING}");
    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let mut at = 0;
    while begun.elapsed() < Duration::from_secs(20) {
        tick.tick().await;
        // A hundred each 50 ms are two thousand a second.
        for _ in 0..100 {
            let name = format!("many-{}", at % MANY);
            mqtt.publish(topic(&name), QoS::AtMostOnce, false, reports(at)).await.unwrap();
            at += 1;
        }
    }
    vec![begun.elapsed().as_secs_f64()]
}
