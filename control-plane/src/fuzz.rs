//! What the fuzz targets of `tests/fuzz` run: the parsers that read what clients send, and what must
//! hold of their answers.
//!
//! Owns: per target a function over bytes, and bytes to begin with. Called by: `tests/fuzz`, and a test
//! below that runs each target on what it begins with. Never: part of a program.

mod custom;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::bootstrap::Authority;
use crate::controllers::certificates;
use crate::http::apply::Configuration;
use crate::http::body::{self, Validation, WriteOptions};
use crate::http::json::{self as text, Parsed};
use crate::http::list::{self, ListOptions, Token};
use crate::http::request::{self, Query};
use crate::http::table::{self, Include};
use crate::http::tokens::{self, Signer};
use crate::http::{apply, auth, create, patch, protobuf, signing};
use crate::registry::quantity::Quantity;
use crate::registry::schedule::Schedule;
use crate::registry::selectors::{FieldSelector, LabelSelector};
use crate::registry::{Part, Registry, Resource, meta, names};
use custom::{
    column_seeds, columns, definition_of, expressions, rule_seeds, schema_parts, schema_seeds,
    schemas,
};

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its binary.
    pub name: &'static str,
    /// Reads the bytes; panics if something does not hold.
    pub run: fn(&[u8]),
    /// What the fuzzer begins with. A zero byte stands between the parts of an input.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 13] = [
    Target { name: "plane_bodies", run: bodies, seeds: body_seeds },
    Target { name: "plane_protobuf", run: protobufs, seeds: protobuf_seeds },
    Target { name: "plane_patches", run: patches, seeds: patch_seeds },
    Target { name: "plane_applies", run: applies, seeds: apply_seeds },
    Target { name: "plane_selectors", run: selectors, seeds: selector_seeds },
    Target { name: "plane_queries", run: queries, seeds: query_seeds },
    Target { name: "plane_tokens", run: accounts, seeds: token_seeds },
    Target { name: "plane_identities", run: identities, seeds: identity_seeds },
    Target { name: "plane_schemas", run: schemas, seeds: schema_seeds },
    Target { name: "plane_rules", run: expressions, seeds: rule_seeds },
    Target { name: "plane_columns", run: columns, seeds: column_seeds },
    Target { name: "plane_certificates", run: requests, seeds: request_seeds },
    Target { name: "plane_values", run: values, seeds: value_seeds },
];

