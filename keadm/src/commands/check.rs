//! `keadm check`: a checklist of this machine, of the cloud side and of the edge side.

use serde::Serialize;

use crate::checks::{self, Check, Verdict};
use crate::context::Context;
use crate::errors::{CommandError, Kind};

/// Check this machine, and the cloud or edge side on it
///
/// Without a name, whatever is installed here is checked. The exit code is 3 when something is not
/// as it should be.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// What to check
    #[arg(value_enum)]
    what: Vec<Group>,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    kube: crate::cloud::KubeConfigArg,
}

/// A group of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Memory, disk, clock, kernel
    Machine,
    /// The cloud side
    Cloud,
    /// The edge side
    Edge,
}

/// One group with its results; the shape of `-o json` is a list of these.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    pub(super) group: Group,
    pub(super) checks: Vec<Check>,
}

/// Checks.
///
/// # Errors
/// When something fails.
pub fn check(args: &CheckArgs, cx: &Context) -> Result<(), CommandError> {
    let groups = match args.what.as_slice() {
        [] => installed(cx),
        asked => asked.to_vec(),
    };
    let results = cx.block_on(async {
        let mut results = Vec::new();
        for group in groups {
            results.push(Checked { group, checks: run(group, args, cx).await? });
        }
        Ok(results)
    })?;
    report(&results, args.output, cx)
}

/// Prints the results; an error if something fails.
///
/// # Errors
/// When something fails.
pub(super) fn report(
    results: &[Checked],
    output: Option<super::JsonOutput>,
    cx: &Context,
) -> Result<(), CommandError> {
    match output {
        Some(super::JsonOutput::Json) => {
            cx.printer.json(&results)?;
        }
        None => print(results, cx)?,
    }
    let all = || results.iter().flat_map(|r| &r.checks);
    let count = |verdict| all().filter(|c| c.status == verdict).count();
    match (count(Verdict::Fail), all().count()) {
        (0, _) => Ok(()),
        (failed, all) => {
            Err(CommandError::new(Kind::Unhealthy, format!("{failed} of {all} checks failed")))
        }
    }
}

fn installed(cx: &Context) -> Vec<Group> {
    let mut groups = vec![Group::Machine];
    if cfg!(feature = "cloud") && cx.host.exists(&cx.paths.cloudcore_yaml()) {
        groups.push(Group::Cloud);
    }
    if cx.host.exists(&cx.paths.edgecore_yaml()) {
        groups.push(Group::Edge);
    }
    groups
}

#[cfg_attr(
    not(feature = "cloud"),
    expect(unused_variables, reason = "the kubeconfig is of the cloud side")
)]
async fn run(group: Group, args: &CheckArgs, cx: &Context) -> Result<Vec<Check>, CommandError> {
    match group {
        Group::Machine => Ok(checks::machine::all(cx)),
        Group::Edge => Ok(checks::edge::all(cx).await),
        #[cfg(feature = "cloud")]
        Group::Cloud => Ok(checks::cloud::all(cx, &args.kube).await),
        #[cfg(not(feature = "cloud"))]
        Group::Cloud => Err(CommandError::new(Kind::Unsupported, "this build has no cloud side")),
    }
}

fn print(results: &[Checked], cx: &Context) -> Result<(), CommandError> {
    for (n, result) in results.iter().enumerate() {
        if n > 0 {
            cx.printer.data("")?;
        }
        let title = format!("{:?}", result.group).to_lowercase();
        cx.printer.data(cx.printer.data_paint("1", &title))?;
        for check in &result.checks {
            let mark = cx.printer.data_mark(check.status.mark());
            cx.printer.data(format!("{mark} {}", check.message))?;
            if let Some(hint) = check.hint.as_deref().filter(|h| !h.is_empty()) {
                let indent = if cx.printer.manner().ascii { "     " } else { "  " };
                cx.printer
                    .data(format!("{indent}{} {hint}", cx.printer.data_paint("36", "hint:")))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::host::fake::Fake;
    use crate::testing::keadm;

    fn machine() -> Fake {
        Fake::new(|state| {
            let list = b"nodev\tsysfs\nnodev\toverlay\n\text4\n".to_vec();
            state.files.insert("/proc/filesystems".into(), (0o444, list));
            state.folders.insert("/sys/fs/cgroup/memory".into());
        })
    }

    #[test]
    fn a_healthy_machine_is_a_list_of_ticks() {
        insta::assert_snapshot!(keadm("keadm check machine", &machine()));
    }

    #[test]
    fn what_is_wrong_comes_with_a_hint_and_exit_code_3() {
        let fake = machine();
        fake.0.lock().not_root = true;
        fake.0.lock().free_space = Some(1 << 20);
        insta::assert_snapshot!(keadm("keadm check machine", &fake));
        insta::assert_snapshot!("check_json", keadm("keadm check machine -o json", &fake));
    }

    #[test]
    fn a_half_installed_edge_is_told_piece_by_piece() {
        let fake = machine();
        fake.0.lock().files.insert(
            "/etc/kubeedge/config/edgecore.yaml".into(),
            (0o600, b"modules: {edgeHub: {heartbeat: -1, websocket: {server: x}}}".to_vec()),
        );
        insta::assert_snapshot!(keadm("keadm check edge", &fake));
    }
}
