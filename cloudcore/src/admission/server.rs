//! HTTPS, and from a path to its check.
//!
//! Owns: limits of size and time.
//! Called by: `mod.rs`, with each connection.
//! Never: answers "allowed" to what it could not read or look up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::crd::rules::RuleEndpointType;
use api::crd::{Device, DeviceModel, Rule, RuleEndpoint};
use api::raw::RawJson;
use http::{HeaderMap, Method, Request as HttpRequest, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::Value;
use service::CancellationToken;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::jobs::{self, Job};
use super::review::{self, Request, Verdict};
use super::{autonomy, checks};
use crate::apiserver::{ApiError, ApiServer, Path};
use crate::cloudhub::listener::{Caps, Seat};
use crate::metrics::Metrics;
use crate::object::DEVICES;

/// Connections. Only API servers come here.
pub(super) const CAPS: Caps =
    Caps { total: 256, per_address: 128, handshake: Duration::from_secs(10) };
/// Two objects of at most 3 MiB each, and what is around them.
const BODY: usize = 8 << 20;
/// From the end of the headers to the end of the answer; the API server waits 10 s.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this.
const IDLE: Duration = Duration::from_secs(120);
const RULES: &str = "rules.kubeedge.io/v1";

/// What all connections share.
pub(super) struct Shared {
    pub(super) api: ApiServer,
    pub(super) metrics: Metrics,
    pub(super) stopping: CancellationToken,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("there is nothing at this path")]
    NoPath,
    #[error("a review is sent with POST")]
    Method,
    #[error("the content type must be application/json")]
    ContentType,
    #[error("the body exceeds {BODY} bytes")]
    TooLarge,
    #[error("the body could not be read")]
    Body,
    #[error(transparent)]
    Review(#[from] review::ReviewError),
    #[error("the object is not of the kind that this path is for: {0}")]
    Object(serde_json::Error),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("no verdict within {} s", REQUEST_LIMIT.as_secs())]
    Late,
}

impl Failure {
    fn code(&self) -> StatusCode {
        match self {
            Failure::NoPath => StatusCode::NOT_FOUND,
            Failure::Method => StatusCode::METHOD_NOT_ALLOWED,
            Failure::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Failure::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::Body | Failure::Review(_) | Failure::Object(_) => StatusCode::BAD_REQUEST,
            Failure::Api(_) => StatusCode::BAD_GATEWAY,
            Failure::Late => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Device,
    Model,
    Rule,
    Endpoint,
    Job(Job),
    JobDefaults,
    Autonomy,
}

/// The paths, most of them the original's.
pub(super) const PATHS: [(&str, Check); 9] = [
    ("/devices", Check::Device),
    ("/devicemodels", Check::Model),
    ("/rules", Check::Rule),
    ("/ruleendpoints", Check::Endpoint),
    ("/nodeupgradejobs", Check::Job(Job::Upgrade)),
    ("/imageprepulljobs", Check::Job(Job::PrePull)),
    ("/configupdatejobs", Check::Job(Job::ConfigUpdate)),
    ("/mutating/nodeupgradejobs", Check::JobDefaults),
    ("/offlinemigration", Check::Autonomy),
];

/// One connection after its TLS handshake.
pub(super) async fn serve(stream: TlsStream<TcpStream>, seat: Seat, shared: Arc<Shared>) {
    let stopping = shared.stopping.clone();
    let handler = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let answer = timeout(REQUEST_LIMIT, route(request, &shared)).await;
            Ok::<_, Infallible>(match answer.unwrap_or(Err(Failure::Late)) {
                Ok(answer) => say(StatusCode::OK, "application/json", answer.to_string()),
                Err(failure) => {
                    shared.metrics.refused("admission");
                    warn!(why = %failure, "a review is not answered");
                    say(failure.code(), "text/plain", failure.to_string())
                }
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), handler);
    tokio::select! {
        // A client that goes away or breaks HTTP has nobody left to tell.
        _ = connection => {}
        () = stopping.cancelled() => {}
    }
    drop(seat);
}

fn say(status: StatusCode, content: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content));
    response
}

