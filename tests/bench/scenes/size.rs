//! The file, and how long it takes to say its version.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tests::keadm::binary;

use super::{Group, MAIN, NOTHING_INSIDE};
use crate::client::ms;
use crate::page::{Figure, Unit};
use crate::site::edge_binary;

pub(super) const GROUP: Group =
    Group { name: "size", title: MAIN, figures, inside: NOTHING_INSIDE };

fn figures() -> Vec<Figure> {
    vec![
        Figure {
            what: "the binary, stripped",
            original: "270 MiB in three",
            unit: Unit::MiB,
            at_most: 30.0,
            values: vec![mib(&binary())],
            method: "size of the file that was measured",
        },
        Figure {
            what: "the binary of an edge alone, stripped",
            original: "",
            unit: Unit::MiB,
            at_most: 14.0,
            values: edge_binary().iter().map(|edge| mib(edge)).collect(),
            method: "profile `dist-edge`, `--no-default-features --features edge`",
        },
        Figure {
            what: "`keadm version`",
            original: "",
            unit: Unit::Millis,
            at_most: 10.0,
            values: (0..50).map(|_| version()).collect(),
            method: "from starting the process to its end",
        },
    ]
}

#[expect(clippy::cast_precision_loss, reason = "MiB")]
fn mib(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64 / 1_048_576.0
}

fn version() -> f64 {
    let from = Instant::now();
    let status = Command::new(binary()).arg("version").stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    ms(from)
}
