//! What tests of commands share: a context over a fake machine, and what was printed.

use std::io::Write;
use std::sync::Arc;

use camino::Utf8Path;
use parking_lot::Mutex;

use crate::context::{Context, Logging, Paths};
use crate::errors::CommandError;
use crate::host::fake::Fake;
use crate::printer::{Manner, Printer, ProgressChoice};

#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const MANNER: Manner = Manner {
    colour: false,
    data_colour: false,
    ascii: false,
    quiet: false,
    progress: ProgressChoice::None,
    terminal: false,
    columns: None,
};

pub(crate) fn context(fake: &Fake) -> Context {
    capturing(fake).0
}

pub(crate) fn capturing(fake: &Fake) -> (Context, Captured, Captured) {
    let (out, err) = (Captured::default(), Captured::default());
    let context = Context {
        printer: Printer::new(MANNER, Box::new(out.clone()), Box::new(err.clone())),
        host: Arc::new(fake.clone()),
        paths: Paths::below(Utf8Path::new("/")),
        logging: Logging::default(),
    };
    (context, out, err)
}

/// A machine with real files below a folder of its own.
pub(crate) struct Machine {
    root: tempfile::TempDir,
    fake: Fake,
}

impl Machine {
    pub(crate) fn new(fake: Fake) -> Self {
        Self { root: tempfile::tempdir().unwrap(), fake }
    }

    pub(crate) fn path(&self, below: &str) -> std::path::PathBuf {
        self.root.path().join(below)
    }

    pub(crate) fn root(&self) -> &Utf8Path {
        Utf8Path::from_path(self.root.path()).unwrap()
    }

    /// The context of its commands.
    pub(crate) fn context(&self) -> (Context, Captured, Captured) {
        let (mut context, out, err) = capturing(&self.fake);
        context.paths = Paths::below(self.root());
        let disk = crate::host::Linux::new(context.paths.clone());
        context.host = Arc::new(crate::host::on_disk::OnDisk { disk, fake: self.fake.clone() });
        (context, out, err)
    }

    /// Runs a command line; the folder is shown as `/`.
    pub(crate) fn keadm(&self, line: &str) -> String {
        let (context, out, err) = self.context();
        run(line, context, &out, &err).replace(self.root().as_str(), "")
    }

    /// All files with their modes, links, and services.
    pub(crate) fn tree(&self) -> String {
        fn walk(root: &std::path::Path, at: &std::path::Path, lines: &mut Vec<String>) {
            use std::os::unix::fs::MetadataExt;
            for entry in std::fs::read_dir(at).unwrap().flatten() {
                let (path, meta) = (entry.path(), entry.metadata().unwrap());
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if meta.is_dir() {
                    walk(root, &path, lines);
                } else if meta.is_symlink() {
                    let to = std::fs::read_link(&path).unwrap();
                    let to = to.strip_prefix(root).map_or(to.clone(), std::path::Path::to_owned);
                    lines.push(format!("{name} -> {}", to.display()));
                } else {
                    lines.push(format!("{name} {:04o}", meta.mode() & 0o7777));
                }
            }
        }
        let mut lines = Vec::new();
        walk(self.root.path(), self.root.path(), &mut lines);
        lines.extend(self.fake.state().services.keys().map(|name| format!("service {name}")));
        lines.sort();
        lines.join("\n")
    }
}

/// Runs a command line on a fake machine: exit code, standard output, standard error.
pub(crate) fn keadm(line: &str, fake: &Fake) -> String {
    let (context, out, err) = capturing(fake);
    run(line, context, &out, &err)
}

fn run(line: &str, context: Context, out: &Captured, err: &Captured) -> String {
    let result =
        crate::read(line.split(' ')).map_err(|e| crate::cli::usage_error(&e)).and_then(|cli| {
            let mut context = context;
            if cli.global.progress == ProgressChoice::Jsonl {
                let manner = Manner { progress: ProgressChoice::Jsonl, ..MANNER };
                context.printer =
                    Printer::new(manner, Box::new(out.clone()), Box::new(err.clone()));
            }
            crate::commands::run(&cli.command, &context)
        });
    transcript(line, &result, out, err)
}

/// A transcript with `N` for each number in what was said.
pub(crate) fn without_numbers(transcript: &str) -> String {
    let mut out = String::new();
    for line in transcript.lines() {
        let kept = line.starts_with("$ ") || line.starts_with("exit code: ");
        let mut in_number = false;
        for c in line.chars() {
            let digit = c.is_ascii_digit() && !kept;
            match (digit, in_number) {
                (true, false) => out.push('N'),
                (true, true) => {}
                (false, _) => out.push(c),
            }
            in_number = digit;
        }
        out.push('\n');
    }
    out
}

/// The events of `--progress jsonl` on standard output, `done wait`, say; whatever else is there is
/// an error, but for the result at its end.
pub(crate) fn events(transcript: &str) -> Vec<String> {
    let out = transcript.split_once("--- out\n").unwrap().1.split("--- err").next().unwrap();
    let lines = out.lines().filter(|line| !line.is_empty());
    let values = lines.map(|line| -> serde_json::Value {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {transcript}"))
    });
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    values
        .map(|value| match (text(&value["event"]), text(&value["step"])) {
            (event, step) if step.is_empty() => event,
            (event, step) => format!("{event} {step}"),
        })
        .collect()
}

fn transcript(
    line: &str,
    result: &Result<(), CommandError>,
    out: &Captured,
    err: &Captured,
) -> String {
    let code = result.as_ref().map_or_else(CommandError::exit_code, |()| 0);
    let said = result.as_ref().err().map(|e| e.render(false)).unwrap_or_default();
    let mut text = format!("$ {line}\nexit code: {code}\n");
    for (name, stream) in [("out", out.text()), ("err", err.text() + &said)] {
        if !stream.is_empty() {
            text.push_str(&format!("--- {name}\n{}\n", stream.trim_end()));
        }
    }
    text
}
