//! `keadm reset`: takes away what `init` or `join` made.

use camino::Utf8PathBuf;
use serde_json::json;

use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::made::{self, Made, Role};
use crate::phases::Progress;

/// Remove what `init` or `join` has made on this machine, and nothing else
///
/// Asks first. Running it twice does no harm.
#[derive(clap::Args, Debug)]
pub struct ResetArgs {
    #[command(subcommand)]
    role: ResetRole,
}

/// What to remove.
#[derive(clap::Subcommand, Debug)]
pub enum ResetRole {
    /// Stop cloudcore and remove what `keadm init` made
    Cloud(ResetFlags),
    /// Stop edgecore and its containers and remove what `keadm join` made
    ///
    /// The Node object stays in the cloud: `kubectl delete node NAME` removes it.
    Edge(ResetFlags),
}

/// The flags of both.
#[derive(clap::Args, Debug)]
pub struct ResetFlags {
    /// Do not ask
    #[arg(long, visible_alias = "yes", short = 'y')]
    force: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of what was removed
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    /// Leave what is in Kubernetes, and pods that are running: remove only files and services
    #[arg(long)]
    local_only: bool,
    /// The kubeconfig of the cluster that `init` prepared
    #[arg(long, value_name = "FILE", visible_alias = "kubeconfig")]
    kube_config: Option<Utf8PathBuf>,
    // edgecore.yaml says which runtime has the pods.
    #[arg(long, hide = true)]
    remote_runtime_endpoint: Option<String>,
}

/// Removes.
///
/// # Errors
/// When it is not confirmed, or something cannot be removed.
pub fn reset(args: &ResetArgs, cx: &Context) -> Result<(), CommandError> {
    let (role, flags) = match &args.role {
        ResetRole::Cloud(flags) => (Role::Cloud, flags),
        ResetRole::Edge(flags) => (Role::Edge, flags),
    };
    let made = match Made::load(cx, role)? {
        Some(made) => made,
        None => left_by_kubeedge(cx, role),
    };
    if made.paths.is_empty() && made.services.is_empty() {
        cx.printer.say(format!("nothing of the {} side is on this machine", role.name()));
        return report(role, flags, &made, &[], cx);
    }
    let mut question = format!("[reset] this removes from this machine ({} side):", role.name());
    for name in &made.services {
        question.push_str(&format!("\n  service {name}"));
    }
    for path in made::outermost(&made.paths) {
        question.push_str(&format!("\n  {path}"));
    }
    if flags.dry_run {
        if flags.output.is_none() {
            cx.printer.data(question)?;
        }
        cx.printer.say("nothing was removed");
        return report(role, flags, &made, &[], cx);
    }
    cx.confirm(&question, flags.force)?;
    let progress = Progress::new(&cx.printer);
    progress.step("services", || {
        for name in &made.services {
            cx.host.remove_service(name).map_err(|e| {
                CommandError::new(Kind::Failed, format!("cannot stop the service `{name}`"))
                    .caused_by(&e)
            })?;
        }
        Ok(())
    })?;
    if !flags.local_only {
        let name = if role == Role::Edge { "pods" } else { "kubernetes" };
        progress.step(name, || take_away(role, flags, &made, cx))?;
    }
    let removed = progress.step("files", || made::remove(cx, role, &made))?;
    for thing in &removed {
        cx.printer.say(format!("removed {thing}"));
    }
    report(role, flags, &made, &removed, cx)
}

/// `-o json`
fn report(
    role: Role,
    flags: &ResetFlags,
    made: &Made,
    removed: &[String],
    cx: &Context,
) -> Result<(), CommandError> {
    if flags.output.is_none() {
        return Ok(());
    }
    let paths: Vec<_> = made::outermost(&made.paths).collect();
    Ok(cx.printer.json(&json!({
        "side": role.name(), "dryRun": flags.dry_run,
        "services": made.services, "paths": paths, "removed": removed,
    }))?)
}

/// What lies outside of this machine's files: pods, and objects in Kubernetes.
fn take_away(
    role: Role,
    flags: &ResetFlags,
    made: &Made,
    cx: &Context,
) -> Result<(), CommandError> {
    let gone = match role {
        Role::Edge => pods(cx),
        // The own control plane goes with everything that is in it.
        Role::Cloud if made.services.iter().any(|s| s == "control-plane") => Ok(()),
        Role::Cloud => objects(cx, flags),
    };
    gone.map_err(|e| e.hint("`--local-only` leaves that and removes the rest"))
}

