//! What `init` or `join` has made on this machine, so that `reset` removes that and nothing else.
//!
//! Owns: the record `/etc/kubeedge/keadm-cloud.json` or `keadm-edge.json`.
//! Called by: the phases, which make everything through an [`Installer`], and `reset`.
//! Never: records what was there before.

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::context::{Context, Paths};
use crate::errors::{CommandError, Kind, file_error};
use crate::host::ServiceSpec;

/// Which half of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What `init` makes.
    Cloud,
    /// What `join` makes.
    Edge,
}

impl Role {
    /// `cloud` or `edge`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Edge => "edge",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Cloud => Self::Edge,
            Self::Edge => Self::Cloud,
        }
    }

    fn record(self, paths: &Paths) -> Utf8PathBuf {
        paths.etc().join(format!("keadm-{}.json", self.name()))
    }
}

/// The record. Things are recorded before they are made: a crash leaves nothing that is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Files, links and folders, in the order in which they were made.
    pub paths: Vec<Utf8PathBuf>,
    /// Services.
    pub services: Vec<String>,
    /// Whether all phases have ended well.
    pub complete: bool,
}

impl Made {
    /// The record of a role, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(cx: &Context, role: Role) -> Result<Option<Self>, CommandError> {
        let path = role.record(&cx.paths);
        if !cx.host.exists(&path) {
            return Ok(None);
        }
        let bytes = cx.host.read(&path).map_err(|e| file_error("read", &path, &e))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            CommandError::new(Kind::Failed, format!("`{path}` is broken"))
                .caused_by(&e)
                .hint(format!("look at what is below `{}` and remove it by hand", cx.paths.etc()))
        })
    }
}

/// Makes files, folders, links and services, and records them.
pub struct Installer<'c> {
    cx: &'c Context,
    role: Role,
    made: Mutex<Made>,
}

impl<'c> Installer<'c> {
    /// Goes on with the record of an earlier attempt, if there is one.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn open(cx: &'c Context, role: Role) -> Result<Self, CommandError> {
        let made = Made::load(cx, role)?.unwrap_or_default();
        Ok(Self { cx, role, made: Mutex::new(made) })
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn folder(&self, path: &Utf8Path, mode: u32) -> Result<(), CommandError> {
        let new: Vec<Utf8PathBuf> = path
            .ancestors()
            .take_while(|p| !self.cx.host.exists(p))
            .map(Utf8Path::to_owned)
            .collect();
        // The record itself lies in a folder that may be the one to be made.
        self.cx.host.create_dir(path, mode).map_err(|e| file_error("make", path, &e))?;
        // The outermost first, so that removal, which goes backwards, ends with it.
        new.iter().rev().try_for_each(|folder| self.record(folder))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn file(&self, path: &Utf8Path, bytes: &[u8], mode: u32) -> Result<(), CommandError> {
        if let Some(folder) = path.parent() {
            self.folder(folder, if mode & 0o077 == 0 { 0o700 } else { 0o755 })?;
        }
        self.before(path)?;
        self.cx.host.write(path, bytes, mode).map_err(|e| file_error("write", path, &e))
    }

    /// Copies this program to a place, unless it runs from there.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn program(&self, path: &Utf8Path) -> Result<(), CommandError> {
        let from = self.cx.host.this_program().map_err(|e| file_error("find", path, &e))?;
        if from == path {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            self.folder(folder, 0o755)?;
        }
        self.before(path)?;
        self.cx.host.copy(&from, path).map_err(|e| file_error("write", path, &e))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn link(&self, target: &Utf8Path, link: &Utf8Path) -> Result<(), CommandError> {
        self.before(link)?;
        self.cx.host.link(target, link).map_err(|e| {
            file_error("make the link", link, &e).hint(format!("move `{link}` out of the way"))
        })
    }

    /// Records a path that a program will make when it runs.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn will_appear(&self, path: &Utf8Path) -> Result<(), CommandError> {
        self.before(path)
    }

    /// Installs and starts a service.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn service(&self, service: &ServiceSpec) -> Result<(), CommandError> {
        {
            let mut made = self.made.lock();
            if !made.services.contains(&service.name) {
                made.services.push(service.name.clone());
            }
        }
        self.save()?;
        self.cx.host.start_service(service).map_err(|e| {
            CommandError::new(Kind::Failed, format!("cannot start the service `{}`", service.name))
                .caused_by(&e)
        })
    }

    /// Says that all phases have ended well.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn complete(&self) -> Result<(), CommandError> {
        self.made.lock().complete = true;
        self.save()
    }

    fn before(&self, path: &Utf8Path) -> Result<(), CommandError> {
        // What the other role has made may be needed by both.
        let shared = Made::load(self.cx, self.role.other())?
            .is_some_and(|other| other.paths.iter().any(|p| p == path));
        if self.cx.host.exists(path) && !shared { Ok(()) } else { self.record(path) }
    }

    fn record(&self, path: &Utf8Path) -> Result<(), CommandError> {
        {
            let mut made = self.made.lock();
            if made.paths.iter().any(|known| known == path) {
                return Ok(());
            }
            made.paths.push(path.to_owned());
        }
        self.save()
    }

    fn save(&self) -> Result<(), CommandError> {
        let path = self.role.record(&self.cx.paths);
        let etc = self.cx.paths.etc();
        let failed = |e: std::io::Error| file_error("write", &path, &e);
        let new = self.cx.host.create_dir(&etc, 0o755).map_err(failed)?;
        let mut made = self.made.lock();
        if let Some(new) = new {
            made.paths.insert(0, new);
        }
        let bytes = serde_json::to_vec_pretty(&*made).map_err(|e| failed(e.into()))?;
        self.cx.host.write(&path, &bytes, 0o600).map_err(failed)
    }
}

