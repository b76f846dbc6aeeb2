//! `keadm upgrade edge`: another version of the program, and the old one again if that does not run.

use std::time::Duration;

use camino::Utf8PathBuf;
use edgecore::upgrade_report::Event;
use serde_json::json;

use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::node_api::InstalledApiArgs;
use crate::node_upgrade::{self, Guard, Installed, Outcome};
use crate::phases::alone::{Alone, Asked, PhaseFlags};
use crate::phases::{self, Phase, Progress, upgrade};

/// Bring this edge node to another version
#[derive(clap::Args, Debug)]
pub struct UpgradeArgs {
    #[command(subcommand)]
    what: UpgradeWhat,
}

/// What to upgrade.
#[derive(clap::Subcommand, Debug)]
pub enum UpgradeWhat {
    /// Replace this node's program, restart edgecore, and put the old program back if the new one
    /// does not come up
    ///
    /// Containers go on running. The database and the configuration are not kept: `keadm backup edge`
    /// does that. Every step is a phase that can be left out, run alone or only shown.
    Edge(Box<UpgradeEdgeArgs>),
}

/// `keadm upgrade edge`
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct UpgradeEdgeArgs {
    #[command(flatten)]
    flags: UpgradeFlags,
    #[command(subcommand)]
    action: Option<Alone<UpgradeFlags>>,
}

/// The flags of `upgrade edge`.
#[derive(clap::Args, Debug, Clone)]
pub struct UpgradeFlags {
    /// The version to upgrade to, for example `v1.24.0`
    #[arg(long, visible_alias = "toVersion", value_name = "VERSION", value_parser = node_upgrade::version)]
    to_version: Option<String>,
    /// The image that has the new program at /usr/local/bin/keadm, without its tag, which is the
    /// version; edgecore gets it
    #[arg(long, value_name = "IMAGE", value_parser = image, conflicts_with = "from")]
    image: Option<String>,
    /// The digest that the image must have
    #[arg(long, value_name = "sha256:HEX", value_parser = digest, requires = "image")]
    image_digest: Option<String>,
    /// A file with the new program, instead of one out of an image
    #[arg(long, value_name = "FILE")]
    from: Option<Utf8PathBuf>,
    /// The configuration of edgecore [default: /etc/kubeedge/config/edgecore.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// Do not ask
    #[arg(long, short = 'y', visible_alias = "force")]
    yes: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// The form of the result, of `--dry-run`, and of the list of phases
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    /// Phases to leave out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    skip_phases: Vec<String>,
    /// How long to wait for edgecore before the old program is put back
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = super::duration)]
    timeout: Duration,
    #[command(flatten)]
    api: InstalledApiArgs,
    // KubeEdge's, which have no meaning any more.
    #[arg(long = "upgradeID", hide = true)]
    _upgrade_id: Option<String>,
    #[arg(long = "historyID", hide = true)]
    _history_id: Option<String>,
    #[arg(long = "fromVersion", hide = true)]
    _from_version: Option<String>,
    #[arg(long = "type", hide = true)]
    _kind: Option<String>,
    #[arg(long = "disable-backup", hide = true)]
    _disable_backup: bool,
}

impl PhaseFlags for UpgradeFlags {
    fn skipped(&self, _whole: bool) -> Vec<String> {
        self.skip_phases.clone()
    }

    fn output(&self) -> Option<super::JsonOutput> {
        self.output
    }
}

/// What may stand in a query as it is.
fn image(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let sound = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain);
    if sound { Ok(text.to_owned()) } else { Err("it is no name of an image".to_owned()) }
}

fn digest(text: &str) -> Result<String, String> {
    match edgecore::is_digest(text) {
        true => Ok(text.to_owned()),
        false => Err("it is not `sha256:` and 64 hexadecimal digits".to_owned()),
    }
}

/// What is to be done, as all phases see it.
pub struct Upgrade {
    pub(crate) cx: Context,
    pub(crate) installed: Installed,
    /// What is installed.
    pub(crate) version: String,
    pub(crate) to: String,
    /// Where the new program lies.
    pub(crate) new: Utf8PathBuf,
    /// Where the old one is kept.
    pub(crate) previous: Utf8PathBuf,
    pub(crate) from: Option<Utf8PathBuf>,
    pub(crate) image: Option<String>,
    pub(crate) digest: Option<String>,
    pub(crate) api: InstalledApiArgs,
    pub(crate) timeout: Duration,
    /// edgecore was ready before.
    pub(crate) was_ready: bool,
    /// The new program is in the place of the old one.
    pub(crate) replaced: bool,
}

impl Upgrade {
    fn new(flags: &UpgradeFlags, cx: &Context) -> Result<Self, CommandError> {
        let to = flags.to_version.clone().ok_or_else(|| {
            CommandError::new(Kind::Usage, "`--to-version VERSION` is missing")
                .hint("for example `--to-version v1.24.0`")
        })?;
        let installed = Installed::find(cx, flags.config.as_deref())?;
        let folder = node_upgrade::upgrades(&cx.paths).join(&to);
        Ok(Self {
            version: installed.version(cx),
            cx: cx.clone(),
            installed,
            to,
            new: folder.join("keadm"),
            previous: folder.join("previous"),
            from: flags.from.clone(),
            image: flags.image.clone(),
            digest: flags.image_digest.clone(),
            api: flags.api.clone(),
            timeout: flags.timeout,
            was_ready: true,
            replaced: false,
        })
    }

    pub(crate) fn program(&self) -> &Utf8PathBuf {
        &self.installed.program
    }
}

/// The phases, in order.
pub fn phases() -> [Phase<Upgrade>; 6] {
    use upgrade::{KEEP, PREFLIGHT, PROGRAM, REPLACE, RESTART, WAIT};
    [PREFLIGHT, PROGRAM, KEEP, REPLACE, RESTART, WAIT]
}

