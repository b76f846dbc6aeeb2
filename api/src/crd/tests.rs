use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn stored_schema(crd: &CustomResourceDefinition) -> Value {
    let version = crd.spec.versions.iter().find(|version| version.storage).unwrap();
    serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap())
        .unwrap()
}

fn schema_of(kind: &str) -> Value {
    stored_schema(&all().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap())
}

/// The manifests in `api/crds/` are what the types say. `UPDATE_CRDS=1` writes them.
#[test]
fn the_manifests_on_disk_are_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let manifests = manifests().unwrap();
    for (name, text) in &manifests {
        let path = folder.join(name);
        if std::env::var_os("UPDATE_CRDS").is_some() {
            fs::write(&path, text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == *text, "{name} is stale: run `UPDATE_CRDS=1 cargo test -p api crd`");
    }
    let mut on_disk: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    on_disk.sort();
    let mut wanted: Vec<_> = manifests.into_iter().map(|(name, _)| name).collect();
    wanted.sort();
    assert_eq!(on_disk, wanted, "a file too many, or too few");
}

/// Kind, plural, short names (those of devices are our own), scope, served versions (stored first),
/// status subresource.
#[test]
fn each_kind_is_named_and_served_as_in_the_original() {
    let rows: Vec<_> = all()
        .iter()
        .map(|crd| {
            let spec = &crd.spec;
            let versions: Vec<_> = spec.versions.iter().map(|v| v.name.as_str()).collect();
            assert!(spec.versions[0].storage && spec.versions.iter().all(|v| v.served));
            format!(
                "{} {}.{} {:?} {} {} {}",
                spec.names.kind,
                spec.names.plural,
                spec.group,
                spec.names.short_names.clone().unwrap_or_default(),
                spec.scope,
                versions.join(","),
                spec.versions[0].subresources.is_some()
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            "Device devices.devices.kubeedge.io [\"dev\"] Namespaced v1beta1,v1alpha2 false",
            "DeviceModel devicemodels.devices.kubeedge.io [\"devmodel\"] Namespaced v1beta1,v1alpha2 false",
            "DeviceStatus devicestatuses.devices.kubeedge.io [\"devstatus\"] Namespaced v1beta1,v1alpha2 false",
            "ObjectSync objectsyncs.reliablesyncs.kubeedge.io [] Namespaced v1alpha1 true",
            "ClusterObjectSync clusterobjectsyncs.reliablesyncs.kubeedge.io [] Cluster v1alpha1 true",
            "Rule rules.rules.kubeedge.io [] Namespaced v1 false",
            "RuleEndpoint ruleendpoints.rules.kubeedge.io [\"re\"] Namespaced v1 false",
            "NodeUpgradeJob nodeupgradejobs.operations.kubeedge.io [] Cluster v1alpha2,v1alpha1 true",
            "ImagePrePullJob imageprepulljobs.operations.kubeedge.io [] Cluster v1alpha2,v1alpha1 true",
            "ConfigUpdateJob configupdatejobs.operations.kubeedge.io [] Cluster v1alpha2 true",
            "NodeGroup nodegroups.apps.kubeedge.io [\"ng\"] Cluster v1alpha1 true",
            "EdgeApplication edgeapplications.apps.kubeedge.io [\"eapp\"] Namespaced v1alpha1 true",
            "ServiceAccountAccess serviceaccountaccesses.policy.kubeedge.io [\"saaccess\"] \
             Namespaced v1alpha1 true",
        ]
    );
}

/// What Kubernetes demands of a structural schema, as far as ours could break it.
fn check_structural(schema: &Value, at: &str) {
    const KNOWN: [&str; 12] = [
        "type",
        "description",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "enum",
        "format",
        "minimum",
        "pattern",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
    ];
    let object = schema.as_object().unwrap_or_else(|| panic!("{at} is not a schema: {schema}"));
    for key in object.keys().filter(|key| *key != "x-kubernetes-map-type") {
        assert!(KNOWN.contains(&key.as_str()), "{at} has `{key}`");
    }
    let typed = schema["type"].is_string() || schema["x-kubernetes-int-or-string"] == true;
    assert!(typed, "{at} has no single type: {schema}");
    if let Some(format) = schema["format"].as_str() {
        assert!(["int32", "int64", "double"].contains(&format), "{at} has format {format}");
    }
    assert!(
        object.get("enum").is_none_or(|values| values
            .as_array()
            .unwrap()
            .iter()
            .all(Value::is_string)),
        "{at}: {schema}"
    );
    if let Some(properties) = object.get("properties") {
        assert!(object.get("additionalProperties").is_none(), "{at} has both");
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(properties.get(name.as_str().unwrap()).is_some(), "{at} requires {name}");
        }
        for (name, below) in properties.as_object().unwrap() {
            check_structural(below, &format!("{at}.{name}"));
        }
    }
    if schema["type"] == "array" {
        check_structural(&schema["items"], &format!("{at}[]"));
    }
    if let Some(below) = object.get("additionalProperties") {
        check_structural(below, &format!("{at}.*"));
    }
}

