//! `keadm init`: prepares Kubernetes, or brings its own control plane, and starts cloudcore.

use std::net::IpAddr;
use std::time::Duration;

use api::config::{CloudCoreConfig, Document};
use camino::Utf8PathBuf;
use serde_json::json;

use super::config::{apply_settings, facts, refused};
use crate::cloud::KubeConfigArg;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::made::{Installer, Role};
use crate::phases::alone::{Alone, Asked, PhaseFlags};
use crate::phases::{self, Phase, Progress, cloud};

/// Make this machine the cloud side
///
/// Prepares the Kubernetes that a kubeconfig leads to, and starts cloudcore here as a service. With
/// `--embedded` the machine needs no Kubernetes: an own control plane is started, too.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct InitArgs {
    #[command(flatten)]
    flags: InitFlags,
    #[command(subcommand)]
    action: Option<Alone<InitFlags>>,
}

/// The flags of `init`.
#[derive(clap::Args, Debug, Clone)]
pub struct InitFlags {
    #[command(flatten)]
    kube: KubeConfigArg,
    /// Bring an own control plane instead of using a Kubernetes
    #[arg(long)]
    embedded: bool,
    /// Port of the own control plane
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    api_port: u16,
    /// Addresses and names that edges dial; they go into cloudcore's certificate
    /// [default: the addresses of this machine]
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    advertise_address: Vec<String>,
    /// A setting of cloudcore.yaml, in Helm's syntax: `modules.cloudHub.nodeLimit=1000`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on although a cloudcore is running or was installed
    #[arg(long)]
    force: bool,
    /// Only show what would be done
    #[arg(short, long)]
    dry_run: bool,
    /// The form of the result, of `--dry-run`, and of the list of phases
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    /// Phases to leave out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    skip_phases: Vec<String>,
    /// Checks whose failure is only a warning; `all` for all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore_preflight_errors: Vec<String>,
    /// Leave out the preflight checks
    #[arg(long)]
    skip_preflight_checks: bool,
    /// How long to wait for cloudcore
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    timeout: Duration,
    // Flags of KubeEdge that mean nothing here: there is no image and no chart.
    #[arg(long = "kubeedge-version", hide = true)]
    _kubeedge_version: Option<String>,
    #[arg(long = "image-repository", hide = true)]
    _image_repository: Option<String>,
}

impl PhaseFlags for InitFlags {
    fn skipped(&self, whole: bool) -> Vec<String> {
        let mut skipped = self.skip_phases.clone();
        if self.skip_preflight_checks && whole {
            skipped.push("preflight".to_owned());
        }
        skipped
    }

    fn output(&self) -> Option<super::JsonOutput> {
        self.output
    }
}

/// What is to be done, as all phases see it.
pub struct Init {
    pub(crate) cx: Context,
    pub(crate) kube: KubeConfigArg,
    pub(crate) embedded: bool,
    pub(crate) api_port: u16,
    pub(crate) advertise: Vec<String>,
    pub(crate) settings: Vec<String>,
    pub(crate) force: bool,
    pub(crate) ignore: Vec<String>,
    pub(crate) timeout: Duration,
}

/// The phases, in order.
pub fn phases(embedded: bool) -> Vec<Phase<Init>> {
    let mut all = vec![cloud::PREFLIGHT, cloud::INSTALL];
    if embedded {
        all.push(cloud::CONTROL_PLANE);
    }
    all.extend([
        cloud::KUBERNETES,
        cloud::CRDS,
        cloud::RBAC,
        cloud::CONFIG,
        cloud::SECRETS,
        cloud::SERVICE,
        cloud::WAIT,
    ]);
    all
}

/// Initialises.
///
/// # Errors
/// The failure of the first phase that fails, with its cause and the next step.
pub fn init(args: &InitArgs, cx: &Context) -> Result<(), CommandError> {
    let asked = Asked::of(&args.flags, args.action.as_ref());
    let (flags, whole) = (asked.flags, asked.whole);
    let all = phases(flags.embedded);
    let Some(chosen) = asked.choose(&all, &cx.printer)? else { return Ok(()) };
    let mut init = Init::new(flags, cx);
    if flags.dry_run {
        return phases::dry_run(&chosen, &init, flags.output, &cx.printer);
    }
    let progress = Progress::new(&cx.printer);
    cx.block_on(phases::run(&chosen, &mut init, &progress))?;
    if whole {
        Installer::open(cx, Role::Cloud)?.complete()?;
        let next = what_next(&init, &progress);
        if flags.output.is_some() {
            let kubeconfig = init.kube.file(cx)?;
            cx.printer.json(&json!({ "kubeconfig": kubeconfig, "next": next }))?;
        }
    }
    Ok(())
}

fn what_next(init: &Init, progress: &Progress) -> Vec<String> {
    let address = init.advertise.first().map_or("THIS-MACHINE", String::as_str);
    let address = match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
        _ => address.to_owned(),
    };
    let mut next = Vec::new();
    if init.embedded {
        next.push(format!("export KUBECONFIG={}", init.admin_kubeconfig()));
    }
    next.push("kubectl get nodes".to_owned());
    next.push("keadm gettoken".to_owned());
    next.push(format!("keadm join --cloudcore-ipport {address}:10000 --token TOKEN"));
    let say = |line: &str| init.cx.printer.say(line);
    say("");
    say("cloudcore is running. What to type next:");
    for (n, command) in next.iter().enumerate() {
        let last = n + 1 == next.len();
        say(&format!("  {command}{}", if last { "    # on the edge machine" } else { "" }));
    }
    progress.ready(&next);
    next
}

