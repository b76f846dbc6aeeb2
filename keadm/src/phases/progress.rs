//! How steps are shown: a moving line on a terminal, plain lines otherwise, or JSON events.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Event;
use crate::errors::CommandError;
use crate::printer::{Mark, Printer, ProgressChoice};

/// Without a terminal a step that takes long says so, so that nothing hangs in silence.
const FIRST_WORD: Duration = Duration::from_secs(3);
const NEXT_WORD: Duration = Duration::from_secs(10);

/// Shows the steps of one command.
#[derive(Debug, Clone)]
pub struct Progress {
    printer: Option<Printer>,
    started: Instant,
}

/// The line of one step. Clones are the same line.
#[derive(Clone)]
pub struct Step(Arc<Inner>);

struct Inner {
    name: String,
    printer: Option<Printer>,
    started: Instant,
    bar: Option<ProgressBar>,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    message: String,
    next_word: Duration,
}

impl Progress {
    /// With the manner of this printer.
    pub fn new(printer: &Printer) -> Self {
        Self { printer: Some(printer.clone()), started: Instant::now() }
    }

    /// Says nothing.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self { printer: None, started: Instant::now() }
    }

    /// Since the first step could begin.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says that a step begins.
    pub fn begin(&self, name: &str) -> Step {
        let printer = self.printer.clone();
        let choice = printer.as_ref().map(|p| p.manner().progress);
        let bar = (choice == Some(ProgressChoice::Auto)).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let ascii = printer.as_ref().is_some_and(|p| p.manner().ascii);
            let ticks = if ascii { "-\\|/ " } else { "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ " };
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}") {
                bar.set_style(style.tick_chars(ticks));
            }
            bar.set_prefix(format!("{name:<13}"));
            bar.enable_steady_tick(Duration::from_millis(80));
            if let Some(printer) = &printer {
                printer.redrawing(Some(bar.clone()));
            }
            bar
        });
        let step = Step(Arc::new(Inner {
            name: name.to_owned(),
            printer,
            started: Instant::now(),
            bar,
            waiting: Mutex::new(Waiting { message: String::new(), next_word: FIRST_WORD }),
        }));
        step.event(|name, _| Event::Started { step: name.into() });
        step
    }

    /// Does a step that waits for nothing that could be said.
    ///
    /// # Errors
    /// The failure of the step.
    pub fn step<T>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let step = self.begin(name);
        let outcome = work();
        match &outcome {
            Ok(_) => step.done(""),
            Err(e) => step.failed(e.message()),
        }
        outcome
    }

    /// Waits for the one thing that the command was asked to wait for: a step, and then all is ready.
    ///
    /// # Errors
    /// The failure of what is waited for.
    pub async fn wait<T>(
        printer: &Printer,
        until: &str,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        let progress = Self::new(printer);
        let step = progress.begin("wait");
        step.waiting(format!("until {until}"));
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                _ = ticks.tick() => step.tick(),
            }
        };
        match &outcome {
            Ok(_) => {
                step.done(until);
                progress.ready(&[]);
            }
            Err(e) => step.failed(e.message()),
        }
        outcome
    }

    /// Does all that the command does, in one step; then all is ready.
    ///
    /// # Errors
    /// The failure of the step.
    pub fn only<T>(
        printer: &Printer,
        name: &str,
        work: impl FnOnce() -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let progress = Self::new(printer);
        let done = progress.step(name, work)?;
        progress.ready(&[]);
        Ok(done)
    }

    /// All steps have ended well: an event for `jsonl`; other manners print their own ending.
    pub fn ready(&self, next: &[String]) {
        let Some(printer) = &self.printer else { return };
        if printer.manner().progress == ProgressChoice::Jsonl {
            let (next, seconds) = (next.to_vec(), seconds(self.elapsed()));
            print_event(printer, &Event::Ready { next, seconds });
        }
    }
}

impl Step {
    /// Says what the step is waiting for; shown while it waits.
    pub fn waiting(&self, message: impl Into<String>) {
        let message = message.into();
        {
            let mut waiting = self.0.waiting.lock();
            if waiting.message == message {
                return;
            }
            waiting.message.clone_from(&message);
        }
        match &self.0.bar {
            Some(bar) => bar.set_message(message),
            None => {
                self.event(|step, seconds| Event::Waiting {
                    step: step.into(),
                    message: message.into(),
                    seconds,
                });
            }
        }
    }

    /// Called now and then.
    pub(crate) fn tick(&self) {
        let elapsed = self.0.started.elapsed();
        let Some(printer) = &self.0.printer else { return };
        if printer.manner().progress != ProgressChoice::Plain {
            return;
        }
        let mut waiting = self.0.waiting.lock();
        if elapsed >= waiting.next_word {
            waiting.next_word = elapsed + NEXT_WORD;
            let what = match waiting.message.as_str() {
                "" => "still working",
                message => message,
            };
            printer.say(format!("  {:<13} {what} ({})", self.0.name, human(elapsed)));
        }
    }

    pub(crate) fn done(&self, note: &str) {
        self.end(Mark::Ok, note);
        self.event(|step, seconds| Event::Done {
            step: step.into(),
            message: note.to_owned().into(),
            seconds,
        });
    }

    pub(crate) fn failed(&self, message: &str) {
        self.end(Mark::Fail, "failed");
        self.event(|step, seconds| Event::Failed {
            step: step.into(),
            message: message.to_owned().into(),
            seconds,
        });
    }

    fn end(&self, mark: Mark, note: &str) {
        if let Some(bar) = &self.0.bar {
            bar.finish_and_clear();
        }
        let Some(printer) = &self.0.printer else { return };
        printer.redrawing(None);
        if matches!(printer.manner().progress, ProgressChoice::Auto | ProgressChoice::Plain) {
            let time = human(self.0.started.elapsed());
            let mark = printer.mark(mark);
            printer.say(format!("{mark} {:<13} {time:>7}  {note}", self.0.name).trim_end());
        }
    }

    fn event<'a>(&'a self, make: impl FnOnce(&'a str, f64) -> Event<'a>) {
        let Some(printer) = &self.0.printer else { return };
        if printer.manner().progress == ProgressChoice::Jsonl {
            print_event(printer, &make(&self.0.name, seconds(self.0.started.elapsed())));
        }
    }
}

fn print_event(printer: &Printer, event: &Event<'_>) {
    if let Ok(line) = serde_json::to_string(event) {
        // Nobody reading the events is no reason to stop what they are about.
        let _ = printer.data(line);
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// `12 ms`, `3.4 s`, `2 min 5 s`.
pub(crate) fn human(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..=999 => format!("{ms} ms"),
        1000..=59_999 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(human(Duration::from_millis(12)), "12 ms");
        assert_eq!(human(Duration::from_millis(3450)), "3.4 s");
        assert_eq!(human(Duration::from_secs(125)), "2 min 5 s");
    }
}
