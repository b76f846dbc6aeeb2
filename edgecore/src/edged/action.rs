//! Probes' and hooks' actions: a command, an HTTP request, a connection, a gRPC health check.
//!
//! Owns: time limits, and how much of an answer is read.
//! Called by: `probes.rs` and `hooks.rs`.
//! Never: follows a redirect, or trusts a certificate: it asks whether something answers, and
//! sends nothing secret.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::dial;
use super::runtime::ContainerRuntime;

/// How much of an HTTP answer is read.
const BODY: usize = 10 << 10;

/// Which container an action is for.
pub(crate) struct Target<'a> {
    pub(crate) runtime: &'a dyn ContainerRuntime,
    pub(crate) container: &'a Container,
    pub(crate) id: &'a str,
    /// The sandbox that it is in.
    pub(crate) sandbox: Option<&'a str>,
    /// The pod's addresses. A pod that has none is reached in its sandbox's own network.
    pub(crate) ips: &'a [String],
}

/// Where an action goes.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    host: &'a str,
    port: u16,
    /// The sandbox on whose loopback the port is.
    inside: Option<&'a str>,
}

impl Target<'_> {
    /// What the action names, else the pod's address, else the pod from within.
    fn place<'h>(&'h self, named: Option<&'h str>, port: u16) -> Place<'h> {
        let named = named.filter(|h| !h.is_empty());
        match named.or(self.ips.first().map(String::as_str)) {
            Some(host) => Place { host, port, inside: None },
            None => Place { host: "127.0.0.1", port, inside: self.sandbox },
        }
    }

    async fn dial(&self, place: Place<'_>) -> Result<TcpStream, String> {
        let Place { host, port, inside } = place;
        let connected = match inside {
            Some(sandbox) => {
                let network = self.runtime.network(sandbox).await.map_err(|e| e.to_string())?;
                dial::connect(network, port).await
            }
            None => TcpStream::connect((host.trim_matches(['[', ']']), port)).await,
        };
        connected.map_err(|e| format!("dial tcp {host}:{port}: {}", go_words(&e)))
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(n) => Some(*n),
            IntOrString::String(name) => name.parse().ok().or_else(|| {
                let ports = self.container.ports.iter().flatten();
                ports.filter(|p| p.name.as_ref() == Some(name)).map(|p| p.container_port).next()
            }),
        };
        number
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("invalid port: {port:?}"))
    }
}

