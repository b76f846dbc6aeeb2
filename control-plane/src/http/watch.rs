//! watch
//!
//! Owns: one client's stream of changes. Called by: the router.
//! Never: keeps a queue; a client that falls behind the history is told 410 and ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::StatusCode;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list::{self, selected};
use super::request::{Accept, Form, Query};
use super::response::{self, Body, Response};
use super::seats::Seat;
use super::status::{FieldError, Status};
use super::table::{self, Include};
use crate::plane::Plane;
use crate::registry::Resource;
use crate::registry::selectors::Selection;
use crate::store::watch::Watcher;
use crate::store::{Event, Stored, TooOld};

/// How often a quiet watch tells how far it is, if the client wants that.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A piece ends once it has so many bytes: what is large is sent one by one.
const PIECE: usize = 256 << 10;

struct Watch {
    resource: Arc<Resource>,
    selection: Selection,
    form: Form,
    beta: bool,
    include: Include,
    header: bool,
    initial: VecDeque<Arc<Stored>>,
    /// A bookmark ends the initial objects.
    mark_end: Option<u64>,
    watcher: Watcher,
    /// What the history had, and has not been told yet.
    news: VecDeque<Arc<Event>>,
    bookmarks: bool,
    next_bookmark: Instant,
    until: Instant,
    stopping: CancellationToken,
    failed: bool,
    _seat: Seat,
}

/// What contradicts itself in the options of a watch.
fn contradictions(query: &Query) -> Vec<FieldError> {
    let field = "resourceVersionMatch";
    let matching = query.get(field);
    let mut errors = Vec::new();
    match (query.has("sendInitialEvents"), matching) {
        (true, m) if m != Some("NotOlderThan") => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(field, why));
        }
        (false, Some(_)) => {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(field, why));
        }
        _ => {}
    }
    if let Some(m) = matching.filter(|m| *m != "NotOlderThan") {
        errors.push(FieldError::unsupported(field, &json!(m), &["NotOlderThan"]));
    }
    errors
}

