//! What a command may use.
//!
//! Owns: the paths of an installation.
//! Called by: every command.
//! Never: reads a file or asks the machine by itself.

use std::future::Future;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::errors::{CommandError, Kind};
use crate::host::Host;
use crate::printer::Printer;

/// Where an installation lies: KubeEdge's paths, below `/` unless `--root` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: Utf8PathBuf,
}

impl Paths {
    /// Below a folder; `/` for this machine's own installation.
    pub fn below(root: &Utf8Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder that all paths are below.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// An absolute path of KubeEdge's, below our root.
    pub fn at(&self, absolute: &str) -> Utf8PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The management folder.
    pub fn etc(&self) -> Utf8PathBuf {
        self.at("/etc/kubeedge")
    }

    /// Configuration files.
    pub fn config(&self) -> Utf8PathBuf {
        self.at("/etc/kubeedge/config")
    }

    /// The configuration of edgecore.
    pub fn edgecore_yaml(&self) -> Utf8PathBuf {
        self.at("/etc/kubeedge/config/edgecore.yaml")
    }

    /// The configuration of cloudcore.
    pub fn cloudcore_yaml(&self) -> Utf8PathBuf {
        self.at("/etc/kubeedge/config/cloudcore.yaml")
    }

    /// Logs of services where no journal is.
    pub fn log(&self) -> Utf8PathBuf {
        self.at("/var/log/kubeedge")
    }

    /// Databases.
    pub fn lib(&self) -> Utf8PathBuf {
        self.at("/var/lib/kubeedge")
    }

    /// Pid files.
    pub fn run(&self) -> Utf8PathBuf {
        self.at("/run/kubeedge")
    }

    /// Programs.
    pub fn bin(&self) -> Utf8PathBuf {
        self.at("/usr/local/bin")
    }

    /// systemd units.
    pub fn units(&self) -> Utf8PathBuf {
        self.at("/etc/systemd/system")
    }
}

/// What a command may use.
#[derive(Clone)]
pub struct Context {
    /// Both output streams.
    pub printer: Printer,
    /// The machine.
    pub host: Arc<dyn Host>,
    /// The installation.
    pub paths: Paths,
    /// How the programs that run in this process log.
    pub logging: Logging,
}

/// The logging flags.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logging {
    /// How many `-v`.
    pub verbose: u8,
    /// `--log-format json`.
    pub json: bool,
}

impl Logging {
    /// The directives for this many `-v`. Libraries below ours stay at a lower level.
    pub fn filter(self, unless_asked: &str) -> String {
        match self.verbose {
            0 => unless_asked.to_owned(),
            1 => "info,keadm=debug,cloudcore=debug,edgecore=debug,control_plane=debug,\
                  service=debug"
                .to_owned(),
            2 => "debug,h2=info,hyper=info,rustls=info,tungstenite=info".to_owned(),
            _ => "trace".to_owned(),
        }
    }
}

impl Context {
    /// Runs the asynchronous part of a command on a runtime of its own.
    ///
    /// # Errors
    /// What the future returns; or the operating system gives no threads.
    pub fn block_on<T>(
        &self,
        future: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| {
                CommandError::new(Kind::Failed, "cannot start the runtime's threads").caused_by(&e)
            })?;
        let result = runtime.block_on(future);
        // Whatever is left (a DNS look-up, a blocked read) must not hold up the end.
        runtime.shutdown_timeout(std::time::Duration::from_millis(200));
        result
    }

    /// Asks before something that cannot be undone.
    ///
    /// # Errors
    /// When the answer is no, or nobody is there to answer.
    pub fn confirm(&self, what: &str, yes: bool) -> Result<(), CommandError> {
        if yes {
            return Ok(());
        }
        self.printer.ask(&format!("{what}\nAre you sure you want to proceed? [y/N]: "));
        match self.host.ask() {
            Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => Ok(()),
            Some(_) => Err(CommandError::new(Kind::Failed, "aborted; nothing was changed")),
            None => {
                self.printer.shout("");
                Err(CommandError::new(Kind::Usage, "there is no terminal to ask on")
                    .hint("say `--yes` if you are sure"))
            }
        }
    }
}
