//! JSON patches.
//!
//! Owns: the steps of a JSON patch (RFC 6902), and what each makes of an object. Called by: `patch`, and
//! `webhooks` for what hooks answer.
//!
//! Kubernetes' patch library takes more than the RFC has: a path need not begin with a slash, an index may
//! count from the end or have zeros in front, and what no step says is null. Here each step is put into the
//! RFC's words, and `json_patch` makes it.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use serde_json::{Map, Value};

use super::json::{self, Surplus};
use crate::registry::decode::json_type;

/// Steps of a JSON patch at most, as in Kubernetes.
pub(crate) const STEPS: usize = 10_000;
/// How much a JSON patch may copy, in bytes of JSON, as in Kubernetes.
const COPIED: usize = 3 * 1024 * 1024;
/// The deepest place that a step may fill: what is deeper could not be read back.
const DEPTH: usize = 120;

/// The steps of a patch, as they were sent: which are good is seen when they are taken.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<Map<String, Value>>);

impl Steps {
    /// The steps that a value has; null has none.
    ///
    /// # Errors
    /// In Go's words, when it is no list of steps.
    pub(crate) fn read(value: Value) -> Result<Self, String> {
        let wrong =
            |v: &Value, of: &str| format!("json: cannot unmarshal {} into Go {of}", json_type(v));
        let list = match value {
            Value::Null => return Ok(Self::default()),
            Value::Array(list) => list,
            other => return Err(wrong(&other, "value of type []handlers.jsonPatchOp")),
        };
        let mut steps = Vec::with_capacity(list.len());
        for step in list {
            let fields = match step {
                Value::Null => Map::new(),
                Value::Object(fields) => fields,
                other => return Err(wrong(&other, "value of type handlers.jsonPatchOp")),
            };
            let mistyped =
                |f: &&str| fields.get(*f).is_some_and(|v| !v.is_null() && !v.is_string());
            if let Some(f) = ["op", "path", "from"].into_iter().find(mistyped) {
                let of = format!("struct field jsonPatchOp.{f} of type string");
                return Err(wrong(&fields[f], &of));
            }
            steps.push(fields);
        }
        Ok(Self(steps))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the text of the patch has too much, in its order.
    pub(crate) fn surplus(&self, duplicates: &[String], text: &[u8]) -> Vec<String> {
        let mut all: Vec<Surplus> =
            duplicates.iter().map(|d| Surplus { path: d.clone(), twice: true }).collect();
        for (i, step) in self.0.iter().enumerate() {
            let unknown =
                step.keys().filter(|k| !matches!(&***k, "op" | "path" | "from" | "value"));
            all.extend(unknown.map(|k| Surplus { path: format!("[{i}].{k}"), twice: false }));
        }
        json::in_order(&mut all, text);
        let what = |s: &Surplus| if s.twice { "duplicate" } else { "unknown" };
        all.iter().map(|s| format!("json patch {} field \"{}\"", what(s), s.path)).collect()
    }

    /// Takes the steps, within limits: a few copies of copies would fill the memory, or be too deep to
    /// be read. After an error the object is not to be used.
    ///
    /// # Errors
    /// With what does not fit.
    pub(crate) fn take(&self, object: &mut Value) -> Result<(), String> {
        let mut copied = 0_usize;
        for step in &self.0 {
            let text = |f: &str| {
                step.get(f).and_then(Value::as_str).ok_or_else(|| format!("a step has no `{f}`"))
            };
            let path = text("path")?;
            let value = || step.get("value").cloned().unwrap_or_default();
            match text("op")? {
                "add" => add(object, path, value())?,
                "remove" => drop(removed(object, path)?),
                "replace" => replace(object, path, value())?,
                "test" => test(object, path, value())?,
                "move" => {
                    let moved = removed(object, text("from")?)?;
                    add(object, path, moved)?;
                }
                "copy" => {
                    let from = resolved(object, text("from")?, false)?;
                    let from = from.resolve(object).cloned().unwrap_or_default();
                    copied = copied.saturating_add(from.to_string().len());
                    if copied > COPIED {
                        return Err(format!("more than {COPIED} bytes would be copied"));
                    }
                    add(object, path, from)?;
                }
                other => return Err(format!("no step is called `{other}`")),
            }
        }
        Ok(())
    }
}

/// The place in an object that a path means, as RFC 6901 writes it: what is before the first slash counts
/// for nothing. The last key of a map need not be there; `behind`: nor need that of a list.
fn resolved(object: &Value, path: &str, behind: bool) -> Result<PointerBuf, String> {
    let missing = || format!("there is no place {path:?}");
    let (_, keys) = path.split_once('/').ok_or_else(missing)?;
    let mut keys = keys.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).peekable();
    let (mut here, mut place) = (Some(object), PointerBuf::new());
    while let Some(key) = keys.next() {
        let last = keys.peek().is_none();
        here = match here {
            Some(Value::Object(map)) => {
                place.push_back(key.as_str());
                map.get(&key)
            }
            Some(Value::Array(_)) if key == "-" && last && behind => {
                place.push_back(key.as_str());
                None
            }
            Some(Value::Array(list)) => {
                let len = list.len() + usize::from(last && behind);
                let i =
                    index(&key, len).ok_or_else(|| format!("{key:?} is no place in the list"))?;
                place.push_back(i);
                list.get(i)
            }
            _ => return Err(missing()),
        };
    }
    Ok(place)
}