/// Starts a watch.
///
/// # Errors
/// When the options contradict each other.
pub(crate) async fn watch(
    plane: &Plane,
    resource: &Arc<Resource>,
    namespace: &str,
    query: &Query,
    accept: Accept,
) -> Result<Response, Status> {
    query.number("limit")?;
    let seat = plane.seats.watch().await?;
    let selection = list::selection(resource, query)?;
    let errors = contradictions(query);
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    let revision = list::revision(query).map_err(list::found_late)?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let send_initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    let prefix = list::prefix(resource, namespace);
    let wants_initial = send_initial.unwrap_or(revision.unwrap_or(0) == 0);
    let (mut initial, mut from) = (VecDeque::new(), revision.unwrap_or(0));
    if wants_initial {
        list::wait_for(plane, from).await?;
        let snapshot = plane.store.list(&resource.table, &prefix, None);
        from = snapshot.revision;
        initial = snapshot
            .objects
            .into_iter()
            .map(|(_, o)| o)
            .filter(|o| selection.is_everything() || selected(resource, o, &selection))
            .collect();
    } else if from == 0 {
        from = plane.store.revision();
    }
    let seconds =
        query.number("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let seconds = seconds.unwrap_or_else(|| rand::rng().random_range(1800..3600));
    let now = Instant::now();
    let w = Watch {
        resource: Arc::clone(resource),
        selection,
        form: accept.form,
        beta: accept.beta,
        include: Include::read(query),
        header: true,
        mark_end: (send_initial == Some(true) && bookmarks).then_some(from),
        initial,
        watcher: plane.store.watch(&resource.table, &prefix, from),
        news: VecDeque::new(),
        bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        until: now + Duration::from_secs(seconds),
        stopping: plane.stopping.clone(),
        failed: false,
        _seat: seat,
    };
    let pieces = stream::unfold(w, |mut w| async move { w.next().await.map(|b| (b, w)) });
    let mut r = response::pieces(StatusCode::OK, "application/json", []);
    *r.body_mut() = Body::Stream(Box::pin(pieces));
    Ok(r)
}

impl Watch {
    /// The next piece to send; none ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        if self.failed {
            return None;
        }
        while out.len() < PIECE {
            let Some(object) = self.initial.pop_front() else { break };
            self.frame(&mut out, "ADDED", &object);
        }
        if self.initial.is_empty()
            && let Some(revision) = self.mark_end.take()
        {
            self.bookmark(&mut out, revision, true);
        }
        if !out.is_empty() {
            return Some(out.freeze());
        }
        loop {
            while out.len() < PIECE {
                let Some(event) = self.news.pop_front() else { break };
                self.event(&mut out, &event);
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
            match self.watcher.poll() {
                Err(old) => {
                    self.failed = true;
                    self.too_old(&mut out, old);
                    return Some(out.freeze());
                }
                Ok(batch) => {
                    self.news = batch.events.into();
                    if !self.news.is_empty() {
                        continue;
                    }
                    if self.bookmarks && Instant::now() >= self.next_bookmark {
                        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                        self.bookmark(&mut out, batch.revision, false);
                        return Some(out.freeze());
                    }
                }
            }
            tokio::select! {
                () = self.watcher.changed() => {}
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {}
                () = tokio::time::sleep_until(self.until) => return None,
                () = self.stopping.cancelled() => return None,
            }
        }
    }

    /// One change as this client sees it: an object that starts to be selected was added.
    fn event(&mut self, out: &mut BytesMut, event: &Event) {
        let all = self.selection.is_everything();
        let fits = |o: &Stored| all || selected(&self.resource, o, &self.selection);
        let now = !event.deleted && fits(&event.object);
        let before = event.previous.as_ref().is_some_and(|p| fits(p));
        let kind = match (before, now) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return,
        };
        match &event.previous {
            // What is no longer selected is told as it last was selected.
            Some(p) if kind == "DELETED" && !event.deleted => {
                let last = p.at_revision(event.revision);
                self.frame(out, kind, &last);
            }
            _ => self.frame(out, kind, &event.object),
        }
    }

    fn frame(&mut self, out: &mut BytesMut, kind: &str, object: &Stored) {
        out.put_slice(b"{\"type\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\",\"object\":");
        if self.form == Form::Plain {
            out.put_slice(&self.resource.head);
            out.put_slice(&super::get::text(&self.resource, object)[1..]);
        } else {
            let value = super::get::with_kind(&self.resource, object);
            self.shaped(out, &value);
        }
        out.put_slice(b"}\n");
    }

    fn shaped(&mut self, out: &mut BytesMut, value: &Value) {
        let mut v = match self.form {
            Form::Metadata | Form::MetadataList => table::metadata_only(value),
            _ => {
                let m = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
                let header = std::mem::take(&mut self.header);
                table::table(
                    &self.resource,
                    std::iter::once(value),
                    m,
                    self.include,
                    header,
                    jiff::Timestamp::now(),
                )
            }
        };
        if self.beta {
            table::into_beta(&mut v);
        }
        out.put_slice(v.to_string().as_bytes());
    }

    fn bookmark(&mut self, out: &mut BytesMut, revision: u64, end: bool) {
        let mut m = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if end {
            m["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": m});
        out.put_slice(b"{\"type\":\"BOOKMARK\",\"object\":");
        if self.form == Form::Plain {
            out.put_slice(object.to_string().as_bytes());
        } else {
            self.shaped(out, &object);
        }
        out.put_slice(b"}\n");
    }

    fn too_old(&self, out: &mut BytesMut, old: TooOld) {
        let status =
            Status::expired(format!("too old resource version: {} ({})", old.asked, old.floor));
        let v = json!({"type": "ERROR", "object": status.to_value()});
        out.put_slice(v.to_string().as_bytes());
        out.put_u8(b'\n');
    }
}