/// A target by its name.
///
/// # Panics
/// When there is none of that name.
pub fn target(name: &str) -> Target {
    let found = TARGETS.into_iter().find(|t| t.name == name);
    found.unwrap_or_else(|| panic!("there is no target `{name}`"))
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// The parts of an input.
fn parts<const N: usize>(data: &[u8]) -> Option<[&[u8]; N]> {
    let all: Vec<&[u8]> = data.splitn(N, |b| *b == 0).collect();
    all.try_into().ok()
}

fn readable(data: &[u8]) -> Option<&str> {
    str::from_utf8(data).ok()
}

/// The built-in kind that an object says it is.
fn kind_of(v: &Value) -> Option<std::sync::Arc<Resource>> {
    let (kind, version) = (v["kind"].as_str()?, v["apiVersion"].as_str()?);
    REGISTRY.builtins().iter().find(|r| r.kind == kind && r.api_version() == version).cloned()
}

/// What is written can be read again, and is the same.
fn can_be_read_again(v: &Value) {
    let written = v.to_string();
    let again = text::parse_typed(written.as_bytes()).expect("what was written can be read");
    assert!(again.duplicates.is_empty(), "{:?}", again.duplicates);
    assert_eq!(again.value.to_string(), written);
}

/// An object on its way into the store: checked, completed, validated, shown.
fn written(resource: &Resource, parsed: &mut Parsed) -> Option<Value> {
    body::object(resource, parsed, Validation::Warn).ok()?;
    let mut new = std::mem::take(&mut parsed.value);
    body::defaults(resource, &mut new);
    meta::stamp_new(&mut new, resource, "default");
    (resource.strategy.prepare)(&mut new, None, Part::Main);
    let mut errors = Vec::new();
    meta::validate(&new, resource, &mut errors);
    create::validate(resource, &new, None, Part::Main, &mut errors);
    let options = WriteOptions { manager: "m".into(), ..WriteOptions::default() };
    let sent = new.clone();
    apply::record_create(resource, &mut new, &sent, None, &options);
    can_be_read_again(&new);
    let _ = resource.selectable(&new);
    shown(resource, &new);
    errors.is_empty().then_some(new)
}

fn shown(resource: &Resource, object: &Value) {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let of = std::iter::once(object);
    let table = table::table(resource, of, json!({}), Include::Metadata, true, now);
    let cells = table["rows"][0]["cells"].as_array().map(Vec::len);
    assert_eq!(cells, table["columnDefinitions"].as_array().map(Vec::len));
}

/// JSON and YAML; an object; an object and another one that takes its place.
fn bodies(data: &[u8]) {
    let both: Option<[&[u8]; 2]> = parts(data);
    let (first, second) = both.map_or((data, None), |[a, b]| (a, Some(b)));
    let mut yaml = HeaderMap::new();
    yaml.insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    if let Ok(parsed) = body::parse(&yaml, first) {
        can_be_read_again(&parsed.value);
    }
    let mut parsed = match body::parse_json(first) {
        Ok(parsed) => parsed,
        Err(status) => return assert_eq!((status.code, status.reason), (400, "BadRequest")),
    };
    can_be_read_again(&parsed.value);
    let Some(resource) = kind_of(&parsed.value) else { return };
    let Some(old) = written(&resource, &mut parsed) else { return };
    let Some(Ok(mut parsed)) = second.map(body::parse_json) else { return };
    if body::object(&resource, &mut parsed, Validation::Warn).is_err() {
        return;
    }
    for part in [Part::Main, Part::Status] {
        let mut new = parsed.value.clone();
        body::defaults(&resource, &mut new);
        meta::keep_identity(&mut new, &old);
        (resource.strategy.prepare)(&mut new, Some(&old), part);
        let mut errors = Vec::new();
        meta::validate_update(&new, &old, &mut errors);
        create::validate(&resource, &new, Some(&old), part, &mut errors);
        meta::count_generation(&mut new, &old, &resource, part);
        let options = WriteOptions { manager: "m".into(), ..WriteOptions::default() };
        apply::record_update(&resource, &mut new, &old, part, &options);
        can_be_read_again(&new);
        shown(&resource, &new);
    }
}

fn body_seeds() -> Vec<Vec<u8>> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {
        "containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}, "env": [{"name": "A", "value": "b"}],
            "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 3}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
        "volumes": [{"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 1,
            "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "type": "LoadBalancer", "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}], "clusterIP": "None"}});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"}, "spec": {
        "schedule": "*/5 * * * *", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": {"completions": 2,
            "completionMode": "Indexed", "template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "i"}]}}}}}});
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "a"}, "lastTimestamp": "2026-01-01T00:00:00Z", "count": 3});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"holderIdentity": "x", "renewTime": "2026-01-01T00:00:00.000000Z"}});
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "w"}, "webhooks": [{"name": "a.b.c", "clientConfig": {"url": "https://x/y"},
            "rules": [{"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods/*"], "operations": ["CREATE"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "matchConditions": [{"name": "n", "expression": "object.a == 1"}]}]});
    let mut out: Vec<Vec<u8>> = [&pod, &deployment, &service, &cron, &event, &lease, &webhook]
        .iter()
        .flat_map(|v| {
            let v = v.to_string();
            [v.clone().into_bytes(), format!("{v}\0{v}").into_bytes()]
        })
        .collect();
    let definition: Value = serde_json::from_slice(&schema_parts()[0]).unwrap_or_default();
    out.push(definition_of(&definition).to_string().into_bytes());
    out.push(b"apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: a}\ndata: {a: yes, b: 0644, c: *m}\n".to_vec());
    out.push(b"{\"a\":1,\"a\":2.5e3,\"b\":[null,true,\"\\u00e9\",-0.0,1e300]}".to_vec());
    out
}