#[test]
fn every_schema_is_structural() {
    for crd in all() {
        check_structural(&stored_schema(&crd), &crd.spec.names.kind);
    }
}

#[test]
fn what_is_required_and_what_may_be_chosen_is_as_in_the_original() {
    let device = schema_of("Device");
    let properties = &device["properties"]["spec"]["properties"];
    let desired = &properties["properties"]["items"]["properties"]["desired"];
    assert_eq!(desired["required"], json!(["value"]));
    assert_eq!(device["required"], Value::Null);
    let push = &properties["properties"]["items"]["properties"]["pushMethod"]["properties"];
    assert!(
        push["dbMethod"]["properties"]["TDEngine"]["properties"]["TDEngineClientConfig"]
            .is_object()
    );
    assert_eq!(push["anomalyDetection"]["x-kubernetes-preserve-unknown-fields"], true);
    assert_eq!(device["properties"]["status"]["x-kubernetes-preserve-unknown-fields"], true);

    let model = schema_of("DeviceModel");
    let property = &model["properties"]["spec"]["properties"]["properties"]["items"]["properties"];
    assert_eq!(
        property["type"]["enum"],
        json!(["INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"])
    );
    assert_eq!(property["accessMode"]["enum"], json!(["ReadWrite", "ReadOnly"]));

    let rule = schema_of("Rule");
    assert_eq!(rule["required"], json!(["spec"]));
    assert_eq!(
        rule["properties"]["spec"]["required"],
        json!(["source", "sourceResource", "target", "targetResource"])
    );
    let endpoint = schema_of("RuleEndpoint");
    let kind = &endpoint["properties"]["spec"]["properties"]["ruleEndpointType"];
    assert_eq!(kind["enum"], json!(["rest", "eventbus", "servicebus"]));

    let job = schema_of("NodeUpgradeJob");
    let spec = &job["properties"]["spec"]["properties"];
    assert_eq!(spec["timeoutSeconds"]["minimum"], 0.0);
    assert_eq!(
        spec["imageDigestGatter"]["properties"]["registryAPI"]["required"],
        json!(["host", "token"])
    );
    assert_eq!(job["properties"]["status"]["required"], json!(["phase"]));
    let config = schema_of("ConfigUpdateJob");
    assert_eq!(config["properties"]["spec"]["required"], json!(["updateFields"]));
}

/// Reads a manifest, writes it, and finds every field again.
fn survives<K: Serialize + DeserializeOwned>(manifest: &str) {
    let wanted: Value = crate::config::yaml::read(manifest).unwrap();
    let object: K = serde_json::from_value(wanted.clone()).unwrap();
    assert_eq!(serde_json::to_value(&object).unwrap(), wanted);
}

