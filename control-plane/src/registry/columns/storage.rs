//! What `kubectl get` shows of volumes and of what they come from.

use serde_json::Value;

use super::{Column, Columns, age_of, col, int, name, typed, wide};
use crate::registry::meta::{self, text};

pub(crate) static CLAIM: Columns = Columns {
    columns: &[
        col("Name"),
        col("Status"),
        col("Volume"),
        col("Capacity"),
        col("Access Modes"),
        col("StorageClass"),
        col("VolumeAttributesClass"),
        col("Age"),
        wide("VolumeMode"),
    ],
    cells: |o, now| {
        let phase = if meta::is_terminating(o) { "Terminating" } else { text(o, "/status/phase") };
        let bound = !text(o, "/spec/volumeName").is_empty();
        let (capacity, modes) = if bound {
            (text(o, "/status/capacity/storage"), access_modes(&o["status"]["accessModes"]))
        } else {
            ("", String::new())
        };
        vec![
            name(o),
            phase.into(),
            text(o, "/spec/volumeName").into(),
            capacity.into(),
            modes.into(),
            text(o, "/spec/storageClassName").into(),
            "<unset>".into(),
            age_of(o, now),
            text(o, "/spec/volumeMode").into(),
        ]
    },
};

fn access_modes(modes: &Value) -> String {
    let short = |m: &Value| match m.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    modes.as_array().into_iter().flatten().map(short).collect::<Vec<_>>().join(",")
}

pub(crate) static VOLUME: Columns = Columns {
    columns: &[
        col("Name"),
        col("Capacity"),
        col("Access Modes"),
        col("Reclaim Policy"),
        col("Status"),
        col("Claim"),
        col("StorageClass"),
        col("VolumeAttributesClass"),
        col("Reason"),
        col("Age"),
        wide("VolumeMode"),
    ],
    cells: |o, now| {
        let claim = match text(o, "/spec/claimRef/name") {
            "" => String::new(),
            n => format!("{}/{n}", text(o, "/spec/claimRef/namespace")),
        };
        let phase = if meta::is_terminating(o) { "Terminating" } else { text(o, "/status/phase") };
        vec![
            name(o),
            text(o, "/spec/capacity/storage").into(),
            access_modes(&o["spec"]["accessModes"]).into(),
            text(o, "/spec/persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            text(o, "/spec/storageClassName").into(),
            "<unset>".into(),
            text(o, "/status/reason").into(),
            age_of(o, now),
            text(o, "/spec/volumeMode").into(),
        ]
    },
};

pub(crate) static STORAGE_CLASS: Columns = Columns {
    columns: &[
        col("Name"),
        col("Provisioner"),
        col("ReclaimPolicy"),
        col("VolumeBindingMode"),
        col("AllowVolumeExpansion"),
        col("Age"),
    ],
    cells: |o, now| {
        let default = o
            .pointer("/metadata/annotations/storageclass.kubernetes.io~1is-default-class")
            .is_some_and(|v| v == "true");
        let name =
            if default { format!("{} (default)", meta::name(o)) } else { meta::name(o).to_owned() };
        let expand = o["allowVolumeExpansion"] == true;
        vec![
            name.into(),
            text(o, "/provisioner").into(),
            text(o, "/reclaimPolicy").into(),
            text(o, "/volumeBindingMode").into(),
            expand.into(),
            age_of(o, now),
        ]
    },
};

pub(crate) static CSI_NODE: Columns = Columns {
    columns: &[col("Name"), int("Drivers"), col("Age")],
    cells: |o, now| {
        vec![name(o), o["spec"]["drivers"].as_array().map_or(0, Vec::len).into(), age_of(o, now)]
    },
};

pub(crate) static VOLUME_ATTACHMENT: Columns = Columns {
    columns: &[
        col("Name"),
        col("Attacher"),
        col("PV"),
        col("Node"),
        typed("Attached", "boolean"),
        col("Age"),
    ],
    cells: |o, now| {
        vec![
            name(o),
            text(o, "/spec/attacher").into(),
            text(o, "/spec/source/persistentVolumeName").into(),
            text(o, "/spec/nodeName").into(),
            (o["status"]["attached"] == true).into(),
            age_of(o, now),
        ]
    },
};

pub(crate) static CSI_DRIVER: Columns = Columns {
    columns: &[
        col("Name"),
        Column { name: "AttachRequired", kind: "boolean", priority: 0 },
        typed("PodInfoOnMount", "boolean"),
        typed("StorageCapacity", "boolean"),
        col("TokenRequests"),
        typed("RequiresRepublish", "boolean"),
        col("Modes"),
        col("Age"),
    ],
    cells: |o, now| {
        let s = &o["spec"];
        let list = |v: &Value, field: Option<&str>| {
            let all: Vec<&str> = v
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|x| field.map_or(x, |f| &x[f]).as_str())
                .collect();
            if all.is_empty() { "<unset>".to_owned() } else { all.join(",") }
        };
        vec![
            name(o),
            (s["attachRequired"] != false).into(),
            (s["podInfoOnMount"] == true).into(),
            (s["storageCapacity"] == true).into(),
            list(&s["tokenRequests"], Some("audience")).into(),
            (s["requiresRepublish"] == true).into(),
            list(&s["volumeLifecycleModes"], None).into(),
            age_of(o, now),
        ]
    },
};
