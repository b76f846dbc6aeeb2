//! Between the cloud's objects and what mappers speak. Pure.
//!
//! Owns: how a Device is laid over its model, and how free JSON becomes `Any`.
//! Called by: `server.rs`, `mapper.rs`; the sample mapper reads settings with [`setting`].
//! Never: refuses a device for a setting that it does not understand; that is the mapper's.

use std::collections::BTreeMap;

use api::crd::AnyObject;
use api::crd::devices::{self, AccessMode, PropertyType};
use api::twin::message::{MsgTwin, TwinValue, TypeMetadata, ValueMetadata};
use prost::Message;
use prost_types::Any;
use serde_json::Value;

use super::pb;

const PREFIX: &str = "type.googleapis.com/google.protobuf.";

/// A device as its mapper is told of it: its own settings over those of its model.
pub(super) fn device(
    namespace: &str,
    name: &str,
    device: &devices::Device,
    model: Option<&devices::DeviceModel>,
) -> pb::Device {
    let spec = &device.spec;
    let model_properties = model.map(|m| m.spec.properties.as_slice()).unwrap_or_default();
    let protocol = spec.protocol.as_ref();
    let protocol_name = self::protocol(spec, model).map(str::to_owned);
    let config = over(
        model.and_then(|m| m.spec.protocol_config_data.as_ref()),
        protocol.and_then(|p| p.config_data.as_ref()),
    );
    let property = |own: &devices::DeviceProperty| {
        let of_model = model_properties.iter().find(|p| p.name == own.name);
        property(own, of_model.and_then(|p| p.visitors.as_ref()))
    };
    pb::Device {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        spec: Some(pb::DeviceSpec {
            device_model_reference: spec
                .device_model_ref
                .as_ref()
                .and_then(|r| r.name.clone())
                .unwrap_or_default(),
            protocol: Some(pb::ProtocolConfig {
                protocol_name: protocol_name.unwrap_or_default(),
                config_data: config.map(custom),
            }),
            properties: spec.properties.iter().map(property).collect(),
            methods: spec.methods.iter().map(method).collect(),
        }),
        status: Some(status(device)),
    }
}

/// The protocol of a device: its own, or that of its model.
pub(super) fn protocol<'a>(
    own: &'a devices::DeviceSpec,
    model: Option<&'a devices::DeviceModel>,
) -> Option<&'a str> {
    let own = own.protocol.as_ref().and_then(|p| p.protocol_name.as_deref());
    let of_model = || model.and_then(|m| m.spec.protocol.as_deref());
    own.filter(|p| !p.is_empty()).or_else(of_model).filter(|p| !p.is_empty())
}

/// How the device's state is reported.
fn status(device: &devices::Device) -> pb::DeviceStatus {
    let (own, old) = (device.spec.state_report.as_ref(), device.status.as_ref());
    let to_cloud =
        own.and_then(|s| s.report_to_cloud).or_else(|| old.and_then(|s| s.report_to_cloud));
    let cycle = own.and_then(|s| s.report_cycle).or_else(|| old.and_then(|s| s.report_cycle));
    pb::DeviceStatus {
        twins: Vec::new(),
        report_to_cloud: to_cloud.unwrap_or_default(),
        report_cycle: cycle.unwrap_or_default(),
    }
}

/// A desired value and a visitor are always there, empty if need be: the original sends them so, and
/// its mappers look into them unasked.
fn property(
    own: &devices::DeviceProperty,
    of_model: Option<&devices::ProtocolConfig>,
) -> pb::DeviceProperty {
    let name = |v: Option<&devices::ProtocolConfig>| v.and_then(|v| v.protocol_name.clone());
    let config = over(
        of_model.and_then(|v| v.config_data.as_ref()),
        own.visitors.as_ref().and_then(|v| v.config_data.as_ref()),
    );
    let visitors = pb::VisitorConfig {
        protocol_name: name(own.visitors.as_ref()).or(name(of_model)).unwrap_or_default(),
        config_data: Some(custom(config.unwrap_or_default())),
    };
    let desired = own.desired.as_ref();
    let desired =
        desired.map(|d| pb::TwinProperty { value: d.value.clone(), metadata: d.metadata.clone() });
    pb::DeviceProperty {
        name: own.name.clone(),
        desired: Some(desired.unwrap_or_default()),
        visitors: Some(visitors),
        report_cycle: own.report_cycle.unwrap_or_default(),
        collect_cycle: own.collect_cycle.unwrap_or_default(),
        report_to_cloud: own.report_to_cloud.unwrap_or_default(),
        push_method: own.push_method.as_ref().map(push_method),
    }
}