/// What typed clients send.
fn protobufs(data: &[u8]) {
    let Ok(value) = protobuf::decode(data) else { return };
    can_be_read_again(&value);
    if let Some(resource) = kind_of(&value) {
        written(&resource, &mut value.into());
    }
}

fn protobuf_seeds() -> Vec<Vec<u8>> {
    // `kubectl create namespace a`, as recorded on the wire, and a pod that was put together by hand.
    let namespace: &[u8] = b"k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x19\n\x11\n\x01a\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\n\x00\x1a\x00\"\x00";
    let pod: &[u8] = b"k8s\0\n\x09\n\x02v1\x12\x03Pod\x12\x22\n\x11\n\x01a\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x0b\x12\x09\n\x01c\x12\x01i2\x01\x08\x1a\x00";
    vec![namespace.to_vec(), pod.to_vec()]
}

/// An object, and a patch of each type.
fn patches(data: &[u8]) {
    let Some([object, body]) = parts(data) else { return };
    let Ok(Parsed { value: object, .. }) = text::parse(object) else { return };
    let Some(resource) = kind_of(&object) else { return };
    for of in ["json-patch", "merge-patch", "strategic-merge-patch"] {
        let content_type = format!("application/{of}+json");
        let Ok((read, _)) = patch::read(&resource, &content_type, body) else { continue };
        let mut new = object.clone();
        if patch::apply_to(&read, &mut new, &resource).is_err() {
            continue;
        }
        can_be_read_again(&new);
        if of == "merge-patch" {
            let mut twice = new.clone();
            patch::apply_to(&read, &mut twice, &resource).expect("it fits again");
            assert_eq!(twice, new);
        }
        written(&resource, &mut new.into());
    }
}

fn patch_seeds() -> Vec<Vec<u8>> {
    let pod = String::from_utf8(body_seeds().swap_remove(0)).unwrap_or_default();
    let patches = [
        json!([{"op": "add", "path": "/metadata/labels/b", "value": {"c": [1]}}, {"op": "copy", "from": "/spec", "path": "/spec/x"},
            {"op": "move", "from": "/spec/x", "path": "/y"}, {"op": "test", "path": "/kind", "value": "Pod"},
            {"op": "replace", "path": "/a~1b~0", "value": 1}, {"op": "remove", "path": "/spec/containers/0"}]),
        json!({"metadata": {"labels": {"x": null, "z": "1"}}, "spec": {"containers": []}}),
        json!({"spec": {"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}], "$retainKeys": ["containers"],
            "containers": [{"name": "c", "$patch": "delete"}, {"name": "d", "image": "j", "ports": [{"containerPort": 80, "$patch": "replace"}]}]},
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "labels": {"$patch": "replace", "q": "r"}}}),
    ];
    patches.iter().map(|p| format!("{pod}\0{p}").into_bytes()).collect()
}

/// An object with managed fields, and a configuration that is applied to it.
fn applies(data: &[u8]) {
    let Some([live, applied]) = parts(data) else { return };
    let Ok(Parsed { value: live, .. }) = text::parse(live) else { return };
    let Some(resource) = kind_of(&live) else { return };
    let at = (meta::namespace(&live).to_owned(), meta::name(&live).to_owned());
    let options = |force, claimed| WriteOptions {
        manager: "me".into(),
        applying: true,
        claimed,
        force,
        ..WriteOptions::default()
    };
    let read = apply::configuration(&resource, (&at.0, &at.1), applied, &options(false, None));
    let Ok(Configuration { object: config, sent, .. }) = read else { return };
    let sent = Some(std::sync::Arc::new(sent));
    let options = |force| options(force, sent.clone());
    let _ = apply::applied_to(&resource, &live, &config, Part::Main, &options(false));
    let Ok(new) = apply::applied_to(&resource, &live, &config, Part::Main, &options(true)) else {
        return;
    };
    can_be_read_again(&new);
    // What was applied is there now, belongs to who applied it, and applying it again changes nothing.
    let again = apply::applied_to(&resource, &new, &config, Part::Main, &options(false));
    assert_eq!(again.expect("nobody else has these fields"), new);
}

