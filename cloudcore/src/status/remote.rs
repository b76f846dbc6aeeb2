//! The status stream on cloudcore's HTTPS port.
//!
//! Owns: the step from an HTTP request to a stream, and how long a reader's rights are believed.
//! Called by: `cloudhub::bootstrap`, which has the port, its limits and its throttle.
//! Never: begins a stream before the API server has said that its reader may read.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use service::CancellationToken;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::{debug, info};

use super::Status;
use super::access::{self, Access, Refused, User};
use super::actions::Means;
use super::server::{PATH, Reader, SIZES, STOPPING};
use crate::apiserver::ApiServer;

/// How often it is asked again whether a reader may still read.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// A stream that begins when its HTTP answer has been sent.
pub(crate) struct Stream {
    upgrade: OnUpgrade,
    user: Arc<User>,
}

/// Judges a request for the stream. On success the answer is to be sent and [`Stream::run`] called
/// once the connection has been given up by HTTP.
///
/// # Errors
/// The status and the words of the refusal.
pub(crate) async fn open<B: Default>(
    request: &mut Request<Incoming>,
    chain: &[CertificateDer<'_>],
    api: &ApiServer,
) -> Result<(Response<B>, Stream), (StatusCode, String)> {
    service::stream::admit(request.uri(), request.headers(), PATH)?;
    let upgrade = hyper::upgrade::on(&mut *request);
    let mut head = Request::new(());
    head.method_mut().clone_from(request.method());
    head.uri_mut().clone_from(request.uri());
    head.headers_mut().clone_from(request.headers());
    let answer = create_response_with_body(&head, B::default)
        .map_err(|e| (StatusCode::BAD_REQUEST, format!("the stream is a WebSocket: {e}")))?;
    let user = access::identify(api, chain, request.headers()).await.map_err(answered)?;
    access::may_read(api, &user).await.map_err(answered)?;
    Ok((answer, Stream { upgrade, user: Arc::new(user) }))
}

fn answered(refused: Refused) -> (StatusCode, String) {
    let status = match &refused {
        Refused::Unknown(_) => StatusCode::UNAUTHORIZED,
        Refused::Forbidden(_) => StatusCode::FORBIDDEN,
        Refused::Unanswered(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, refused.to_string())
}

impl Stream {
    /// Serves the reader until it goes, may read no longer, or cloudcore stops.
    pub(crate) async fn run(self, status: Arc<Status>, means: Means, stopping: CancellationToken) {
        let io = match timeout(service::stream::HANDSHAKE, self.upgrade).await {
            Ok(Ok(io)) => TokioIo::new(io),
            Ok(Err(error)) => return debug!(%error, "a reader of the stream went before it began"),
            Err(_) => return debug!("a reader of the stream never came"),
        };
        info!(user = %self.user.name.escape_debug(), "a reader of the status stream");
        let config = Some(SIZES.websocket());
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
        let reader = Reader::new(status, means.clone(), Access::Of(Arc::clone(&self.user)));
        let until = async {
            tokio::select! {
                () = stopping.cancelled() => STOPPING.to_owned(),
                why = forbidden(&means.api, &self.user) => why,
            }
        };
        service::stream::session(socket, reader, SIZES, until).await;
    }
}

/// Ends when the user may read no longer. That the API server does not answer is no reason.
async fn forbidden(api: &ApiServer, user: &User) -> String {
    loop {
        tokio::time::sleep(ASK_AGAIN).await;
        if let Err(refused @ Refused::Forbidden(_)) = access::may_read(api, user).await {
            return refused.to_string();
        }
    }
}