async fn route(request: HttpRequest<Incoming>, shared: &Shared) -> Result<Value, Failure> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let found = PATHS.iter().find(|(p, _)| *p == path);
    let (_, check) = found.ok_or(Failure::NoPath)?;
    if parts.method != Method::POST {
        return Err(Failure::Method);
    }
    is_json(&parts.headers)?;
    let body = Limited::new(body, BODY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { Failure::TooLarge } else { Failure::Body }
    })?;
    let request = review::read(&body.to_bytes())?;
    let verdict = judge(*check, &request, &shared.api).await?;
    let Request { operation, namespace, uid, .. } = &request;
    match &verdict {
        Verdict::Refused(wrong) => {
            let wrong = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            info!(path, operation, namespace, why = %wrong.escape_debug(), "refused");
        }
        _ => debug!(path, operation, namespace, "allowed"),
    }
    Ok(review::answer(uid, verdict))
}

fn is_json(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Failure::ContentType) }
}

async fn judge(check: Check, request: &Request, api: &ApiServer) -> Result<Verdict, Failure> {
    // What is deleted need not make sense, and a status is nobody's business here.
    if request.operation == "DELETE" || !request.sub_resource.is_empty() {
        return Ok(Verdict::Allowed);
    }
    Ok(match check {
        Check::Device => {
            let (new, old) = both::<Device>(request)?;
            let model = model_of(&new, &request.namespace, api).await?;
            checks::device(&new, old.as_ref(), model.as_ref())
        }
        Check::Model => {
            let (new, old) = both::<DeviceModel>(request)?;
            checks::model(&new, old.as_ref())
        }
        Check::Endpoint => {
            let (new, old) = both::<RuleEndpoint>(request)?;
            checks::endpoint(&new, old.as_ref())
        }
        Check::Rule => {
            let (new, old) = both::<Rule>(request)?;
            if old.is_some() {
                return Ok(checks::rule(&new, old.as_ref(), None, None, &[]));
            }
            let source = endpoint(&new.spec.source, &request.namespace, api).await?;
            let target = endpoint(&new.spec.target, &request.namespace, api).await?;
            let others = rules(&request.namespace, api).await?;
            checks::rule(&new, None, source, target, &others)
        }
        Check::Job(job) => {
            let (new, old) = both::<Value>(request)?;
            jobs::check(job, &new, old.as_ref())
        }
        Check::JobDefaults => jobs::defaults(&both::<Value>(request)?.0),
        Check::Autonomy => autonomy::tolerate(&both::<Value>(request)?.0),
    })
}

/// The object as it is to be, and as it is.
fn both<T: DeserializeOwned>(request: &Request) -> Result<(T, Option<T>), Failure> {
    let new = request.object.to().map_err(Failure::Object)?;
    // What stands there may be from before there were rules for it.
    let old = (!request.old_object.is_null()).then(|| request.old_object.to().ok()).flatten();
    Ok((new, old))
}

/// A model that is not there yet may come later.
async fn model_of(
    device: &Device,
    namespace: &str,
    api: &ApiServer,
) -> Result<Option<DeviceModel>, Failure> {
    let name = device.spec.device_model_ref.as_ref().and_then(|m| m.name.as_deref());
    let Some(name) = name.filter(|n| !n.is_empty()) else { return Ok(None) };
    let found = find(Path::of(DEVICES, "devicemodels", Some(namespace)), name, api).await?;
    Ok(found.and_then(|model| model.to().ok()))
}

async fn endpoint(
    name: &str,
    namespace: &str,
    api: &ApiServer,
) -> Result<Option<RuleEndpointType>, Failure> {
    let found = find(Path::of(RULES, "ruleendpoints", Some(namespace)), name, api).await?;
    let end = found.and_then(|end| end.to::<RuleEndpoint>().ok());
    Ok(end.map(|end| end.spec.rule_endpoint_type))
}

/// An object; a name that no object can bear is that of none.
async fn find(
    collection: Result<Path, ApiError>,
    name: &str,
    api: &ApiServer,
) -> Result<Option<RawJson>, Failure> {
    let Ok(path) = collection.and_then(|c| c.named(name)) else { return Ok(None) };
    match api.get(&path).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn rules(namespace: &str, api: &ApiServer) -> Result<Vec<Rule>, Failure> {
    let path = Path::of(RULES, "rules", Some(namespace))?;
    let (mut all, mut more) = (Vec::new(), None);
    loop {
        let page = api.page(&path, more.as_deref()).await?;
        all.extend(page.items.iter().filter_map(|rule| rule.to().ok()));
        more = page.more;
        if more.is_none() {
            return Ok(all);
        }
    }
}