/// The place in a list of so many elements that a key means: below zero it counts from the end.
fn index(key: &str, len: usize) -> Option<usize> {
    let (i, len) = (key.parse::<i64>().ok()?, i64::try_from(len).ok()?);
    let i = if i < 0 { i + len } else { i };
    usize::try_from(i).ok().filter(|_| i < len)
}

fn make(object: &mut Value, step: PatchOperation) -> Result<(), String> {
    json_patch::patch(object, &[step]).map_err(|e| e.to_string())
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    fits(path, &value)?;
    let path = resolved(object, path, true)?;
    make(object, PatchOperation::Add(AddOperation { path, value }))
}

fn removed(object: &mut Value, path: &str) -> Result<Value, String> {
    let path = resolved(object, path, false)?;
    let gone = path.resolve(object).cloned().map_err(|e| e.to_string())?;
    make(object, PatchOperation::Remove(RemoveOperation { path }))?;
    Ok(gone)
}

/// Also what a map does not have is replaced; the object as a whole only by a map or a list.
fn replace(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    fits(path, &value)?;
    if path.is_empty() {
        if value.is_object() || value.is_array() {
            *object = value;
        }
        return Ok(());
    }
    let path = resolved(object, path, false)?;
    let step = match path.resolve(object) {
        Ok(_) => PatchOperation::Replace(ReplaceOperation { path, value }),
        Err(_) => PatchOperation::Add(AddOperation { path, value }),
    };
    make(object, step)
}

/// What is not there is null.
fn test(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let place = match path {
        "" => PointerBuf::new(),
        path => resolved(object, path, false)?,
    };
    if value.is_null() && place.resolve(object).is_err() {
        return Ok(());
    }
    make(object, PatchOperation::Test(TestOperation { path: place, value }))
}

/// Whether an object has room for a value at a path.
fn fits(path: &str, value: &Value) -> Result<(), String> {
    let room = DEPTH.checked_sub(path.matches('/').count());
    if room.is_some_and(|r| is_within(value, r)) {
        return Ok(());
    }
    Err(format!("the object would have more than {DEPTH} levels"))
}

