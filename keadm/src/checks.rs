//! What can be checked: each check says what it looked at, how it is, and what to do about it.
//!
//! Owns: the checks and their names, which `--ignore-preflight-errors` takes.
//! Called by: `keadm check`, and as preflight by `init`, `join` and `up`.
//! Never: changes anything.

#[cfg(feature = "cloud")]
pub mod cloud;
pub mod dns;
pub mod edge;
pub mod machine;
pub mod ping;

use serde::Serialize;

use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::printer::Mark;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but somebody should look at it.
    Warn,
    /// Not as it should be.
    Fail,
    /// It does not apply, or cannot be told now.
    Skip,
}

impl Verdict {
    /// The symbol that stands for it.
    pub fn mark(self) -> Mark {
        match self {
            Self::Ok => Mark::Ok,
            Self::Warn => Mark::Warn,
            Self::Fail => Mark::Fail,
            Self::Skip => Mark::Skip,
        }
    }
}

/// The result of one check; also its shape in `-o json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Its name, for example `Port-10000`.
    pub name: String,
    /// How it is.
    pub status: Verdict,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip)]
    kind: KindOf,
}

/// The exit code that a failed preflight check leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KindOf(Kind);

impl Check {
    fn new(name: impl Into<String>, status: Verdict, message: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            message: message.into(),
            hint: None,
            kind: KindOf(Kind::Failed),
        }
    }

    /// It is as it should be.
    pub fn ok(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, message)
    }

    /// It does not apply.
    pub fn skip(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(name, Verdict::Skip, message)
    }

    /// Somebody should look at it.
    pub fn warn(
        name: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(name, Verdict::Warn, message) }
    }

    /// It is not as it should be.
    pub fn fail(
        name: impl Into<String>,
        kind: Kind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let check = Self::new(name, Verdict::Fail, message);
        Self { hint: Some(hint.into()), kind: KindOf(kind), ..check }
    }

    /// A command's failure as a check's.
    pub fn failed(name: impl Into<String>, e: &CommandError) -> Self {
        let mut message = e.message().to_owned();
        for (n, cause) in e.causes().iter().enumerate() {
            message.push_str(if n == 0 { ": " } else { "; " });
            message.push_str(cause);
        }
        Self::fail(name, e.kind, message, e.hints().first().cloned().unwrap_or_default())
    }
}

/// Says what is not well; an error if something fails that is not to be ignored. `None`: the command
/// has no flag to ignore anything.
///
/// # Errors
/// The first failed check decides the exit code; all are named.
pub fn preflight(
    cx: &Context,
    checks: &[Check],
    ignore: Option<&[String]>,
) -> Result<String, CommandError> {
    let ignored = |check: &Check| {
        ignore
            .unwrap_or_default()
            .iter()
            .any(|i| i.eq_ignore_ascii_case("all") || i.eq_ignore_ascii_case(&check.name))
    };
    let mut failed: Vec<&Check> = Vec::new();
    for check in checks {
        match check.status {
            Verdict::Fail if !ignored(check) => failed.push(check),
            Verdict::Fail | Verdict::Warn => {
                cx.printer.warn(&check.message);
                if let Some(hint) = check.hint.as_deref().filter(|h| !h.is_empty()) {
                    cx.printer.say(format!("  hint: {hint}"));
                }
            }
            Verdict::Ok | Verdict::Skip => {}
        }
    }
    let Some(first) = failed.first() else {
        return Ok(format!("{} checks", checks.len()));
    };
    let mut error = match failed.as_slice() {
        [only] => CommandError::new(first.kind.0, only.message.clone()),
        many => many.iter().fold(
            CommandError::new(first.kind.0, format!("{} preflight checks failed", many.len())),
            |error, check| error.because(format!("{}: {}", check.name, check.message)),
        ),
    };
    for check in &failed {
        if let Some(hint) = check.hint.as_deref().filter(|h| !h.is_empty()) {
            error = error.hint(hint);
        }
    }
    if ignore.is_none() {
        return Err(error);
    }
    let names: Vec<&str> = failed.iter().map(|c| c.name.as_str()).collect();
    Err(error.hint(format!("if you know better: `--ignore-preflight-errors={}`", names.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;
    use crate::testing::capturing;

    #[test]
    fn a_failed_check_ends_the_preflight_unless_it_is_ignored() {
        let (cx, _, err) = capturing(&Fake::default());
        let checks = [
            Check::ok("Root", "running as root"),
            Check::warn("Memory", "100 MiB of memory are free", "stop something"),
            Check::fail("Port-10000", Kind::Conflict, "port 10000 is in use", "stop `nginx`"),
        ];
        let e = preflight(&cx, &checks, Some(&[])).unwrap_err();
        assert_eq!(e.kind, Kind::Conflict);
        assert_eq!(
            e.render(false),
            "error: port 10000 is in use\nhint: stop `nginx`\nhint: if you know better: \
             `--ignore-preflight-errors=Port-10000`\n"
        );
        assert_eq!(preflight(&cx, &checks, Some(&["port-10000".into()])).unwrap(), "3 checks");
        assert!(err.text().contains("warning: port 10000 is in use"), "{}", err.text());
    }
}