impl Init {
    fn new(flags: &InitFlags, cx: &Context) -> Self {
        let mut kube = flags.kube.clone();
        let advertise = match flags.advertise_address.as_slice() {
            [] => cx.host.addresses().iter().map(ToString::to_string).collect(),
            given => given.to_vec(),
        };
        let mut init = Self {
            cx: cx.clone(),
            kube: KubeConfigArg::default(),
            embedded: flags.embedded,
            api_port: flags.api_port,
            advertise,
            settings: settings(&flags.set),
            force: flags.force,
            ignore: flags.ignore_preflight_errors.clone(),
            timeout: flags.timeout,
        };
        if init.embedded {
            kube = KubeConfigArg::of_file(init.admin_kubeconfig());
        }
        init.kube = kube;
        init
    }

    /// With which people use the own control plane.
    pub(crate) fn admin_kubeconfig(&self) -> Utf8PathBuf {
        self.cx.paths.config().join("admin.kubeconfig")
    }

    /// With which cloudcore uses the API server.
    pub(crate) fn cloudcore_kubeconfig(&self) -> Utf8PathBuf {
        self.cx.paths.config().join("cloudcore.kubeconfig")
    }

    /// Where the own control plane keeps its data.
    pub(crate) fn control_plane_data(&self) -> Utf8PathBuf {
        self.cx.paths.lib().join("control-plane")
    }

    /// cloudcore.yaml with all flags applied.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(crate) fn document(&self) -> Result<Document<CloudCoreConfig>, CommandError> {
        let mut document = defaults(&self.cx, &self.advertise)?;
        let kubeconfig = self.cloudcore_kubeconfig();
        document
            .set_value("kubeAPIConfig.kubeConfig", kubeconfig.as_str())
            .map_err(|e| refused(&e))?;
        apply_settings(&mut document, &self.settings)?;
        Ok(document)
    }
}

/// The settings of `--set`; those of KubeEdge's chart begin with `cloudCore.`.
pub(crate) fn settings(given: &[String]) -> Vec<String> {
    given.iter().map(|s| s.strip_prefix("cloudCore.").unwrap_or(s).to_owned()).collect()
}

/// cloudcore.yaml with its defaults, for these addresses.
///
/// # Errors
/// Never in practice: the keys exist.
pub(crate) fn defaults(
    cx: &Context,
    advertise: &[String],
) -> Result<Document<CloudCoreConfig>, CommandError> {
    let mut document = Document::<CloudCoreConfig>::defaults(&facts(cx));
    let (addresses, names): (Vec<_>, Vec<_>) =
        advertise.iter().cloned().partition(|a| a.parse::<IpAddr>().is_ok());
    let mut put =
        |key: &str, values: Vec<String>| document.set_value(key, values).map_err(|e| refused(&e));
    if !addresses.is_empty() {
        put("modules.cloudHub.advertiseAddress", addresses)?;
    }
    if !names.is_empty() {
        put("modules.cloudHub.dnsNames", names)?;
    }
    // So that `kubectl logs` and `exec` work with nothing else done.
    document.set_value("modules.cloudStream.enable", true).map_err(|e| refused(&e))?;
    // So that a NodeUpgradeJob does something with nothing else done.
    document.set_value("modules.taskManager.enable", true).map_err(|e| refused(&e))?;
    let root = cx.paths.root();
    if root != "/" {
        for key in ["tlsCAFile", "tlsCAKeyFile", "tlsCertFile", "tlsPrivateKeyFile"] {
            let file = match key {
                "tlsCAFile" => "/etc/kubeedge/ca/rootCA.crt",
                "tlsCAKeyFile" => "/etc/kubeedge/ca/rootCA.key",
                "tlsCertFile" => "/etc/kubeedge/certs/server.crt",
                _ => "/etc/kubeedge/certs/server.key",
            };
            let path = cx.paths.at(file).into_string();
            document
                .set_value(&format!("modules.cloudHub.{key}"), path)
                .map_err(|e| refused(&e))?;
        }
        for (key, file) in [
            ("tlsStreamCAFile", "/etc/kubeedge/ca/streamCA.crt"),
            ("tlsStreamCertFile", "/etc/kubeedge/certs/stream.crt"),
            ("tlsStreamPrivateKeyFile", "/etc/kubeedge/certs/stream.key"),
        ] {
            let path = cx.paths.at(file).into_string();
            document
                .set_value(&format!("modules.cloudStream.{key}"), path)
                .map_err(|e| refused(&e))?;
        }
        let socket = format!("unix://{}", cx.paths.at("/var/lib/kubeedge/kubeedge.sock"));
        document
            .set_value("modules.cloudHub.unixsocket.address", socket)
            .map_err(|e| refused(&e))?;
    }
    if advertise.is_empty() && cx.host.addresses().is_empty() {
        return Err(CommandError::new(Kind::Usage, "this machine has no address but loopback")
            .hint("say by which address edges reach it: `--advertise-address ADDRESS`"));
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