/// Upgrades.
///
/// # Errors
/// The failure of the first phase that fails; and whether the old program runs again.
pub fn upgrade(args: &UpgradeArgs, cx: &Context) -> Result<(), CommandError> {
    let UpgradeWhat::Edge(args) = &args.what;
    let all = phases();
    let asked = Asked::of(&args.flags, args.action.as_ref());
    let (flags, whole) = (asked.flags, asked.whole);
    let Some(chosen) = asked.choose(&all, &cx.printer)? else { return Ok(()) };
    let mut up = Upgrade::new(flags, cx)?;
    if flags.dry_run {
        return phases::dry_run(&chosen, &up, flags.output, &cx.printer);
    }
    if whole {
        let question = format!(
            "[upgrade] this replaces keadm {} by {} and restarts edgecore; containers go on\n\
             no backup is taken: `keadm backup edge` makes one",
            up.version, up.to
        );
        cx.confirm(&question, flags.yes)?;
    }
    // A terminal that is closed, or an edgecore that stops, must not end this.
    let _ = nix::unistd::setsid();
    let _guard = Guard::take(cx)?;
    let progress = Progress::new(&cx.printer);
    let done = cx.block_on(carry_out(&chosen, &mut up, &progress, whole));
    if whole {
        let versions = (up.version.as_str(), up.to.as_str());
        let result = match &done {
            Ok(None) => Ok(Outcome::Done),
            Ok(Some(failed)) => Ok(Outcome::RolledBack(node_upgrade::sentence(failed))),
            Err(e) => Err(e),
        };
        node_upgrade::report(cx, Event::Upgrade, versions, result);
    }
    if let Some(failed) = done? {
        return Err(failed);
    }
    if whole {
        cx.printer.say(format!("this node runs keadm {} now", up.to));
    }
    if flags.output.is_some() {
        cx.printer.json(&json!({ "from": up.version, "to": up.to, "program": up.program() }))?;
    }
    Ok(())
}

/// Runs the phases. `Some`: what went wrong, after which the machine is as it was.
async fn carry_out(
    chosen: &[&Phase<Upgrade>],
    up: &mut Upgrade,
    progress: &Progress,
    whole: bool,
) -> Result<Option<CommandError>, CommandError> {
    let _deaf = whole.then(node_upgrade::deaf);
    let Err(failed) = phases::run(chosen, up, progress).await else { return Ok(None) };
    if !whole {
        return Err(failed);
    }
    if !up.replaced {
        return Ok(Some(failed.because("nothing was changed")));
    }
    let up = &*up;
    let back = phases::one("rollback", progress, |step| upgrade::put_back(up, step)).await;
    match back {
        Ok(()) => {
            let back = format!("keadm {} was put back, and runs", up.version);
            Ok(Some(failed.because(back)))
        }
        Err(e) => Err(failed
            .because(format!(
                "the old program, put back, does not run either: {}",
                node_upgrade::sentence(&e)
            ))
            .hint("`keadm rollback edge` puts a whole backup back")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;
    use crate::testing::keadm;

    fn joined() -> Fake {
        Fake::new(|state| {
            state.files.insert("/usr/local/bin/keadm".into(), (0o755, b"old".to_vec()));
            state.files.insert("/root/new".into(), (0o755, b"new".to_vec()));
            state.links.insert("/usr/local/bin/edgecore".into(), "/usr/local/bin/keadm".into());
            let yaml = crate::commands::config::default(
                crate::commands::config::Program::Edgecore,
                &api::config::Host::default(),
            );
            state
                .files
                .insert("/etc/kubeedge/config/edgecore.yaml".into(), (0o600, yaml.into_bytes()));
        })
    }

    #[test]
    fn a_dry_run_shows_every_phase_and_changes_nothing() {
        let fake = joined();
        let before = fake.tree();
        let said =
            keadm("keadm upgrade edge --to-version v1.24.0 --from /root/new --dry-run", &fake);
        assert!(said.contains("exit code: 0"), "{said}");
        for phase in phases() {
            assert!(said.contains(&format!("{}: ", phase.name)), "{said}");
        }
        assert!(said.contains("/etc/kubeedge/upgrade/v1.24.0/previous"), "{said}");
        assert_eq!(fake.tree(), before);
        let list = keadm("keadm upgrade edge phase", &fake);
        assert!(list.contains("preflight  ") && list.contains("wait       "), "{list}");
    }

    #[test]
    fn what_is_no_version_or_image_is_a_usage_error() {
        for words in [
            "--to-version v1.24.0;reboot",
            "--to-version ../v1.24.0",
            "--to-version=-v1.24.0",
            "--to-version v1.24.0 --image a/b&x=y",
            "--to-version v1.24.0 --image=--privileged",
            "--to-version v1.24.0 --image a/b --image-digest sha256:1",
            "--dry-run",
        ] {
            let said = keadm(&format!("keadm upgrade edge {words}"), &joined());
            assert!(said.contains("exit code: 2"), "{words}: {said}");
        }
    }

    #[test]
    fn a_machine_that_has_not_joined_is_told_so_and_nobody_is_asked_in_vain() {
        let said = keadm("keadm upgrade edge --to-version v1.24.0 --yes", &Fake::default());
        assert!(said.contains("exit code: 4") && said.contains("is no edge node"), "{said}");
        let said = keadm("keadm upgrade edge --to-version v1.24.0", &joined());
        assert!(said.contains("exit code: 2") && said.contains("--yes"), "{said}");
        let said = keadm("keadm rollback edge --yes", &joined());
        assert!(said.contains("exit code: 4") && said.contains("there is no backup"), "{said}");
    }
}
