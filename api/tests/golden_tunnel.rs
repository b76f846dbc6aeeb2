//! The tunnel frames of the reference implementation, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::tunnel::{ConnectRequest, Frame, FrameError, FrameKind, MAX_DATA};
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    name: String,
    connect_id: Option<u64>,
    message_type: Option<u64>,
    accepted_type: Option<u64>,
    frame_hex: Option<String>,
    frame_len: Option<usize>,
    data_len: Option<usize>,
    error: Option<String>,
}

fn rows() -> Vec<Row> {
    let rows: Vec<Row> = include_str!("vectors/tunnel-frames.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 15, "no row may get lost");
    rows
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn every_frame_is_read_and_written_as_the_original_does() {
    let mut seen = 0;
    for row in rows() {
        let (None, Some(hex)) = (&row.error, &row.frame_hex) else { continue };
        let bytes = unhex(hex);
        let frame = Frame::decode(bytes.clone().into()).unwrap();
        let kind = row.message_type.or(row.accepted_type).unwrap();
        assert_eq!(frame.kind, FrameKind::from(kind), "{}", row.name);
        if let Some(id) = row.connect_id {
            assert_eq!(
                (frame.connect_id, Some(frame.data.len())),
                (id, row.data_len),
                "{}",
                row.name
            );
        }
        assert_eq!(frame.encode().unwrap(), bytes, "{}", row.name);
        seen += 1;
    }
    assert_eq!(seen, 11);
}

#[test]
fn each_malformed_frame_has_its_own_error() {
    for row in rows() {
        if row.error.is_none() {
            continue;
        }
        let wanted = match row.name.as_str() {
            "malformed-empty" => FrameError::Empty,
            "malformed-only-id" => FrameError::TypeCutShort,
            "malformed-varint-overflow" => FrameError::Overflow,
            other => panic!("a row without an expectation: {other}"),
        };
        let bytes = unhex(&row.frame_hex.unwrap());
        assert_eq!(Frame::decode(bytes.into()), Err(wanted), "{}", row.name);
    }
}

/// The original cuts silently; a log with a piece missing is worse than a connection that ends.
#[test]
fn what_the_original_would_cut_is_refused() {
    let row = rows().into_iter().find(|row| row.name == "data-over-1MiB").unwrap();
    let len = row.data_len.unwrap();
    assert!(len > MAX_DATA);
    let mut bytes = vec![1, 3];
    bytes.resize(row.frame_len.unwrap(), 0);
    assert_eq!(Frame::decode(bytes.into()), Err(FrameError::TooLarge { len }));
}

#[test]
fn every_connect_request_is_read_and_written_as_the_original_does() {
    let mut seen = Vec::new();
    for row in rows().into_iter().filter(|row| row.name.ends_with("-connect")) {
        let Some(hex) = &row.frame_hex else { continue };
        let frame = Frame::decode(unhex(hex).into()).unwrap();
        let Ok(request) = ConnectRequest::decode(&frame) else { continue };
        assert_eq!(request.encode(frame.kind).unwrap(), frame, "{}", row.name);
        seen.push(format!("{} {}", request.method, request.path_and_query().unwrap()));
    }
    assert_eq!(
        seen,
        [
            " /containerLogs/default/web-0/c?follow=true&tailLines=10",
            "POST /exec/default/web-0/c?command=sh&input=1&output=1&tty=1",
            "POST /exec/default/web-0/c?command=sh&input=1&output=1&tty=1",
            " /stats/summary?only_cpu_and_memory=true",
        ]
    );
}
