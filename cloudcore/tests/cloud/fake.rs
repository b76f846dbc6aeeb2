//! An API server in memory, as much of one as cloudcore asks for: objects by path, lists, watches,
//! merge patches. It can be switched off.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore, broadcast};

type Answer = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone)]
pub(crate) struct Fake(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    revision: u64,
    /// Events since the beginning, for watches that resume.
    log: Vec<Event>,
    away: bool,
    /// Token to user.
    tokens: BTreeMap<String, String>,
    /// What a user may do: `list nodes`.
    rights: BTreeMap<String, Vec<String>>,
    asked: BTreeMap<String, usize>,
    /// So many writes of DeviceStatuses are answered together, or none.
    together: Option<Arc<Barrier>>,
    /// Creations in this collection are answered once they are let through.
    held: Option<(String, Arc<Semaphore>)>,
    /// So many patches of a path find that somebody else was faster.
    conflicts: BTreeMap<String, usize>,
}

#[derive(Clone)]
struct Event {
    revision: u64,
    /// Of the collection over all namespaces, and of the namespace.
    path: String,
    kind: &'static str,
    object: Value,
}

/// `/api/v1/namespaces/default/pods/web/status` -> the object's path and the subresource.
fn split(path: &str) -> (String, Option<String>) {
    for sub in ["/status", "/token"] {
        if let Some(object) = path.strip_suffix(sub) {
            return (object.to_owned(), Some(sub[1..].to_owned()));
        }
    }
    (path.to_owned(), None)
}

/// Whether the object at `path` is in a collection, over all namespaces or in one.
fn is_in(path: &str, collection: &str) -> bool {
    let Some((parent, _)) = path.rsplit_once('/') else { return false };
    if parent == collection {
        return true;
    }
    let Some((group, rest)) = parent.split_once("/namespaces/") else { return false };
    rest.split_once('/').is_some_and(|(_, plural)| format!("{group}/{plural}") == collection)
}

fn selects(query: &str, object: &Value) -> bool {
    let label = "labelSelector=node-role.kubernetes.io%2Fedge";
    if query.contains(label) && object["metadata"]["labels"]["node-role.kubernetes.io/edge"] != "" {
        return false;
    }
    match query.split_once("spec.nodeName%3D") {
        Some((_, node)) => {
            let node = node.split('&').next().unwrap_or_default();
            object["spec"]["nodeName"] == node
        }
        None => true,
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let (Some(into), Some(patch)) = (into.as_object_mut(), patch.as_object()) else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.remove(key)),
            Value::Object(_) => {
                let slot = into.entry(key.clone()).or_insert_with(|| json!({}));
                if !slot.is_object() {
                    *slot = json!({});
                }
                merge(slot, value);
            }
            other => drop(into.insert(key.clone(), other.clone())),
        }
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": reason});
    (code, body)
}

impl Default for Fake {
    fn default() -> Self {
        let (events, _) = broadcast::channel(4096);
        let state = State { revision: 100, ..State::default() };
        Self(Arc::new(Inner { state: Mutex::new(state), events }))
    }
}

