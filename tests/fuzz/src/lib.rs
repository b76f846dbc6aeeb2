//! The seeds of the fuzz targets: the golden data of `api/tests/vectors`.
//!
//! Each target calls [`seed`] before libFuzzer reads its corpus.

use std::path::Path;
use std::{env, fs};

/// Writes each seed into the folder that `FUZZ_SEEDS` names; does nothing without it.
pub fn seed(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(folder) = env::var_os("FUZZ_SEEDS") else { return };
    for (i, seed) in seeds.into_iter().enumerate() {
        let path = Path::new(&folder).join(format!("seed-{i}"));
        fs::write(&path, seed).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }
}

/// The rows of a file of golden data.
pub fn rows(jsonl: &str) -> impl Iterator<Item = serde_json::Value> + '_ {
    jsonl.lines().map(|line| serde_json::from_str(line).expect("golden data is JSON"))
}

/// Bytes in hexadecimal under `key` of each row that has them.
pub fn hex_column<'a>(jsonl: &'a str, key: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
    rows(jsonl).filter_map(move |row| {
        let hex = row[key].as_str()?;
        let pairs = hex.as_bytes().chunks_exact(2);
        Some(
            pairs
                .map(|pair| {
                    u8::from_str_radix(str::from_utf8(pair).unwrap_or("00"), 16).unwrap_or(0)
                })
                .collect(),
        )
    })
}

/// The golden messages.
pub const MESSAGES: &str = include_str!("../../../api/tests/vectors/viaduct-messages.jsonl");
/// The golden tunnel frames.
pub const FRAMES: &str = include_str!("../../../api/tests/vectors/tunnel-frames.jsonl");
/// The golden configuration files.
pub const CONFIGS: [&str; 4] = [
    include_str!("../../../api/tests/vectors/config/cloudcore-default.yaml"),
    include_str!("../../../api/tests/vectors/config/cloudcore-min.yaml"),
    include_str!("../../../api/tests/vectors/config/edgecore-default.yaml"),
    include_str!("../../../api/tests/vectors/config/edgecore-min.yaml"),
];
