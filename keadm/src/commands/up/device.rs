//! The sample device: a model, a Device of it, and the pod whose mapper plays it.

use api::crd::{Device, DeviceModel, DeviceStatus};
use edgecore::edged::runtime::embedded::sample::{IMAGE, PROGRAM};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Up;
use super::parts::Parts;
use crate::cloud::Cloud;
use crate::errors::{CommandError, Kind};
use crate::phases::{Outcome, Step};

/// The device's name.
pub(super) const NAME: &str = "climate";
const MODEL: &str = "sample-climate";
const MAPPER: &str = "sample-mapper";
/// What the sample mapper asks for.
const PROTOCOL: &str = "simulated";
const NAMESPACE: &str = "default";

/// Makes what is not there yet, and waits until the device reports.
pub(super) async fn reporting(up: &Up, parts: &Parts, step: Step) -> Outcome {
    let cloud = parts.cloud()?;
    ensure::<DeviceModel>(cloud, MODEL, model()).await?;
    ensure::<Device>(cloud, NAME, device(up)).await?;
    ensure::<Pod>(cloud, MAPPER, mapper(up)).await?;
    let statuses: Api<DeviceStatus> = Api::namespaced(cloud.client.clone(), NAMESPACE);
    super::until(&step, up.timeout, &format!("device `{NAME}`"), || async {
        match statuses.get_opt(NAME).await {
            Err(e) => Err(e.to_string()),
            Ok(status) if status.as_ref().and_then(temperature).is_some() => Ok(()),
            Ok(_) => Err("the device has reported nothing yet".to_owned()),
        }
    })
    .await
    .map_err(|e| e.hint(format!("`kubectl describe pod {MAPPER}` tells more")))?;
    let status = statuses.get_opt(NAME).await.ok().flatten();
    let said = status.as_ref().and_then(temperature).unwrap_or_default();
    Ok(format!("device `{NAME}` reports {said} C"))
}

/// The last temperature that was reported.
fn temperature(status: &DeviceStatus) -> Option<String> {
    let twins = &status.status.as_ref()?.twins;
    let twin = twins.iter().find(|t| t.property_name == "temperature")?;
    Some(twin.reported.as_ref()?.value.clone())
}

/// A line for the table.
pub(super) async fn line(cloud: &Cloud) -> Option<String> {
    let statuses: Api<DeviceStatus> = Api::namespaced(cloud.client.clone(), NAMESPACE);
    let status = statuses.get_opt(NAME).await.ok()??;
    let temperature = temperature(&status)?;
    Some(format!("device  {:<30} temperature {temperature} C", format!("{NAMESPACE}/{NAME}")))
}

async fn ensure<K>(cloud: &Cloud, name: &str, object: Value) -> Result<(), CommandError>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let all: Api<K> = Api::namespaced(cloud.client.clone(), NAMESPACE);
    let failed = |e: &kube::Error| cloud.error(&format!("make the sample `{name}`"), e);
    if all.get_opt(name).await.map_err(|e| failed(&e))?.is_some() {
        return Ok(());
    }
    let object = serde_json::from_value(object).map_err(|e| {
        CommandError::new(Kind::Failed, format!("the sample `{name}` is broken")).caused_by(&e)
    })?;
    all.create(&PostParams::default(), &object).await.map(drop).map_err(|e| failed(&e))
}

fn model() -> Value {
    json!({
        "metadata": { "name": MODEL, "namespace": NAMESPACE },
        "spec": { "protocol": PROTOCOL, "properties": [
            { "name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly", "unit": "C" },
            { "name": "visitors", "type": "INT", "accessMode": "ReadOnly" },
            { "name": "heating", "type": "BOOLEAN", "accessMode": "ReadWrite" },
        ] },
    })
}

fn device(up: &Up) -> Value {
    let property = |name: &str, simulate: &str| {
        json!({
            "name": name,
            "reportToCloud": true,
            "reportCycle": 1000,
            "visitors": { "protocolName": PROTOCOL, "configData": { "simulate": simulate } },
        })
    };
    let mut heating = property("heating", "obey");
    heating["desired"] = json!({ "value": "false" });
    json!({
        "metadata": { "name": NAME, "namespace": NAMESPACE },
        "spec": {
            "deviceModelRef": { "name": MODEL },
            "nodeName": up.node.as_str(),
            "protocol": { "protocolName": PROTOCOL },
            "properties": [
                property("temperature", "temperature"), property("visitors", "counter"), heating,
            ],
        },
    })
}

fn mapper(up: &Up) -> Value {
    // Of the edge node's files the mapper sees no more than the sockets.
    let sockets = super::edge::dmi_folder(up).into_string();
    json!({
        "metadata": { "name": MAPPER, "namespace": NAMESPACE, "labels": { "app": MAPPER } },
        "spec": {
            "nodeName": up.node.as_str(),
            "automountServiceAccountToken": false,
            "containers": [{
                "name": MAPPER,
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": [
                    PROGRAM, "mapper", "--simulate", "--protocol", PROTOCOL,
                    "--dmi-socket", format!("{sockets}/dmi.sock"),
                ],
                "resources": { "limits": { "memory": "64Mi" }, "requests": { "cpu": "10m" } },
                "volumeMounts": [{ "name": "sockets", "mountPath": sockets }],
            }],
            "volumes": [{
                "name": "sockets", "hostPath": { "path": sockets, "type": "Directory" },
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_model_is_one_that_the_webhook_takes() {
        let model: DeviceModel = serde_json::from_value(model()).unwrap();
        assert!(api::crd::check::model(&model).is_empty());
        assert_eq!(model.spec.properties.len(), 3);
    }
}