/// Runs a probe once; the error is what went wrong.
pub(crate) async fn probe(
    probe: &Probe,
    target: &Target<'_>,
    limit: Duration,
) -> Result<(), String> {
    let action = async {
        if let Some(exec) = &probe.exec {
            let command = exec.command.as_deref().unwrap_or_default();
            return self::exec(target, command, limit).await;
        }
        if let Some(get) = &probe.http_get {
            return http_get(get, target).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            return self::tcp(tcp, target).await;
        }
        match &probe.grpc {
            Some(check) => grpc(check, target).await,
            None => Err("missing probe handler".to_owned()),
        }
    };
    // The runtime kills a command at its own limit and says so.
    let limit = if probe.exec.is_some() { limit + Duration::from_secs(5) } else { limit };
    match tokio::time::timeout(limit, action).await {
        Ok(result) => result,
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

/// Runs a command in the container.
pub(crate) async fn exec(
    target: &Target<'_>,
    command: &[String],
    limit: Duration,
) -> Result<(), String> {
    match target.runtime.exec_sync(target.id, command, limit).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            text.truncate(text.char_indices().nth(1024).map_or(text.len(), |(i, _)| i));
            match text.trim_end() {
                "" => Err(format!("command terminated with exit code {}", output.exit_code)),
                text => Err(text.to_owned()),
            }
        }
        Err(super::runtime::RuntimeError::TimedOut { .. }) => {
            let command = command.join(" ");
            Err(format!("command timed out: \"{command}\" timed out after {}s", limit.as_secs()))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Connects and closes again.
pub(crate) async fn tcp(action: &TCPSocketAction, target: &Target<'_>) -> Result<(), String> {
    let place = target.place(action.host.as_deref(), target.port(&action.port)?);
    target.dial(place).await.map(drop)
}

fn go_words(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => e.to_string(),
    }
}

/// Asks for a path; anything from 200 to 399 is well.
pub(crate) async fn http_get(get: &HTTPGetAction, target: &Target<'_>) -> Result<(), String> {
    let place = target.place(get.host.as_deref(), target.port(&get.port)?);
    let Place { host, port, .. } = place;
    let path = match get.path.as_deref() {
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"),
        None => "/".to_owned(),
    };
    let https = get.scheme.as_deref() == Some("HTTPS");
    let mut request = http::Request::get(&path).header("connection", "close");
    let (mut has_host, mut has_agent, mut has_accept) = (false, false, false);
    for header in get.http_headers.iter().flatten() {
        has_host |= header.name.eq_ignore_ascii_case("host");
        has_agent |= header.name.eq_ignore_ascii_case("user-agent");
        has_accept |= header.name.eq_ignore_ascii_case("accept");
        request = request.header(&header.name, &header.value);
    }
    if !has_host {
        request = request.header("host", format!("{host}:{port}"));
    }
    if !has_agent {
        request = request.header("user-agent", "kube-probe/1.32");
    }
    if !has_accept {
        request = request.header("accept", "*/*");
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|e| e.to_string())?;
    let url = format!("{}://{host}:{port}{path}", if https { "https" } else { "http" });
    let named = |why: String| format!("Get \"{url}\": {why}");
    let tcp = target.dial(place).await.map_err(named)?;
    let status = if https {
        let name = rustls_pki_types::ServerName::try_from(host.to_owned())
            .map_err(|e| named(e.to_string()))?;
        let tls = tokio_rustls::TlsConnector::from(Arc::new(any_certificate()?));
        let tls = tls.connect(name, tcp).await.map_err(|e| named(e.to_string()))?;
        ask(tls, request).await.map_err(named)?
    } else {
        ask(tcp, request).await.map_err(named)?
    };
    match status.as_u16() {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: http::Request<Empty<bytes::Bytes>>,
) -> Result<http::StatusCode, String> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BODY.max(8192))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        // Read to the end, so that the server need not complain about a broken pipe.
        let _ = Limited::new(response.into_body(), BODY).collect().await;
        Ok(status)
    };
    // The connection ends once the exchange has let go of its sender, or breaks it.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

fn any_certificate() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

/// A probe asks whether the container answers, whoever signed its certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; 1 is SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

async fn grpc(check: &GRPCAction, target: &Target<'_>) -> Result<(), String> {
    let place = target.place(None, target.port(&IntOrString::Int(check.port))?);
    let Place { host, port, .. } = place;
    let url = match host.contains(':') {
        true => format!("http://[{host}]:{port}"),
        false => format!("http://{host}:{port}"),
    };
    let refused =
        |e: &dyn std::fmt::Display| format!("failed to connect service \"{host}:{port}\": {e}");
    let endpoint = tonic::transport::Endpoint::from_shared(url).map_err(|e| refused(&e))?;
    let tcp = target.dial(place).await.map_err(|e| refused(&e))?;
    // The one connection there is; a probe makes a new one each time.
    let mut tcp = Some(TokioIo::new(tcp));
    let only = tower::service_fn(move |_| {
        std::future::ready(
            tcp.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)),
        )
    });
    let channel = endpoint.connect_with_connector(only).await.map_err(|e| refused(&e))?;
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(BODY);
    client.ready().await.map_err(|e| refused(&e))?;
    let request = HealthCheckRequest { service: check.service.clone().unwrap_or_default() };
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = client
        .unary(tonic::Request::new(request), path, codec)
        .await
        .map_err(|status| format!("rpc error: {}", status.message()))?;
    match answer.into_inner().status {
        1 => Ok(()),
        other => Err(format!("service unhealthy (responded with status {other})")),
    }
}

#[cfg(test)]
#[path = "action_tests.rs"]
mod tests;
