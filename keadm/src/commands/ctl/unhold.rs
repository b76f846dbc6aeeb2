//! `keadm ctl unhold-upgrade`: lets pods go that wait for somebody on this node.

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use super::ActArgs;
use crate::commands::NamespaceArg;
use crate::context::Context;
use crate::errors::CommandError;
use crate::pod_name::PodName;

/// Which pods.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: keadm ctl unhold-upgrade pod web -n shop")]
pub struct UnholdArgs {
    /// What: pod, or node for all pods of this node
    #[arg(value_name = "KIND", value_parser = ["pod", "node"], hide_possible_values = true)]
    what: String,
    /// The pod, or the node [default: this node]
    #[arg(value_name = "NAME", required_if_eq("what", "pod"), add = completions::ArgValueCompleter::new(crate::complete::pods))]
    name: Option<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    #[command(flatten)]
    act: ActArgs,
}

impl UnholdArgs {
    /// The path, KubeEdge's, and its body.
    fn request(&self) -> Result<(String, String), CommandError> {
        let named = match (self.what.as_str(), &self.name) {
            ("pod", name) => {
                let name = name.as_deref().unwrap_or_default();
                let PodName { namespace, name } = PodName::read(name, &self.namespace.namespace)?;
                format!("{namespace}/{name}")
            }
            (_, node) => node.clone().unwrap_or_default(),
        };
        Ok((format!("/api/v1/{}s/unhold-upgrade{}", self.what, self.act.query()), named))
    }
}

/// Lets them go.
pub(super) fn unhold(args: &UnholdArgs, cx: &Context) -> Result<(), CommandError> {
    let (path, named) = args.request()?;
    let api = &args.act.api;
    let answer: Value =
        cx.block_on(async { api.json_of(Method::POST, &path, Bytes::from(named), cx).await })?;
    if args.act.output.is_some() {
        return Ok(cx.printer.json(&answer)?);
    }
    let pods = answer["pods"].as_array().map(Vec::as_slice).unwrap_or_default();
    if pods.is_empty() {
        cx.printer.say("no pod of this node is held back");
    }
    let starts = if args.act.dry_run { "would start" } else { "starts" };
    for pod in pods {
        let of = |field: &str| pod[field].as_str().unwrap_or_default().to_owned();
        cx.printer.data(format!("pod/{} in namespace {} {starts}", of("pod"), of("namespace")))?;
    }
    Ok(())
}
