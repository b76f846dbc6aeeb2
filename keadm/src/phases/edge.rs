//! The phases of `join`.
//!
//! Each finds what it needs on the disk, so that each runs alone.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use api::config::edgecore::EdgeCoreConfig;
use api::config::kubelet::EMBEDDED_RUNTIME;
use api::config::{ConfigErrors, Document};
use edgecore::certs::{CertError, CertSettings};
use hyper::StatusCode;
use service::tls::{self, ServerTrust};
use tokio::time::Instant;

use super::{Outcome, Phase, Step, complaint};
use crate::checks::{self, Check, edge, machine};
use crate::commands::config::{apply_settings, facts, refused};
use crate::commands::join::Join;
use crate::errors::{CommandError, Kind};
use crate::host::{ServiceSpec, ServiceState};
use crate::https::{self, Get, HostPort, utc};
use crate::made::{Installer, Made, Role};

/// Looks before anything is changed.
pub const PREFLIGHT: Phase<Join> = Phase {
    name: "preflight",
    about: "check this machine, the token and the way to the cloud",
    would: |join| {
        vec![
            "check root, memory, disk, clock, and that nothing is left of an earlier join".into(),
            format!("ask `{}` whether the name `{}` is free", join.https, join.node),
        ]
    },
    run: |join, step| Box::pin(preflight(join, step)),
};

/// Gets a certificate with the token.
pub const CERTS: Phase<Join> = Phase {
    name: "certs",
    about: "check the cloud's CA against the token and get a certificate",
    would: |join| {
        vec![
            format!("fetch `{}/ca.crt` and compare its hash with the token's", join.http_server()),
            format!("write `{}`, `{}` and `{}`", join.ca_file(), join.cert_file(), join.key_file()),
        ]
    },
    run: |join, _| Box::pin(certs(join)),
};

/// Writes `edgecore.yaml`.
pub const CONFIG: Phase<Join> = Phase {
    name: "config",
    about: "write edgecore.yaml",
    would: |join| {
        let path = join.cx.paths.edgecore_yaml();
        vec![format!("write `{path}` with node `{}` and runtime `{}`", join.node, join.runtime)]
    },
    run: |join, _| Box::pin(std::future::ready(config(join))),
};

/// Puts the program in its place.
pub const INSTALL: Phase<Join> = Phase {
    name: "install",
    about: "put this program into /usr/local/bin, with the link edgecore",
    would: |join| {
        let bin = join.cx.paths.bin();
        vec![format!("write `{}`", bin.join("keadm")), format!("link `{}`", bin.join("edgecore"))]
    },
    run: |join, _| Box::pin(std::future::ready(install(join))),
};

/// Starts the service.
pub const SERVICE: Phase<Join> = Phase {
    name: "service",
    about: "start edgecore as a service",
    would: |join| vec![format!("start `edgecore` as a {}", join.cx.host.service_manager())],
    run: |join, _| Box::pin(std::future::ready(start(join))),
};

/// Waits for the node.
pub const WAIT: Phase<Join> = Phase {
    name: "wait",
    about: "wait until the node is registered and edgecore is ready",
    would: |join| vec![format!("wait at most {} s", join.timeout.as_secs())],
    run: |join, step| Box::pin(wait(join, step)),
};

async fn preflight(join: &mut Join, step: Step) -> Outcome {
    let cx = &join.cx;
    let mut found = machine::all(cx);
    found.push(machine::no_process(
        cx,
        "edgecore",
        "is running already",
        "`keadm reset edge` stops it and removes what belongs to it",
    ));
    found.push(machine::no_process(
        cx,
        "kubelet",
        "is running: this machine is a node of another cluster",
        "stop it first; two of them would fight over the containers",
    ));
    found.push(clean(join)?);
    found.push(runtime(join));
    let local = [127, 0, 0, 1].into();
    found.push(machine::port(cx, local, 10350, "the local node API", ""));
    let admin = edgecore::ADMIN_PORT;
    found.push(machine::port(cx, local, admin, "edgecore's health and metrics", ""));
    found.push(token(join));
    step.waiting(format!("asking `{}`", join.https));
    found.extend(cloud(join).await);
    checks::preflight(cx, &found, Some(&join.ignore))
}

