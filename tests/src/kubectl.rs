//! The real kubectl.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::host::Host;
use crate::wait;

/// kubectl on a host, with a kubeconfig.
#[derive(Debug)]
pub struct Kubectl<'a> {
    host: &'a Host,
    kubeconfig: PathBuf,
    home: tempfile::TempDir,
}

impl<'a> Kubectl<'a> {
    /// kubectl on `host`, with the credentials in `kubeconfig`.
    ///
    /// # Panics
    /// When no home folder for its caches can be made.
    pub fn new(host: &'a Host, kubeconfig: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { host, kubeconfig: kubeconfig.to_owned(), home }
    }

    /// A command line of it, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command("kubectl");
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("HOME", self.home.path());
        command
    }

    /// Runs it, with `input` on its standard input.
    ///
    /// # Panics
    /// When kubectl is not installed.
    pub fn output(&self, args: &[&str], input: impl AsRef<[u8]> + Send) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl (package kubernetes-client) runs");
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // Who ends before it has read all says why in its output.
            scope.spawn(move || drop(stdin.write_all(input.as_ref())));
            child.wait_with_output().unwrap()
        })
    }

    /// Runs it; returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.run_with(args, "")
    }

    /// [`Kubectl::run`] with standard input.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn run_with(&self, args: &[&str], input: &str) -> String {
        let out = self.output(args, input);
        assert!(
            out.status.success(),
            "kubectl {}: {}{}",
            args.join(" "),
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// `kubectl apply -f -`
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.run_with(&["apply", "-f", "-"], manifest);
    }

    /// The object as JSON, or what kubectl said instead.
    ///
    /// # Errors
    /// kubectl's words.
    pub fn get(&self, args: &[&str]) -> Result<Value, String> {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(args);
        let out = self.output(&all, "");
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned());
        }
        serde_json::from_slice(&out.stdout).map_err(|e| e.to_string())
    }

    /// Waits until a JSON path (`/status/phase`) of an object has a value.
    ///
    /// # Panics
    /// After `limit`, with the object as last seen.
    #[track_caller]
    pub fn until(&self, args: &[&str], pointer: &str, value: &str, limit: Duration) -> Duration {
        let what = format!("{} {pointer} = {value}", args.join(" "));
        wait::until(&what, limit, || {
            let object = self.get(args)?;
            let found = object.pointer(pointer).cloned().unwrap_or_default();
            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            if text == value { Ok(()) } else { Err(format!("{object:#}")) }
        })
        .1
    }

    /// Waits until an object is gone.
    ///
    /// # Panics
    /// After `limit`.
    #[track_caller]
    pub fn until_gone(&self, args: &[&str], limit: Duration) -> Duration {
        let what = format!("the end of {}", args.join(" "));
        wait::until(&what, limit, || match self.get(args) {
            Err(why) if why.contains("NotFound") => Ok(()),
            Err(why) => Err(why),
            Ok(object) => Err(format!("{object:#}")),
        })
        .1
    }
}
