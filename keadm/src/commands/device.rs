//! `keadm device set`

mod wanted;

use std::time::Duration;

use api::crd::devices::DeviceStatusStatus;
use api::crd::{Device, DeviceModel, DeviceStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};

use self::wanted::{Report, Wanted};
use super::NamespaceArg;
use crate::cloud::{Cloud, ClusterArgs};
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::phases::Progress;

/// How often a change is tried when somebody else changes the device at the same time.
const TRIES: u32 = 5;

/// Tell a device what it should be
#[derive(clap::Args, Debug)]
pub struct DeviceArgs {
    #[command(subcommand)]
    action: DeviceAction,
}

/// What can be done with a device.
#[derive(clap::Subcommand, Debug)]
pub enum DeviceAction {
    /// Set desired values of a device's properties
    ///
    /// Each value is checked against the type, the range and the access mode in the device's
    /// model before anything is written. With `--wait` the command returns when the device
    /// reports what was asked of it.
    #[command(after_help = "Example: keadm device set lamp brightness=40 --wait")]
    Set(SetArgs),
}

/// The arguments of `device set`.
#[derive(clap::Args, Debug)]
pub struct SetArgs {
    /// The device
    #[arg(value_name = "NAME", add = completions::ArgValueCompleter::new(crate::complete::devices))]
    name: String,
    /// What it should be
    #[arg(value_name = "PROPERTY=VALUE", required = true, add = completions::ArgValueCompleter::new(crate::complete::properties))]
    values: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// Wait until the device reports the values
    #[arg(short, long)]
    wait: bool,
    /// How long `--wait` waits
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
    timeout: Duration,
    /// Check everything, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs what was asked for.
///
/// # Errors
/// When there is no such device, a value does not fit its model, the API server refuses, or the
/// device does not do as it is told in time.
pub fn device(args: &DeviceArgs, cx: &Context) -> Result<(), CommandError> {
    let DeviceAction::Set(args) = &args.action;
    let wanted = wanted::parse(&args.values)?;
    cx.block_on(async {
        // A watch is quiet for as long as the device is.
        let cloud = args.cluster.kube.client_with(cx, None).await?;
        set(args, &wanted, &cloud, cx).await
    })
}

async fn set(
    args: &SetArgs,
    wanted: &[Wanted],
    cloud: &Cloud,
    cx: &Context,
) -> Result<(), CommandError> {
    // The client has no limit of its own, because of the watch.
    let limit = args.cluster.limit.request_timeout;
    let device =
        tokio::time::timeout(limit, write(args, wanted, cloud)).await.map_err(|_| {
            let text = format!("the API server at `{}` does not answer", cloud.server);
            CommandError::new(Kind::TimedOut, text)
                .because(format!("no answer came within {}", crate::phases::human(limit)))
        })??;
    if args.dry_run {
        cx.printer.say(format!("nothing was changed: `{}` would be told so", args.name));
    }
    let mut reports: Vec<Report> = Vec::new();
    if args.wait && !args.dry_run {
        if device.spec.node_name.as_deref().unwrap_or_default().is_empty() {
            return Err(CommandError::new(
                Kind::Unhealthy,
                format!("device `{}` is attached to no node, so nobody reports for it", args.name),
            )
            .hint("set `spec.nodeName` of the device"));
        }
        let reported = wait(args, wanted, &device, cloud);
        reports = Progress::wait(&cx.printer, "reported", reported).await?;
    }
    if args.output.is_some() {
        return Ok(cx.printer.json(&shape(args, wanted, &reports))?);
    }
    for one in wanted {
        cx.printer.result(format!(
            "{}/{} {}={}",
            args.namespace.namespace, args.name, one.property, one.value
        ))?;
    }
    Ok(())
}

/// `docs/devices.md` documents it.
fn shape(args: &SetArgs, wanted: &[Wanted], reports: &[Report]) -> Value {
    let one = |wanted: &Wanted| {
        let report = reports.iter().find(|r| r.property == wanted.property);
        json!({
            "property": wanted.property,
            "desired": wanted.value,
            "reported": report.and_then(|r| r.value.clone()),
        })
    };
    json!({
        "namespace": args.namespace.namespace,
        "name": args.name,
        "dryRun": args.dry_run,
        "properties": wanted.iter().map(one).collect::<Vec<_>>(),
    })
}

fn devices(cloud: &Cloud, args: &SetArgs) -> Api<Device> {
    Api::namespaced(cloud.client.clone(), &args.namespace.namespace)
}

/// Checks and writes the values. Whoever changes the device at the same time keeps his change.
async fn write(args: &SetArgs, wanted: &[Wanted], cloud: &Cloud) -> Result<Device, CommandError> {
    let devices = devices(cloud, args);
    let what = format!("read the device `{}/{}`", args.namespace.namespace, args.name);
    let mut tries = 0;
    loop {
        let device = devices.get(&args.name).await.map_err(|e| {
            let error = cloud.error(&what, &e);
            match e {
                kube::Error::Api(status) if status.code == 404 => {
                    error.hint("`kubectl get devices -A` lists all devices")
                }
                _ => error,
            }
        })?;
        let model = model_of(&device, args, cloud).await?;
        wanted::check(&args.name, wanted, &device, model.as_ref())?;
        let now = jiff::Timestamp::now().as_millisecond();
        let patch = wanted::patch(wanted, &device, now);
        let patch = serde_json::from_value(patch)
            .map_err(|e| CommandError::new(Kind::Failed, "cannot make the change").caused_by(&e))?;
        let params = PatchParams { dry_run: args.dry_run, ..PatchParams::default() };
        let outcome = devices.patch(&args.name, &params, &Patch::Json::<()>(patch)).await;
        match outcome {
            Ok(device) => return Ok(device),
            // The place in the list that was meant is another one by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 * u64::from(tries))).await;
            }
            Err(e) => {
                let what =
                    format!("change the device `{}/{}`", args.namespace.namespace, args.name);
                return Err(cloud.error(&what, &e));
            }
        }
    }
}

