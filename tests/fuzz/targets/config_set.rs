//! A `--set` for either file.
#![no_main]

use std::sync::LazyLock;

use api::config::{CloudCoreConfig, Document, EdgeCoreConfig, Host};
use libfuzzer_sys::fuzz_target;

static CLOUD: LazyLock<Document<CloudCoreConfig>> =
    LazyLock::new(|| Document::defaults(&Host::default()));
static EDGE: LazyLock<Document<EdgeCoreConfig>> =
    LazyLock::new(|| Document::defaults(&Host::default()));

fuzz_target!(
    init: {
        let seeds = [
            "modules.edgeHub.heartbeat=9,modules.edged.nodeLabels.site=north",
            "modules.edged.tailoredKubeletConfig.registerWithTaints[0].key=k",
            "modules.cloudHub.advertiseAddress={10.0.0.1,10.0.0.2}",
            "modules.cloudHub.websocket.port=70000",
            "featureGates.a\\.b=true,modules.edgeHub.token=null",
        ];
        fuzz::seed(seeds.map(Vec::from));
    },
    |data: &[u8]| {
        let Ok(setting) = str::from_utf8(data) else { return };
        let mut cloud = CLOUD.clone();
        if cloud.set(setting).is_ok() {
            let _ = cloud.config();
        }
        let mut edge = EDGE.clone();
        if edge.set(setting).is_ok() {
            let _ = edge.config();
        }
    }
);
