//! Strategic merge patch: a merge that knows the keys of lists.
//!
//! Owns: the directives `$patch`, `$retainKeys`, `$setElementOrder/..`, `$deleteFromPrimitiveList/..`.
//! Called by: `http::patch`. Never: used for custom kinds, whose lists have no such keys.

use serde_json::{Map, Value};

use super::restore::{printed, type_of};
use super::schema::{ListKind, Shape, TypeId, schemas};

/// A patch that cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PatchError {
    /// An element of a merged list has no key.
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoKey(String, String),
    /// An unknown `$patch`.
    #[error("unknown patch type: {0} in map: {1}")]
    Directive(String, String),
    /// An element of a list cannot be told to merge the list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeList,
    /// What is kept of an object does not have all that the patch puts in.
    #[error("invalid patch format of retainKeys")]
    Retain,
    /// The order of what is no list, or which is none itself.
    #[error("expected a []interface {{}}, but received a {0}")]
    NoList(&'static str),
    /// A list whose elements would be of several types.
    #[error("list element types are not identical: {0}")]
    Elements(String),
    /// The order of a list that a patch asks for does not name what it puts into the list.
    #[error("The order in patch list:\n{0}\n doesn't match $setElementOrder list:\n{1}\n")]
    Order(String, String),
    /// A directive of the wrong form.
    #[error("invalid patch: {0}")]
    Form(String),
}

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Lists with keys, or of single values, that a patch replaces whole.
pub(crate) const UNMERGED: [(&str, &str); 9] = [
    ("io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement", "values"),
    ("io.k8s.api.batch.v1.UncountedTerminatedPods", "failed"),
    ("io.k8s.api.batch.v1.UncountedTerminatedPods", "succeeded"),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestStatus", "conditions"),
    ("io.k8s.api.core.v1.ResourceRequirements", "claims"),
    ("io.k8s.api.core.v1.ResourceStatus", "resources"),
    ("io.k8s.api.discovery.v1.Endpoint", "addresses"),
    ("io.k8s.api.storage.v1.CSIDriverSpec", "volumeLifecycleModes"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "conditions",
    ),
];

/// Objects within an object that a patch replaces whole, by the name of the outer one.
const WHOLE: [(&str, [&str; 2]); 1] =
    [("io.k8s.api.policy.v1.PodDisruptionBudget", ["spec", "selector"])];

/// Applies `patch` to an object of the given type.
///
/// # Errors
/// When the patch does not fit the type's merge keys.
pub(crate) fn apply(original: &mut Value, patch: &Value, ty: TypeId) -> Result<(), PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(PatchError::Form("not an object".into()));
    };
    for (_, [part, field]) in WHOLE.iter().filter(|(name, _)| *name == &*schemas().get(ty).name) {
        if patch.get(*part).is_some_and(|p| p[*field].is_object())
            && let Some(Value::Object(part)) = original.get_mut(*part)
        {
            part.remove(*field);
        }
    }
    merge_object(original, patch, &Shape::Ref(ty))
}

fn field_shape(shape: &Shape, name: &str) -> Shape {
    match shape {
        Shape::Ref(id) => {
            let ty = schemas().get(*id);
            match ty.field(name).cloned().unwrap_or(Shape::Any) {
                Shape::List(items, _) if UNMERGED.contains(&(&*ty.name, name)) => {
                    Shape::List(items, ListKind::Atomic)
                }
                shape => shape,
            }
        }
        Shape::Map(items) => (**items).clone(),
        _ => Shape::Any,
    }
}