/// Removes all that the record of a role names; what the other role needs stays and becomes its.
/// Returns what was removed.
///
/// # Errors
/// The first thing that cannot be removed; the record then still names it.
pub fn remove(cx: &Context, role: Role, made: &Made) -> Result<Vec<String>, CommandError> {
    let mut removed = Vec::new();
    let mut gone_paths: Vec<&Utf8Path> = Vec::new();
    for name in &made.services {
        let gone = cx.host.remove_service(name).map_err(|e| {
            CommandError::new(Kind::Failed, format!("cannot stop the service `{name}`"))
                .caused_by(&e)
        })?;
        if gone {
            removed.push(format!("service `{name}`"));
        }
    }
    let other = Made::load(cx, role.other())?;
    let mut handed_over = Vec::new();
    let record = role.record(&cx.paths);
    let needed = |path: &Utf8Path| {
        other.as_ref().is_some_and(|_| role.other().record(&cx.paths).starts_with(path))
            || other.iter().flat_map(|o| &o.paths).any(|theirs| theirs.starts_with(path))
            || shared_program(cx, role, path)
    };
    // The folder that holds the record goes last.
    let (last, first): (Vec<_>, Vec<_>) =
        made.paths.iter().rev().partition(|path| record.starts_with(path));
    for path in first.into_iter().chain(last) {
        if needed(path) {
            handed_over.push(path.clone());
            continue;
        }
        if cx.host.remove(path).map_err(|e| file_error("remove", path, &e))? {
            gone_paths.push(path);
        }
    }
    removed.extend(outermost(&gone_paths).map(|path| format!("`{path}`")));
    cx.host.remove(&record).map_err(|e| file_error("remove", &record, &e))?;
    if let Some(other) = other {
        let installer = Installer { cx, role: role.other(), made: Mutex::new(other) };
        for path in handed_over {
            installer.record(&path)?;
        }
    }
    Ok(removed)
}

/// Those that lie in no other of them.
pub fn outermost<P: AsRef<Utf8Path>>(paths: &[P]) -> impl Iterator<Item = &Utf8Path> {
    let inside = |path: &Utf8Path| {
        paths.iter().any(|other| path != other.as_ref() && path.starts_with(other.as_ref()))
    };
    paths.iter().map(AsRef::as_ref).filter(move |path| !inside(path))
}

/// Whether `path` is the copy of this program that the other role's link still points at.
fn shared_program(cx: &Context, role: Role, path: &Utf8Path) -> bool {
    let link = match role.other() {
        Role::Cloud => "cloudcore",
        Role::Edge => "edgecore",
    };
    path == cx.paths.bin().join("keadm")
        && cx.host.read_link(&cx.paths.bin().join(link)).is_some_and(|to| to == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;
    use crate::host::{Host, ServiceState};
    use crate::testing::context;

    fn unit(name: &str) -> ServiceSpec {
        ServiceSpec {
            name: name.into(),
            about: String::new(),
            command: vec!["/x".into()],
            after: vec![],
        }
    }

    fn install(cx: &Context, role: Role, program: &str) {
        let installer = Installer::open(cx, role).unwrap();
        installer.program(&cx.paths.bin().join("keadm")).unwrap();
        installer.link(&cx.paths.bin().join("keadm"), &cx.paths.bin().join(program)).unwrap();
        installer.file(&cx.paths.config().join(format!("{program}.yaml")), b"x", 0o600).unwrap();
        installer.service(&unit(program)).unwrap();
        installer.complete().unwrap();
    }

    fn reset(cx: &Context, role: Role) -> Vec<String> {
        let made = Made::load(cx, role).unwrap().unwrap_or_default();
        remove(cx, role, &made).unwrap()
    }

    #[test]
    fn removing_leaves_the_machine_as_it_was() {
        let fake = Fake::new(|state| {
            state.folders.insert("/usr/local/bin".into());
            state.files.insert("/usr/local/bin/other".into(), (0o755, vec![]));
        });
        let before = (fake.state().files, fake.state().folders);
        let cx = context(&fake);
        install(&cx, Role::Edge, "edgecore");
        assert_eq!(fake.service_state("edgecore"), ServiceState::Running);
        assert!(!reset(&cx, Role::Edge).is_empty());
        assert_eq!((fake.state().files, fake.state().folders), before);
        assert!(fake.state().links.is_empty());
        assert_eq!(fake.service_state("edgecore"), ServiceState::Absent);
        assert!(reset(&cx, Role::Edge).is_empty());
    }

    #[test]
    fn what_was_there_before_stays() {
        let fake = Fake::new(|state| {
            state.folders.insert("/etc/kubeedge/config".into());
            state.files.insert("/etc/kubeedge/config/edgecore.yaml".into(), (0o600, vec![]));
        });
        let cx = context(&fake);
        install(&cx, Role::Edge, "edgecore");
        reset(&cx, Role::Edge);
        assert!(fake.exists("/etc/kubeedge/config/edgecore.yaml".into()));
    }

    #[test]
    fn two_roles_on_one_machine_do_not_take_each_others_things() {
        let fake = Fake::default();
        let cx = context(&fake);
        install(&cx, Role::Cloud, "cloudcore");
        install(&cx, Role::Edge, "edgecore");
        reset(&cx, Role::Cloud);
        assert!(fake.exists("/etc/kubeedge/config/edgecore.yaml".into()));
        assert!(fake.exists("/usr/local/bin/keadm".into()));
        assert!(!fake.exists("/etc/kubeedge/config/cloudcore.yaml".into()));
        reset(&cx, Role::Edge);
        assert_eq!(fake.tree(), "");
    }
}