fn method(method: &devices::DeviceMethod) -> pb::DeviceMethod {
    pb::DeviceMethod {
        name: method.name.clone(),
        description: method.description.clone().unwrap_or_default(),
        property_names: method.property_names.clone(),
    }
}

fn push_method(method: &devices::PushMethod) -> pb::PushMethod {
    pb::PushMethod {
        http: method.http.as_ref().map(|http| pb::PushMethodHttp {
            hostname: http.host_name.clone().unwrap_or_default(),
            port: http.port.unwrap_or_default(),
            requestpath: http.request_path.clone().unwrap_or_default(),
            timeout: http.timeout.unwrap_or_default(),
        }),
        mqtt: method.mqtt.as_ref().map(|mqtt| pb::PushMethodMqtt {
            address: mqtt.address.clone().unwrap_or_default(),
            topic: mqtt.topic.clone().unwrap_or_default(),
            qos: mqtt.qos.unwrap_or_default(),
            retained: mqtt.retained.unwrap_or_default(),
        }),
        otel: method.otel.as_ref().map(|otel| pb::PushMethodOtel {
            endpoint_url: otel.endpoint_url.clone().unwrap_or_default(),
        }),
        db_method: method.db_method.as_ref().map(db_method),
        anomaly_detection: method
            .anomaly_detection
            .clone()
            .map(|settings| pb::AnomalyDetection { data: any_map(settings) }),
    }
}

fn db_method(db: &devices::DbMethod) -> pb::DbMethod {
    let small = |n: Option<i64>| i32::try_from(n.unwrap_or_default()).unwrap_or_default();
    pb::DbMethod {
        influxdb2: db.influxdb2.as_ref().map(|influx| pb::DbMethodInfluxdb2 {
            influxdb2_client_config: influx.client.as_ref().map(|c| pb::Influxdb2ClientConfig {
                url: c.url.clone().unwrap_or_default(),
                org: c.org.clone().unwrap_or_default(),
                bucket: c.bucket.clone().unwrap_or_default(),
            }),
            influxdb2_data_config: influx.data.as_ref().map(|d| pb::Influxdb2DataConfig {
                measurement: d.measurement.clone().unwrap_or_default(),
                tag: d.tag.clone(),
                field_key: d.field_key.clone().unwrap_or_default(),
            }),
        }),
        redis: db.redis.as_ref().map(|redis| pb::DbMethodRedis {
            redis_client_config: redis.client.as_ref().map(|c| pb::RedisClientConfig {
                addr: c.addr.clone().unwrap_or_default(),
                db: small(c.db),
                poolsize: small(c.poolsize),
                min_idle_conns: small(c.min_idle_conns),
            }),
        }),
        tdengine: db.tdengine.as_ref().map(|td| pb::DbMethodTdEngine {
            td_engine_client_config: td.client.as_ref().map(|c| pb::TdEngineClientConfig {
                addr: c.addr.clone().unwrap_or_default(),
                dbname: c.db_name.clone().unwrap_or_default(),
            }),
        }),
        mysql: db.mysql.as_ref().map(|mysql| pb::DbMethodMySql {
            mysql_client_config: mysql.client.as_ref().map(|c| pb::MySqlClientConfig {
                addr: c.addr.clone().unwrap_or_default(),
                database: c.database.clone().unwrap_or_default(),
                user_name: c.user_name.clone().unwrap_or_default(),
            }),
        }),
    }
}

/// A model as mappers are told of it.
pub(super) fn model(namespace: &str, name: &str, model: &devices::DeviceModel) -> pb::DeviceModel {
    let property = |p: &devices::ModelProperty| pb::ModelProperty {
        name: p.name.clone(),
        description: p.description.clone().unwrap_or_default(),
        r#type: p.type_.map(type_name).unwrap_or_default().to_owned(),
        access_mode: p.access_mode.map(access_name).unwrap_or_default().to_owned(),
        minimum: p.minimum.clone().unwrap_or_default(),
        maximum: p.maximum.clone().unwrap_or_default(),
        unit: p.unit.clone().unwrap_or_default(),
    };
    pb::DeviceModel {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        spec: Some(pb::DeviceModelSpec {
            properties: model.spec.properties.iter().map(property).collect(),
            commands: Vec::new(),
        }),
    }
}

