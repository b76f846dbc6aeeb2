//! A list of named steps: run in order, listed, left out, run alone, or only shown.
//!
//! Owns: the order of steps and what is said about them.
//! Called by: `init`, `join`, `up`, `reset`, `upgrade`, `rollback`.
//! Never: knows what a step does. Steps hand things on through files, so that each runs alone.

pub mod alone;
#[cfg(feature = "cloud")]
pub mod cloud;
#[cfg(feature = "edge")]
pub mod edge;
mod progress;
#[cfg(feature = "edge")]
pub mod upgrade;

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::commands::JsonOutput;
use crate::errors::{CommandError, Kind};
use crate::printer::Printer;

pub(crate) use progress::human;
pub use progress::{Progress, Step};

/// What a step returns: a short result for its line, for example `node edge-1`.
pub type Outcome = Result<String, CommandError>;

/// The work of a step.
pub type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// One named step over the state `S` of a command.
pub struct Phase<S: 'static> {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// What it would do, for `--dry-run`.
    pub would: fn(&S) -> Vec<String>,
    /// Does it.
    pub run: for<'a> fn(&'a mut S, Step) -> Running<'a>,
}

/// Which of the steps to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only this one.
    pub only: Option<String>,
    /// All but these.
    pub skip: Vec<String>,
}

impl Selection {
    /// The steps to run.
    ///
    /// # Errors
    /// When a name is not one of them.
    pub fn of<'p, S>(&self, phases: &'p [Phase<S>]) -> Result<Vec<&'p Phase<S>>, CommandError> {
        for name in self.only.iter().chain(&self.skip) {
            if !phases.iter().any(|p| p.name == name) {
                let all: Vec<&str> = phases.iter().map(|p| p.name).collect();
                let near = crate::commands::nearest(name, all.iter().copied());
                let error = CommandError::new(Kind::Usage, format!("there is no phase `{name}`"));
                let error = match near {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error,
                };
                return Err(error.hint(format!("the phases are {}", all.join(", "))));
            }
        }
        Ok(phases
            .iter()
            .filter(|p| self.only.as_ref().is_none_or(|only| p.name == only))
            .filter(|p| !self.skip.iter().any(|skip| p.name == skip))
            .collect())
    }
}

/// Prints the steps and their help.
///
/// # Errors
/// When standard output is gone.
pub fn list<S>(
    phases: &[Phase<S>],
    output: Option<JsonOutput>,
    printer: &Printer,
) -> Result<(), CommandError> {
    if output.is_some() {
        let all: Vec<_> =
            phases.iter().map(|p| json!({ "name": p.name, "about": p.about })).collect();
        return Ok(printer.json(&json!({ "phases": all }))?);
    }
    let width = phases.iter().map(|p| p.name.len()).max().unwrap_or(0);
    for phase in phases {
        printer.data(format!("{:width$}  {}", phase.name, phase.about))?;
    }
    Ok(())
}

/// Prints what the steps would do.
///
/// # Errors
/// When standard output is gone.
pub fn dry_run<S>(
    phases: &[&Phase<S>],
    state: &S,
    output: Option<JsonOutput>,
    printer: &Printer,
) -> Result<(), CommandError> {
    if output.is_some() {
        let one =
            |p: &&Phase<S>| json!({ "name": p.name, "about": p.about, "would": (p.would)(state) });
        let all: Vec<_> = phases.iter().map(one).collect();
        return Ok(printer.json(&json!({ "dryRun": true, "phases": all }))?);
    }
    for phase in phases {
        printer.data(format!("{}: {}", phase.name, phase.about))?;
        for line in (phase.would)(state) {
            printer.data(format!("  {line}"))?;
        }
    }
    Ok(())
}

/// Runs the steps one after the other; the first that fails is the last.
///
/// # Errors
/// The failure of the step.
pub async fn run<S>(
    phases: &[&Phase<S>],
    state: &mut S,
    progress: &Progress,
) -> Result<(), CommandError> {
    for phase in phases {
        one(phase.name, progress, |step| (phase.run)(state, step)).await?;
    }
    Ok(())
}

/// The last error in a service's log, with its causes.
#[cfg(any(feature = "cloud", feature = "edge"))]
pub(crate) fn complaint(log: &[String]) -> Option<String> {
    let is_error = |line: &&String| line.contains("ERROR") || line.starts_with("error:");
    let at = log.iter().rposition(|line| is_error(&line))?;
    let line = log[at].as_str();
    let text = line.split_once("ERROR").map_or(line, |(_, rest)| rest);
    let mut text = text.trim_start_matches("error:").trim().to_owned();
    for cause in log[at + 1..].iter().map_while(|l| l.trim().strip_prefix("caused by: ")) {
        text.push_str(": ");
        text.push_str(cause);
    }
    Some(text)
}

