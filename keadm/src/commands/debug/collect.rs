//! `keadm debug collect`: one file with what a bug report needs, and nothing that is secret.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};

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
    #[arg(short = 'd', long, value_name = "DIR", default_value = ".")]
    output_path: Utf8PathBuf,
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
    let taken = take(args, cx)?;
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
        let whole = json!({ "archive": path, "files": listed });
        return Ok(cx.printer.data(serde_json::to_string_pretty(&whole).unwrap_or_default())?);
    }
    for one in &listed {
        cx.printer.say(format!("{:>9}  {:<32}  {}", one.bytes, one.name, one.from));
    }
    cx.printer.say("keys, tokens and the values of secrets are left out; look before you send it");
    match args.dry_run {
        true => cx.printer.say("nothing was written"),
        false => cx.printer.data(file.as_str())?,
    }
    Ok(())
}

fn take(args: &CollectArgs, cx: &Context) -> Result<Vec<Taken>, CommandError> {
    let mut taken = Vec::new();
    let mut add =
        |name: String, from: String, content: Vec<u8>| taken.push(Taken { name, from, content });
    for path in MACHINE {
        if let Ok(content) = cx.host.read(Utf8Path::new(path)) {
            add(format!("machine{path}"), path.to_owned(), content);
        }
    }
    for path in [cx.paths.edgecore_yaml(), cx.paths.cloudcore_yaml()] {
        if let Ok(content) = cx.host.read(&path) {
            let text = redact::text(&String::from_utf8_lossy(&content));
            let name = path.file_name().unwrap_or("config");
            add(format!("config/{name}"), path.to_string(), text.into_bytes());
        }
    }
    for unit in ["edgecore.service", "cloudcore.service"] {
        let path = cx.paths.units().join(unit);
        if let Ok(content) = cx.host.read(&path) {
            let text = redact::text(&String::from_utf8_lossy(&content));
            add(format!("config/{unit}"), path.to_string(), text.into_bytes());
        }
    }
    for (path, content) in logs(&cx.paths.log()) {
        let name = path.file_name().unwrap_or("log").to_owned();
        add(format!("logs/{name}"), path.to_string(), redact::text(&content).into_bytes());
    }
    let version = json!({ "keadm": env!("CARGO_PKG_VERSION"), "arch": std::env::consts::ARCH });
    add("version.json".to_owned(), "keadm version".to_owned(), pretty(&version));
    let (edge, local) = cx.block_on(async {
        let fleet = FleetArgs {
            local: true,
            ..FleetArgs::from_environment(std::time::Duration::from_secs(3))
        };
        let fleet = FleetArgs { endpoint: None, ..fleet };
        let want = Want { events: true, ..Want::default() };
        let local = match Fleet::open(&fleet, want, cx).await {
            Ok(mut fleet) => fleet.first().await.ok(),
            Err(_) => None,
        };
        Ok((checks::edge::all(cx).await, local))
    })?;
    let checked = json!({ "machine": checks::machine::all(cx), "edge": edge });
    add("checks.json".to_owned(), "keadm check machine edge".to_owned(), pretty(&checked));
    if let Some(local) = local {
        let mut value = serde_json::to_value(&local).unwrap_or_default();
        redact::object("", &mut value);
        add("stream.json".to_owned(), "the node's status stream".to_owned(), pretty(&value));
    }
    if let Ok(rows) = args.database.read(cx) {
        let objects = super::get::objects(rows);
        let values: Vec<&Value> = objects.iter().map(|(_, value)| value).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": values });
        add("objects.json".to_owned(), "the edge's database".to_owned(), pretty(&list));
    }
    Ok(taken)
}

fn pretty(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// The ends of all logs in a folder.
fn logs(folder: &Utf8Path) -> Vec<(Utf8PathBuf, String)> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let Ok(entries) = folder.read_dir_utf8() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten().filter(|e| e.path().extension() == Some("log")) {
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
    found
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
        let said = machine.keadm(&format!("keadm debug collect -d {}", folder.path().display()));
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
        let dry =
            machine.keadm(&format!("keadm debug collect --dry-run -d {}", folder.path().display()));
        assert!(dry.contains("nothing was written"), "{dry}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