fn merge_object(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    shape: &Shape,
) -> Result<(), PatchError> {
    match patch.get(DIRECTIVE).map(|d| d.as_str().ok_or(d)) {
        None => {}
        Some(Ok("replace")) => {
            *original = cleaned(patch);
            return Ok(());
        }
        Some(Ok("delete")) => {
            original.clear();
            return Ok(());
        }
        Some(other) => {
            let shown = printed(&Value::Object(patch.clone()));
            // As Go's `%s` writes what is no text.
            let other = match other {
                Ok(text) => text.to_owned(),
                Err(d) => format!("%!s({}={})", type_of(d), printed(d)),
            };
            return Err(PatchError::Directive(other, shown));
        }
    }
    if let Some(keep) = patch.get(RETAIN) {
        let keep = keep.as_array().ok_or(PatchError::Retain)?;
        let kept = |k: &String| keep.iter().any(|x| x == k);
        let own = |k: &str| k == RETAIN || k.starts_with(DELETE) || k.starts_with(ORDER);
        if patch.iter().any(|(k, v)| !v.is_null() && !own(k) && !kept(k)) {
            return Err(PatchError::Retain);
        }
        original.retain(|k, _| kept(k));
    }
    for (key, order) in patch {
        let Some(field) = key.strip_prefix(ORDER) else { continue };
        let lists = [Some(order), original.get(field), patch.get(field)];
        let o = order.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(wrong) = lists.into_iter().flatten().find(|v| !v.is_array()) {
            return Err(PatchError::NoList(type_of(wrong)));
        }
        if let Some(list @ Value::Array(of)) = patch.get(field)
            && !in_order(of, o, &field_shape(shape, field))
        {
            return Err(PatchError::Order(printed(list), printed(order)));
        }
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE) {
            // What is no list takes nothing out of one.
            if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(field), value)
            {
                list.retain(|v| !gone.contains(v));
            }
        } else if key != RETAIN && !key.starts_with(ORDER) {
            merge_field(original, key, value, &field_shape(shape, key), patch)?;
        }
    }
    for (key, order) in patch {
        let Some(field) = key.strip_prefix(ORDER) else { continue };
        let order = order.as_array().map(Vec::as_slice).unwrap_or_default();
        // A list that the patch itself names was ordered when it was merged.
        if !patch.contains_key(field)
            && let Some(Value::Array(list)) = original.get_mut(field)
        {
            let before = list.clone();
            set_order(list, &before, order, &field_shape(shape, field));
        }
    }
    Ok(())
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    shape: &Shape,
    patch: &Map<String, Value>,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(key);
        return Ok(());
    }
    match (original.get_mut(key), value) {
        (Some(Value::Object(o)), Value::Object(p)) => return merge_object(o, p, shape),
        (Some(Value::Array(list)), Value::Array(p)) => {
            let before = list.clone();
            merge_list(list, p, shape)?;
            match patch.get(&format!("{ORDER}{key}")) {
                Some(Value::Array(order)) => set_order(list, &before, order, shape),
                // What is new comes first, in the order of the patch.
                _ if merges(shape) => set_order(list, &before, p, shape),
                _ => {}
            }
        }
        // Into nothing, or in the place of something else: as it is. What is told to do something
        // does nothing there.
        (_, v) => match undirected(v) {
            Some(v) => {
                original.insert(key.to_owned(), v);
            }
            None => {
                original.remove(key);
            }
        },
    }
    Ok(())
}

/// The strategic merge key of a list: the first of its map keys.
fn merge_key(kind: &ListKind) -> Option<&str> {
    match kind {
        ListKind::Map(keys) => keys.first().map(|k| &**k).filter(|k| *k != "metadata"),
        _ => None,
    }
}

/// Whether a patch adds to a list, and does not take its place.
fn merges(shape: &Shape) -> bool {
    matches!(shape, Shape::List(_, kind) if *kind == ListKind::Set || merge_key(kind).is_some())
}

