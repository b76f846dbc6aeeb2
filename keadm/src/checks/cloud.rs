//! The cloud side: its file, its service, the API server, the certificate that edges will see.

use std::time::Duration;

use api::config::CloudCoreConfig;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use service::tls;

use super::edge::{lifetime, service};
use super::{Check, machine};
use crate::cloud::{Cloud, KubeConfigArg};
use crate::commands::config::read_cloudcore;
use crate::context::Context;
use crate::errors::Kind;
use crate::https::{self, Get, HostPort};

/// The oldest minor version of Kubernetes that is supported.
pub const OLDEST_MINOR: u32 = 28;

/// The cloud side as a whole.
pub async fn all(cx: &Context, kube: &KubeConfigArg) -> Vec<Check> {
    let path = cx.paths.cloudcore_yaml();
    let mut checks = Vec::new();
    let config = match read_cloudcore(cx, &path) {
        Ok((config, warnings)) => {
            checks.push(match warnings.first() {
                None => Check::ok("Configuration", format!("`{path}` is valid")),
                Some(warning) => Check::warn(
                    "Configuration",
                    format!("`{path}`: {warning}"),
                    "remove or correct them",
                ),
            });
            Some(config)
        }
        Err(e) => {
            checks.push(Check::failed("Configuration", &e));
            None
        }
    };
    checks.push(service(cx, "cloudcore"));
    if let Some(config) = &config {
        checks.extend(running(cx, config).await);
    }
    match kube.client(cx).await {
        Err(e) => checks.push(Check::failed("API-Server", &e)),
        Ok(cloud) => {
            checks.push(api_server(&cloud).await);
            if let Some(config) = &config {
                checks.extend(secrets(cx, &cloud, config).await);
            }
        }
    }
    checks
}

/// What cloudcore itself says, and what edges will see of it.
async fn running(cx: &Context, config: &CloudCoreConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    let admin = config.common_config.monitor_server.bind_address;
    let at = HostPort { host: admin.ip().to_string(), port: admin.port() };
    checks.push(match https::get_plain(&at, "/readyz").await {
        Ok(answer) if answer.status.is_success() => Check::ok("Ready", "cloudcore is ready"),
        Ok(answer) => Check::fail(
            "Ready",
            Kind::Unhealthy,
            format!("cloudcore is {}", String::from_utf8_lossy(&answer.body).trim()),
            "its log says what it waits for",
        ),
        Err(e) => Check::failed("Ready", &e),
    });
    let hub = &config.modules.cloud_hub;
    let to = |port| HostPort { host: "127.0.0.1".to_owned(), port };
    checks.push(match https::connect(&to(hub.websocket.port)).await {
        Ok(_) => {
            let message = format!("port {} takes links of edge nodes", hub.websocket.port);
            Check::ok("Port-Link", message)
        }
        Err(e) => Check::failed("Port-Link", &e),
    });
    let blind = tls::client_config(tls::ServerTrust::Unverified, None, &[b"http/1.1"]);
    checks.push(match blind {
        Err(e) => Check::fail("Port-Certs", Kind::Failed, service::error_chain(&e), ""),
        Ok(tls) => {
            let get = Get { path: "/ca.crt".to_owned(), ..Get::default() };
            match https::get(&to(hub.https.port), tls, get).await {
                Ok(_) => {
                    let message = format!("port {} hands out certificates", hub.https.port);
                    Check::ok("Port-Certs", message)
                }
                Err(e) => Check::failed("Port-Certs", &e),
            }
        }
    });
    checks.push(machine::clock(cx));
    checks
}

/// Whether the API server answers and is new enough.
pub async fn api_server(cloud: &Cloud) -> Check {
    let name = "API-Server";
    let asked = cloud.client.apiserver_version();
    let version = match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(Ok(version)) => version,
        Ok(Err(e)) => {
            return Check::failed(name, &cloud.error("ask the API server for its version", &e));
        }
        Err(_) => {
            return Check::fail(
                name,
                Kind::TimedOut,
                format!("the API server at `{}` does not answer within 10 s", cloud.server),
                format!("is it reachable from here? try `curl -k {}/version`", cloud.server),
            );
        }
    };
    let minor: u32 = version
        .minor
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap_or(0);
    if version.major == "1" && minor < OLDEST_MINOR {
        return Check::fail(
            name,
            Kind::Unsupported,
            format!("the API server at `{}` is Kubernetes {}", cloud.server, version.git_version),
            format!("1.{OLDEST_MINOR} is the oldest that is supported"),
        );
    }
    Check::ok(name, format!("the API server at `{}` is {}", cloud.server, version.git_version))
}

/// The server certificate that edges will see: how long it lasts, and whether it names the
/// addresses that are advertised.
async fn secrets(cx: &Context, cloud: &Cloud, config: &CloudCoreConfig) -> Vec<Check> {
    let name = "Certificate";
    let what = "the secret `kubeedge/cloudcoresecret`";
    let api: Api<Secret> = Api::namespaced(cloud.client.clone(), "kubeedge");
    let secret = match api.get_opt("cloudcoresecret").await {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return vec![Check::fail(
                name,
                Kind::NotFound,
                format!("there is no {}", what.trim_start_matches("the ")),
                "cloudcore makes it when it starts",
            )];
        }
        Err(e) => return vec![Check::failed(name, &cloud.error(&format!("read {what}"), &e))],
    };
    let Some(der) = secret.data.as_ref().and_then(|d| d.get("cloudcoredata")).map(|b| &b.0) else {
        return vec![Check::fail(
            name,
            Kind::Failed,
            format!("{what} holds no certificate"),
            "delete it and restart cloudcore, which makes a new one",
        )];
    };
    let renew = "delete the secret and restart cloudcore, which makes a new one";
    let validity = super::edge::validity(der);
    let mut checks =
        vec![lifetime(name, "cloudcore's certificate", validity, cx.host.now(), renew)];
    let named = names(der);
    let missing: Vec<&str> = config
        .modules
        .cloud_hub
        .subject_names()
        .filter(|wanted| !named.iter().any(|name| name == wanted))
        .collect();
    checks.push(if missing.is_empty() {
        Check::ok(
            "Certificate-Names",
            format!("cloudcore's certificate names {}", named.join(", ")),
        )
    } else {
        Check::fail(
            "Certificate-Names",
            Kind::Failed,
            format!("cloudcore's certificate does not name {}", missing.join(", ")),
            "restart cloudcore: it signs anew when the advertised addresses have changed",
        )
    });
    checks
}

/// The addresses and names in a certificate.
fn names(der: &[u8]) -> Vec<String> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return Vec::new() };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) if !name.is_empty() => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}