fn apply_seeds() -> Vec<Vec<u8>> {
    let live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n", "managedFields":
        [{"manager": "you", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
          "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}":
            {".": {}, "f:image": {}, "f:args": {}, "f:name": {}}}}}}}},
         {"manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
          "fieldsV1": {"f:spec": {"f:paused": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}}}}}}}}]},
        "spec": {"replicas": 1, "paused": true, "template": {"spec": {"containers":
            [{"name": "c", "image": "i", "args": ["a"]}, {"name": "x"}], "nodeSelector": {"a": "b"}}}}});
    let applied = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, finalizers: [a/b, c/d]}\nspec:\n  replicas: 3\n  template:\n    spec:\n      nodeSelector: {c: d}\n      containers:\n      - {name: c, image: j, ports: [{containerPort: 80}]}\n      - {name: new, env: [{name: A, value: b}]}\n";
    vec![format!("{live}\0{applied}").into_bytes()]
}

/// A label selector and a field selector, and what one of them is asked about.
fn selectors(data: &[u8]) {
    let Some(data) = readable(data) else { return };
    let labels =
        |k: &str| [("a", "1"), ("b", ""), ("c.d/e", "x")].iter().find(|l| l.0 == k).map(|l| l.1);
    if let Ok(read) = LabelSelector::parse(data) {
        let matches = read.matches(labels);
        // Both halves of a selector have to hold, in any order.
        for more in ["a>0", "!b"] {
            let other = LabelSelector::parse(more).expect("it is one");
            let both =
                if data.trim().is_empty() { more.to_owned() } else { format!("{more},{data}") };
            let both = LabelSelector::parse(&both).unwrap_or_else(|e| panic!("{both}: {e}"));
            assert_eq!(both.matches(labels), matches && other.matches(labels), "{data}");
        }
    }
    if let Ok(read) = FieldSelector::parse(data) {
        let _ = read.exact("metadata.name");
        assert!(read.fields().all(|f| data.contains(f)));
    }
    if let Ok(Parsed { value, .. }) = text::parse(data.as_bytes())
        && let Ok(read) = LabelSelector::from_value(&value)
    {
        let _ = read.matches(labels);
    }
}

fn selector_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "a=1,b!=2,c.d/e in (x,y),f notin (),!g,h,a>0,a<9,i==",
        "metadata.name=a\\,b\\=c,spec.nodeName!=,status.phase==Running",
        "{\"matchLabels\":{\"a\":\"1\"},\"matchExpressions\":[{\"key\":\"b\",\"operator\":\"In\",\"values\":[\"\"]},{\"key\":\"a\",\"operator\":\"Gt\",\"values\":[\"0\"]}]}",
    ];
    seeds.map(Vec::from).into()
}

/// A path, a query, and an `Accept` header.
fn queries(data: &[u8]) {
    let Some([path, query, accept]) = parts(data) else { return };
    let (Some(path), Some(raw)) = (readable(path), readable(query)) else { return };
    if let Some(t) = request::target(path) {
        assert!(t.resource.len() <= path.len());
    }
    if let Ok(value) = HeaderValue::from_bytes(accept) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value);
        if let Err(status) = request::accept(&headers) {
            assert_eq!(status.code, 406);
        }
    }
    let query = Query::parse(raw);
    let pods = REGISTRY.builtin("", "pods");
    if let Err(status) = ListOptions::read(&pods, &query) {
        assert!(matches!(status.code, 400 | 422), "{status:?}");
    }
    let _ = list::revision(&query);
    for method in [http::Method::POST, http::Method::PUT, http::Method::PATCH] {
        if let Ok(options) = WriteOptions::read(&method, &query, &HeaderMap::new()) {
            assert!(options.manager.len() <= 128);
        }
    }
    if let Some(token) = query.get("continue")
        && let Ok(read) = Token::decode(token)
    {
        assert_eq!(Token::decode(&read.encode()).expect("our own token"), read);
    }
}