fn merge_list(list: &mut Vec<Value>, patch: &[Value], shape: &Shape) -> Result<(), PatchError> {
    let Shape::List(items, kind) = shape else {
        *list = patch.to_vec();
        return Ok(());
    };
    if merges(shape) {
        alike(list, patch)?;
    }
    if *kind == ListKind::Set {
        for v in patch {
            if !list.contains(v) {
                list.push(v.clone());
            }
        }
        return Ok(());
    }
    let Some(key) = merge_key(kind) else {
        *list = patch.iter().filter(|v| v.get(DIRECTIVE).is_none()).cloned().collect();
        return Ok(());
    };
    let replace = |v: &Value| v.get(DIRECTIVE).is_some_and(|d| d == "replace");
    if patch.iter().any(|v| replace(v) && v.get(key).is_none()) {
        *list = patch.iter().filter(|v| !replace(v)).cloned().collect();
        return Ok(());
    }
    for v in patch {
        let Value::Object(p) = v else {
            return Err(PatchError::NoKey(printed(v), key.to_owned()));
        };
        let Some(id) = p.get(key) else {
            return Err(PatchError::NoKey(printed(v), key.to_owned()));
        };
        match p.get(DIRECTIVE) {
            Some(d) if d == "delete" => {
                list.retain(|o| o.get(key) != Some(id));
                continue;
            }
            Some(d) if d == "merge" => return Err(PatchError::MergeList),
            _ => {}
        }
        match list.iter_mut().find(|o| o.get(key) == Some(id)) {
            Some(Value::Object(o)) => merge_object(o, p, items)?,
            _ if p.contains_key(DIRECTIVE) => {
                let mut fresh = Map::new();
                merge_object(&mut fresh, p, items)?;
                list.push(Value::Object(fresh));
            }
            _ => list.extend(undirected(v)),
        }
    }
    Ok(())
}

/// Whether all elements of what is merged are of one type.
fn alike(list: &[Value], patch: &[Value]) -> Result<(), PatchError> {
    let mut types = list.iter().chain(patch).map(type_of);
    let first = types.next();
    if types.all(|t| Some(t) == first) {
        return Ok(());
    }
    let all = Value::Array(vec![list.into(), patch.into()]);
    Err(PatchError::Elements(printed(&all)))
}

