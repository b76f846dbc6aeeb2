//! Events of the edge. They are not answered, and the first thing to go when there is too much.

use api::raw::RawJson;
use api::wire::upstream::{EventOp, EventReport};
use serde::Deserialize;

use super::{Context, refused};
use crate::apiserver::{ApiError, Patch, Path};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventPatch {
    patch_data: String,
}

/// Records one. Of a patch the edge sends both patch and whole: if there is nothing to patch any
/// more, the whole is recorded.
pub(super) async fn record(cx: &Context, report: &EventReport) -> Result<(), ApiError> {
    let bad = |_| refused(400, "BadRequest", "the content is not an Event");
    let namespace = report.key.namespace.as_ref().map(|n| n.as_str());
    let collection = Path::collection(&report.key.kind, namespace)?;
    let object = collection.clone().named(&report.key.name)?;
    match report.op {
        EventOp::Insert => cx.api.create(&collection, &report.content).await.map(drop),
        EventOp::Update => cx.api.replace(&object, &report.content).await.map(drop),
        EventOp::Patch => {
            #[derive(Deserialize)]
            struct Whole {
                event: RawJson,
            }
            let patch: EventPatch = report.content.to().map_err(bad)?;
            let patch = RawJson::parse(patch.patch_data).map_err(bad)?;
            match cx.api.patch(&object, Patch::Strategic, &patch).await {
                Err(e) if e.is_not_found() => {
                    let whole: Whole = report.content.to().map_err(bad)?;
                    cx.api.create(&collection, &whole.event).await.map(drop)
                }
                outcome => outcome.map(drop),
            }
        }
    }
}
