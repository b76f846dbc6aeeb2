//! `keadm debug collect`: one file with what a bug report needs, and nothing that is secret.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};

use super::probe::ConfigArg;
use super::{DatabaseArg, redact};
use crate::checks;
use crate::commands::JsonOutput;
use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::fleet::{Fleet, FleetArgs, Want};

/// The end of a log is what matters.
const LOG: u64 = 4 << 20;

/// What is collected, and where to.
#[derive(clap::Args, Debug)]
pub struct CollectArgs {
    /// The folder to put the archive into
    #[arg(long, value_name = "DIR", default_value = ".")]
    output_path: Utf8PathBuf,
    /// The folder of the logs [default: /var/log/kubeedge]
    #[arg(short, long, value_name = "DIR")]
    log_path: Option<Utf8PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
    /// Also say what was looked for and is not there, and why
    #[arg(short, long)]
    detail: bool,
    /// Say what would be taken, and take nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the list of what was taken
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
    #[command(flatten)]
    database: DatabaseArg,
}

/// One file of the archive.
struct Taken {
    /// Its name in the archive.
    name: String,
    /// Where it is from.
    from: String,
    content: Vec<u8>,
}

/// What could not be had.
#[derive(Debug, Serialize)]
struct Missed {
    from: String,
    why: String,
}

/// The shape of `-o json`.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    from: String,
    bytes: usize,
}

/// Files of the machine that say what it is.
const MACHINE: [&str; 12] = [
    "/etc/os-release",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/mounts",
    "/proc/net/route",
    "/proc/cgroups",
    "/proc/sys/kernel/random/boot_id",
];

/// Collects.
pub(super) fn collect(args: &CollectArgs, cx: &Context) -> Result<(), CommandError> {
    let Bag { taken, missed } = take(args, cx)?;
    let listed: Vec<Listed> = taken
        .iter()
        .map(|t| Listed { name: t.name.clone(), from: t.from.clone(), bytes: t.content.len() })
        .collect();
    let stamp = jiff::Timestamp::now().strftime("%Y_%m%d_%H%M%S").to_string();
    let file = args.output_path.join(format!("edge_{stamp}.tar.gz"));
    if !args.dry_run {
        let bytes = archive(&taken, &format!("edge_{stamp}")).map_err(|e| {
            CommandError::new(Kind::Failed, "cannot make the archive").caused_by(&e)
        })?;
        // Whoever may read logs may read it; nobody else.
        cx.host.write(&file, &bytes, 0o600).map_err(|e| file_error("write", &file, &e))?;
    }
    if args.output.is_some() {
        let path = (!args.dry_run).then(|| file.as_str());
        let mut whole = json!({ "archive": path, "files": listed });
        if args.detail {
            whole["missing"] = json!(missed);
        }
        return Ok(cx.printer.json(&whole)?);
    }
    for one in &listed {
        let line = format!("{:>9}  {:<32}  {}", one.bytes, one.name, one.from);
        match args.dry_run {
            // What would be taken is what was asked for; else the archive is.
            true => cx.printer.data(line)?,
            false => cx.printer.say(line),
        }
    }
    for Missed { from, why } in missed.iter().filter(|_| args.detail) {
        cx.printer.say(format!("{:>9}  {from}: {why}", "-"));
    }
    cx.printer.say("keys, tokens and the values of secrets are left out; look before you send it");
    match args.dry_run {
        true => cx.printer.say("nothing was written"),
        false => cx.printer.data(file.as_str())?,
    }
    Ok(())
}

/// What is put into the archive, and what could not be.
#[derive(Default)]
struct Bag {
    taken: Vec<Taken>,
    missed: Vec<Missed>,
}

impl Bag {
    fn add(&mut self, name: impl Into<String>, from: impl Into<String>, content: Vec<u8>) {
        self.taken.push(Taken { name: name.into(), from: from.into(), content });
    }

    fn miss(&mut self, from: impl Into<String>, why: impl std::fmt::Display) {
        self.missed.push(Missed { from: from.into(), why: why.to_string() });
    }

    /// A file, without what looks like a secret.
    fn file(&mut self, folder: &str, path: &Utf8Path, cx: &Context) {
        match cx.host.read(path) {
            Ok(content) => {
                let text = redact::text(&String::from_utf8_lossy(&content));
                let name = path.file_name().unwrap_or("file");
                self.add(format!("{folder}/{name}"), path.as_str(), text.into_bytes());
            }
            Err(e) => self.miss(path.as_str(), e),
        }
    }
}

