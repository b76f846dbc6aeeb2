//! The Kubernetes API, as `init`, `gettoken`, `reset` and `check` need it.
//!
//! Owns: which kubeconfig is meant, and what an error of the API means to a person.
//! Called by: the commands of the cloud side.
//! Never: keeps anything between two calls.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::Value;
use tokio::time::Instant;

use crate::commands::RequestTimeoutArg;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::phases::Step;

/// Which API server.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct KubeConfigArg {
    /// The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]
    #[arg(
        long = "kube-config",
        visible_alias = "kubeconfig",
        value_name = "FILE",
        env = "KUBECONFIG",
        hide_env_values = true
    )]
    pub kube_config: Option<Utf8PathBuf>,
    /// The context of the kubeconfig to use [default: its current one]
    #[arg(long, value_name = "NAME", env = "KEADM_CONTEXT", hide_env_values = true)]
    pub context: Option<String>,
}

impl KubeConfigArg {
    /// A file of the kubeconfig's form, and its current context.
    pub fn of_file(file: Utf8PathBuf) -> Self {
        Self { kube_config: Some(file), context: None }
    }

    /// Whether a cluster is named, not just found. Empty, as `KUBECONFIG=` in a shell, is as good as
    /// none.
    pub fn is_named(&self) -> bool {
        let file = self.kube_config.as_ref().is_some_and(|file| !file.as_str().is_empty());
        file || self.context().is_some()
    }

    fn context(&self) -> Option<String> {
        self.context.clone().filter(|name| !name.is_empty())
    }

    /// The file that is meant.
    ///
    /// # Errors
    /// When there is none.
    pub fn file(&self, cx: &Context) -> Result<Utf8PathBuf, CommandError> {
        let embedded = cx.paths.config().join("admin.kubeconfig");
        match &self.kube_config {
            Some(file) if !file.as_str().is_empty() => {
                if cx.host.exists(file) {
                    return Ok(file.clone());
                }
                Err(CommandError::new(Kind::NotFound, format!("there is no kubeconfig `{file}`"))
                    .hint("give another with `--kube-config FILE`"))
            }
            _ => {
                let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
                let usual = Utf8PathBuf::from(home).join(".kube/config");
                [usual, embedded].into_iter().find(|f| cx.host.exists(f)).ok_or_else(|| {
                    CommandError::new(Kind::NotFound, "there is no kubeconfig on this machine")
                        .hint("give one with `--kube-config FILE`")
                        .hint("without a Kubernetes: `keadm init --embedded` makes one")
                })
            }
        }
    }

    /// A client, and the address it speaks to.
    ///
    /// # Errors
    /// When there is no kubeconfig or it makes no sense.
    pub async fn client(&self, cx: &Context) -> Result<Cloud, CommandError> {
        self.client_with(cx, Some(Duration::from_secs(15))).await
    }

    /// The same with another limit for an answer; `None` for a client that also watches.
    ///
    /// # Errors
    /// As [`KubeConfigArg::client`].
    pub async fn client_with(
        &self,
        cx: &Context,
        limit: Option<Duration>,
    ) -> Result<Cloud, CommandError> {
        let file = self.file(cx)?;
        let context = self.context();
        let mut config = read(&file, context.as_deref()).await?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = limit;
        config.write_timeout = limit;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|e| unusable(&file, &e))?;
        Ok(Cloud { client, server: server.trim_end_matches('/').to_owned(), file, context })
    }
}

