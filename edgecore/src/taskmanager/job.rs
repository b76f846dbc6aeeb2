//! A node job, and what may stand in it. Pure.
//!
//! Owns: the steps of an upgrade and their order; what a version, an image and a digest look like.
//! Called by: `mod.rs`, `fetch.rs`.
//! Never: lets a text that the cloud sent near a path or a command before it was looked at.

pub(crate) use api::crd::operations::UpgradeAction as Action;
use api::crd::operations::{ImageDigestGatter, NodeUpgradeJobSpec};
use api::status::row::{Millis, Upgrade};
use api::wire::task::{TaskPath, Versions};

/// The longest version and image that are looked at.
const MAX_VERSION: usize = 128;
const MAX_IMAGE: usize = 512;

/// How a step that takes time has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `Err`: why it went wrong.
    pub(crate) result: Result<(), String>,
    /// The versions that it was about, if it got so far.
    pub(crate) versions: Option<Versions>,
    /// An upgrade that failed has put back by itself what was there.
    pub(crate) rolled_back: bool,
}

impl Outcome {
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { result: Err(why.into()), versions: None, rolled_back: false }
    }
}

/// What is said of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) action: Action,
    pub(crate) result: Result<(), String>,
    pub(crate) versions: Option<Versions>,
}

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Run(Action),
    /// Somebody on the node has to agree.
    Wait,
    End,
}

/// What is reported once `action` has ended, and what comes next.
pub(crate) fn after(action: Action, confirm: bool, outcome: Outcome) -> (Vec<Said>, Next) {
    let Outcome { result, versions, rolled_back } = outcome;
    let well = result.is_ok();
    let mut said = vec![Said { action, result, versions: versions.clone() }];
    let waits = Said { action: Action::WaitingConfirmation, result: Ok(()), versions: None };
    let next = match (action, well) {
        (Action::Check, true) => {
            said.push(waits);
            if confirm { Next::Wait } else { Next::Run(Action::BackUp) }
        }
        (Action::WaitingConfirmation, true) => Next::Run(Action::BackUp),
        (Action::BackUp, true) => Next::Run(Action::Upgrade),
        (Action::Upgrade, false) if rolled_back => {
            let back = versions.map(|v| Versions { from: v.to, to: v.from });
            said.push(Said { action: Action::RollBack, result: Ok(()), versions: back });
            Next::End
        }
        (Action::Upgrade, false) => Next::Run(Action::RollBack),
        _ => Next::End,
    };
    (said, next)
}

/// What people are shown of a job. The version before is not known here.
pub(crate) fn row(
    path: &TaskPath,
    spec: &NodeUpgradeJobSpec,
    state: &str,
    why: &str,
    since: Option<Millis>,
) -> Upgrade {
    let text = |text: &str| api::printable::printable(text, MAX_IMAGE).to_string();
    Upgrade {
        job: path.job.to_string(),
        from: String::new(),
        to: text(spec.version.as_deref().unwrap_or_default()),
        state: state.to_owned(),
        since,
        why: text(why),
    }
}

/// What an upgrade is to, once all of it has been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) version: String,
    /// With its tag.
    pub(crate) image: String,
    /// `sha256:..` for this machine, if one is demanded.
    pub(crate) digest: Option<String>,
}

impl Target {
    /// The target of a job.
    ///
    /// # Errors
    /// Why there is none, as the cloud is told.
    pub(crate) fn of(spec: &NodeUpgradeJobSpec) -> Result<Self, String> {
        let version = spec.version.as_deref().unwrap_or_default();
        let image = spec.image.as_deref().unwrap_or_default();
        if image.is_empty() {
            return Err("the job names no image, and there is no default one".to_owned());
        }
        Self::new(version, image, digest(spec.image_digest_gatter.as_ref())?)
    }

    /// The same from parts.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(crate) fn new(version: &str, image: &str, digest: Option<String>) -> Result<Self, String> {
        if !is_version(version) {
            return Err(format!("invalid version {}", shown(version)));
        }
        if !is_repository(image) {
            return Err(format!("invalid image repo {}", shown(image)));
        }
        Ok(Self { version: version.to_owned(), image: format!("{image}:{version}"), digest })
    }
}

fn shown(text: &str) -> String {
    format!("`{}`", api::printable::printable(text, 128))
}

/// The digest that is demanded for this machine.
fn digest(gatter: Option<&ImageDigestGatter>) -> Result<Option<String>, String> {
    let Some(gatter) = gatter else { return Ok(None) };
    let wanted = match std::env::consts::ARCH {
        "x86_64" => gatter.amd64.as_deref(),
        "aarch64" => gatter.arm64.as_deref(),
        _ => None,
    };
    match wanted.filter(|d| !d.is_empty()) {
        Some(digest) if is_digest(digest) => Ok(Some(digest.to_owned())),
        Some(digest) => Err(format!("invalid image digest {}", shown(digest))),
        None => Err(format!(
            "the job demands a digest and names none for this machine's architecture, {}",
            std::env::consts::ARCH
        )),
    }
}

/// `v1.23.0`, `v1.23.0-beta.0`; a name that is safe in a path and on a command line.
pub fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = text.strip_prefix('v').filter(|_| text.len() <= MAX_VERSION) else {
        return false;
    };
    let (numbers, suffix) = rest.split_once('-').map_or((rest, None), |(n, s)| (n, Some(s)));
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
    };
    numbers.split('.').count() == 3
        && numbers.split('.').all(number)
        && suffix.is_none_or(|s| s.split('-').all(plain))
}

