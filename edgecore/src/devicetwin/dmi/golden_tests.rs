//! Each call of DMI against golden bytes: `golden/dmi.jsonl`, written from the published table of
//! fields and not by our code. Every field is set. A text says the name of its field, a value that of
//! the message around it, a number its number.

use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::*;

struct Row {
    call: String,
    request: Vec<u8>,
    response: Vec<u8>,
}

fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    hex.as_bytes().chunks(2).map(|pair| byte(pair).unwrap()).collect()
}

fn golden() -> Vec<Row> {
    let bytes = |row: &Value, key: &str| from_hex(row[key].as_str().unwrap());
    include_str!("../golden/dmi.jsonl")
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let call = row["call"].as_str().unwrap().to_owned();
            Row { call, request: bytes(&row, "request"), response: bytes(&row, "response") }
        })
        .collect()
}

fn plain(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

/// Reads a message, looks that each field stands where it should, and writes it again.
fn holds<T: Message + Default + std::fmt::Debug>(what: &str, bytes: &[u8]) {
    let message = T::decode(bytes).unwrap();
    assert_eq!(message.encode_to_vec(), bytes, "{what}: written again");
    let shown = format!("{message:?}").replace("Some(", "").replace("TwinProperty { value", "");
    let mut fields = 0;
    for part in shown.split(", ").flat_map(|p| p.split("{ ")) {
        let Some((field, value)) = part.split_once(": ") else { continue };
        let value = value.trim_end_matches([' ', ')', '}', ']']);
        // The name of a value's own field is out of the way: that of the property remains.
        let (field, value) = match value.strip_prefix(": ") {
            Some(value) => (field, value),
            None => (field, value),
        };
        if let Some(text) = value.trim_start_matches('[').strip_prefix('"')
            && field != "type_url"
        {
            let (field, text) = (field.trim_start_matches("r#"), text.trim_end_matches('"'));
            assert_eq!(plain(field), plain(text), "{what}: {shown}");
            fields += 1;
        }
        let number = match field {
            "port" | "db" => Some("2"),
            "poolsize" | "qos" => Some("3"),
            "timeout" | "min_idle_conns" => Some("4"),
            "collect_cycle" => Some("5"),
            _ => None,
        };
        if let Some(number) = number {
            assert_eq!(value, number, "{what}: {field} in {shown}");
        }
    }
    assert!(fields > 0 || bytes.len() < 3, "{what}: no field was looked at in {shown}");
}

#[test]
fn each_call_has_the_bytes_of_the_published_interface() {
    let rows = golden();
    assert_eq!(rows.len(), 10);
    for Row { call, request, response } in rows {
        let name = call.rsplit('/').next().unwrap();
        macro_rules! both {
            ($request:ident, $response:ident) => {{
                holds::<pb::$request>(&format!("{call} request"), &request);
                holds::<pb::$response>(&format!("{call} response"), &response);
            }};
        }
        match name {
            "MapperRegister" => both!(MapperRegisterRequest, MapperRegisterResponse),
            "ReportDeviceStatus" => both!(ReportDeviceStatusRequest, ReportDeviceStatusResponse),
            "ReportDeviceStates" => both!(ReportDeviceStatesRequest, ReportDeviceStatesResponse),
            "RegisterDevice" => both!(RegisterDeviceRequest, RegisterDeviceResponse),
            "RemoveDevice" => both!(RemoveDeviceRequest, RemoveDeviceResponse),
            "UpdateDevice" => both!(UpdateDeviceRequest, UpdateDeviceResponse),
            "CreateDeviceModel" => both!(CreateDeviceModelRequest, CreateDeviceModelResponse),
            "RemoveDeviceModel" => both!(RemoveDeviceModelRequest, RemoveDeviceModelResponse),
            "UpdateDeviceModel" => both!(UpdateDeviceModelRequest, UpdateDeviceModelResponse),
            "GetDevice" => both!(GetDeviceRequest, GetDeviceResponse),
            other => panic!("no call `{other}`"),
        }
    }
}

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn channel(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://dmi").connect_with_connector(connector).await.unwrap()
}

#[tokio::test]
async fn each_call_is_served_under_its_published_name() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path());
    let socket = dir.path().join("mapper.sock");
    let mut fake = mapper(&socket);
    let (manager, own) = (channel(&dir.path().join("dmi.sock")).await, channel(&socket).await);
    for Row { call, request, .. } in golden() {
        let ours = call.contains("DeviceManagerService");
        let mut grpc = tonic::client::Grpc::new(if ours { manager.clone() } else { own.clone() });
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_str(&call).unwrap();
        let answer = grpc.unary(Request::new(Bytes::from(request)), path, Raw).await;
        let (code, why) = match &answer {
            Ok(_) => (Code::Ok, ""),
            Err(status) => (status.code(), status.message()),
        };
        // What the golden data says makes no sense to edgecore, but it is understood.
        let expected = match call.rsplit('/').next().unwrap() {
            "MapperRegister" => (Code::InvalidArgument, "mapper `name`"),
            "ReportDeviceStatus" | "ReportDeviceStates" => {
                (Code::FailedPrecondition, "MapperRegister first")
            }
            "UpdateDeviceModel" | "GetDevice" => (Code::Unimplemented, "not needed"),
            _ => (Code::Ok, ""),
        };
        assert!(code == expected.0 && why.contains(expected.1), "{call}: {code:?} {why}");
    }
    let told = fake.told(5).await;
    assert_eq!(
        told,
        [
            "register name=desired",
            "remove deviceName",
            "update name=desired",
            "model name",
            "remove model modelName"
        ]
    );
    fake.die();
    edge.stop().await;
}

/// From the first byte on what a mapper in Go sends that has dialled `/etc/kubeedge/dmi.sock`, an empty
/// MapperRegister: preface, settings, the request (`:authority` is `%2Fetc%2Fkubeedge%2Fdmi.sock`).
const GO: &str = "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a000000040000000000\
    000000040100000000000070010400000001838645a063b8632a4615ef97b9885d03a87316cdc5b3b98856340ebacb66\
    d2cc6424b67f419454584a922a2c3d6d8ca59262aa2c325265d072755f8b1d75d0620d263d4c4d65647a8a9acac8b4c7\
    602bb8eae140027465864d833505b11f40899acac8b24d494f6a7f867df7db69fb7f0000050001000000010000000000";

#[tokio::test]
async fn a_mapper_that_names_the_path_of_the_socket_as_its_host_is_answered() {
    const HEADERS: u8 = 1;
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path());
    let mut socket = UnixStream::connect(dir.path().join("dmi.sock")).await.unwrap();
    socket.write_all(&from_hex(GO)).await.unwrap();
    let (kind, body) = loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, _, stream @ ..] = head;
        let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        socket.read_exact(&mut body).await.unwrap();
        if u32::from_be_bytes(stream) == 1 {
            break (kind, body);
        }
    };
    assert_eq!(kind, HEADERS, "the stream ends with {body:?}");
    // It went all the way: a mapper without a name is refused.
    assert_eq!(edge.devices.counters.refusals(), 1);
    drop(socket);
    edge.stop().await;
}