async fn model_of(
    device: &Device,
    args: &SetArgs,
    cloud: &Cloud,
) -> Result<Option<DeviceModel>, CommandError> {
    let name = device.spec.device_model_ref.as_ref().and_then(|m| m.name.as_deref());
    let Some(name) = name.filter(|n| !n.is_empty()) else { return Ok(None) };
    let models: Api<DeviceModel> = Api::namespaced(cloud.client.clone(), &args.namespace.namespace);
    let what = format!("read the model `{}/{name}`", args.namespace.namespace);
    models.get_opt(name).await.map_err(|e| cloud.error(&what, &e))
}

/// Until every value is reported.
async fn wait(
    args: &SetArgs,
    wanted: &[Wanted],
    device: &Device,
    cloud: &Cloud,
) -> Result<Vec<Report>, CommandError> {
    use futures::StreamExt as _;
    let statuses: Api<DeviceStatus> =
        Api::namespaced(cloud.client.clone(), &args.namespace.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", args.name));
    let mut events = Box::pin(watcher::watcher(statuses, config));
    let mut last: Option<DeviceStatusStatus> = None;
    let watch = async {
        while let Some(event) = events.next().await {
            let status = match event {
                Ok(watcher::Event::Apply(s) | watcher::Event::InitApply(s)) => s.status,
                // A watch that is cut is taken up again, until the time is over.
                Ok(_) => continue,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let status = last.insert(status.unwrap_or_default());
            let reports = wanted::reports(wanted, status);
            if reports.iter().zip(wanted).all(|(r, w)| r.is(w)) {
                return reports;
            }
        }
        Vec::new()
    };
    if let Ok(reports) = tokio::time::timeout(args.timeout, watch).await {
        return Ok(reports);
    }
    let reports = wanted::reports(wanted, &last.unwrap_or_default());
    let node = device.spec.node_name.clone().unwrap_or_default();
    let mut error = CommandError::new(
        Kind::TimedOut,
        format!(
            "device `{}` does not do as it was told within {}",
            args.name,
            crate::phases::human(args.timeout)
        ),
    );
    for (report, wanted) in reports.iter().zip(wanted).filter(|(r, w)| !r.is(w)) {
        error = error.because(report.instead(wanted, jiff::Timestamp::now()));
    }
    Err(error
        .hint(format!("is node `{node}` connected? see `kubectl get node {node}`"))
        .hint("the value stays desired: the device gets it as soon as it can be reached"))
}