impl Fake {
    pub(crate) fn client(&self) -> kube::Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.serve(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Every request is answered 503, and every watch is cut.
    pub(crate) fn away(&self, away: bool) {
        self.0.state.lock().away = away;
        if away {
            // Wakes the watches, which see that they are cut.
            let event = Event { revision: 0, path: String::new(), kind: "", object: Value::Null };
            let _ = self.0.events.send(event);
        }
    }

    /// From now on the writes of so many DeviceStatuses are answered together.
    pub(crate) fn writes_together(&self, number: usize) {
        self.0.state.lock().together = Some(Arc::new(Barrier::new(number)));
    }

    /// From now on creations in that collection are answered only once the semaphore is closed.
    pub(crate) fn hold_creations(&self, collection: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.0.state.lock().held = Some((collection.to_owned(), Arc::clone(&gate)));
        gate
    }

    /// So many patches of that path find that somebody else was faster.
    pub(crate) fn conflicts(&self, path: &str, number: usize) {
        self.0.state.lock().conflicts.insert(path.to_owned(), number);
    }

    /// Whether somebody else is faster now; the object is changed then.
    fn is_overtaken(&self, path: &str, object: &Value) -> bool {
        let left = {
            let mut state = self.0.state.lock();
            let Some(left) = state.conflicts.get_mut(path).filter(|left| **left > 0) else {
                return false;
            };
            *left -= 1;
            *left
        };
        let mut object = object.clone();
        object["metadata"]["labels"]["conflict"] = left.to_string().into();
        self.put(&split(path).0, object);
        true
    }

    /// A user with a token, who may do these: `list nodes`.
    pub(crate) fn user(&self, token: &str, name: &str, rights: &[&str]) {
        let mut state = self.0.state.lock();
        state.tokens.insert(token.to_owned(), name.to_owned());
        state.rights.insert(name.to_owned(), rights.iter().map(|r| (*r).to_owned()).collect());
    }

    fn review(&self, body: &Value) -> Value {
        let state = self.0.state.lock();
        let spec = &body["spec"];
        let status = if body["kind"] == "TokenReview" {
            match state.tokens.get(spec["token"].as_str().unwrap_or_default()) {
                Some(name) => json!({"authenticated": true, "user": {"username": name}}),
                None => json!({"user": {}, "error": "invalid bearer token"}),
            }
        } else {
            let asked = &spec["resourceAttributes"];
            let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
            let right = format!("{} {}", text("verb"), text("resource"));
            let rights = state.rights.get(spec["user"].as_str().unwrap_or_default());
            json!({"allowed": rights.is_some_and(|all| all.contains(&right))})
        };
        json!({"kind": body["kind"], "apiVersion": body["apiVersion"], "status": status})
    }

    /// How often something was asked, by method and path.
    pub(crate) fn asked(&self, what: &str) -> usize {
        self.0.state.lock().asked.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.state.lock().objects.get(path).cloned()
    }

    pub(crate) fn paths(&self, collection: &str) -> Vec<String> {
        let state = self.0.state.lock();
        state.objects.keys().filter(|p| is_in(p, collection)).cloned().collect()
    }

    /// Creates or replaces.
    pub(crate) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.0.state.lock();
        let old = state.objects.get(path).cloned();
        state.revision += 1;
        let revision = state.revision;
        let name = path.rsplit('/').next().unwrap_or_default();
        object["metadata"]["name"] = name.into();
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let uid = old
            .as_ref()
            .map_or_else(|| json!(format!("uid-{revision}")), |old| old["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        if let Some((_, rest)) = path.split_once("/namespaces/")
            && let Some((namespace, _)) = rest.split_once('/')
        {
            object["metadata"]["namespace"] = namespace.into();
        }
        state.objects.insert(path.to_owned(), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(&mut state, path, kind, object.clone());
        object
    }

    pub(crate) fn delete(&self, path: &str) -> Option<Value> {
        let mut state = self.0.state.lock();
        let mut object = state.objects.remove(path)?;
        state.revision += 1;
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        self.tell(&mut state, path, "DELETED", object.clone());
        Some(object)
    }

    fn tell(&self, state: &mut State, path: &str, kind: &'static str, object: Value) {
        let event = Event { revision: state.revision, path: path.to_owned(), kind, object };
        state.log.push(event.clone());
        let _ = self.0.events.send(event);
    }

    async fn serve(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        {
            let mut state = self.0.state.lock();
            *state.asked.entry(format!("{} {path}", parts.method)).or_default() += 1;
            if state.away {
                let (code, body) = status(503, "ServiceUnavailable");
                return answer(code, &body);
            }
        }
        if query.contains("watch=true") {
            return self.watch(path, &query);
        }
        if parts.method == Method::PATCH && path.contains("/devicestatuses/") {
            let together = self.0.state.lock().together.clone();
            if let Some(others) = together {
                others.wait().await;
            }
        }
        let held = self.0.state.lock().held.clone();
        if let Some((_, gate)) = held.filter(|(collection, _)| {
            parts.method == Method::POST && is_in(&format!("{path}/new"), collection)
        }) {
            assert!(gate.acquire().await.is_err(), "it has no permits to give");
        }
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or(Value::Null);
        let (code, body) = self.act(&parts.method, &path, &query, body);
        answer(code, &body)
    }

    fn act(&self, method: &Method, path: &str, query: &str, body: Value) -> (u16, Value) {
        let (object_path, sub) = split(path);
        match *method {
            Method::GET => {
                if let Some(object) = self.get(path) {
                    return (200, object);
                }
                let plural = path.rsplit('/').next().unwrap_or_default();
                if !plural.ends_with('s') || path.matches('/').count() == 6 {
                    return status(404, "NotFound");
                }
                let state = self.0.state.lock();
                let items: Vec<&Value> = state
                    .objects
                    .iter()
                    .filter(|(p, o)| is_in(p, path) && selects(query, o))
                    .map(|(_, o)| o)
                    .collect();
                let metadata = json!({"resourceVersion": state.revision.to_string()});
                (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
                )
            }
            Method::POST if sub.as_deref() == Some("token") => {
                (201, json!({"kind": "TokenRequest", "status": {"token": "t"}}))
            }
            Method::POST if path.ends_with("reviews") => (201, self.review(&body)),
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                if self.get(&path).is_some() {
                    return status(409, "AlreadyExists");
                }
                (201, self.put(&path, body))
            }
            Method::PATCH => {
                let Some(mut object) = self.get(&object_path) else {
                    return status(404, "NotFound");
                };
                if self.is_overtaken(path, &object) {
                    return status(409, "Conflict");
                }
                for field in ["uid", "resourceVersion"] {
                    let wanted = &body["metadata"][field];
                    if wanted.is_string() && *wanted != object["metadata"][field] {
                        return status(409, "Conflict");
                    }
                }
                merge(&mut object, &body);
                (200, self.put(&object_path, object))
            }
            Method::DELETE => {
                self.delete(path).map_or_else(|| status(404, "NotFound"), |o| (200, o))
            }
            _ => status(405, "MethodNotAllowed"),
        }
    }

    fn watch(&self, path: String, query: &str) -> Response<Answer> {
        let from = query.split_once("resourceVersion=").map_or("0", |(_, rest)| rest);
        let from: u64 = from.split('&').next().unwrap_or_default().parse().unwrap_or(0);
        let query = query.to_owned();
        let events = self.0.events.subscribe();
        let past: Vec<Event> =
            self.0.state.lock().log.iter().filter(|e| e.revision > from).cloned().collect();
        let last = past.last().map_or(from, |e| e.revision);
        let past = futures::stream::iter(past);
        let live = futures::stream::unfold(events, |mut events| async move {
            events.recv().await.ok().map(|event| (event, events))
        })
        .filter(move |e| std::future::ready(e.kind.is_empty() || e.revision > last));
        let lines = past
            .chain(live)
            // An empty event cuts the watch.
            .take_while(|e| std::future::ready(!e.kind.is_empty()))
            .filter_map(move |e| {
                let wanted = is_in(&e.path, &path) && selects(&query, &e.object);
                let line = format!("{{\"type\":\"{}\",\"object\":{}}}\n", e.kind, e.object);
                std::future::ready(
                    wanted.then(|| Ok::<_, Infallible>(Frame::data(Bytes::from(line)))),
                )
            });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

fn answer(code: u16, body: &Value) -> Response<Answer> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = code.try_into().unwrap();
    response
}