/// Left-overs of an earlier join would be mixed with the new one's files.
fn clean(join: &Join) -> Result<Check, CommandError> {
    let name = "Clean";
    let etc = join.cx.paths.etc();
    match Made::load(&join.cx, Role::Edge)? {
        Some(Made { complete: true, .. }) => Ok(Check::fail(
            name,
            Kind::Conflict,
            "this machine has joined a cloud already",
            "`keadm reset edge` takes it out; `keadm join --clean ..` does so and joins anew",
        )),
        Some(_) => Ok(Check::ok(name, "going on with an earlier attempt")),
        None => {
            let mut left = join.cx.host.list(&etc);
            // What `init` has made belongs to the other half.
            left.retain(|name| name != "keadm-cloud.json");
            let edge: Vec<String> =
                [join.cx.paths.edgecore_yaml(), join.ca_file(), join.cert_file()]
                    .into_iter()
                    .filter(|p| join.cx.host.exists(p))
                    .map(|p| format!("`{p}`"))
                    .collect();
            if edge.is_empty() {
                return Ok(Check::ok(name, "nothing is left of an earlier join"));
            }
            Ok(Check::fail(
                name,
                Kind::Conflict,
                format!("something is left of an earlier join: {}", edge.join(", ")),
                "`keadm join --clean ..` removes it first; `keadm reset edge` only removes it",
            ))
        }
    }
}

fn runtime(join: &Join) -> Check {
    let name = "Runtime";
    if join.runtime == EMBEDDED_RUNTIME {
        return Check::ok(name, "containers run in edgecore's own runtime");
    }
    let socket = join.runtime.trim_start_matches("unix://");
    if join.cx.host.exists(socket.into()) {
        return Check::ok(name, format!("the container runtime's socket `{socket}` is there"));
    }
    Check::fail(
        name,
        Kind::NotFound,
        format!("there is no container runtime at `{socket}`"),
        "start it (`systemctl start containerd`), or use our own: \
         `--remote-runtime-endpoint embedded`",
    )
}

fn token(join: &Join) -> Check {
    let name = "Token";
    let Some(token) = &join.token else {
        return Check::fail(
            name,
            Kind::Usage,
            "there is no token",
            "run `keadm gettoken` on the cloud side and give it with `--token`",
        );
    };
    let now = seconds(join.cx.host.now());
    match token.expires().map(|t| t.as_second().max(0) as u64) {
        Some(end) if end <= now => Check::fail(
            name,
            Kind::Refused,
            format!("the token expired at {}; this machine's clock says {}", utc(end), utc(now)),
            "run `keadm gettoken` on the cloud side for a new one",
        ),
        Some(end) => Check::ok(name, format!("the token is valid until {}", utc(end))),
        None => Check::ok(name, "the token does not expire"),
    }
}

/// Both ports, the clock and the name, in one go. The server is not verified yet: nothing that it
/// says here is trusted for more than a better error.
async fn cloud(join: &Join) -> Vec<Check> {
    let mut found = Vec::new();
    found.push(match https::connect(&join.link).await {
        Ok(_) => Check::ok("Cloud-Link", format!("`{}` answers", join.link)),
        Err(e) => Check::failed("Cloud-Link", &e),
    });
    let answer = async {
        let tls = tls::client_config(ServerTrust::Unverified, None, &[b"http/1.1"])
            .map_err(|e| CommandError::new(Kind::Failed, "cannot set up TLS").caused_by(&e))?;
        let path = format!("/node/{}", join.node);
        https::get(&join.https, tls, Get { path, ..Get::default() }).await
    };
    match answer.await {
        Err(e) => found.push(Check::failed("Cloud-Certs", &e)),
        Ok(answer) => {
            found.push(Check::ok("Cloud-Certs", format!("`{}` answers", join.https)));
            found.push(edge::skew(join.cx.host.now(), answer.date));
            found.push(name_free(join, answer.status));
        }
    }
    found
}