fn unusable(file: &Utf8Path, e: &(dyn std::error::Error + 'static)) -> CommandError {
    CommandError::new(Kind::Failed, format!("the kubeconfig `{file}` cannot be used")).caused_by(e)
}

/// A context of a kubeconfig; without a name the current one.
async fn read(file: &Utf8Path, context: Option<&str>) -> Result<Config, CommandError> {
    let parsed = Kubeconfig::read_from(file).map_err(|e| unusable(file, &e))?;
    if let Some(name) = context
        && !parsed.contexts.iter().any(|there| there.name == name)
    {
        let text = format!("the kubeconfig `{file}` has no context `{name}`");
        let there: Vec<String> = parsed.contexts.iter().map(|c| format!("`{}`", c.name)).collect();
        let error = CommandError::new(Kind::NotFound, text);
        return Err(match there.as_slice() {
            [] => error.because("it has none at all"),
            all => error.hint(format!("it has {}", all.join(", "))),
        });
    }
    let options =
        KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(parsed, &options).await.map_err(|e| unusable(file, &e))
}

/// The cluster, and how long it may take to answer.
#[derive(clap::Args, Debug)]
pub struct ClusterArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub kube: KubeConfigArg,
    /// The longest wait for an answer.
    #[command(flatten)]
    pub limit: RequestTimeoutArg,
}

impl ClusterArgs {
    /// A client that waits no longer.
    ///
    /// # Errors
    /// As [`KubeConfigArg::client`].
    pub async fn client(&self, cx: &Context) -> Result<Cloud, CommandError> {
        self.kube.client_with(cx, Some(self.limit.request_timeout)).await
    }
}

/// An API server that somebody's kubeconfig leads to.
#[derive(Clone)]
pub struct Cloud {
    /// The client.
    pub client: Client,
    /// Its address, for messages.
    pub server: String,
    /// The kubeconfig.
    pub file: Utf8PathBuf,
    /// The context of it that is meant, if not its current one.
    context: Option<String>,
}

impl Cloud {
    /// What a failed call means. `what` was tried: "read the secret `kubeedge/tokensecret`".
    pub fn error(&self, what: &str, e: &kube::Error) -> CommandError {
        api_error(&self.server, what, e)
    }

    /// A client that repeats nothing by itself, for who does so within limits of its own.
    ///
    /// # Errors
    /// When the kubeconfig makes no sense any more.
    pub async fn unrepeating(&self, limit: Option<Duration>) -> Result<Client, CommandError> {
        let mut config = read(&self.file, self.context.as_deref()).await?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = limit;
        config.write_timeout = limit;
        config.default_retry = false;
        Client::try_from(config).map_err(|e| unusable(&self.file, &e))
    }

    /// The bearer token of the kubeconfig, if it has one. A secret.
    ///
    /// # Errors
    /// When the file with it cannot be read.
    pub async fn token(&self) -> Result<Option<String>, CommandError> {
        use secrecy::ExposeSecret as _;
        let auth = read(&self.file, self.context.as_deref()).await?.auth_info;
        if let Some(token) = auth.token {
            return Ok(Some(token.expose_secret().to_owned()));
        }
        let Some(file) = auth.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(&file)
            .map_err(|e| crate::errors::file_error("read", file.as_str().into(), &e))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// TLS with the client certificate of the kubeconfig, to a server that one of these CAs has
    /// signed.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub async fn tls(
        &self,
        cas: Vec<Vec<u8>>,
    ) -> Result<std::sync::Arc<rustls::ClientConfig>, CommandError> {
        use kube::client::ConfigExt as _;
        let mut config = read(&self.file, self.context.as_deref()).await?;
        (config.root_cert, config.root_cert_file) = (Some(cas), None);
        // That it does not check the API server is no reason to not check cloudcore.
        config.accept_invalid_certs = false;
        let mut tls = config.rustls_client_config().map_err(|e| {
            CommandError::new(
                Kind::Failed,
                format!("the client certificate of `{}` cannot be used", self.file),
            )
            .caused_by(&e)
        })?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(std::sync::Arc::new(tls))
    }