/// `registry:5000/folder/name`, with at least one folder and neither tag nor digest.
fn is_repository(text: &str) -> bool {
    let part = |part: &str, more: &[u8]| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let Some((first, rest)) = text.split_once('/').filter(|_| text.len() <= MAX_IMAGE) else {
        return false;
    };
    part(first, b"._:-") && rest.split('/').all(|p| part(p, b"._-"))
}

/// `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell, a path or a flag parser would give a meaning.
    const HOSTILE: [&str; 14] = [
        "v1.23.0;reboot",
        "v1.23.0$(reboot)",
        "v1.23.0`reboot`",
        "v1.23.0\nreboot",
        "v1.23.0 --force",
        "--to-version=v1.23.0",
        "-v1.23.0",
        "v1.23.0/../../etc",
        "../v1.23.0",
        "v1.23.0-",
        "v1.23.0|x",
        "v1.23.0&",
        "v1.23.0\0",
        "v1.23.0'",
    ];

    #[test]
    fn a_version_or_an_image_with_a_meaning_for_a_shell_is_refused() {
        for text in HOSTILE {
            assert!(!is_version(text), "{text}");
            assert!(Target::new(text, "kubeedge/installation-package", None).is_err(), "{text}");
        }
        for text in [
            "kubeedge/x;reboot",
            "kubeedge/$(reboot)",
            "kubeedge/x\n",
            "-kubeedge/x",
            "--image/x",
            "kubeedge/../x",
            "kubeedge/-x",
            "kubeedge",
            "kubeedge/",
            "/x",
            "kubeedge/x:v1",
            "kubeedge/x@sha256:1",
            "kubeedge/x y",
            "",
        ] {
            assert!(Target::new("v1.23.0", text, None).is_err(), "{text}");
        }
        let long = format!("v1.23.0-{}", "a".repeat(200));
        assert!(!is_version(&long));
    }

    #[test]
    fn what_the_original_takes_is_taken() {
        for version in ["v1.23.0", "v1.23.0-beta.0", "v1.23.0-a_b-c.1", "v10.0.123"] {
            assert!(is_version(version), "{version}");
        }
        for version in ["1.23.0", "v1.23", "v1.23.0.1", "v1.a.0", "v1.23.0-a--b"] {
            assert!(!is_version(version), "{version}");
        }
        let target = Target::new("v1.23.0", "10.0.0.1:5000/a/b.c", None).unwrap();
        assert_eq!(target.image, "10.0.0.1:5000/a/b.c:v1.23.0");
    }

    #[test]
    fn a_digest_is_that_of_this_machine() {
        let sound = format!("sha256:{}", "a".repeat(64));
        let both = |digest: &str| ImageDigestGatter {
            amd64: Some(digest.to_owned()),
            arm64: Some(digest.to_owned()),
            registry_api: None,
        };
        assert_eq!(digest(None), Ok(None));
        assert_eq!(digest(Some(&both(&sound))), Ok(Some(sound)));
        assert!(digest(Some(&both("sha256:1"))).is_err());
        assert!(digest(Some(&ImageDigestGatter::default())).is_err());
    }

    fn ended(result: Result<(), &str>, rolled_back: bool) -> Outcome {
        let versions = Some(Versions { from: "v1".into(), to: "v2".into() });
        Outcome { result: result.map_err(str::to_owned), versions, rolled_back }
    }

    fn said(action: Action, confirm: bool, outcome: Outcome) -> (Vec<(&'static str, bool)>, Next) {
        let (said, next) = after(action, confirm, outcome);
        (said.iter().map(|s| (s.action.as_str(), s.result.is_ok())).collect(), next)
    }

    #[test]
    fn the_steps_come_in_their_order_and_the_wait_is_always_reported() {
        let well = || ended(Ok(()), false);
        let both = vec![("Check", true), ("WaitingConfirmation", true)];
        assert_eq!(said(Action::Check, false, well()), (both.clone(), Next::Run(Action::BackUp)));
        assert_eq!(said(Action::Check, true, well()), (both, Next::Wait));
        let one = |name| vec![(name, true)];
        assert_eq!(said(Action::BackUp, true, well()), (one("BackUp"), Next::Run(Action::Upgrade)));
        assert_eq!(said(Action::Upgrade, true, well()), (one("Upgrade"), Next::End));
        assert_eq!(said(Action::RollBack, true, well()), (one("RollBack"), Next::End));
    }

    #[test]
    fn only_an_upgrade_that_failed_is_rolled_back() {
        let bad = |rolled_back| ended(Err("no"), rolled_back);
        assert_eq!(said(Action::Check, false, bad(false)), (vec![("Check", false)], Next::End));
        assert_eq!(said(Action::BackUp, false, bad(false)), (vec![("BackUp", false)], Next::End));
        let failed = ("Upgrade", false);
        assert_eq!(
            said(Action::Upgrade, false, bad(false)),
            (vec![failed], Next::Run(Action::RollBack))
        );
        assert_eq!(
            said(Action::Upgrade, false, bad(true)),
            (vec![failed, ("RollBack", true)], Next::End)
        );
        let (all, _) = after(Action::Upgrade, false, bad(true));
        assert_eq!(all[1].versions.as_ref().unwrap().to_string(), "v2,v1");
    }
}
