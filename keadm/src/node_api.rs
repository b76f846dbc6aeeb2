//! edgecore's local API on this machine: which pods it has, their logs, and their restart.
//!
//! Owns: where it listens, where its token lies.
//! Called by: `keadm ctl`.
//! Never: speaks to the cloud, or to another machine.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::context::Context;
use crate::errors::{CommandError, Kind, kind_of};

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// An answer that is not a log is no longer.
const BODY_LIMIT: usize = 64 << 20;
/// What is said when something is refused is no longer.
const WHY_LIMIT: usize = 64 << 10;
/// A message of a command's streams is no longer.
const MESSAGE_LIMIT: usize = 1 << 20;

/// Where the API of an installed node is.
#[derive(clap::Args, Debug, Clone)]
pub struct InstalledApiArgs {
    /// The port of edgecore's local API
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 10350,
        env = "KEADM_NODE_PORT",
        hide_env_values = true
    )]
    pub node_port: u16,
    /// The longest wait for an answer, for example `5s`, `2m`
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "45s",
        value_parser = crate::commands::duration,
        env = "KEADM_REQUEST_TIMEOUT",
        hide_env_values = true
    )]
    pub request_timeout: Duration,
}

/// Where the node's API is, which may be one of `keadm up`.
#[derive(clap::Args, Debug, Clone)]
pub struct NodeApiArgs {
    /// Where it listens.
    #[command(flatten)]
    pub at: InstalledApiArgs,
    /// The folder of the `keadm up` that runs here, if it was told another one
    #[arg(long, value_name = "DIR", env = "KEADM_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<Utf8PathBuf>,
}

impl From<InstalledApiArgs> for NodeApiArgs {
    fn from(at: InstalledApiArgs) -> Self {
        Self { at, data_dir: None }
    }
}