fn query_seeds() -> Vec<Vec<u8>> {
    let token = STANDARD.encode("{\"v\":\"meta.k8s.io/v1\",\"rv\":5,\"start\":\"default/a\"}");
    let token = token.trim_end_matches('=');
    let seeds = [
        format!("/api/v1/namespaces/a%2Fb/pods/c/log\0limit=5&continue={token}&labelSelector=a%3Db\0application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml"),
        "/apis/apps/v1/watch/deployments\0watch=true&resourceVersion=18446744073709551615&resourceVersionMatch=Exact&timeoutSeconds=-1\0*/*".to_owned(),
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3anode\0dryRun=All&fieldValidation=Strict&fieldManager=m&force=true&limit=-5\0application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1".to_owned(),
    ];
    seeds.map(String::into_bytes).into()
}

/// A service account's token: none verifies but what was signed here.
fn accounts(data: &[u8]) {
    let Some(data) = readable(data) else { return };
    let (signer, token) = &*SIGNED;
    if let Some(claims) = signer.verify(data) {
        assert_eq!(data, token, "another text verifies as well");
        assert_eq!(claims["sub"], "system:serviceaccount:a:b");
    }
    if let Ok(claims) = serde_json::from_str::<Value>(data) {
        let _ = tokens::check_times(&claims, i64::MAX);
        let _ = tokens::check_times(&claims, i64::MIN);
        if let Some(own) = signer.sign(&claims) {
            assert_eq!(signer.verify(&own).is_some(), own.len() <= tokens::LIMIT);
        }
    }
}

static SIGNED: LazyLock<(Signer, String)> = LazyLock::new(|| {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    let signer = Signer::new(key.as_ref()).expect("it is a P-256 key");
    let token =
        signer.sign(&json!({"sub": "system:serviceaccount:a:b", "exp": 1})).expect("it signs");
    (signer, token)
});

fn token_seeds() -> Vec<Vec<u8>> {
    vec![
        SIGNED.1.clone().into_bytes(),
        b"abcdef.0123456789abcdef".to_vec(),
        b"eyJhbGciOiJub25lIn0.e30.".to_vec(),
        b"{\"nbf\":-9223372036854775808,\"exp\":9223372036854775807}".to_vec(),
    ]
}

/// A bootstrap token and the data of its Secret, a field a line; headers by which somebody becomes
/// somebody else, a header a line.
fn identities(data: &[u8]) {
    let Some([token, fields, lines]) = parts(data) else { return };
    let (Some(token), Some(fields)) = (readable(token), readable(fields)) else { return };
    let now = jiff::Timestamp::from_second(1_767_225_600).expect("a time");
    if let Some((id, secret)) = tokens::bootstrap_parts(token) {
        let mut found = json!({"type": "bootstrap.kubernetes.io/token", "data": {}});
        for (name, value) in fields.lines().filter_map(|l| l.split_once('=')) {
            found["data"][name] = STANDARD.encode(value).into();
        }
        if let Some(user) = tokens::bootstrap(&found, (id, secret), now) {
            assert!(fields.contains(secret) && fields.contains("true"), "{fields}");
            let own = |g: &String| g.starts_with("system:bootstrappers");
            let all = user.groups.len() - 1;
            assert!(user.groups[..all].iter().all(own), "{:?}", user.groups);
        }
    }
    let mut headers = HeaderMap::new();
    for line in lines.split(|b| *b == b'\n') {
        let mut halves = line.splitn(2, |b| *b == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        let name = http::header::HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let asked = auth::Asked::read(&headers);
    let values = asked.extra.values().map(Vec::len).sum::<usize>();
    assert!(asked.groups.len() + values <= headers.len());
}

fn identity_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "abcdef.0123456789abcdef\0token-id=abcdef\ntoken-secret=0123456789abcdef\nusage-bootstrap-authentication=true\nexpiration=2026-01-01T00:00:01Z\nauth-extra-groups=system:bootstrappers:a,system:masters\0Impersonate-User:u",
        "a.b\0\0Impersonate-User:system:serviceaccount:a:b\nImpersonate-Group:g\nImpersonate-Group:h\nImpersonate-Uid:1\nImpersonate-Extra-Scopes%2fa:x\nimpersonate-extra-:é",
    ];
    seeds.map(Vec::from).into()
}

