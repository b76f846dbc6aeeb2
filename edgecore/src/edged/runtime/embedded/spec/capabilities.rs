//! Which capabilities a container gets.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::super::ContainerSecurity;
use super::super::state::read_small;
use super::SpecError;

/// In the kernel's order.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What every container gets unless it is told otherwise.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The bounding set of this process: nobody can give what he does not have.
pub(in super::super) fn available() -> u64 {
    let status = read_small(Path::new("/proc/self/status")).unwrap_or_default();
    parse_bounding(&status).unwrap_or(0)
}

fn parse_bounding(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|l| l.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// A container's set.
#[derive(Debug)]
pub(super) struct Granted(BTreeSet<&'static str>);

impl Granted {
    pub(super) fn new(security: &ContainerSecurity, bounding: u64) -> Result<Self, SpecError> {
        let held = || ALL.into_iter().enumerate().filter(move |(bit, _)| bounding >> bit & 1 == 1);
        let everything = || held().map(|(_, name)| name).collect::<BTreeSet<_>>();
        let can_have = everything();
        if security.privileged {
            return Ok(Granted(can_have));
        }
        let all = |list: &[String]| list.iter().any(|c| c.eq_ignore_ascii_case("ALL"));
        let mut set: BTreeSet<_> = DEFAULT.into_iter().filter(|c| can_have.contains(c)).collect();
        if all(&security.add_capabilities) {
            set = everything();
        }
        if all(&security.drop_capabilities) {
            set.clear();
        }
        for name in security.add_capabilities.iter().filter(|c| !c.eq_ignore_ascii_case("ALL")) {
            let known = lookup(name)?;
            if !can_have.contains(known) {
                return Err(SpecError::CapabilityOutOfReach(name.clone()));
            }
            set.insert(known);
        }
        for name in security.drop_capabilities.iter().filter(|c| !c.eq_ignore_ascii_case("ALL")) {
            set.remove(lookup(name)?);
        }
        Ok(Granted(set))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|name| format!("CAP_{name}")).collect()
    }
}

fn lookup(name: &str) -> Result<&'static str, SpecError> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    ALL.into_iter()
        .find(|c| *c == bare)
        .ok_or_else(|| SpecError::UnknownCapability(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u64 = (1 << 41) - 1;

    fn granted(add: &[&str], drop: &[&str], bounding: u64) -> Result<Vec<String>, SpecError> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let security = ContainerSecurity {
            add_capabilities: own(add),
            drop_capabilities: own(drop),
            ..ContainerSecurity::default()
        };
        Granted::new(&security, bounding).map(|g| g.names())
    }

    #[test]
    fn adding_and_dropping_follow_the_usual_order() {
        assert_eq!(granted(&[], &[], FULL).unwrap().len(), 14);
        assert_eq!(granted(&["ALL"], &[], FULL).unwrap().len(), 41);
        assert_eq!(granted(&["NET_ADMIN"], &["ALL"], FULL).unwrap(), ["CAP_NET_ADMIN"]);
        assert!(
            !granted(&["ALL"], &["sys_admin"], FULL).unwrap().contains(&"CAP_SYS_ADMIN".into())
        );
        assert_eq!(granted(&["NOPE"], &[], FULL), Err(SpecError::UnknownCapability("NOPE".into())));
    }

    #[test]
    fn what_edgecore_lacks_is_left_out_unless_asked_for_by_name() {
        let without_mknod = FULL & !(1 << 27);
        assert!(!granted(&[], &[], without_mknod).unwrap().contains(&"CAP_MKNOD".into()));
        assert_eq!(granted(&["ALL"], &[], without_mknod).unwrap().len(), 40);
        assert_eq!(
            granted(&["MKNOD"], &[], without_mknod),
            Err(SpecError::CapabilityOutOfReach("MKNOD".into()))
        );
    }

    #[test]
    fn the_bounding_set_is_read_from_the_status_file() {
        assert_eq!(parse_bounding("Name:\tx\nCapBnd:\t00000000000000ff\n"), Some(0xff));
        assert_eq!(parse_bounding("CapBnd:\tzz\n"), None);
    }
}
