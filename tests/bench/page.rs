//! docs/benchmarks.md.

use std::fmt::Write as _;
use std::path::Path;

/// What a figure is measured in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    MiB,
    KiB,
    Seconds,
    Millis,
    Percent,
    /// More is better: what is reached has to be at least the bound.
    PerSecond,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::MiB => format!("{value:.1} MiB"),
            Unit::Percent => format!("{value:.1} %"),
            Unit::KiB => format!("{value:.0} KiB"),
            Unit::Seconds => format!("{value:.2} s"),
            Unit::Millis if value < 20.0 => format!("{value:.1} ms"),
            Unit::Millis => format!("{value:.0} ms"),
            Unit::PerSecond => format!("{value:.0} /s"),
        }
    }
}

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    /// What the original does; empty if it has no such thing.
    pub(crate) original: &'static str,
    pub(crate) unit: Unit,
    /// The most that the median may be; of a rate the least.
    pub(crate) at_most: f64,
    /// Every run.
    pub(crate) values: Vec<f64>,
    pub(crate) method: &'static str,
}

impl Figure {
    /// The median, with the least and the most where there were several runs.
    pub(crate) fn ours(&self) -> String {
        let Some(middle) = median(&self.values) else { return "not measured".to_owned() };
        let show = |v| self.unit.show(v);
        if self.values.len() == 1 {
            return show(middle);
        }
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{} ({} to {}, n={})", show(middle), show(least), show(most), self.values.len())
    }

    fn reached(&self) -> &'static str {
        match median(&self.values) {
            Some(middle) if self.unit == Unit::PerSecond && middle >= self.at_most => "yes",
            Some(middle) if self.unit != Unit::PerSecond && middle <= self.at_most => "yes",
            _ => "**no**",
        }
    }
}

/// What one group of scenes has found out, or why nothing.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) figures: Result<Vec<Figure>, String>,
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Prints the page, and writes it if it is whole.
pub(crate) fn write(sections: &[Section], whole: bool) {
    let text = text(sections, &about());
    println!("{text}");
    if whole {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        std::fs::write(root.join("docs/benchmarks.md"), text).unwrap();
    }
}

/// What was measured, and where.
fn about() -> String {
    let profile = std::env::var("KEADM_PROFILE").unwrap_or_else(|_| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().nth(1).unwrap_or("?").to_owned();
    let read = |program: &str| {
        let out = std::process::Command::new(program).arg("--version").output();
        out.map_or_else(
            |_| format!("no {program}"),
            |o| {
                String::from_utf8_lossy(&o.stdout)
                    .split_whitespace()
                    .take(3)
                    .collect::<Vec<_>>()
                    .join(" ")
            },
        )
    };
    format!(
        "The binary is of the profile `{profile}`. The machine has {cores} cores; in the five minutes up to \
         the end\nof the measurement its load was {load} (the measurement's own in it). Container runtime: {}.",
        read("containerd")
    )
}

fn text(sections: &[Section], about: &str) -> String {
    let mut text = format!(
        "# Benchmarks\n\nWritten by `tests/bench/run`: medians, and in brackets the least and the most of n runs. {about}\n\n\
         The column *original* is KubeEdge 1.23 beta on a machine of the same kind, measured earlier. Machines\n\
         like these are noisy: a difference below a third says little. Scenes are in `tests/bench/scenes`, one\n\
         file a group; `tests/bench/run GROUP..` measures some and prints them.\n",
    );
    let mut title = "";
    for section in sections {
        if section.title != title {
            title = section.title;
            let _ = writeln!(
                text,
                "\n## {title}\n\n| what | original | at most | ours | reached | method |\n|---|---|---|---|---|---|"
            );
        }
        match &section.figures {
            Ok(figures) => figures.iter().for_each(|f| row(&mut text, f)),
            Err(why) => {
                let _ = writeln!(
                    text,
                    "| group `{}` | | | not measured: {why} | **no** | |",
                    section.name
                );
            }
        }
    }
    text + MEMORY
}

/// What a reader of the figures wants to know next.
const MEMORY: &str = "
## What the memory is

Of an edgecore's memory most is pages of the binary: the kernel maps what lies around those in use (64 KiB,
and on Linux 6.18 whole large folios). 1.5 to 4 MiB are its own, 2 MiB libc's and its loader's. Two things keep
that small. What runs again and again lies together in the file: `keadm/order.txt` names it, as valgrind saw
it in edgecore, cloudcore and the control plane while pods came and went, and `tests/bench/run order` writes
it anew. And ten seconds after the start a program lets go of the binary's pages once; those that still run
return, and the kernel keeps the others in its cache for as long as nothing else needs the room.
";

fn row(text: &mut String, f: &Figure) {
    let original = if f.original.is_empty() { "none" } else { f.original };
    let bound = f.unit.show(f.at_most);
    let _ = writeln!(
        text,
        "| {} | {original} | {} | {} | {} | {} |",
        f.what,
        if f.unit == Unit::PerSecond { format!("at least {bound}") } else { bound },
        f.ours(),
        f.reached(),
        f.method
    );
}