/// A client certificate and a signing request, in DER, and a request in PEM.
fn requests(data: &[u8]) {
    let _ = auth::user_of_certificate(data);
    let lines = STANDARD.encode(data);
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{lines}\n-----END CERTIFICATE REQUEST-----\n"
    );
    for request in [STANDARD.encode(pem), STANDARD.encode(data)] {
        for signer in [signing::KUBELET_CLIENT, signing::KUBELET_SERVING, signing::CLIENT] {
            let csr = json!({"metadata": {"name": "c"}, "spec": {"signerName": signer, "request": request,
                "username": "system:node:a", "usages": ["client auth", "digital signature"]}});
            let problem = signing::problem(&csr);
            assert_eq!(
                signing::read(&csr).is_err(),
                problem.is_some_and(|p| p.starts_with("unable to parse csr"))
            );
            // What is signed is a certificate for whom the request names.
            let Ok(signed) = certificates::sign(&AUTHORITY, &csr) else { continue };
            let der =
                rustls_pki_types::CertificateDer::from_pem_slice(signed.as_bytes()).expect("PEM");
            let asked = signing::read(&csr).expect("it was signed");
            if let Some(user) = auth::user_of_certificate(&der) {
                assert_eq!(user.name, asked.common_name);
                assert_eq!(user.groups[..user.groups.len() - 1], asked.organizations);
            }
        }
    }
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("keadm-fuzz-ca-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for a CA");
    let authority = Authority::open(&folder).expect("a CA");
    std::fs::remove_dir_all(&folder).expect("it can be removed");
    authority
});

fn request_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![AUTHORITY.der().map(|d| d.to_vec()).unwrap_or_default()];
    let another = rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]);
    for (names, twice) in [
        (vec![], true),
        (vec![], false),
        (vec!["a.example".to_owned(), "10.0.0.1".to_owned()], false),
    ] {
        let mut params = rcgen::CertificateParams::new(names).expect("these are names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        if twice {
            params.distinguished_name.push(another.clone(), "system:node:b");
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        let request = params.serialize_request(&key).expect("a request");
        seeds.push(request.der().to_vec());
        seeds.push(request.pem().expect("PEM").into_bytes());
    }
    seeds
}

/// Quantities, schedules, names.
fn values(data: &[u8]) {
    let Some(data) = readable(data) else { return };
    if let Some(quantity) = Quantity::parse(data) {
        assert_eq!(Quantity::parse(&format!("+{data}")).is_some(), !data.starts_with(['+', '-']));
        assert_eq!(quantity < Quantity::default(), quantity.is_negative());
        // Rounded up to thousandths, and not by more than one.
        let millis = Quantity::parse(&format!("{}m", quantity.millis()));
        assert!(millis.is_none_or(|m| m >= quantity), "{data}");
    }
    let now = jiff::Timestamp::from_second(1_767_225_600).expect("a time");
    let (schedule, zone) = data.split_once('|').map_or((data, None), |(s, z)| (s, Some(z)));
    if let Ok(schedule) = Schedule::read(schedule, zone) {
        assert!(schedule.next(now).is_none_or(|t| t > now), "{data}");
        let since = now - jiff::SignedDuration::from_hours(24 * 400);
        assert!(schedule.last(since, now).is_none_or(|t| t > since && t <= now), "{data}");
    }
    for check in [names::dns_label, names::dns_subdomain, names::label_key, names::label_value] {
        if check(data).is_ok() {
            assert!(
                data.is_ascii() && data.len() <= 253 + 1 + 63 && !data.contains(['\n', ' ', '"'])
            );
        }
    }
    if names::path_segment(data).is_ok() {
        assert!(!data.contains('/') && data != "..");
    }
}

fn value_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "100m",
        "1.5Gi",
        "-2e3",
        "9223372036854775807",
        ".5",
        "0.0000000001",
        "1E",
        "12E-3",
        "*/5 1-3 * JAN,MAR MON-FRI",
        "0 0 31 2 *|Europe/Berlin",
        "@every 1h30m",
        "@daily",
        "0 0 ? * 7|America/New_York",
        "a.b-c/d_e",
        "kube-system",
    ];
    seeds.map(Vec::from).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_reads_what_the_fuzzer_begins_with() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                (target.run)(&seed);
            }
        }
    }
}
