//! The phases of `init`.
//!
//! Each finds what it needs in Kubernetes or on the disk, so that each runs alone.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Outcome, Phase, Step, complaint};
use crate::checks::{self, Check, Verdict, machine};
use crate::cloud::Cloud;
use crate::commands::config::{read_cloudcore, refused};
use crate::commands::init::Init;
use crate::errors::{CommandError, Kind};
use crate::host::{ServiceSpec, ServiceState};
use crate::https::{self, HostPort};
use crate::made::{Installer, Made, Role};
use crate::objects::{self, ACCOUNT_TOKEN, NAMESPACE};

/// Looks before anything is changed.
pub const PREFLIGHT: Phase<Init> = Phase {
    name: "preflight",
    about: "check this machine and the way to Kubernetes",
    would: |init| {
        let mut lines = vec![
            "check root, memory, disk, clock, and that ports 10000 and 10002 to 10004 are free"
                .into(),
        ];
        if !init.embedded {
            lines.push("check the version of Kubernetes and what its user may do".into());
        }
        lines
    },
    run: |init, step| Box::pin(preflight(init, step)),
};

/// Puts the program in its place.
pub const INSTALL: Phase<Init> = Phase {
    name: "install",
    about: "put this program into /usr/local/bin, with the link cloudcore",
    would: |init| {
        let bin = init.cx.paths.bin();
        vec![format!("write `{}`", bin.join("keadm")), format!("link `{}`", bin.join("cloudcore"))]
    },
    run: |init, _| Box::pin(std::future::ready(install(init))),
};

/// Starts the own control plane.
pub const CONTROL_PLANE: Phase<Init> = Phase {
    name: "control-plane",
    about: "start the own control plane as a service and wait until it answers",
    would: |init| {
        vec![
            format!("keep its data below `{}`", init.control_plane_data()),
            format!("start `control-plane` as a {}", init.cx.host.service_manager()),
            format!("write `{}`", init.admin_kubeconfig()),
        ]
    },
    run: |init, step| Box::pin(control_plane(init, step)),
};

/// Makes the namespace.
pub const KUBERNETES: Phase<Init> = Phase {
    name: "namespace",
    about: "make the namespace kubeedge",
    would: |_| vec!["apply Namespace `kubeedge`".into()],
    run: |init, step| {
        Box::pin(async move {
            await_deletion(init, &step).await?;
            apply(init, vec![objects::namespace()]).await
        })
    },
};

/// Makes the definitions of KubeEdge's kinds.
pub const CRDS: Phase<Init> = Phase {
    name: "crds",
    about: "define KubeEdge's kinds: devices, rules, jobs ...",
    would: |_| {
        objects::crds().iter().map(|c| format!("apply {}", crate::cloud::describe(c))).collect()
    },
    run: |init, step| {
        Box::pin(async move {
            let cloud = init.kube.client(&init.cx).await?;
            let all = objects::crds();
            cloud.define(&all, init.timeout, &step).await?;
            Ok(format!("{} kinds", all.len()))
        })
    },
};

/// Makes cloudcore's account.
pub const RBAC: Phase<Init> = Phase {
    name: "rbac",
    about: "make cloudcore's service account, its role and its kubeconfig",
    would: |init| {
        let mut lines: Vec<String> = objects::rbac()
            .iter()
            .map(|o| format!("apply {}", crate::cloud::describe(o)))
            .collect();
        lines.push(format!("write `{}`", init.cloudcore_kubeconfig()));
        lines
    },
    run: |init, step| Box::pin(rbac(init, step)),
};

/// Writes `cloudcore.yaml`.
pub const CONFIG: Phase<Init> = Phase {
    name: "config",
    about: "write cloudcore.yaml, here and into the ConfigMap kubeedge/cloudcore",
    would: |init| {
        vec![format!(
            "write `{}` for {}",
            init.cx.paths.cloudcore_yaml(),
            init.advertise.join(", ")
        )]
    },
    run: |init, _| Box::pin(config(init)),
};

/// Makes the CA, the certificate and the token.
pub const SECRETS: Phase<Init> = Phase {
    name: "secrets",
    about: "make the CA, cloudcore's certificate and the first token",
    would: |_| {
        vec![
            "make what is absent of the secrets `casecret`, `cloudcoresecret`, `tokensecret`"
                .into(),
        ]
    },
    run: |init, _| Box::pin(secrets(init)),
};

/// Starts the service.
pub const SERVICE: Phase<Init> = Phase {
    name: "service",
    about: "start cloudcore as a service",
    would: |init| vec![format!("start `cloudcore` as a {}", init.cx.host.service_manager())],
    run: |init, _| Box::pin(std::future::ready(start(init))),
};