fn take(args: &CollectArgs, cx: &Context) -> Result<Bag, CommandError> {
    let mut bag = Bag::default();
    for path in MACHINE {
        match cx.host.read(Utf8Path::new(path)) {
            Ok(content) => bag.add(format!("machine{path}"), path, content),
            Err(e) => bag.miss(path, e),
        }
    }
    bag.file("config", &args.config.file(cx), cx);
    bag.file("config", &cx.paths.cloudcore_yaml(), cx);
    for unit in ["edgecore.service", "cloudcore.service"] {
        bag.file("config", &cx.paths.units().join(unit), cx);
    }
    let folder = args.log_path.clone().unwrap_or_else(|| cx.paths.log());
    match logs(&folder) {
        Ok(found) => {
            for (path, content) in found {
                let name = path.file_name().unwrap_or("log");
                let text = redact::text(&content).into_bytes();
                bag.add(format!("logs/{name}"), path.as_str(), text);
            }
        }
        Err(e) => bag.miss(folder.as_str(), e),
    }
    let version = json!({ "keadm": env!("CARGO_PKG_VERSION"), "arch": std::env::consts::ARCH });
    bag.add("version.json", "keadm version", pretty(&version));
    told(args, &mut bag, cx)?;
    match args.database.read(cx) {
        Ok(rows) => {
            let objects = super::get::objects(rows);
            let values: Vec<&Value> = objects.iter().map(|(_, value)| value).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": values });
            bag.add("objects.json", "the edge's database", pretty(&list));
        }
        Err(e) => bag.miss("the edge's database", e.causes().first().map_or("", String::as_str)),
    }
    Ok(bag)
}

/// What checks and edgecore itself say.
fn told(args: &CollectArgs, bag: &mut Bag, cx: &Context) -> Result<(), CommandError> {
    let (edge, local) = cx.block_on(async {
        let fleet = FleetArgs {
            local: true,
            ..FleetArgs::from_environment(std::time::Duration::from_secs(3))
        };
        let fleet = FleetArgs { endpoint: None, ..fleet };
        let want = Want { events: true, ..Want::default() };
        let local = match Fleet::open(&fleet, want, cx).await {
            Ok(mut fleet) => fleet.first().await,
            Err(e) => Err(e),
        };
        Ok((checks::edge::of(cx, &args.config.file(cx)).await, local))
    })?;
    let checked = json!({ "machine": checks::machine::all(cx), "edge": edge });
    bag.add("checks.json", "keadm check machine edge", pretty(&checked));
    match local {
        Ok(local) => {
            let mut value = serde_json::to_value(&local).unwrap_or_default();
            redact::object("", &mut value);
            bag.add("stream.json", "the node's status stream", pretty(&value));
        }
        Err(e) => bag.miss("the node's status stream", e.message()),
    }
    Ok(())
}

fn pretty(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// The ends of all logs in a folder.
fn logs(folder: &Utf8Path) -> std::io::Result<Vec<(Utf8PathBuf, String)>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8()?.flatten().filter(|e| e.path().extension() == Some("log")) {
        let Ok(mut file) = std::fs::File::open(entry.path()) else { continue };
        let size = file.metadata().map(|m| m.len()).unwrap_or(0);
        if file.seek(SeekFrom::Start(size.saturating_sub(LOG))).is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        if file.take(LOG).read_to_end(&mut bytes).is_ok() {
            found.push((entry.path().to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn archive(taken: &[Taken], folder: &str) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    for file in taken {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        tar.append_data(&mut header, format!("{folder}/{}", file.name), file.content.as_slice())?;
    }
    let mut gzip = tar.into_inner()?;
    gzip.flush()?;
    gzip.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use crate::host::fake::Fake;
    use crate::testing::Machine;

    #[test]
    fn the_archive_has_the_configuration_and_no_secret() {
        let fake = Fake::default();
        let machine = Machine::new(fake);
        let put = |path: &str, text: &str| {
            let path = machine.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let token = "77c3a1b2c3d4.eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3OTU0MDc1NzR9.c2lnbmF0dXJl";
        put(
            "etc/kubeedge/config/edgecore.yaml",
            &format!("modules:\n  edgeHub:\n    token: {token}\n    heartbeat: 15\n"),
        );
        put(
            "etc/kubeedge/certs/server.key",
            "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----\n",
        );
        put("var/log/kubeedge/edgecore.log", &format!("INFO started with {token}\n"));
        let folder = tempfile::tempdir().unwrap();
        let said = machine
            .keadm(&format!("keadm debug collect --output-path {}", folder.path().display()));
        assert!(said.contains("exit code: 0"), "{said}");
        let path = std::fs::read_dir(folder.path()).unwrap().flatten().next().unwrap().path();
        let gzip = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
        let mut all = String::new();
        let mut names = Vec::new();
        for entry in tar::Archive::new(gzip).entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(names.iter().any(|n| n.ends_with("config/edgecore.yaml")), "{names:?}");
        assert!(names.iter().any(|n| n.ends_with("logs/edgecore.log")), "{names:?}");
        assert!(all.contains("heartbeat: 15") && all.contains("INFO started with"));
        assert!(!all.contains("eyJ") && !all.contains("MHcCAQ"), "a secret is in it");
        let dry = machine.keadm(&format!(
            "keadm debug collect --dry-run --output-path {}",
            folder.path().display()
        ));
        let (out, talk) = dry.split_once("--- err").unwrap();
        assert!(out.contains("config/edgecore.yaml"), "{dry}");
        assert!(talk.contains("nothing was written"), "{dry}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        // Logs and the configuration from elsewhere, and what is not there.
        put("other/one.log", "elsewhere\n");
        put("other/edge.yaml", "modules: {}\n");
        let line = format!(
            "keadm debug collect --dry-run -d -l {0} -c {0}/edge.yaml -o json",
            machine.path("other").display()
        );
        let said = machine.keadm(&line);
        for word in ["logs/one.log", "config/edge.yaml", "missing", "cloudcore.yaml"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("edgecore.log"), "{said}");
    }
}