/// Whether a value has no more than so many levels.
fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels > 0 && list.iter().all(|v| is_within(v, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|v| is_within(v, levels - 1)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(mut object: Value, patch: Value) -> Result<Value, String> {
        Steps::read(patch)?.take(&mut object).map(|()| object)
    }

    #[test]
    fn a_patch_that_replaces_what_is_not_there_adds_it_to_a_map_and_to_nothing_else() {
        let patched = |steps: Value| after(json!({"data": {"a": "1"}, "list": [1]}), steps).ok();
        let step = |op: &str, path: &str| json!([{"op": op, "path": path, "value": "x"}]);
        let added = json!({"data": {"a": "1", "b": "x"}, "list": [1]});
        assert_eq!(patched(step("replace", "/data/b")), Some(added));
        assert_eq!(patched(step("replace", "/nothing/b")), None);
        assert_eq!(patched(step("replace", "/list/7")), None);
        assert_eq!(patched(step("remove", "/data/b")), None);
        assert_eq!(patched(step("test", "/data/a")), None);
    }

    // What a kube-apiserver 1.33 answered to each.
    #[test]
    fn odd_paths_lead_where_kubernetes_follows_them() {
        let patched = |op: &str, path: &str| {
            let object = json!({"d": {"a": "1"}, "l": [1, 2, 3], "s": "t"});
            after(object, json!([{"op": op, "path": path, "value": 9}])).ok()
        };
        let list = |l: Value| Some(json!({"d": {"a": "1"}, "l": l, "s": "t"}));
        for (path, there) in [
            ("/l/-", json!([1, 2, 3, 9])),
            ("/l/01", json!([1, 9, 2, 3])),
            ("/l/+1", json!([1, 9, 2, 3])),
            ("/l/-1", json!([1, 2, 3, 9])),
            ("/l/-4", json!([9, 1, 2, 3])),
            ("/l/3", json!([1, 2, 3, 9])),
        ] {
            assert_eq!(patched("add", path), list(there), "{path}");
        }
        for path in ["/l/4", "/l/-5", "/l/1.0", "/l/x", "/l/", "/l/99999999999999999999", "/l/-/x"]
        {
            assert_eq!(patched("add", path), None, "{path}");
        }
        assert_eq!(patched("replace", "/l/-1"), list(json!([1, 2, 9])));
        assert_eq!(patched("replace", "/l/3"), None);
        assert_eq!(patched("remove", "/l/-3"), list(json!([2, 3])));
        assert_eq!(patched("remove", "/l/-"), None);
        let with = |d: Value| Some(json!({"d": d, "l": [1, 2, 3], "s": "t"}));
        assert_eq!(patched("add", "/d/~2"), with(json!({"a": "1", "~2": 9})));
        assert_eq!(patched("add", "/d/~01"), with(json!({"a": "1", "~1": 9})));
        assert_eq!(patched("add", "d/n/x"), None);
        assert_eq!(patched("add", "x/d"), with(json!(9)));
        for path in ["", "d", "/s/x", "/d/a/b", "/n/x"] {
            assert_eq!(patched("add", path), None, "{path}");
            assert_eq!(patched("test", path), None, "{path}");
        }
        // To replace the whole by what is no map and no list changes nothing.
        assert_eq!(patched("replace", ""), with(json!({"a": "1"})));
    }

    // What a kube-apiserver 1.33 answered to each.
    #[test]
    fn what_a_step_does_not_say_is_null_and_a_step_that_is_none_is_refused() {
        let patched = |step: Value| after(json!({"a": 1, "b": [2]}), json!([step])).ok();
        assert_eq!(patched(json!({"op": "add", "path": "/a"})), Some(json!({"a": null, "b": [2]})));
        let copy = json!({"op": "copy", "from": "/n", "path": "/a"});
        assert_eq!(patched(copy), Some(json!({"a": null, "b": [2]})));
        let test = json!({"op": "test", "path": "/n", "value": null});
        assert_eq!(patched(test), Some(json!({"a": 1, "b": [2]})));
        for step in [
            json!(null),
            json!({}),
            json!({"op": "add"}),
            json!({"op": "foo", "path": "/a"}),
            json!({"OP": "remove", "path": "/a"}),
            json!({"op": "move", "from": "/n", "path": "/a"}),
            json!({"op": "copy", "from": "", "path": "/a"}),
            json!({"op": "copy", "from": "/b/1", "path": "/a"}),
        ] {
            assert_eq!(patched(step.clone()), None, "{step}");
        }
        assert_eq!(after(json!({"a": 1}), Value::Null), Ok(json!({"a": 1})));
        for (patch, words) in [
            (json!({}), "object into Go value of type []handlers.jsonPatchOp"),
            (json!([[]]), "array into Go value of type handlers.jsonPatchOp"),
            (json!([{"op": 5}]), "number into Go struct field jsonPatchOp.op of type string"),
        ] {
            let e = Steps::read(patch).unwrap_err();
            assert_eq!(e, format!("json: cannot unmarshal {words}"));
        }
    }

    // What a kube-apiserver 1.33 warned of.
    #[test]
    fn what_a_step_has_too_much_is_told_in_the_order_of_the_text() {
        let text = br#"[{"op":"add","path":"/a","value":{"x":1,"x":2}},{"op":"add","extra":5,"op":"add","path":"/b"}]"#;
        let parsed = json::parse(text).unwrap();
        let steps = Steps::read(parsed.value).unwrap();
        let expected = [
            "json patch duplicate field \"[0].value.x\"",
            "json patch unknown field \"[1].extra\"",
            "json patch duplicate field \"[1].op\"",
        ];
        assert_eq!(steps.surplus(&parsed.duplicates, text), expected);
    }

    #[test]
    fn the_steps_of_a_patch_are_taken_in_order() {
        let patch = json!([{"op": "add", "path": "/a", "value": {"b": [1]}}, {"op": "copy", "from": "/a", "path": "/c"},
            {"op": "move", "from": "/c/b/0", "path": "/d"}, {"op": "test", "path": "/d", "value": 1}, {"op": "remove", "path": "/a"}]);
        assert_eq!(after(json!({}), patch), Ok(json!({"c": {"b": []}, "d": 1})));
    }

    #[test]
    fn copies_of_copies_end_at_a_limit() {
        let copy = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let steps: Vec<Value> = vec![copy; 40];
        let e = after(json!({"a": ["x".repeat(1000)]}), steps.into()).unwrap_err();
        assert!(e.contains("bytes would be copied"), "{e}");
    }

    #[test]
    fn a_patch_makes_nothing_that_is_too_deep_to_be_read_again() {
        let mut chain = json!(1);
        for _ in 0..50 {
            chain = json!({"a": chain});
        }
        let end = "/a".repeat(50);
        let twice = json!([{"op": "copy", "from": "/a", "path": end}]);
        let deeper = json!([{"op": "copy", "from": "/a", "path": end}, {"op": "copy", "from": "/a", "path": end}]);
        assert!(after(chain.clone(), twice).is_ok());
        let e = after(chain, deeper).unwrap_err();
        assert!(e.contains("levels"), "{e}");
    }
}
