//! Secrets that hold a token of a service account for as long as they are there.
//!
//! Owns: filling them, and removing those whose account is gone. Called by: `controllers::spawn`.
//! Never: makes such a secret; whoever wants one does.
//!
//! <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#manually-create-an-api-token-for-a-serviceaccount>

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Change, Follower};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, delete};
use crate::http::status::Status;
use crate::http::tokens;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::core::{SERVICE_ACCOUNT_TOKEN, object};
use crate::registry::{Part, meta};
use crate::store::Key;

const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// Follows secrets and accounts.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut secrets = Follower::new(&plane, "core/secrets");
    let mut accounts = Follower::new(&plane, "core/serviceaccounts");
    loop {
        let mut due: Vec<Value> = Vec::new();
        tokio::select! {
            changes = secrets.next() => for c in changes {
                match c {
                    Change::Reset(all) => due.extend(all.iter().map(|s| s.value())),
                    Change::Put(one) => due.push(one.value()),
                    Change::Gone(_) => {}
                }
            },
            changes = accounts.next() => for c in changes {
                if let Change::Gone(account) = c {
                    let prefix = format!("{}/", account.namespace());
                    let all = plane.store.list("core/secrets", &prefix, None).objects;
                    let of = |s: &Value| account_of(s) == Some(account.name());
                    due.extend(all.iter().map(|(_, s)| s.value()).filter(of));
                }
            },
        }
        for secret in due.iter().filter(|s| account_of(s).is_some()) {
            if let Err(e) = settle(&plane, secret).await
                && e.code != 404
            {
                let (namespace, name) = (meta::namespace(secret), meta::name(secret));
                tracing::warn!(namespace, name, "cannot fill a secret: {}", e.message);
            }
        }
    }
}

/// The account whose token a secret is to hold, if it is to hold one.
fn account_of(secret: &Value) -> Option<&str> {
    let of = secret["metadata"]["annotations"][NAME].as_str()?;
    (secret["type"] == SERVICE_ACCOUNT_TOKEN && !meta::is_terminating(secret)).then_some(of)
}

/// What a secret lacks, given its account.
fn lacks(secret: &Value) -> bool {
    let has = |f: &str| secret["data"][f].as_str().is_some_and(|s| !s.is_empty());
    !["ca.crt", "namespace", "token"].into_iter().all(has)
        || secret["metadata"]["annotations"].get(UID).is_none()
}

/// Fills a secret, or removes it when its account is gone or is another one.
async fn settle(plane: &Plane, secret: &Value) -> Result<(), Status> {
    let at = (meta::namespace(secret), meta::name(secret));
    let Some(name) = account_of(secret) else { return Ok(()) };
    let resource = plane.registry.builtin("", "secrets");
    let user = User::internal("serviceaccount:kube-system:tokens-controller");
    let found = plane.store.get(&Key::new(&"core/serviceaccounts".into(), at.0, name));
    let account = found.map(|a| a.value());
    let same = |a: &Value| {
        let known = secret["metadata"]["annotations"][UID].as_str();
        known.is_none_or(|uid| uid == meta::uid(a))
    };
    let Some(account) = account.filter(same) else {
        let options =
            DeleteOptions { uid: Some(meta::uid(secret).to_owned()), ..DeleteOptions::default() };
        return delete(plane, &user, &resource, at, &options).await.map(|_| ());
    };
    if !lacks(secret) {
        return Ok(());
    }
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let change = |old: &Value| Ok(filled(plane, &account, old));
    modify(plane, &user, &resource, at, Part::Main, &options, change).await.map(|_| ())
}

fn filled(plane: &Plane, account: &Value, old: &Value) -> Value {
    let mut new = old.clone();
    new["metadata"]["annotations"][UID] = meta::uid(account).into();
    let token = || tokens::issue_lasting(&plane.signer, account, meta::name(old));
    let data = object(&mut new, "data");
    for (field, value) in
        [("ca.crt", plane.ca_pem.clone()), ("namespace", meta::namespace(account).to_owned())]
    {
        if data[field].as_str().is_none_or(str::is_empty) {
            data[field] = STANDARD.encode(value).into();
        }
    }
    if data["token"].as_str().is_none_or(str::is_empty)
        && let Some(token) = token()
    {
        data["token"] = STANDARD.encode(token).into();
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_secrets_of_the_type_that_name_an_account_are_filled() {
        let secret = |kind: &str, notes: Value| json!({"metadata": {"name": "s", "annotations": notes}, "type": kind});
        let named = json!({NAME: "robot"});
        let mut one = secret(SERVICE_ACCOUNT_TOKEN, named.clone());
        assert_eq!(account_of(&one), Some("robot"));
        assert!(lacks(&one));
        assert_eq!(account_of(&secret("Opaque", named)), None);
        assert_eq!(account_of(&secret(SERVICE_ACCOUNT_TOKEN, json!({}))), None);
        one["data"] = json!({"ca.crt": "YQ==", "namespace": "YQ==", "token": "YQ=="});
        assert!(lacks(&one));
        one["metadata"]["annotations"][UID] = "u".into();
        assert!(!lacks(&one));
        one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(account_of(&one), None);
    }
}
