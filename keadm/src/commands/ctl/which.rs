//! Which pod and container of this node is meant.
//!
//! Owns: the words when there is none. Called by: `logs.rs`, `exec.rs`. Never: asks the cloud.

use serde_json::Value;

use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::node_api::NodeApiArgs;
use crate::pod_name::PodName;

/// The pod, as edgecore has it.
pub(super) async fn pod(
    api: &NodeApiArgs,
    wanted: &PodName,
    cx: &Context,
) -> Result<Value, CommandError> {
    let is = |pod: &Value| {
        pod["metadata"]["name"] == wanted.name.as_str()
            && pod["metadata"]["namespace"] == wanted.namespace.as_str()
    };
    api.pods(cx).await?.into_iter().find(is).ok_or_else(|| {
        let text = format!("this node has no pod `{}/{}`", wanted.namespace, wanted.name);
        CommandError::new(Kind::NotFound, text)
            .hint("`keadm ctl get pods -A` shows those that it has")
    })
}

/// The container that is meant, among those of a pod. Pure, but for a note.
pub(super) fn container(
    named: Option<&str>,
    wanted: &PodName,
    pod: &Value,
    cx: &Context,
) -> Result<String, CommandError> {
    let all = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (main, init) = (all("containers"), all("initContainers"));
    match named {
        Some(name) if main.iter().chain(&init).any(|c| c == name) => Ok(name.to_owned()),
        Some(name) => {
            let text = format!("pod `{}` has no container `{name}`", wanted.name);
            let all: Vec<String> = main.into_iter().chain(init).collect();
            Err(CommandError::new(Kind::NotFound, text).hint(format!("it has {}", all.join(", "))))
        }
        None => {
            let first = main.first().cloned().ok_or_else(|| {
                let text = format!("pod `{}` has no container", wanted.name);
                CommandError::new(Kind::NotFound, text)
            })?;
            if main.len() > 1 {
                let all = main.join(", ");
                cx.printer
                    .say(format!("note: this is container `{first}` of {all}; `-c` names one"));
            }
            Ok(first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;
    use serde_json::json;

    #[test]
    fn the_first_container_is_meant_unless_another_is_named() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}],
                                  "initContainers": [{"name": "i"}]}});
        let (cx, _, said) = crate::testing::capturing(&Fake::default());
        let web = PodName::read("web", "default").unwrap();
        let container = |named| container(named, &web, &pod, &cx);
        assert_eq!(container(None).unwrap(), "a");
        assert!(said.text().contains("container `a` of a, b"), "{}", said.text());
        assert_eq!(container(Some("i")).unwrap(), "i");
        let e = container(Some("x")).unwrap_err();
        assert_eq!((e.kind, e.hints()), (Kind::NotFound, &["it has a, b, i".to_owned()][..]));
    }
}