/// Waits for cloudcore.
pub const WAIT: Phase<Init> = Phase {
    name: "wait",
    about: "wait until cloudcore is ready",
    would: |init| vec![format!("wait at most {} s", init.timeout.as_secs())],
    run: |init, step| Box::pin(wait(init, step)),
};

async fn preflight(init: &mut Init, step: Step) -> Outcome {
    let cx = &init.cx;
    let mut found = machine::all(cx);
    let made = Made::load(cx, Role::Cloud)?;
    let ours = made.is_some();
    match made {
        Some(Made { complete: true, .. }) if !init.force => found.push(Check::fail(
            "Clean",
            Kind::Conflict,
            "this machine is a cloud side already",
            "`keadm reset cloud` removes it; `--force` writes it anew and keeps its data",
        )),
        _ => found.push(Check::ok("Clean", "this machine is no cloud side yet")),
    }
    if !init.force && !ours {
        found.push(machine::no_process(
            cx,
            "cloudcore",
            "is running already",
            "stop it, or say `--force`",
        ));
    }
    if !ours {
        found.push(machine::port(cx, machine::ANY, 10000, "the links of edges", ""));
        found.push(machine::port(cx, machine::ANY, 10002, "certificates of edges", ""));
        found.push(machine::port(cx, machine::ANY, 10003, "logs and exec of edges", ""));
        found.push(machine::port(cx, machine::ANY, 10004, "the tunnels of edges", ""));
        if init.embedded {
            let other = ", or choose another with `--api-port`";
            found.push(machine::port(cx, machine::ANY, init.api_port, "the API server", other));
        }
    }
    if !init.embedded {
        match init.kube.client(cx).await {
            Err(e) => found.push(Check::failed("API-Server", &e)),
            Ok(cloud) => {
                step.waiting(format!("asking `{}`", cloud.server));
                let server = checks::cloud::api_server(&cloud).await;
                if server.status == Verdict::Ok {
                    found.push(permissions(&cloud).await);
                }
                found.push(server);
            }
        }
    }
    checks::preflight(cx, &found, Some(&init.ignore))
}