#[test]
fn a_manifest_with_every_field_survives_reading_and_writing() {
    survives::<Device>(
        "
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: sensor-1, namespace: default}
spec:
  deviceModelRef: {name: model}
  nodeName: edge-1
  properties:
  - name: temperature
    desired: {value: '', metadata: {type: int}}
    visitors: {protocolName: modbus, configData: {register: CoilRegister, offset: 2, deep: [{}]}}
    reportCycle: 10000
    collectCycle: 5000
    reportToCloud: true
    pushMethod:
      http: {hostName: h, port: 80, requestPath: /p, timeout: 3}
      mqtt: {address: a, topic: t, qos: 1, retained: false}
      otel: {endpointURL: http://x}
      dbMethod:
        influxdb2:
          influxdb2ClientConfig: {url: u, org: o, bucket: b}
          influxdb2DataConfig: {measurement: m, tag: {k: v}, fieldKey: f}
        redis: {redisClientConfig: {addr: a, db: 1, poolsize: 2, minIdleConns: 3}}
        TDEngine: {TDEngineClientConfig: {addr: a, dbName: d}}
        mysql: {mysqlClientConfig: {addr: a, database: d, userName: u}}
      anomalyDetection: {any: [thing]}
  methods:
  - {name: heat, description: d, propertyNames: [temperature]}
  protocol: {protocolName: modbus, configData: {}}
  stateReport: {reportToCloud: true, reportCycle: 1}
status: {reportToCloud: true, reportCycle: 1}
",
    );
    survives::<DeviceModel>(
        "
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: model, namespace: default}
spec:
  properties:
  - {name: t, description: d, type: INT, accessMode: ReadOnly, minimum: '0', maximum: '9', unit: C,
     visitors: {protocolName: modbus, configData: {a: 1}}}
  protocol: modbus
  protocolConfigData: {ip: x}
",
    );
    survives::<DeviceStatus>(
        "
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceStatus
metadata: {name: sensor-1, namespace: default}
spec: {}
status:
  twins:
  - propertyName: t
    reported: {value: '23', metadata: {timestamp: '1', type: int}}
    observedDesired: {value: ''}
  state: online
  lastOnlineTime: '2026-09-21T13:46:40Z'
  extensions: {a: {b: 1}}
",
    );
    survives::<Rule>(
        "
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {name: r}
spec: {source: a, sourceResource: {path: /a}, target: b, targetResource: {topic: t}}
status: {successMessages: 1, failMessages: 2, errors: [e]}
",
    );
    survives::<EdgeApplication>(
        "
apiVersion: apps.kubeedge.io/v1alpha1
kind: EdgeApplication
metadata: {name: app}
spec:
  workloadTemplate: {manifests: [{apiVersion: apps/v1, kind: Deployment}]}
  workloadScope:
    targetNodeGroups:
    - name: north
      overriders:
        replicas: 3
        imageOverriders:
        - {component: Registry, operator: add, value: r, predicate: {path: /spec}}
        commandOverriders: [{containerName: c, operator: add, value: [x]}]
        argsOverriders: [{containerName: c, operator: remove, value: [x]}]
        envOverriders: [{containerName: c, operator: replace, value: [{name: A, value: b}]}]
        resourcesOverriders: [{containerName: c, value: {limits: {cpu: 100m}}}]
    targetNodeLabels:
    - labelSelector: {matchLabels: {a: b}}
status: {workloadStatus: [{identifier: {ordinal: 0, kind: Deployment}, conditions: Available}]}
",
    );
    survives::<ImagePrePullJob>(
        "
apiVersion: operations.kubeedge.io/v1alpha2
kind: ImagePrePullJob
metadata: {name: j}
spec:
  imagePrePullTemplate: {images: [a], imageSecrets: n/s, retryTimes: 1, nodeNames: [e],
    timeoutSeconds: 300, failureTolerate: '0.1', concurrency: 1, checkItems: [cpu, mem, disk]}
status:
  phase: InProgress
  nodeStatus:
  - {nodeName: e, phase: Successful, actionFlow: [{action: Pull, status: 'True', time: t}],
     imageStatus: [{image: a, status: 'False', reason: r}]}
",
    );
}

#[test]
fn a_record_is_named_for_the_node_and_the_uid() {
    use reliablesyncs::{parse_sync_name, sync_name};
    let node = "edge.site-7".parse().unwrap();
    let uid = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    let name = sync_name(&node, &uid);
    assert_eq!(parse_sync_name(&name), Ok((node, uid)));
    assert!(parse_sync_name("nodot").is_err());
    assert!(parse_sync_name("A.b").is_err());
}

#[test]
fn a_registry_token_is_not_shown() {
    let api = operations::RegistryApi { host: "h".into(), token: "s3cret".into() };
    assert!(!format!("{api:?}").contains("s3cret"));
}
