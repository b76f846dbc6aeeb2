//! Which user a container runs as.
//!
//! Owns: the reading of an image's `/etc/passwd` and `/etc/group`, which are as hostile as the
//! image; pure.
//! Called by: `shim/rootfs.rs`.
//! Never: asks the host's user database.

use serde::{Deserialize, Serialize};

/// What the pod and the image say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserPlan {
    /// The pod's number, which wins.
    pub(crate) uid: Option<u32>,
    /// The pod's user name, which comes next.
    pub(crate) name: String,
    /// The image's `User`: `user`, `user:group`, names or numbers.
    pub(crate) image: String,
    /// The pod's group.
    pub(crate) gid: Option<u32>,
    /// The pod's further groups.
    pub(crate) groups: Vec<u32>,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Why nobody could be named.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Lines that are not entries are passed over, as everybody's C library does.
fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut f = line.split(':');
        let (name, _, uid, gid) = (f.next()?, f.next()?, f.next()?, f.next()?);
        Some(PasswdEntry { name, uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut f = line.split(':');
        let (name, _, gid) = (f.next()?, f.next()?, f.next()?);
        Some(GroupEntry { name, gid: gid.parse().ok()?, members: f.next().unwrap_or("") })
    })
}

/// Resolves the plan with the image's files; a file that is not there is empty.
pub(super) fn resolve(plan: &UserPlan, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (image_user, image_group) = plan.image.split_once(':').unwrap_or((&plan.image, ""));
    let wanted = match (plan.uid, plan.name.as_str()) {
        (Some(uid), _) => uid.to_string(),
        (None, "") => image_user.to_owned(),
        (None, name) => name.to_owned(),
    };
    let from_image = plan.uid.is_none() && plan.name.is_empty();
    let (uid, entry) = find_user(&wanted, passwd)?;
    let gid = match plan.gid {
        Some(gid) => gid,
        None if from_image && !image_group.is_empty() => find_group(image_group, group)?,
        None => entry.as_ref().map_or(0, |e| e.gid),
    };
    let mut groups = vec![gid];
    if let Some(entry) = &entry {
        let own = |g: &GroupEntry<'_>| g.members.split(',').any(|m| m == entry.name);
        groups.extend(group_entries(group).filter(own).map(|g| g.gid));
    }
    groups.extend(&plan.groups);
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity { uid, gid, groups })
}

fn find_user<'p>(
    wanted: &str,
    passwd: &'p str,
) -> Result<(u32, Option<PasswdEntry<'p>>), UserError> {
    let wanted = if wanted.is_empty() { "0" } else { wanted };
    let number = wanted.parse::<u32>().ok();
    let entry = passwd_entries(passwd)
        .find(|e| e.name == wanted)
        .or_else(|| passwd_entries(passwd).find(|e| Some(e.uid) == number));
    match (entry, number) {
        (Some(e), _) => Ok((e.uid, Some(e))),
        (None, Some(uid)) => Ok((uid, None)),
        (None, None) => Err(UserError::NoUser(wanted.to_owned())),
    }
}

fn find_group(wanted: &str, group: &str) -> Result<u32, UserError> {
    group_entries(group)
        .find(|g| g.name == wanted)
        .map(|g| g.gid)
        .or_else(|| wanted.parse().ok())
        .ok_or_else(|| UserError::NoGroup(wanted.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:\nbroken\nbad:x:-1:x:::\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\ndisk:x:6:root,web\nvideo:x:44:web\n";

    fn image(user: &str) -> Result<Identity, UserError> {
        resolve(&UserPlan { image: user.into(), ..UserPlan::default() }, PASSWD, GROUP)
    }

    #[test]
    fn an_image_names_its_user_in_six_ways() {
        let web = Identity { uid: 33, gid: 33, groups: vec![6, 33, 44] };
        assert_eq!(image("web"), Ok(web.clone()));
        assert_eq!(image("33"), Ok(web));
        assert_eq!(image("").map(|i| (i.uid, i.gid)), Ok((0, 0)));
        assert_eq!(image("web:disk").map(|i| (i.uid, i.gid)), Ok((33, 6)));
        assert_eq!(image("1000:7").map(|i| (i.uid, i.gid)), Ok((1000, 7)));
        assert_eq!(image("1000"), Ok(Identity { uid: 1000, gid: 0, groups: vec![0] }));
        assert_eq!(image("nobody"), Err(UserError::NoUser("nobody".into())));
        assert_eq!(image("web:nobody"), Err(UserError::NoGroup("nobody".into())));
    }

    #[test]
    fn the_pod_outranks_the_image() {
        let plan = UserPlan {
            uid: Some(33),
            image: "nobody:nogroup".into(),
            groups: vec![2000, 33],
            ..UserPlan::default()
        };
        let got = resolve(&plan, PASSWD, GROUP).unwrap();
        assert_eq!(got, Identity { uid: 33, gid: 33, groups: vec![6, 33, 44, 2000] });
        let plan = UserPlan { gid: Some(5), ..plan };
        assert_eq!(resolve(&plan, PASSWD, GROUP).unwrap().gid, 5);
        let plan = UserPlan { name: "web".into(), ..UserPlan::default() };
        assert_eq!(resolve(&plan, PASSWD, GROUP).unwrap().uid, 33);
    }

    #[test]
    fn an_image_without_user_files_still_has_numbers() {
        let plan = UserPlan { uid: Some(7), ..UserPlan::default() };
        let got = resolve(&plan, "", "").unwrap();
        assert_eq!(got, Identity { uid: 7, gid: 0, groups: vec![0] });
    }
}
