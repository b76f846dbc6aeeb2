//! systemd units, through `systemctl` with arguments as a vector.

use std::io;
use std::process::Command;

use super::ServiceSpec;
use crate::context::Paths;
use crate::host::{Host, ServiceState};

pub(in crate::host) fn start(
    host: &dyn Host,
    paths: &Paths,
    service: &ServiceSpec,
) -> io::Result<()> {
    let unit = format!("{}.service", service.name);
    host.create_dir(&paths.units(), 0o755)?;
    host.write(&paths.units().join(&unit), unit_text(service)?.as_bytes(), 0o644)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--quiet", &unit])?;
    systemctl(&["restart", &unit])
}

pub(in crate::host) fn restart(name: &str) -> io::Result<()> {
    systemctl(&["restart", &format!("{name}.service")])
}

pub(in crate::host) fn stop(name: &str) -> io::Result<()> {
    systemctl(&["stop", &format!("{name}.service")])
}

pub(in crate::host) fn remove(paths: &Paths, name: &str) -> io::Result<bool> {
    let unit = format!("{name}.service");
    let file = paths.units().join(&unit);
    if !file.exists() {
        return Ok(false);
    }
    systemctl(&["disable", "--quiet", "--now", &unit])?;
    std::fs::remove_file(file)?;
    systemctl(&["daemon-reload"])?;
    Ok(true)
}

pub(in crate::host) fn state(paths: &Paths, name: &str) -> ServiceState {
    let unit = format!("{name}.service");
    if !paths.units().join(&unit).exists() {
        return ServiceState::Absent;
    }
    match systemctl(&["is-active", "--quiet", &unit]) {
        Ok(()) => ServiceState::Running,
        Err(_) => ServiceState::Stopped,
    }
}

pub(in crate::host) fn log(name: &str, lines: usize) -> Vec<String> {
    let output = Command::new("journalctl")
        .args(["--no-pager", "--output=cat", "--unit"])
        .arg(format!("{name}.service"))
        .arg(format!("--lines={lines}"))
        .output();
    let text = output.map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

fn systemctl(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("systemctl").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("`systemctl {}` failed: {said}", arguments.join(" "))))
}

/// The unit file. `KillMode=process`, as KubeEdge's: containers outlive edgecore.
///
/// A program that ended is started again at once, and never given up: nobody may be near an edge
/// machine. `RestartSteps` makes the pause grow for one that goes on failing; systemd older than 254
/// does not know it, says so in its log and keeps to the short pause.
pub(in crate::host) fn unit_text(service: &ServiceSpec) -> io::Result<String> {
    let command: Vec<String> =
        service.command.iter().map(|w| quote(w)).collect::<Result<_, _>>()?;
    let after: String = service.after.iter().map(|name| format!(" {name}.service")).collect();
    Ok(format!(
        "[Unit]\nDescription={}\nAfter=network-online.target{after}\nWants=network-online.target\n\
         StartLimitIntervalSec=0\n\n\
         [Service]\nType=simple\nExecStart={}\nRestart=always\nRestartSec=100ms\n\
         RestartSteps=20\nRestartMaxDelaySec=5s\nKillMode=process\n\
         Environment=MALLOC_ARENA_MAX=2\nLimitNOFILE=1048576\nOOMScoreAdjust=-999\n\n[Install]\n\
         WantedBy=multi-user.target\n",
        service.about,
        command.join(" "),
    ))
}

/// A word of `ExecStart=` in which systemd sees nothing special.
fn quote(word: &str) -> io::Result<String> {
    if word.contains(|c: char| c.is_control()) {
        return Err(io::Error::other(format!("`{word:?}` cannot stand in a unit file")));
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    let escaped = escaped.replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.=:,".contains(c);
    Ok(if word.chars().all(plain) && !word.is_empty() { escaped } else { format!("\"{escaped}\"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_keeps_containers_alive_and_quotes_its_words() {
        let text = unit_text(&ServiceSpec {
            name: "edgecore".into(),
            about: "KubeEdge edgecore".into(),
            command: vec!["/usr/local/bin/edgecore".into(), "--config=/a b/$x%.yaml".into()],
            after: vec![],
        })
        .unwrap();
        assert!(text.contains("\nKillMode=process\n"));
        assert!(
            text.contains("\nRestartSec=100ms\n") && text.contains("\nStartLimitIntervalSec=0\n")
        );
        assert!(
            text.contains("\nExecStart=/usr/local/bin/edgecore \"--config=/a b/$$x%%.yaml\"\n"),
            "{text}"
        );
        assert!(quote("a\nb").is_err());
    }
}
