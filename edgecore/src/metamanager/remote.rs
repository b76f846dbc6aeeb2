//! Ask the cloud, else answer from the store.
//!
//! Owns: which of the two is asked first, and the rule that an error is never stored as an object.
//! Called by: `objects.rs`.
//! Never: stores the answer to a query itself; the edgehub has stored it before the asker is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::names::ObjectKey;
use api::wire::upstream::Request;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use super::objects::ObjectError;
use super::store::Store;
use crate::edgehub::{RequestError, Requests};

type Fetch = BoxFuture<'static, Result<Option<String>, ObjectError>>;

/// See the module; clones share what is being fetched.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(super) store: Store,
    pub(super) requests: Requests,
    pub(super) limit: Duration,
    /// One question per object at a time: thirty pods that start together ask for a configmap once.
    fetching: Arc<Mutex<HashMap<ObjectKey, WeakShared<Fetch>>>>,
}

impl Remote {
    /// `limit` is how long the cloud may take to answer.
    pub(crate) fn new(store: Store, requests: Requests, limit: Duration) -> Self {
        Self { store, requests, limit, fetching: Arc::default() }
    }

    /// The stored object, or else the cloud's. `None`: the API server has no such object. If the stored
    /// one may be old the cloud is asked first, and it serves where the cloud does not answer.
    ///
    /// # Errors
    /// When it is not stored and the cloud cannot be asked, does not answer or refuses.
    pub(crate) async fn stored_or_fetched(
        &self,
        key: &ObjectKey,
    ) -> Result<Option<String>, ObjectError> {
        let wanted = key.clone();
        match self.store.read(move |tx| super::apply::stored(tx, &wanted)).await? {
            None => self.fetch(key).await,
            Some((object, false)) => Ok(Some(object)),
            Some((object, true)) => match self.fetch(key).await {
                Err(ObjectError::Cloud { .. }) => Ok(Some(object)),
                answer => answer,
            },
        }
    }

    fn fetch(&self, key: &ObjectKey) -> Shared<Fetch> {
        let mut fetching = self.fetching.lock();
        fetching.retain(|_, fetch| fetch.upgrade().is_some());
        if let Some(under_way) = fetching.get(key).and_then(WeakShared::upgrade) {
            return under_way;
        }
        let (requests, limit, what) = (self.requests.clone(), self.limit, key.clone());
        let fetch = async move {
            match requests.object(Request::Query(what.clone()), limit).await {
                Ok(object) => {
                    Ok(object.map(|o| o.get().to_owned()).filter(|o| super::apply::is_object(o)))
                }
                Err(RequestError::Refused(refusal)) if refusal.is_not_found() => Ok(None),
                Err(source) => Err(ObjectError::Cloud { what: what.to_string(), source }),
            }
        }
        .boxed()
        .shared();
        if let Some(weak) = fetch.downgrade() {
            fetching.insert(key.clone(), weak);
        }
        fetch
    }
}

/// The stored object; an error that an original edgecore stored in its place does not count.
pub(super) async fn stored(store: &Store, key: &ObjectKey) -> Result<Option<String>, ObjectError> {
    let key = key.clone();
    let stored = store.read(move |tx| super::apply::stored(tx, &key)).await?;
    Ok(stored.map(|(object, _)| object))
}