fn name_free(join: &Join, status: StatusCode) -> Check {
    let name = "Node-Name";
    let node = &join.node;
    match status {
        StatusCode::NOT_FOUND => Check::ok(name, format!("the name `{node}` is free")),
        // This machine may have been it: an attempt that failed later, or a lost disk.
        StatusCode::OK if join.cx.host.exists(&join.cert_file()) => {
            Check::ok(name, format!("`{node}` is there, and this machine has a certificate"))
        }
        StatusCode::OK => Check::fail(
            name,
            Kind::Conflict,
            format!("there is a node `{node}` already"),
            format!(
                "choose another name with `--edgenode-name`; if that machine is gone, \
                 `kubectl delete node {node}` on the cloud side"
            ),
        ),
        other => Check::skip(name, format!("whether `{node}` is free is not known ({other})")),
    }
}

fn settings(join: &Join) -> CertSettings {
    CertSettings {
        http_server: join.http_server(),
        node: join.node.clone(),
        ca_file: join.ca_file().into(),
        cert_file: join.cert_file().into(),
        key_file: join.key_file().into(),
        bootstrap_file: PathBuf::from(join.cx.paths.at("/etc/kubeedge/bootstrap-edgecore.conf")),
        token: join.token.clone(),
        limit: Duration::from_secs(8),
    }
}

async fn certs(join: &mut Join) -> Outcome {
    let installer = Installer::open(&join.cx, Role::Edge)?;
    for file in [join.ca_file(), join.cert_file(), join.key_file()] {
        if let Some(folder) = file.parent() {
            installer.folder(folder, 0o700)?;
        }
        installer.will_appear(&file)?;
    }
    let token = join.token.clone().ok_or_else(|| {
        CommandError::new(Kind::Usage, "there is no token")
            .hint("run `keadm gettoken` on the cloud side and give it with `--token`")
    })?;
    if let Err(e) = settings(join).bootstrap(&token).await {
        return Err(explain(join, &e).await);
    }
    Ok(format!("certificate for `system:node:{}`", join.node))
}

/// What a failed bootstrap means; for the trust of a certificate, ask once more to name the reason.
async fn explain(join: &Join, e: &CertError) -> CommandError {
    let cannot = format!("cannot get a certificate for `{}` from `{}`", join.node, join.https);
    let gettoken = "run `keadm gettoken` on the cloud side for a new token";
    let failed = |kind| CommandError::new(kind, cannot.clone());
    match e {
        CertError::TokenExpired { at } => failed(Kind::Refused)
            .because(format!("the token expired at {}", utc(at.as_second().max(0) as u64)))
            .hint(gettoken),
        CertError::TokenRefused { reason, .. } => failed(Kind::Refused)
            .because(format!("the cloud refuses the token: {reason}"))
            .hint(gettoken),
        CertError::OtherCa { found, wanted, .. } => failed(Kind::Refused)
            .because("its CA certificate is not the one that the token is for")
            .because(format!("SHA-256 of the certificate: {found}"))
            .because(format!("SHA-256 in the token:       {wanted}"))
            .hint("is it the right cloud? the token must be of the same cloudcore")
            .hint(gettoken),
        CertError::Refused { reason, status, .. } => {
            let kind = if *status == StatusCode::CONFLICT { Kind::Conflict } else { Kind::Refused };
            failed(kind).because(format!("the cloud says: {reason} ({status})")).hint(format!(
                "if that machine is gone: `kubectl delete node {}` on the cloud side",
                join.node
            ))
        }
        CertError::Link(_) | CertError::Tls(_) => {
            let roots = tls::load_certificates(join.ca_file().as_std_path()).and_then(tls::roots);
            let tls =
                roots.and_then(|r| tls::client_config(ServerTrust::Roots(r), None, &[b"http/1.1"]));
            let again = match tls {
                Ok(tls) => {
                    https::get(&join.https, tls, Get { path: "/ca.crt".into(), ..Get::default() })
                        .await
                        .err()
                }
                Err(_) => None,
            };
            again.unwrap_or_else(|| {
                let kind = if e.may_pass() { Kind::Unreachable } else { Kind::Refused };
                failed(kind).caused_by(e)
            })
        }
        CertError::File { path, source } => {
            let path = camino::Utf8Path::from_path(path).unwrap_or(camino::Utf8Path::new("?"));
            crate::errors::file_error("write", path, source)
        }
        other => failed(Kind::Failed).caused_by(other),
    }
}

