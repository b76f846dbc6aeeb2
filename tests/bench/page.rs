//! docs/benchmarks.md.

use std::fmt::Write as _;
use std::path::Path;

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) original: &'static str,
    pub(crate) goal: &'static str,
    pub(crate) ours: String,
    pub(crate) method: &'static str,
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty());
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `median (least to most, n)` with a unit.
pub(crate) fn spread(values: &[f64], unit: &str, digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    let middle = median(values.to_vec());
    format!("{middle:.digits$} {unit} ({least:.digits$} to {most:.digits$}, n={})", values.len())
}

/// Writes the page and prints it.
pub(crate) fn write(figures: &[Figure]) {
    let profile = std::env::var("KEADM_PROFILE").unwrap_or_else(|_| "dist".to_owned());
    let mut text = format!(
        "# Benchmarks\n\nWritten by `tests/bench/run`: medians on two cores, the least and the most in brackets, of a\n\
         binary of the profile `{profile}`. The column *original* is KubeEdge 1.23 beta on a machine of the\n\
         same kind, measured earlier; machines like these are noisy, so a difference below a third says\n\
         little.\n\n| what | original | goal | ours | method |\n|---|---|---|---|---|\n",
    );
    for f in figures {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            f.what, f.original, f.goal, f.ours, f.method
        );
    }
    println!("{text}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/benchmarks.md");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