fn type_name(value_type: PropertyType) -> &'static str {
    match value_type {
        PropertyType::Int => "INT",
        PropertyType::Float => "FLOAT",
        PropertyType::Double => "DOUBLE",
        PropertyType::String => "STRING",
        PropertyType::Boolean => "BOOLEAN",
        PropertyType::Bytes => "BYTES",
        PropertyType::Stream => "STREAM",
    }
}

fn access_name(mode: AccessMode) -> &'static str {
    match mode {
        AccessMode::ReadWrite => "ReadWrite",
        AccessMode::ReadOnly => "ReadOnly",
    }
}

/// The model's settings with the device's own over them.
fn over(model: Option<&AnyObject>, own: Option<&AnyObject>) -> Option<AnyObject> {
    if model.is_none() && own.is_none() {
        return None;
    }
    let mut all = model.cloned().unwrap_or_default();
    all.extend(own.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
    Some(all)
}

fn custom(settings: AnyObject) -> pb::CustomizedValue {
    pb::CustomizedValue { data: any_map(settings) }
}

fn any_map(settings: AnyObject) -> BTreeMap<String, Any> {
    settings.into_iter().filter_map(|(key, value)| Some((key, any(value)?))).collect()
}

/// As the original wraps JSON: numbers in single precision. It fails for what is nested; here that
/// goes as the text of its JSON.
fn any(value: Value) -> Option<Any> {
    let (name, value) = match value {
        Value::Null => return None,
        Value::Bool(value) => ("BoolValue", value.encode_to_vec()),
        #[expect(clippy::cast_possible_truncation, reason = "the interface has single precision")]
        Value::Number(value) => ("FloatValue", (value.as_f64()? as f32).encode_to_vec()),
        Value::String(value) => ("StringValue", value.encode_to_vec()),
        nested => ("StringValue", nested.to_string().encode_to_vec()),
    };
    Some(Any { type_url: format!("{PREFIX}{name}"), value })
}

/// A setting, as text.
pub(crate) fn setting(settings: Option<&pb::CustomizedValue>, key: &str) -> Option<String> {
    let any = settings?.data.get(key)?;
    match any.type_url.strip_prefix(PREFIX)? {
        "StringValue" => String::decode(&*any.value).ok(),
        "BoolValue" => bool::decode(&*any.value).ok().map(|v| v.to_string()),
        "FloatValue" => f32::decode(&*any.value).ok().map(|v| v.to_string()),
        "Int32Value" => i32::decode(&*any.value).ok().map(|v| v.to_string()),
        "Int64Value" => i64::decode(&*any.value).ok().map(|v| v.to_string()),
        _ => None,
    }
}

/// What a mapper reports, as an update of the twin. What is empty was not reported.
pub(super) fn twins(reported: &pb::DeviceStatus) -> BTreeMap<String, Option<MsgTwin>> {
    let of = |twin: &pb::Twin| {
        let value = |side: Option<&pb::TwinProperty>| {
            let side = side.filter(|s| !s.value.is_empty())?;
            let timestamp = side.metadata.get("timestamp").and_then(|t| t.parse().ok());
            let metadata = timestamp.map(|timestamp| ValueMetadata { timestamp });
            Some(TwinValue { value: Some(side.value.clone()), metadata })
        };
        let said = twin.reported.as_ref().and_then(|r| r.metadata.get("type"));
        MsgTwin {
            expected: value(twin.observed_desired.as_ref()),
            actual: value(twin.reported.as_ref()),
            metadata: said.and_then(|t| twin_type(t)),
            ..MsgTwin::default()
        }
    };
    reported.twins.iter().map(|twin| (twin.property_name.clone(), Some(of(twin)))).collect()
}

/// The twin's name for a type that a mapper names as models do, or as twins do.
fn twin_type(said: &str) -> Option<TypeMetadata> {
    let name = match said.to_ascii_lowercase().as_str() {
        "int" | "integer" => "int",
        "float" | "double" => "float",
        "boolean" => "boolean",
        "string" => "string",
        _ => return None,
    };
    Some(TypeMetadata { type_: Some(name.to_owned()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_devices_own_settings_lie_over_those_of_its_model() {
        let model: devices::DeviceModel = serde_json::from_value(json!({"metadata": {}, "spec": {
            "protocol": "modbus", "protocolConfigData": {"port": 502, "slave": 1},
            "properties": [{"name": "t", "type": "FLOAT", "accessMode": "ReadOnly",
                "visitors": {"protocolName": "modbus", "configData": {"register": "Coil", "scale": 0.5}}}]}}))
        .unwrap();
        let own: devices::Device = serde_json::from_value(json!({"metadata": {}, "spec": {
            "deviceModelRef": {"name": "m"}, "nodeName": "edge-1",
            "protocol": {"protocolName": "modbus", "configData": {"port": 1502, "tls": true, "list": [1]}},
            "properties": [{"name": "t", "reportCycle": 1000, "reportToCloud": true,
                "desired": {"value": "20"}, "visitors": {"configData": {"register": "Holding"}}}]}}))
        .unwrap();
        let device = device("default", "sensor-1", &own, Some(&model));
        let spec = device.spec.unwrap();
        let config = spec.protocol.unwrap().config_data;
        let get = |key| setting(config.as_ref(), key);
        assert_eq!(
            [get("port"), get("slave"), get("tls"), get("list"), get("none")]
                .map(|v| v.unwrap_or_default()),
            ["1502", "1", "true", "[1]", ""]
        );
        let property = &spec.properties[0];
        let visitors = property.visitors.as_ref().unwrap();
        assert_eq!(visitors.protocol_name, "modbus");
        assert_eq!(setting(visitors.config_data.as_ref(), "register").as_deref(), Some("Holding"));
        assert_eq!(setting(visitors.config_data.as_ref(), "scale").as_deref(), Some("0.5"));
        assert_eq!(property.desired.as_ref().unwrap().value, "20");
        assert_eq!((property.report_cycle, property.report_to_cloud), (1000, true));
    }

    #[test]
    fn what_mappers_look_into_unasked_is_there() {
        let own = json!({"metadata": {}, "spec": {"properties": [{"name": "t"}]}});
        let own: devices::Device = serde_json::from_value(own).unwrap();
        let device = device("default", "bare", &own, None);
        assert_eq!(device.status, Some(pb::DeviceStatus::default()));
        let spec = device.spec.unwrap();
        assert_eq!(spec.protocol.unwrap().protocol_name, "");
        let property = &spec.properties[0];
        assert_eq!(property.desired, Some(pb::TwinProperty::default()));
        let visitors = property.visitors.as_ref().unwrap();
        assert_eq!(visitors.config_data, Some(pb::CustomizedValue::default()));
    }

    #[test]
    fn numbers_are_wrapped_in_single_precision_as_the_original_wraps_them() {
        let wrapped = any(json!(502)).unwrap();
        assert_eq!(wrapped.type_url, "type.googleapis.com/google.protobuf.FloatValue");
        // Field 1, 32 bits.
        assert_eq!(wrapped.value, [0x0d, 0x00, 0x00, 0xfb, 0x43]);
        assert_eq!(any(json!("ab")).unwrap().value, [0x0a, 2, b'a', b'b']);
        assert_eq!(any(Value::Null), None);
    }

    #[test]
    fn a_report_with_a_side_missing_is_read() {
        let reported = pb::DeviceStatus {
            twins: vec![
                pb::Twin { property_name: "empty".into(), ..pb::Twin::default() },
                pb::Twin {
                    property_name: "t".into(),
                    observed_desired: None,
                    reported: Some(pb::TwinProperty {
                        value: "23".into(),
                        metadata: BTreeMap::from([
                            ("type".into(), "DOUBLE".into()),
                            ("timestamp".into(), "7".into()),
                        ]),
                    }),
                },
            ],
            ..pb::DeviceStatus::default()
        };
        let twins = twins(&reported);
        assert_eq!(twins["empty"], Some(MsgTwin::default()));
        let t = twins["t"].as_ref().unwrap();
        assert_eq!(t.metadata.as_ref().unwrap().type_.as_deref(), Some("float"));
        assert_eq!(t.actual.as_ref().unwrap().value.as_deref(), Some("23"));
    }

    #[test]
    fn the_bytes_of_a_registration_are_those_of_the_published_interface() {
        let request = pb::MapperRegisterRequest {
            with_data: true,
            mapper: Some(pb::MapperInfo {
                name: "m".into(),
                protocol: "p".into(),
                address: b"/a".to_vec(),
                ..pb::MapperInfo::default()
            }),
        };
        let bytes = [8, 1, 18, 10, 10, 1, b'm', 34, 1, b'p', 42, 2, b'/', b'a'];
        assert_eq!(request.encode_to_vec(), bytes);
    }
}