fn config(join: &Join) -> Outcome {
    let document = document(join)?;
    let (_, warnings) = document.config().map_err(|e| refused(&e))?;
    crate::commands::config::warn(&join.cx, &warnings);
    let installer = Installer::open(&join.cx, Role::Edge)?;
    let yaml = document.to_yaml().map_err(|e| refused(&e))?;
    let path = join.cx.paths.edgecore_yaml();
    installer.file(&path, yaml.as_bytes(), 0o600)?;
    // What edgecore makes when it runs.
    for folder in ["/var/lib/kubeedge", "/var/lib/kubelet", "/var/lib/edged", "/var/log/kubeedge"] {
        installer.will_appear(&join.cx.paths.at(folder))?;
    }
    // The folder may have been there before; what lies in it is ours all the same.
    let files =
        ["edgecore.db", "edgecore.db-wal", "edgecore.db-shm", "edgecore.db.lock", "node-job.json"];
    for file in files {
        installer.will_appear(&join.cx.paths.lib().join(file))?;
    }
    for name in ["backup", "upgrade", "upgrade_report.json"] {
        installer.will_appear(&join.cx.paths.etc().join(name))?;
    }
    for name in ["pods", "local-api.token"] {
        installer.will_appear(&join.cx.paths.at("/var/lib/kubelet").join(name))?;
    }
    Ok(format!("`{path}`"))
}

fn document(join: &Join) -> Result<Document<EdgeCoreConfig>, CommandError> {
    let mut document = Document::<EdgeCoreConfig>::defaults(&facts(&join.cx));
    let fill = |document: &mut Document<EdgeCoreConfig>| -> Result<(), ConfigErrors> {
        let paths = &join.cx.paths;
        document.set_value("modules.edged.hostnameOverride", join.node.as_str())?;
        document.set_value("modules.edgeHub.httpServer", join.http_server())?;
        document.set_value("modules.edgeHub.websocket.server", join.link.to_string())?;
        let at = |port| HostPort { host: join.link.host.clone(), port }.to_string();
        document.set_value("modules.edgeStream.server", at(10004))?;
        document.set_value("modules.edgeStream.enable", true)?;
        // Upgrades are asked for by whoever may write NodeUpgradeJobs in the cloud.
        document.set_value("modules.taskManager.enable", true)?;
        for key in ["containerRuntimeEndpoint", "imageServiceEndpoint"] {
            let key = format!("modules.edged.tailoredKubeletConfig.{key}");
            document.set_value(&key, join.runtime.as_str())?;
        }
        let driver = join.cgroup_driver.as_str();
        document.set_value("modules.edged.tailoredKubeletConfig.cgroupDriver", driver)?;
        if !join.labels.is_empty() {
            let labels: serde_json::Map<String, serde_json::Value> =
                join.labels.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
            document.set_value("modules.edged.nodeLabels", serde_json::Value::Object(labels))?;
        }
        if paths.root() != "/" {
            document.set_value("modules.edgeHub.tlsCaFile", join.ca_file().as_str())?;
            document.set_value("modules.edgeHub.tlsCertFile", join.cert_file().as_str())?;
            document.set_value("modules.edgeHub.tlsPrivateKeyFile", join.key_file().as_str())?;
            let (ca, cert, key) = (join.ca_file(), join.cert_file(), join.key_file());
            document.set_value("modules.edgeStream.tlsTunnelCAFile", ca.as_str())?;
            document.set_value("modules.edgeStream.tlsTunnelCertFile", cert.as_str())?;
            document.set_value("modules.edgeStream.tlsTunnelPrivateKeyFile", key.as_str())?;
            let at = |path: &str| paths.at(path).into_string();
            document.set_value("database.dataSource", at("/var/lib/kubeedge/edgecore.db"))?;
            document.set_value("modules.edged.rootDirectory", at("/var/lib/kubelet"))?;
            document.set_value(
                "modules.edged.tailoredKubeletConfig.staticPodPath",
                at("/etc/kubeedge/manifests"),
            )?;
            document.set_value("modules.deviceTwin.dmiSockPath", at("/etc/kubeedge/"))?;
        }
        Ok(())
    };
    fill(&mut document).map_err(|e| refused(&e))?;
    apply_settings(&mut document, &join.settings)?;
    Ok(document)
}