impl NodeApiArgs {
    /// Asks, and waits for the head of the answer.
    ///
    /// # Errors
    /// When nobody listens, or the answer is a refusal.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        cx: &Context,
    ) -> Result<Response<Incoming>, CommandError> {
        self.ask_with(method, path, Bytes::new(), cx).await
    }

    /// Where it is.
    fn at(&self) -> String {
        format!("127.0.0.1:{}", self.at.node_port)
    }

    fn late(&self) -> CommandError {
        let text = format!("edgecore's local API at `{}` is silent", self.at());
        CommandError::new(Kind::TimedOut, text)
            .because(format!("no answer within {}", crate::phases::human(self.at.request_timeout)))
    }

    fn broken(&self, e: &(dyn std::error::Error + 'static)) -> CommandError {
        let text = format!("what listens at `{}` is not edgecore", self.at());
        CommandError::new(Kind::Failed, text).caused_by(e)
    }

    async fn connect(&self) -> Result<TcpStream, CommandError> {
        let at = self.at();
        let away = |e: &std::io::Error| {
            CommandError::new(
                match kind_of(e) {
                    Kind::Failed | Kind::NotFound => Kind::Unreachable,
                    kind => kind,
                },
                format!("edgecore's local API at `{at}` cannot be reached"),
            )
            .caused_by(e)
            .hint("is edgecore running here? `keadm check edge` tells")
        };
        let connecting = TcpStream::connect(("127.0.0.1", self.at.node_port));
        match timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|e| away(&e)),
            Err(_) => Err(self.late()),
        }
    }

    /// What shows that this is root of this machine.
    fn authorization(&self, cx: &Context) -> Result<Option<header::HeaderValue>, CommandError> {
        let Some(token) = self.token(cx) else { return Ok(None) };
        let mut value = header::HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|e| self.broken(&e))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Begins a command in a container: its streams, each message with a channel's number in front.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn streams(
        &self,
        path: &str,
        cx: &Context,
    ) -> Result<WebSocketStream<TcpStream>, CommandError> {
        let stream = self.connect().await?;
        let url = format!("ws://{}{path}", self.at());
        let mut request = url.into_client_request().map_err(|e| self.broken(&e))?;
        let headers = request.headers_mut();
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            header::HeaderValue::from_static("v5.channel.k8s.io"),
        );
        if let Some(value) = self.authorization(cx)? {
            headers.insert(header::AUTHORIZATION, value);
        }
        let sizes = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(sizes));
        match timeout(self.at.request_timeout, opening).await.map_err(|_| self.late())? {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let said = String::from_utf8_lossy(&body[..body.len().min(WHY_LIMIT)]);
                Err(self.refused(answer.status(), said.trim(), cx))
            }
            Err(e) => Err(self.broken(&e)),
        }
    }

    /// Asks with a body.
    async fn ask_with(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        cx: &Context,
    ) -> Result<Response<Incoming>, CommandError> {
        let stream = self.connect().await?;
        let broken = |e: &(dyn std::error::Error + 'static)| self.broken(e);
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.at());
        if let Some(value) = self.authorization(cx)? {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body)).map_err(|e| broken(&e))?;
        let asked = async {
            let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
                .max_buf_size(64 << 10)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|e| broken(&e))?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(|e| broken(&e))
        };
        let answer = timeout(self.at.request_timeout, asked).await.map_err(|_| self.late())??;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status();
        let body = Limited::new(answer.into_body(), WHY_LIMIT).collect();
        let said = match timeout(self.at.request_timeout, body).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
            _ => status.to_string(),
        };
        Err(self.refused(status, &said, cx))
    }

    /// Asks, and reads an answer in JSON.
    ///
    /// # Errors
    /// As [`Self::ask`]; or the answer breaks off.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        cx: &Context,
    ) -> Result<Value, CommandError> {
        self.json_of(method, path, Bytes::new(), cx).await
    }

    /// The same, asked with a body.
    ///
    /// # Errors
    /// As [`Self::ask`]; or the answer breaks off.
    pub async fn json_of(
        &self,
        method: Method,
        path: &str,
        asked: Bytes,
        cx: &Context,
    ) -> Result<Value, CommandError> {
        let body = self.ask_with(method, path, asked, cx).await?.into_body();
        let failed = || CommandError::new(Kind::Failed, "edgecore's answer breaks off");
        let body = timeout(self.at.request_timeout, Limited::new(body, WHY_LIMIT).collect());
        let body = body.await.map_err(|_| failed())?.map_err(|e| failed().caused_by(&*e))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|e| failed().caused_by(&e))
    }

    /// The pods of this node, as Kubernetes writes them.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn pods(&self, cx: &Context) -> Result<Vec<Value>, CommandError> {
        let body = self.ask(Method::GET, "/pods", cx).await?.into_body();
        let failed = || CommandError::new(Kind::Failed, "the list of this node's pods breaks off");
        let body = timeout(self.at.request_timeout, Limited::new(body, BODY_LIMIT).collect());
        let body = body.await.map_err(|_| failed())?.map_err(|e| failed().caused_by(&*e))?;
        let mut list: Value =
            serde_json::from_slice(&body.to_bytes()).map_err(|e| failed().caused_by(&e))?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The token with which this machine's root may do more than read; that of the edgecore that
    /// was started last.
    fn token(&self, cx: &Context) -> Option<String> {
        let files = self.token_files(cx).into_iter();
        let written = |file: &Utf8PathBuf| std::fs::metadata(file).and_then(|m| m.modified()).ok();
        let newest = files.filter(|file| written(file).is_some()).max_by_key(written)?;
        let text = String::from_utf8(cx.host.read(&newest).ok()?).ok()?;
        Some(text.trim().to_owned())
    }

    /// Where it may lie.
    fn token_files(&self, cx: &Context) -> Vec<Utf8PathBuf> {
        // Where `keadm up` keeps it.
        let up = |folder: &Utf8Path| folder.join("edgecore/kubelet");
        let folders: Vec<Utf8PathBuf> = match &self.data_dir {
            Some(folder) => vec![up(folder)],
            None => {
                let yaml = cx.paths.edgecore_yaml();
                let configured = crate::commands::config::read_edgecore(cx, &yaml).ok();
                let configured = configured.and_then(|(config, _)| {
                    Utf8PathBuf::from_path_buf(config.modules.edged.root_directory).ok()
                });
                let usual = [cx.paths.at("/var/lib/kubelet"), up(&cx.paths.at("/var/lib/keadm"))];
                configured
                    .into_iter()
                    .filter(|folder| !usual.contains(folder))
                    .chain(usual.clone())
                    .collect()
            }
        };
        folders.into_iter().map(|folder| folder.join("local-api.token")).collect()
    }

    fn refused(&self, status: StatusCode, said: &str, cx: &Context) -> CommandError {
        let said = api::printable::printable(said, 400).to_string();
        match status {
            StatusCode::NOT_FOUND => CommandError::new(Kind::NotFound, said)
                .hint("`keadm ctl get pods -A` shows the pods of this node"),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let text = "edgecore does not let this user do that";
                let error = CommandError::new(Kind::Refused, text).because(said);
                if !cx.host.is_root() {
                    return error.hint("run it as root");
                }
                let looked: Vec<String> =
                    self.token_files(cx).iter().map(|file| format!("`{file}`")).collect();
                error.because(format!("the token was looked for in {}", looked.join(" and "))).hint(
                    "`--data-dir DIR`, or the variable KEADM_DATA_DIR, names the folder of a \
                         `keadm up` that was told one",
                )
            }
            StatusCode::CONFLICT => CommandError::new(Kind::Conflict, said),
            StatusCode::SERVICE_UNAVAILABLE => {
                CommandError::new(Kind::Unreachable, "the container runtime does not answer")
                    .because(said)
            }
            _ => CommandError::new(Kind::Failed, said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_edgecore_refuses_has_the_exit_code_of_its_reason() {
        let api: NodeApiArgs =
            InstalledApiArgs { node_port: 1, request_timeout: Duration::from_secs(1) }.into();
        let cx = crate::testing::context(&crate::host::fake::Fake::default());
        let kind = |status| api.refused(status, "no", &cx).kind;
        assert_eq!(kind(StatusCode::NOT_FOUND), Kind::NotFound);
        assert_eq!(kind(StatusCode::UNAUTHORIZED), Kind::Refused);
        assert_eq!(kind(StatusCode::CONFLICT), Kind::Conflict);
        assert_eq!(kind(StatusCode::SERVICE_UNAVAILABLE), Kind::Unreachable);
        assert_eq!(kind(StatusCode::BAD_REQUEST), Kind::Failed);
    }
}
