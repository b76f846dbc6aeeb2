//! Tokens of service accounts, for projected volumes.

use api::names::Namespace;
use api::raw::RawJson;
use api::wire::downstream::ReplyBody;
use serde_json::Value;

use super::{Context, Done, json, refused};
use crate::apiserver::{ApiError, Path};

/// Has one made. Each request makes a new one; edges keep theirs until they age.
pub(super) async fn request(
    cx: &Context,
    namespace: &Namespace,
    account: &str,
    request: &RawJson,
) -> Result<Done, ApiError> {
    let mut request: Value = request
        .to()
        .map_err(|_| refused(400, "BadRequest", "the content is not a TokenRequest"))?;
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    let path = Path::of("v1", "serviceaccounts", Some(namespace.as_str()))?
        .named(account)?
        .named("token")?;
    // No version and no acknowledgement: a token is not an object that the edge holds for us.
    let token = cx.api.create(&path, &json(&request)).await?;
    Ok(Done { body: ReplyBody::Plain(token), version: None })
}