    /// Applies definitions of kinds, and waits until the API server serves them.
    ///
    /// # Errors
    /// What the API server says, or that it takes too long.
    pub async fn define(
        &self,
        crds: &[Value],
        limit: Duration,
        step: &Step,
    ) -> Result<(), CommandError> {
        futures::future::try_join_all(crds.iter().map(|crd| self.apply(crd))).await?;
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let deadline = Instant::now() + limit;
        for crd in crds {
            let name = crd.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let what = format!("read the definition `{name}`");
            loop {
                let found = api.get(name).await.map_err(|e| self.error(&what, &e))?;
                let conditions = found.status.and_then(|s| s.conditions).unwrap_or_default();
                let established =
                    conditions.iter().any(|c| c.type_ == "Established" && c.status == "True");
                // An API server may say so a moment before it is so.
                if established && self.serves(crd).await {
                    break;
                }
                step.waiting(format!("waiting until `{name}` is served"));
                if Instant::now() >= deadline {
                    return Err(CommandError::new(
                        Kind::TimedOut,
                        format!("the API server at `{}` does not serve `{name}`", self.server),
                    )
                    .hint(format!("`kubectl describe crd {name}` says why")));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Whether all versions of a definition have a list of their objects, be it one that is not for us.
    async fn serves(&self, crd: &Value) -> bool {
        let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
        let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
        for version in versions.into_iter().flatten().filter(|v| v["served"] == true) {
            let name = version["name"].as_str().unwrap_or_default();
            let path = format!("/apis/{group}/{name}/{plural}?limit=1");
            let Ok(request) = hyper::Request::get(path).body(Vec::new()) else { return true };
            match self.client.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.code == 404 => return false,
                // What else is wrong is told by whoever needs them.
                Ok(_) | Err(_) => {}
            }
        }
        true
    }

    /// Deletes an object; false if it was not there.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn delete(&self, object: &Value) -> Result<bool, CommandError> {
        let what = format!("delete {}", describe(object));
        let (api, object) = placed(&self.client, object).map_err(|e| self.error(&what, &e))?;
        let name = object.metadata.name.unwrap_or_default();
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(e) => Err(self.error(&what, &e)),
        }
    }

    /// Creates an object, or makes an existing one like it.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn apply(&self, object: &Value) -> Result<(), CommandError> {
        apply(&self.client, object)
            .await
            .map_err(|e| self.error(&format!("apply {}", describe(object)), &e))
    }
}

/// See [`Cloud::error`].
pub fn api_error(server: &str, what: &str, e: &kube::Error) -> CommandError {
    let failed = |kind| CommandError::new(kind, format!("cannot {what}"));
    match e {
        kube::Error::Api(status) => {
            let kind = match status.code {
                401 | 403 => Kind::Refused,
                404 => Kind::NotFound,
                409 => Kind::Conflict,
                408 | 504 => Kind::TimedOut,
                429 | 503 => Kind::Unreachable,
                _ => Kind::Failed,
            };
            let error = failed(kind)
                .because(format!("the API server at `{server}` says: {}", status.message));
            match status.code {
                401 => {
                    error.hint("the credentials of the kubeconfig are not accepted; get new ones")
                }
                403 => error.hint("use the kubeconfig of a cluster administrator"),
                _ => error,
            }
        }
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
            failed(Kind::Unreachable)
                .because(format!("the API server at `{server}` does not answer"))
                .because(innermost(e))
                .hint(format!(
                    "is it running, and reachable from here? try `curl -k {server}/readyz`"
                ))
        }
        other => failed(Kind::Failed).caused_by(other),
    }
}

fn innermost(e: &(dyn std::error::Error + 'static)) -> String {
    let mut at = e;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// `ClusterRole cloudcore`
pub fn describe(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    format!("{} `{}`", text("/kind"), text("/metadata/name"))
}

/// Creates an object, or merges it into the existing one. Every API server can do both, ours too.
///
/// # Errors
/// What the API server says.
pub async fn apply(client: &Client, object: &Value) -> Result<(), kube::Error> {
    let (api, object) = placed(client, object)?;
    let name = object.metadata.name.clone().unwrap_or_default();
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&object)).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// An object and the place in the API where its kind lives.
fn placed(
    client: &Client,
    object: &Value,
) -> Result<(Api<DynamicObject>, DynamicObject), kube::Error> {
    let object: DynamicObject =
        serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    let types = object.types.clone().unwrap_or_default();
    let gvk = GroupVersionKind::try_from(&types)
        .map_err(|e| kube::Error::SerdeError(serde::de::Error::custom(e)))?;
    let resource = ApiResource::from_gvk(&gvk);
    let api = match object.metadata.namespace.as_deref() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, object))
}
