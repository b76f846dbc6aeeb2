//! What goes into a volume: from config maps, secrets, tokens and the pod itself.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};

use super::super::cluster::Cluster;
use super::super::env::{self, Facts};
use super::super::podspec;
use super::super::resources::Machine;
use super::hostpath::HostPath;
use super::{Content, File, Payload, config_map_data, secret_data};

/// What content is made from.
pub(super) struct Source<'a> {
    pub(super) cluster: &'a dyn Cluster,
    pub(super) pod: &'a Pod,
    pub(super) facts: &'a Facts,
    pub(super) machine: &'a Machine,
}

impl Source<'_> {
    /// The content of a volume, or why it cannot be had.
    pub(super) async fn content(&self, v: &Volume) -> Result<Content, String> {
        if let Some(c) = &v.config_map {
            let wish = Wish {
                items: c.items.as_deref(),
                mode: mode(c.default_mode),
                optional: c.optional == Some(true),
            };
            return self.config_map(&c.name, &wish).await.map(Content::Files);
        }
        if let Some(s) = &v.secret {
            let wish = Wish {
                items: s.items.as_deref(),
                mode: mode(s.default_mode),
                optional: s.optional == Some(true),
            };
            let name = s.secret_name.as_deref().unwrap_or_default();
            return self.secret(name, &wish).await.map(Content::SecretFiles);
        }
        if let Some(p) = &v.projected {
            return self.projected(p).await.map(Content::SecretFiles);
        }
        if let Some(d) = &v.downward_api {
            let items = d.items.as_deref().unwrap_or_default();
            return self.downward(items, mode(d.default_mode)).map(Content::Files);
        }
        if let Some(h) = &v.host_path {
            return Ok(Content::Host(HostPath::of(h)));
        }
        if let Some(e) = &v.empty_dir {
            return Ok(Content::Empty(e.clone()));
        }
        Err("volumes of this kind are not supported on this edge".to_owned())
    }

    async fn config_map(&self, name: &str, wish: &Wish<'_>) -> Result<Payload, String> {
        let found = self.cluster.config_map(podspec::namespace(self.pod), name).await;
        let found = found.map(|f| f.map(config_map_data)).map_err(|e| e.0);
        wish.payload(found, "configmap", "config", name)
    }

    async fn secret(&self, name: &str, wish: &Wish<'_>) -> Result<Payload, String> {
        let found = self.cluster.secret(podspec::namespace(self.pod), name).await;
        let found = found.map(|f| f.map(secret_data)).map_err(|e| e.0);
        wish.payload(found, "secret", "secret", name)
    }

    async fn projected(&self, p: &ProjectedVolumeSource) -> Result<Payload, String> {
        let mode = mode(p.default_mode);
        let mut all = Payload::new();
        for source in p.sources.iter().flatten() {
            all.extend(self.projection(source, mode).await?);
        }
        Ok(all)
    }

    async fn projection(&self, p: &VolumeProjection, mode: u32) -> Result<Payload, String> {
        if let Some(c) = &p.config_map {
            let wish = Wish { items: c.items.as_deref(), mode, optional: c.optional == Some(true) };
            return self.config_map(&c.name, &wish).await;
        }
        if let Some(s) = &p.secret {
            let wish = Wish { items: s.items.as_deref(), mode, optional: s.optional == Some(true) };
            return self.secret(&s.name, &wish).await;
        }
        if let Some(d) = &p.downward_api {
            return self.downward(d.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(t) = &p.service_account_token {
            return self.token(t, mode).await;
        }
        Err("projections of this kind are not supported on this edge".to_owned())
    }

    async fn token(&self, t: &ServiceAccountTokenProjection, mode: u32) -> Result<Payload, String> {
        let spec = podspec::spec(self.pod);
        let account = spec.service_account_name.as_deref().unwrap_or("default");
        let audiences = t.audience.clone().filter(|a| !a.is_empty()).map(|a| vec![a]);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences,
                expiration_seconds: Some(t.expiration_seconds.unwrap_or(3600)),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = self.cluster.token(podspec::namespace(self.pod), account, request).await;
        let answer = answer.map_err(|e| format!("failed to fetch token: {e}"))?;
        let token = answer.status.and_then(|s| s.token).unwrap_or_default();
        if token.is_empty() {
            return Err("failed to fetch token: the answer holds none".to_owned());
        }
        Ok([(t.path.clone(), File { data: token.into_bytes(), mode })].into())
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: u32) -> Result<Payload, String> {
        let mut payload = Payload::new();
        for item in items {
            let value = if let Some(f) = &item.field_ref {
                env::field(self.pod, &f.field_path, self.facts)
            } else if let Some(r) = &item.resource_field_ref {
                let name = r.container_name.as_deref().unwrap_or_default();
                let (c, _) = podspec::container(self.pod, name)
                    .ok_or_else(|| format!("container {name} not found"))?;
                env::resource(&c, &r.resource, r.divisor.as_ref(), self.machine)
            } else {
                continue;
            };
            let data = value.map_err(|e| e.0)?.into_bytes();
            let mode = self::item_mode(item.mode, mode);
            payload.insert(item.path.clone(), File { data, mode });
        }
        Ok(payload)
    }
}

fn mode(default: Option<i32>) -> u32 {
    item_mode(default, 0o644)
}

fn item_mode(mode: Option<i32>, default: u32) -> u32 {
    mode.and_then(|m| u32::try_from(m).ok()).map_or(default, |m| m & 0o777)
}

/// Which keys of an object become which files.
struct Wish<'a> {
    items: Option<&'a [KeyToPath]>,
    mode: u32,
    optional: bool,
}

impl Wish<'_> {
    fn payload(
        &self,
        found: Result<Option<BTreeMap<String, Vec<u8>>>, String>,
        kind: &str,
        short: &str,
        name: &str,
    ) -> Result<Payload, String> {
        let mut data = match found {
            Ok(Some(data)) => data,
            Ok(None) | Err(_) if self.optional => return Ok(Payload::new()),
            Ok(None) => return Err(format!("{kind} \"{name}\" not found")),
            Err(e) => return Err(e),
        };
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            let file = |data| File { data, mode: self.mode };
            return Ok(data.into_iter().map(|(k, v)| (k, file(v))).collect());
        };
        let mut payload = Payload::new();
        for item in items {
            match data.get_mut(&item.key) {
                Some(value) => {
                    let mode = item_mode(item.mode, self.mode);
                    payload.insert(item.path.clone(), File { data: value.clone(), mode });
                }
                None if self.optional => {}
                None => return Err(format!("references non-existent {short} key: {}", item.key)),
            }
        }
        Ok(payload)
    }
}