/// Runs one step, with its line on the screen and the time it took.
///
/// # Errors
/// The failure of the step.
pub async fn one<'a, F, Fut>(name: &str, progress: &Progress, work: F) -> Result<(), CommandError>
where
    F: FnOnce(Step) -> Fut,
    Fut: Future<Output = Outcome> + 'a,
{
    let step = progress.begin(name);
    let mut work = std::pin::pin!(work(step.clone()));
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut work => break outcome,
            _ = tick.tick() => step.tick(),
        }
    };
    match outcome {
        Ok(note) => {
            step.done(&note);
            Ok(())
        }
        Err(e) => {
            step.failed(e.message());
            Err(e)
        }
    }
}

/// One event of `--progress jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event<'a> {
    /// A step has begun.
    Started {
        /// Its name.
        step: Cow<'a, str>,
    },
    /// It waits for something.
    Waiting {
        /// Its name.
        step: Cow<'a, str>,
        /// For what.
        message: Cow<'a, str>,
        /// Since when.
        seconds: f64,
    },
    /// It has ended well.
    Done {
        /// Its name.
        step: Cow<'a, str>,
        /// Its result.
        message: Cow<'a, str>,
        /// How long it took.
        seconds: f64,
    },
    /// It has failed.
    Failed {
        /// Its name.
        step: Cow<'a, str>,
        /// Why.
        message: Cow<'a, str>,
        /// How long it took.
        seconds: f64,
    },
    /// All steps have ended well.
    Ready {
        /// What to type next, one command each.
        next: Vec<String>,
        /// Since the program was started.
        seconds: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Log(Vec<&'static str>);

    fn phases() -> Vec<Phase<Log>> {
        fn note(log: &mut Log, name: &'static str) -> Outcome {
            log.0.push(name);
            Ok(String::new())
        }
        vec![
            Phase {
                name: "ca",
                about: "fetch the CA",
                would: |_| vec!["write `ca.crt`".into()],
                run: |log, _| Box::pin(async move { note(log, "ca") }),
            },
            Phase {
                name: "certs",
                about: "get a certificate",
                would: |_| vec![],
                run: |_, _| {
                    Box::pin(async { Err(CommandError::new(Kind::Refused, "no certificate")) })
                },
            },
            Phase {
                name: "wait",
                about: "wait",
                would: |_| vec![],
                run: |log, _| Box::pin(async move { note(log, "wait") }),
            },
        ]
    }

    #[tokio::test]
    async fn a_failed_step_is_the_last() {
        let phases = phases();
        let mut log = Log(vec![]);
        let all = Selection::default().of(&phases).unwrap();
        let e = run(&all, &mut log, &Progress::silent()).await.unwrap_err();
        assert_eq!((e.kind, log.0), (Kind::Refused, vec!["ca"]));
    }

    #[tokio::test]
    async fn steps_can_be_left_out_or_run_alone() {
        let phases = phases();
        let skip = Selection { only: None, skip: vec!["certs".into()] };
        let mut log = Log(vec![]);
        run(&skip.of(&phases).unwrap(), &mut log, &Progress::silent()).await.unwrap();
        assert_eq!(log.0, ["ca", "wait"]);
        let only = Selection { only: Some("wait".into()), skip: vec![] };
        let mut log = Log(vec![]);
        run(&only.of(&phases).unwrap(), &mut log, &Progress::silent()).await.unwrap();
        assert_eq!(log.0, ["wait"]);
    }

    #[cfg(any(feature = "cloud", feature = "edge"))]
    #[test]
    fn a_complaint_is_the_last_error_with_its_causes() {
        let log = [
            "error: old",
            "2026-11-22T08:38:56Z  INFO x: fine",
            "error: `cloudcore` cannot go on",
            "  caused by: cannot listen on `0.0.0.0:10000`",
            "  caused by: Address already in use",
            "hint: `ss -ltnp` shows by whom",
        ];
        let lines = log.map(str::to_owned);
        assert_eq!(
            complaint(&lines).unwrap(),
            "`cloudcore` cannot go on: cannot listen on `0.0.0.0:10000`: Address already in use"
        );
        let line = "2026-11-22T08:38:56Z ERROR service: `edgehub` failed: no token".to_owned();
        assert_eq!(complaint(&[line]).unwrap(), "service: `edgehub` failed: no token");
        assert_eq!(complaint(&[]), None);
    }

    #[test]
    fn an_unknown_step_is_a_usage_error_that_lists_the_known() {
        let e = Selection { only: Some("cert".into()), skip: vec![] }.of(&phases()).err().unwrap();
        assert_eq!(e.kind, Kind::Usage);
        assert_eq!(e.hints(), ["did you mean `certs`?", "the phases are ca, certs, wait"]);
    }
}