/// What a value of a patch is where there was none: as it is, but what is told to do something is left
/// out. Other directives are fields that there are not.
fn undirected(value: &Value) -> Option<Value> {
    match value {
        Value::Object(m) if m.contains_key(DIRECTIVE) => None,
        Value::Object(m) => {
            let kept = m.iter().filter(|(_, v)| !v.is_null());
            let kept = kept.filter_map(|(k, v)| Some((k.clone(), undirected(v)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(list) => Some(list.iter().filter_map(undirected).collect()),
        other => Some(other.clone()),
    }
}

/// Whether two elements of a list are the same one: by its key, or as a whole where it has none.
fn same(shape: &Shape, a: &Value, b: &Value) -> bool {
    let key = match shape {
        Shape::List(_, kind) => merge_key(kind),
        _ => None,
    };
    match key {
        Some(k) => a.get(k).is_some() && a.get(k) == b.get(k),
        None => a == b,
    }
}

/// Whether all that a patch puts into a list is in the order that it asks for.
fn in_order(list: &[Value], order: &[Value], shape: &Shape) -> bool {
    let mut rest = order.iter();
    let mut put = list.iter().filter(|v| v.get(DIRECTIVE).is_none_or(|d| d != "delete"));
    put.all(|v| rest.any(|o| same(shape, o, v)))
}

/// Puts a merged list in the order the patch asks for; what only the server has keeps its place.
fn set_order(list: &mut Vec<Value>, before: &[Value], order: &[Value], shape: &Shape) {
    let same = |a: &Value, b: &Value| same(shape, a, b);
    let (mut ours, theirs): (Vec<Value>, Vec<Value>) =
        std::mem::take(list).into_iter().partition(|v| order.iter().any(|o| same(o, v)));
    ours.sort_by_key(|v| order.iter().position(|o| same(o, v)));
    let place = |v: &Value| before.iter().position(|b| same(b, v));
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        match (ours.peek(), theirs.peek()) {
            (Some(a), Some(b)) => {
                let server_first = place(a).is_some_and(|pa| place(b).is_some_and(|pb| pb < pa));
                list.extend(if server_first { theirs.next() } else { ours.next() });
            }
            (Some(_), None) => list.extend(ours.next()),
            (None, Some(_)) => list.extend(theirs.next()),
            (None, None) => return,
        }
    }
}

/// A patch's object without directives and nulls.
fn cleaned(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter(|(k, v)| *k != DIRECTIVE && !v.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(mut original: Value, patch: Value) -> Value {
        let ty = schemas().find("io.k8s.api.core.v1.Pod").unwrap();
        apply(&mut original, &patch, ty).unwrap();
        original
    }

    // The cases are those of the documentation, "Update API Objects in Place Using kubectl patch": there
    // the container that the patch brings comes first.
    // https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
    #[test]
    fn containers_merge_by_name_and_tolerations_are_replaced() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "nginx"}], "tolerations": [{"key": "x"}]}});
        let out = patched(
            pod,
            json!({"spec": {"containers": [{"name": "b", "image": "redis"}], "tolerations": [{"key": "y"}]}}),
        );
        assert_eq!(
            out,
            json!({"spec": {"containers": [{"name": "b", "image": "redis"}, {"name": "a", "image": "nginx"}], "tolerations": [{"key": "y"}]}})
        );
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn what_a_patch_adds_comes_before_what_was_there_and_the_rest_keeps_its_order() {
        let pod = json!({"metadata": {"finalizers": ["x/a", "x/b"]},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
        let patch = json!({"metadata": {"finalizers": ["x/n", "x/b"]},
            "spec": {"containers": [{"name": "n"}, {"name": "c"}, {"name": "b", "image": "i"}, {"name": "a", "$patch": "delete"}]}});
        assert_eq!(
            patched(pod, patch),
            json!({"metadata": {"finalizers": ["x/n", "x/a", "x/b"]},
                "spec": {"containers": [{"name": "n"}, {"name": "c"}, {"name": "b", "image": "i"}]}})
        );
    }

    #[test]
    fn a_list_can_be_put_in_order() {
        let pod =
            json!({"spec": {"containers": [{"name": "a"}, {"name": "server"}, {"name": "c"}]}});
        let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "n"}, {"name": "a"}],
            "containers": [{"name": "n", "image": "x"}]}});
        let names: Vec<String> = patched(pod, patch)["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["server", "c", "n", "a"]);
    }

    #[test]
    fn directives_delete_replace_and_retain() {
        let pod = json!({"metadata": {"finalizers": ["x/a", "x/b"], "labels": {"k": "v"}},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "volumes": [{"name": "v", "emptyDir": {}}]}});
        let out = patched(
            pod,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"], "labels": {"k": null, "l": "w"}},
                "spec": {"containers": [{"name": "a", "$patch": "delete"}],
                    "volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
        );
        assert_eq!(
            out,
            json!({"metadata": {"finalizers": ["x/b"], "labels": {"l": "w"}},
                "spec": {"containers": [{"name": "b"}], "volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}})
        );
    }

    #[test]
    fn a_condition_is_replaced_by_its_type() {
        let node = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Disk", "status": "True"}]}});
        let out =
            patched(node, json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        assert_eq!(
            out["status"]["conditions"],
            json!([{"type": "Ready", "status": "True"}, {"type": "Disk", "status": "True"}])
        );
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn an_order_that_leaves_out_what_the_patch_puts_in_is_refused() {
        let ty = schemas().find("io.k8s.api.core.v1.Pod").unwrap();
        let patch =
            json!({"metadata": {"$setElementOrder/finalizers": ["x/y"], "finalizers": ["c/d"]}});
        let e = apply(&mut json!({"metadata": {}}), &patch, ty).unwrap_err();
        let words =
            "The order in patch list:\n[c/d]\n doesn't match $setElementOrder list:\n[x/y]\n";
        assert_eq!(e.to_string(), words);
    }

    // What a kube-apiserver 1.33 did.
    #[test]
    fn what_has_no_strategy_or_is_replaced_is_taken_from_the_patch_whole() {
        let said = |ty: &str, mut original: Value, patch: &Value| {
            apply(&mut original, patch, schemas().find(ty).unwrap()).unwrap();
            original
        };
        let budget = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
        let patch = json!({"spec": {"selector": {"matchLabels": {"x": "y"}}}});
        assert_eq!(
            said("io.k8s.api.policy.v1.PodDisruptionBudget", budget.clone(), &patch),
            json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"x": "y"}}}})
        );
        let other = json!({"spec": {"minAvailable": 2}});
        assert_eq!(
            said("io.k8s.api.policy.v1.PodDisruptionBudget", budget, &other),
            json!({"spec": {"minAvailable": 2, "selector": {"matchLabels": {"a": "b"}}}})
        );
        let request = json!({"status": {"conditions": [{"type": "Approved"}]}});
        let failed = json!({"status": {"conditions": [{"type": "Failed"}]}});
        assert_eq!(
            said("io.k8s.api.certificates.v1.CertificateSigningRequest", request, &failed),
            failed
        );
    }

    #[test]
    fn a_list_where_there_was_none_is_taken_as_it_is() {
        let out = patched(
            json!({"spec": {}}),
            json!({"spec": {"containers": [{"image": "x", "$setElementOrder/env": [], "env": null}, {"name": "y", "$patch": "delete"}],
                "affinity": {"$patch": "foo"}}}),
        );
        // A kube-apiserver 1.33 then warns of an order as of a field that there is not.
        let taken = json!({"spec": {"containers": [{"image": "x", "$setElementOrder/env": []}]}});
        assert_eq!(out, taken);
    }

    #[test]
    fn an_element_without_its_key_is_refused() {
        let mut pod = json!({"spec": {"containers": []}});
        let ty = schemas().find("io.k8s.api.core.v1.Pod").unwrap();
        let e =
            apply(&mut pod, &json!({"spec": {"containers": [{"image": "x"}]}}), ty).unwrap_err();
        assert_eq!(e, PatchError::NoKey("map[image:x]".into(), "name".into()));
    }

    // What a kube-apiserver 1.33 answered to each.
    #[test]
    fn a_directive_of_the_wrong_form_is_refused_or_does_nothing() {
        let said = |patch: Value| {
            let ty = schemas().find("io.k8s.api.core.v1.Pod").unwrap();
            let mut pod = json!({"metadata": {"labels": {"l": "1"}, "finalizers": ["x/y"], "ownerReferences": [{"uid": "1"}]}});
            apply(&mut pod, &json!({"metadata": patch}), ty).map(|()| pod["metadata"].take())
        };
        let refused = |patch: Value| said(patch).unwrap_err().to_string();
        let retain = "invalid patch format of retainKeys";
        assert_eq!(refused(json!({"$retainKeys": ["name"], "labels": {"a": "b"}})), retain);
        assert_eq!(refused(json!({"$retainKeys": "x"})), retain);
        assert_eq!(said(json!({"$retainKeys": ["labels"], "labels": null})), Ok(json!({})));
        let unknown = "unknown patch type: ";
        assert_eq!(
            refused(json!({"$patch": "foo"})),
            format!("{unknown}foo in map: map[$patch:foo]")
        );
        assert_eq!(
            refused(json!({"labels": {"$patch": 5}})),
            format!("{unknown}%!s(int64=5) in map: map[$patch:5]")
        );
        assert_eq!(
            refused(json!({"labels": {"$patch": "merge", "z": "1"}})),
            format!("{unknown}merge in map: map[$patch:merge z:1]")
        );
        assert_eq!(
            refused(json!({"ownerReferences": [{"uid": "1", "$patch": "merge"}]})),
            "merging lists cannot yet be specified in the patch"
        );
        let no_list = "expected a []interface {}, but received a ";
        assert_eq!(
            refused(json!({"$setElementOrder/finalizers": "x"})),
            format!("{no_list}string")
        );
        assert_eq!(
            refused(json!({"$setElementOrder/labels": ["x"]})),
            format!("{no_list}map[string]interface {{}}")
        );
        assert_eq!(
            refused(json!({"finalizers": [{"$patch": "replace"}, "n/m"]})),
            "list element types are not identical: [[x/y] [map[$patch:replace] n/m]]"
        );
        let same =
            json!({"labels": {"l": "1"}, "finalizers": ["x/y"], "ownerReferences": [{"uid": "1"}]});
        assert_eq!(said(json!({"$deleteFromPrimitiveList/finalizers": "x"})), Ok(same));
    }
}