#[cfg(feature = "edge")]
fn pods(cx: &Context) -> Result<(), CommandError> {
    // Without a readable configuration there was no edgecore, and so no pod.
    let Ok((config, _)) = super::config::read_edgecore(cx, &cx.paths.edgecore_yaml()) else {
        return Ok(());
    };
    let removed = cx.block_on(crate::containers::remove_all(cx, &config))?;
    if removed > 0 {
        let pods = if removed == 1 { "pod" } else { "pods" };
        cx.printer.say(format!("removed {removed} {pods}"));
    }
    Ok(())
}

#[cfg(not(feature = "edge"))]
fn pods(_: &Context) -> Result<(), CommandError> {
    Err(CommandError::new(Kind::Unsupported, "this build cannot stop pods")
        .because("it was made without the feature `edge`"))
}

#[cfg(feature = "cloud")]
fn objects(cx: &Context, flags: &ResetFlags) -> Result<(), CommandError> {
    let kube =
        crate::cloud::KubeConfigArg { kube_config: flags.kube_config.clone(), context: None };
    cx.block_on(from_kubernetes(cx, &kube))
}

#[cfg(not(feature = "cloud"))]
fn objects(_: &Context, _: &ResetFlags) -> Result<(), CommandError> {
    Err(CommandError::new(Kind::Unsupported, "this build cannot speak to Kubernetes")
        .because("it was made without the feature `cloud`"))
}

/// Deletes what `init` applied, apart from the definitions of kinds: with them would go all devices
/// and rules that people have made.
#[cfg(feature = "cloud")]
async fn from_kubernetes(
    cx: &Context,
    kube: &crate::cloud::KubeConfigArg,
) -> Result<(), CommandError> {
    let cloud = kube.client(cx).await?;
    let mut all = crate::objects::rbac();
    all.push(crate::objects::namespace());
    for object in all {
        if cloud.delete(&object).await? {
            cx.printer.say(format!("deleted {}", crate::cloud::describe(&object)));
        }
    }
    cx.printer.say(
        "the definitions of KubeEdge's kinds stay, with all devices and rules; \
         `kubectl delete crd -l k8s-app=kubeedge` deletes them",
    );
    Ok(())
}

/// What KubeEdge's own keadm makes, for a machine without our record of it.
pub(crate) fn left_by_kubeedge(cx: &Context, role: Role) -> Made {
    let (program, folders): (&str, &[&str]) = match role {
        Role::Cloud => ("cloudcore", &["/var/lib/kubeedge", "/var/log/kubeedge"]),
        Role::Edge => ("edgecore", &["/var/lib/kubeedge", "/var/log/kubeedge", "/var/lib/edged"]),
    };
    let configuration = cx.paths.config().join(format!("{program}.yaml"));
    if !cx.host.exists(&configuration) {
        return Made::default();
    }
    let unit = cx.paths.units().join(format!("{program}.service"));
    let services = cx.host.exists(&unit).then(|| program.to_owned()).into_iter().collect();
    let mut paths = vec![cx.paths.etc()];
    paths.extend(folders.iter().map(|f| cx.paths.at(f)));
    paths.push(cx.paths.bin().join(program));
    paths.retain(|p| cx.host.exists(p));
    Made { paths, services, complete: true }
}

#[cfg(test)]
mod tests {
    use crate::host::fake::Fake;
    use crate::testing::keadm;

    fn joined() -> Fake {
        Fake::new(|state| {
            let record = r#"{"paths":["/etc/kubeedge","/usr/local/bin/edgecore"],"services":[],"complete":true}"#;
            state.files.insert(
                "/etc/kubeedge/keadm-edge.json".into(),
                (0o600, record.as_bytes().to_vec()),
            );
            state.links.insert("/usr/local/bin/edgecore".into(), "keadm".into());
            state.files.insert("/etc/hosts".into(), (0o644, vec![]));
        })
    }

    #[test]
    fn reset_asks_and_takes_no_for_an_answer() {
        let fake = joined();
        fake.0.lock().answers = vec!["n".into()];
        insta::assert_snapshot!(keadm("keadm reset edge", &fake));
        assert_eq!(fake.state().files.len(), 2);
        insta::assert_snapshot!("reset_without_a_terminal", keadm("keadm reset edge", &fake));
    }

    #[test]
    fn a_dry_run_says_what_would_go_and_removes_nothing() {
        let fake = joined();
        let said = keadm("keadm reset edge --dry-run", &fake);
        assert!(said.contains("/etc/kubeedge") && said.contains("nothing was removed"), "{said}");
        assert_eq!(fake.state().files.len(), 2);
    }

    #[test]
    fn reset_removes_what_was_made_and_can_be_run_twice() {
        let fake = joined();
        let text = [
            keadm("keadm reset edge --yes", &fake),
            fake.tree(),
            keadm("keadm reset edge --force", &fake),
        ];
        insta::assert_snapshot!(text.join("\n"));
    }
}