/// What `init` needs to do, asked before it is tried.
async fn permissions(cloud: &Cloud) -> Check {
    let name = "Permissions";
    let api: Api<SelfSubjectAccessReview> = Api::all(cloud.client.clone());
    let mut refused = Vec::new();
    for (group, resource) in [
        ("", "namespaces"),
        ("", "secrets"),
        ("", "serviceaccounts"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ] {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        match api.create(&PostParams::default(), &review).await {
            Ok(answer) if answer.status.as_ref().is_some_and(|s| s.allowed) => {}
            Ok(_) => refused.push(resource),
            Err(e) => return Check::failed(name, &cloud.error("ask what may be done", &e)),
        }
    }
    if refused.is_empty() {
        return Check::ok(name, "the kubeconfig's user may create all that is needed");
    }
    Check::fail(
        name,
        Kind::Refused,
        format!("the kubeconfig's user may not create {}", refused.join(", ")),
        "use the kubeconfig of a cluster administrator",
    )
}

fn install(init: &Init) -> Outcome {
    let installer = Installer::open(&init.cx, Role::Cloud)?;
    let bin = init.cx.paths.bin();
    let program = bin.join("keadm");
    installer.program(&program)?;
    installer.link(&program, &bin.join("cloudcore"))?;
    for folder in ["/var/lib/kubeedge", "/var/log/kubeedge"] {
        installer.will_appear(&init.cx.paths.at(folder))?;
    }
    Ok(format!("`{}`", bin.join("cloudcore")))
}

async fn control_plane(init: &mut Init, step: Step) -> Outcome {
    let installer = Installer::open(&init.cx, Role::Cloud)?;
    installer.folder(&init.control_plane_data(), 0o700)?;
    installer.folder(&init.cx.paths.config(), 0o755)?;
    installer.will_appear(&init.admin_kubeconfig())?;
    let mut command = vec![init.cx.paths.bin().join("keadm").into_string()];
    if init.cx.paths.root() != "/" {
        command.push(format!("--root={}", init.cx.paths.root()));
    }
    command.push("control-plane".to_owned());
    command.push(format!("--data-dir={}", init.control_plane_data()));
    command.push(format!("--port={}", init.api_port));
    command.push(format!("--kubeconfig={}", init.admin_kubeconfig()));
    if !init.advertise.is_empty() {
        command.push(format!("--advertise-address={}", init.advertise.join(",")));
    }
    installer.service(&ServiceSpec {
        name: "control-plane".to_owned(),
        about: "keadm control-plane: a Kubernetes API server for one machine".to_owned(),
        command,
        after: Vec::new(),
    })?;
    let started = Instant::now();
    loop {
        let why = match init.kube.client(&init.cx).await {
            Err(e) => e.message().to_owned(),
            Ok(cloud) => match cloud.client.apiserver_version().await {
                Ok(version) => return Ok(format!("{} at {}", version.git_version, cloud.server)),
                Err(e) => cloud.error("reach it", &e).causes().join(": "),
            },
        };
        step.waiting(&why);
        if started.elapsed() > patience(init, "control-plane") {
            return Err(not_up(init, "control-plane", why));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A namespace that is on its way out, as after `reset cloud`, takes in nothing new.
async fn await_deletion(init: &Init, step: &Step) -> Result<(), CommandError> {
    let cloud = init.kube.client(&init.cx).await?;
    let namespaces: Api<Namespace> = Api::all(cloud.client.clone());
    let started = Instant::now();
    loop {
        let found = namespaces.get_opt(NAMESPACE).await;
        let found = found.map_err(|e| cloud.error("read the namespace `kubeedge`", &e))?;
        if found.is_none_or(|n| n.metadata.deletion_timestamp.is_none()) {
            return Ok(());
        }
        step.waiting("the old namespace `kubeedge` is still being deleted");
        if started.elapsed() > init.timeout {
            return Err(CommandError::new(
                Kind::TimedOut,
                "the namespace `kubeedge` is still being deleted",
            )
            .hint("`kubectl get namespace kubeedge -o yaml` says what it waits for"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn apply(init: &Init, all: Vec<Value>) -> Outcome {
    let cloud = init.kube.client(&init.cx).await?;
    let note = match all.as_slice() {
        [one] => crate::cloud::describe(one),
        many => format!("{} objects", many.len()),
    };
    for object in all {
        cloud.apply(&object).await?;
    }
    Ok(note)
}

async fn rbac(init: &mut Init, step: Step) -> Outcome {
    let cloud = init.kube.client(&init.cx).await?;
    for object in objects::rbac() {
        cloud.apply(&object).await?;
    }
    step.waiting("waiting for the token of cloudcore's account");
    // Our own control plane fills no such secrets.
    let patience = if init.embedded { Duration::ZERO } else { Duration::from_secs(3) };
    let token = account_token(&cloud, patience).await?;
    let kubeconfig = kubeconfig(&cloud, &token)?;
    let installer = Installer::open(&init.cx, Role::Cloud)?;
    let path = init.cloudcore_kubeconfig();
    installer.file(&path, kubeconfig.as_bytes(), 0o600)?;
    Ok(format!("`{path}`"))
}

/// A token of cloudcore's service account that does not end: from the secret that the cluster
/// fills, or else by a request.
async fn account_token(cloud: &Cloud, patience: Duration) -> Result<String, CommandError> {
    let what = format!("read the secret `{NAMESPACE}/{ACCOUNT_TOKEN}`");
    let secrets: Api<Secret> = Api::namespaced(cloud.client.clone(), NAMESPACE);
    let started = Instant::now();
    while started.elapsed() < patience {
        let secret = secrets.get(ACCOUNT_TOKEN).await.map_err(|e| cloud.error(&what, &e))?;
        if let Some(token) = secret.data.as_ref().and_then(|d| d.get("token")) {
            return Ok(String::from_utf8_lossy(&token.0).into_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ten_years = 10 * 365 * 86_400;
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(ten_years),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(cloud.client.clone(), NAMESPACE);
    let answer = accounts
        .create_token_request(objects::NAME, &PostParams::default(), &request)
        .await
        .map_err(|e| cloud.error("get a token for the service account `kubeedge/cloudcore`", &e))?;
    tracing::debug!(name = answer.name_any(), "token of the service account by request");
    answer.status.and_then(|s| s.token).ok_or_else(|| {
        CommandError::new(Kind::Failed, "the API server gave no token for cloudcore's account")
    })
}

/// A kubeconfig for cloudcore: the cluster of the given one, and the account's token.
fn kubeconfig(cloud: &Cloud, token: &str) -> Result<String, CommandError> {
    let wrong = |e: &(dyn std::error::Error + 'static)| {
        CommandError::new(Kind::Failed, format!("the kubeconfig `{}` cannot be used", cloud.file))
            .caused_by(e)
    };
    let given = Kubeconfig::read_from(&cloud.file).map_err(|e| wrong(&e))?;
    let current = given.current_context.clone().unwrap_or_default();
    let context = given.contexts.iter().find(|c| c.name == current).and_then(|c| c.context.clone());
    let cluster = context
        .and_then(|c| given.clusters.iter().find(|n| n.name == c.cluster)?.cluster.clone())
        .ok_or_else(|| {
            CommandError::new(Kind::Failed, format!("`{}` has no current context", cloud.file))
                .hint("`kubectl config use-context NAME` chooses one")
        })?;
    let ca = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => Some(data.clone()),
        (None, Some(file)) => Some(STANDARD.encode(std::fs::read(file).map_err(|e| wrong(&e))?)),
        (None, None) => None,
    };
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "kubernetes", "cluster": {
            "server": cluster.server,
            "certificate-authority-data": ca,
            "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
            "tls-server-name": cluster.tls_server_name,
        }}],
        "users": [{ "name": "cloudcore", "user": { "token": token } }],
        "contexts": [{ "name": "cloudcore", "context": {
            "cluster": "kubernetes", "user": "cloudcore",
        }}],
        "current-context": "cloudcore",
    });
    api::config::yaml::write(&without_nulls(value)).map_err(|e| {
        CommandError::new(Kind::Failed, "cloudcore's kubeconfig cannot be written").because(e)
    })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

async fn config(init: &mut Init) -> Outcome {
    let document = init.document()?;
    let (_, warnings) = document.config().map_err(|e| refused(&e))?;
    crate::commands::config::warn(&init.cx, &warnings);
    let yaml = document.to_yaml().map_err(|e| refused(&e))?;
    let installer = Installer::open(&init.cx, Role::Cloud)?;
    let path = init.cx.paths.cloudcore_yaml();
    installer.file(&path, yaml.as_bytes(), 0o640)?;
    let cloud = init.kube.client(&init.cx).await?;
    cloud.apply(&objects::config_map(&yaml)).await?;
    Ok(format!("`{path}`"))
}

async fn secrets(init: &mut Init) -> Outcome {
    let cloud = init.kube.client(&init.cx).await?;
    let (config, _) = read_cloudcore(&init.cx, &init.cx.paths.cloudcore_yaml())?;
    crate::pki::prepare_pki(&cloud, &config).await?;
    Ok("casecret, cloudcoresecret, tokensecret".to_owned())
}

fn start(init: &Init) -> Outcome {
    let installer = Installer::open(&init.cx, Role::Cloud)?;
    let mut command = vec![init.cx.paths.bin().join("cloudcore").into_string()];
    if init.cx.paths.root() != "/" {
        command.push(format!("--root={}", init.cx.paths.root()));
    }
    installer.service(&ServiceSpec {
        name: "cloudcore".to_owned(),
        about: "KubeEdge cloudcore: the cloud half".to_owned(),
        command,
        after: if init.embedded { vec!["control-plane".to_owned()] } else { Vec::new() },
    })?;
    Ok(init.cx.host.service_manager().to_string())
}

async fn wait(init: &mut Init, step: Step) -> Outcome {
    let (config, _) = read_cloudcore(&init.cx, &init.cx.paths.cloudcore_yaml())?;
    let admin = config.common_config.monitor_server.bind_address;
    let at = HostPort { host: admin.ip().to_string(), port: admin.port() };
    let started = Instant::now();
    loop {
        let why = match https::get_plain(&at, "/readyz").await {
            Ok(answer) if answer.status.is_success() => {
                return Ok(format!(
                    "edges can join at port {}",
                    config.modules.cloud_hub.websocket.port
                ));
            }
            Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
            Err(_) => format!("cloudcore does not answer at `{at}` yet"),
        };
        step.waiting(&why);
        if started.elapsed() > patience(init, "cloudcore") {
            return Err(not_up(init, "cloudcore", why));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Within this time a service that complains is given up.
const COMPLAINT_LIMIT: Duration = Duration::from_secs(8);

/// How long to wait for a service: not long if it is stopped or complains.
fn patience(init: &Init, name: &str) -> Duration {
    let host = &init.cx.host;
    let hopeless = host.service_state(name) != ServiceState::Running
        || complaint(&host.service_log(name, 40)).is_some();
    if hopeless { COMPLAINT_LIMIT.min(init.timeout) } else { init.timeout }
}

/// A service that does not come up, with what it says.
fn not_up(init: &Init, name: &str, why: String) -> CommandError {
    let mut error =
        CommandError::new(Kind::TimedOut, format!("`{name}` does not come up")).because(why);
    if let Some(line) = complaint(&init.cx.host.service_log(name, 40)) {
        error = error.because(format!("{name} says: {line}"));
    }
    let log = match init.cx.host.service_manager() {
        crate::host::ServiceManager::Systemd => format!("journalctl -u {name}"),
        crate::host::ServiceManager::Background => {
            format!("tail {}", init.cx.paths.log().join(format!("{name}.log")))
        }
    };
    error.hint(format!("`{log}` shows all that it says; `keadm check cloud` looks around"))
}
