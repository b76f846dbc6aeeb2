//! The built binary, driven as a user would drive it: one file per story.

mod actions;
mod completion;
mod dashboard;
mod debug;
pub(crate) mod devices;
mod environment;
pub(crate) mod join;
mod logs;
mod look;
mod offline;
mod pods;
mod secrets;
pub(crate) mod streams;
mod systemd;
mod trouble;
mod up;
mod upgrade;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::host::Host;
use tests::keadm::{Running, command};
use tests::kubectl::Kubectl;

/// How long anything may take that normally takes a moment, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `keadm up` on a host of its own.
pub(crate) struct Up {
    pub(crate) keadm: Running,
    pub(crate) data: PathBuf,
}

impl Up {
    /// Starts it with more arguments and waits until it says what to type next.
    #[track_caller]
    pub(crate) fn start(host: &Host, folder: &Path, more: &[&str]) -> Self {
        Self::again(host, folder, &[&["--node-name", "edge-1"], more].concat())
    }

    /// The same as whoever goes on with what was: without the node's name.
    #[track_caller]
    pub(crate) fn again(host: &Host, folder: &Path, more: &[&str]) -> Self {
        let data = folder.join("data");
        let mut args = vec!["up", "--data-dir", data.to_str().unwrap()];
        args.extend_from_slice(more);
        let mut keadm = Running::start(command(host, args), &folder.join("up.log"));
        keadm.until_said("export KUBECONFIG=", PATIENCE);
        Self { keadm, data }
    }

    /// The kubeconfig that it named.
    #[track_caller]
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let said = self.keadm.said();
        let at = said.rfind("export KUBECONFIG=").unwrap() + "export KUBECONFIG=".len();
        said[at..].lines().next().unwrap().trim().trim_matches('\'').into()
    }

    /// kubectl with it.
    pub(crate) fn kubectl<'a>(&self, host: &'a Host) -> Kubectl<'a> {
        Kubectl::new(host, &self.kubeconfig())
    }
}

/// The image that `keadm up` makes from the binary itself, as the sample pod names it.
#[track_caller]
pub(crate) fn sample_image(kubectl: &Kubectl<'_>) -> String {
    let pods = kubectl.get(&["pods"]).unwrap();
    pods.pointer("/items/0/spec/containers/0/image").unwrap().as_str().unwrap().to_owned()
}

/// The machine's busybox, lent to pods of the sample image, which has no program that listens.
#[track_caller]
pub(crate) fn busybox() -> &'static str {
    let mut paths = ["/usr/bin/busybox", "/bin/busybox"].into_iter();
    let path = paths.find(|p| std::path::Path::new(p).exists());
    path.expect("busybox (package busybox-static) is installed")
}

/// A pod with one container of the sample image on `edge-1`.
pub(crate) fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},
"spec":{{"terminationGracePeriodSeconds":2,"containers":[{{"name":"main","image":"{image}"{more}}}]}}}}"#
    )
}

/// What was said, without times; that a step takes long is said on a slow machine only.
pub(crate) fn without_times(said: &str) -> String {
    let is_time = |word: &str| {
        word.len() >= 8
            && word.contains(['-', ':'])
            && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | 'T' | 'Z' | '+'))
    };
    let is_age = |word: &str| {
        word.ends_with(['s', 'm', 'h'])
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || matches!(c, 's' | 'm' | 'h'))
    };
    let line = |line: &str| -> String {
        let mut words = Vec::new();
        for word in line.split_whitespace() {
            match word {
                "ms" | "s" | "min" if words.last() == Some(&"N") => {
                    words.pop();
                }
                word if word.parse::<f64>().is_ok() => words.push("N"),
                word if is_age(word) => words.push("AGE"),
                word if is_time(word) => words.push("TIME"),
                word => words.push(word),
            }
        }
        words.join(" ") + "\n"
    };
    let text: String = said.lines().filter(|l| !l.contains("still working")).map(line).collect();
    let mut parts = text.split("\"seconds\":");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        text + "\"seconds\":N" + rest
    })
}