fn install(join: &Join) -> Outcome {
    let installer = Installer::open(&join.cx, Role::Edge)?;
    let bin = join.cx.paths.bin();
    let program = bin.join("keadm");
    installer.program(&program)?;
    installer.link(&program, &bin.join("edgecore"))?;
    Ok(format!("`{}`", bin.join("edgecore")))
}

fn start(join: &Join) -> Outcome {
    let installer = Installer::open(&join.cx, Role::Edge)?;
    let mut command = vec![join.cx.paths.bin().join("edgecore").into_string()];
    if join.cx.paths.root() != "/" {
        command.push(format!("--root={}", join.cx.paths.root()));
    }
    installer.service(&ServiceSpec {
        name: "edgecore".to_owned(),
        about: "KubeEdge edgecore: the edge half".to_owned(),
        command,
        after: Vec::new(),
    })?;
    Ok(join.cx.host.service_manager().to_string())
}

/// Within this time a service that complains is given up.
const COMPLAINT_LIMIT: Duration = Duration::from_secs(8);

async fn wait(join: &mut Join, step: Step) -> Outcome {
    let started = Instant::now();
    let roots = tls::load_certificates(join.ca_file().as_std_path())
        .and_then(tls::roots)
        .and_then(|roots| tls::client_config(ServerTrust::Roots(roots), None, &[b"http/1.1"]))
        .map_err(|e| {
            CommandError::new(Kind::NotFound, "there is no CA certificate")
                .caused_by(&e)
                .hint("`keadm join phase certs ..` fetches it")
        })?;
    let local = HostPort { host: "127.0.0.1".to_owned(), port: edgecore::ADMIN_PORT };
    loop {
        let path = format!("/node/{}", join.node);
        let answer = https::get(&join.https, roots.clone(), Get { path, ..Get::default() }).await;
        let why = match answer {
            Err(e) => e.message().to_owned(),
            Ok(answer) if answer.status != StatusCode::OK => {
                "edgecore has not registered the node yet".to_owned()
            }
            Ok(_) => match https::get_plain(&local, "/readyz").await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    return Ok(format!("node `{}` is ready", join.node));
                }
                Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
                Err(_) => format!("edgecore does not answer on 127.0.0.1:{} yet", local.port),
            },
        };
        step.waiting(&why);
        let complaint = complaint(&join.cx.host.service_log("edgecore", 40));
        let stopped = join.cx.host.service_state("edgecore") != ServiceState::Running;
        let limit = if stopped || complaint.is_some() { COMPLAINT_LIMIT } else { join.timeout };
        if started.elapsed() >= limit.min(join.timeout) {
            let kind = if stopped { Kind::Failed } else { Kind::TimedOut };
            let error =
                CommandError::new(kind, format!("the node `{}` does not come up", join.node))
                    .because(why);
            let log = join.cx.paths.log().join("edgecore.log");
            let log = match join.cx.host.service_manager() {
                crate::host::ServiceManager::Systemd => "journalctl -u edgecore".to_owned(),
                crate::host::ServiceManager::Background => format!("tail {log}"),
            };
            return Err(complaint
                .into_iter()
                .fold(error, |error, line| error.because(format!("edgecore says: {line}")))
                .hint(format!("`{log}` shows all that it says; `keadm check edge` looks around")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
