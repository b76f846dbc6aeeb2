//! Tables that are wider than the terminal: which columns are shown, and how wide.
//!
//! Owns: what is given up first. Pure.
//! Called by: `print.rs`.
//! Never: shortens anything in a pipe.

use unicode_width::UnicodeWidthStr;

use crate::printer::Manner;

/// How much room a table has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Room {
    /// The width of the terminal; a pipe has all the room there is.
    pub columns: Option<u16>,
    /// Nothing beyond ASCII.
    pub ascii: bool,
}

impl Room {
    /// That of standard output.
    pub fn of(manner: Manner) -> Self {
        Self { columns: manner.columns, ascii: manner.ascii }
    }
}

/// How wide the columns of a table are by themselves.
pub fn widths(rows: &[Vec<String>]) -> Vec<u16> {
    let mut widths = vec![0; rows.first().map_or(0, Vec::len)];
    widen(&mut widths, rows);
    widths
}

/// The same, of rows that come below others.
pub fn widen(widths: &mut [u16], rows: &[Vec<String>]) {
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(u16::try_from(cell.width()).unwrap_or(u16::MAX));
        }
    }
}

/// Between two columns.
pub const GAP: u16 = 3;
/// The first columns say what a row is about; they are shortened last.
const NAMES: usize = 2;
/// So much of a name is shown in any case, and so much of anything else: no title is longer.
const LEAST: (u16, u16) = (24, 12);

/// How wide each column is in a terminal of `columns`; those that do not fit have none, and are the last.
pub fn fit(widths: &[u16], columns: u16) -> Vec<u16> {
    let least = |at: usize| widths[at].min(if at < NAMES { LEAST.0 } else { LEAST.1 });
    let mut shown: Vec<u16> = Vec::new();
    let mut used = 0;
    for at in 0..widths.len() {
        let more = least(at).saturating_add(if at == 0 { 0 } else { GAP });
        // The first one is shown whatever there is room for.
        if at > 0 && used + more > columns {
            break;
        }
        used += more;
        shown.push(least(at));
    }
    if let [first] = shown.as_mut_slice() {
        *first = widths[0].min(columns);
        return shown;
    }
    let mut spare = columns.saturating_sub(used);
    // Names first, then all the others alike.
    for at in 0..shown.len().min(NAMES) {
        let more = spare.min(widths[at] - shown[at]);
        shown[at] += more;
        spare -= more;
    }
    while spare > 0 && shown.iter().zip(widths).any(|(is, want)| is < want) {
        for (is, want) in shown.iter_mut().zip(widths) {
            if spare > 0 && *is < *want {
                *is += 1;
                spare -= 1;
            }
        }
    }
    shown
}

/// As much of a text as fits, with a sign if that is not all.
pub fn shortened(text: &str, width: u16, ascii: bool) -> String {
    api::printable::fitted(text, usize::from(width), if ascii { "~" } else { "…" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_as_wide_as_it_is() {
        assert_eq!(fit(&[6, 20, 9], 80), [6, 20, 9]);
        assert_eq!(fit(&[6, 20, 9], 41), [6, 20, 9]);
    }

    #[test]
    fn long_columns_are_shortened_before_any_is_left_out_and_names_last() {
        // Namespace and name stay whole, the two others share what is left.
        assert_eq!(fit(&[7, 40, 30, 30], 100), [7, 40, 22, 22]);
        assert_eq!(fit(&[7, 40, 30, 30], 64), [7, 24, 12, 12]);
        assert_eq!(fit(&[7, 40, 30, 30], 63), [7, 38, 12], "and nothing of the last");
        assert_eq!(fit(&[50, 9], 20), [20]);
        assert_eq!(fit(&[], 20), [0; 0]);
    }

    #[test]
    fn whatever_the_widths_the_line_is_no_wider_than_the_terminal() {
        for columns in 1..200 {
            for n in 1..20u16 {
                let widths: Vec<u16> = (0..n).map(|i| 1 + (i * 37 + columns) % 60).collect();
                let shown = fit(&widths, columns);
                let gaps = GAP * (u16::try_from(shown.len()).unwrap() - 1);
                assert!(shown.iter().sum::<u16>() + gaps <= columns, "{widths:?} in {columns}");
                assert!(shown.iter().zip(&widths).all(|(is, want)| is <= want && *is > 0));
            }
        }
    }

    #[test]
    fn what_is_shortened_says_so() {
        assert_eq!(shortened("edge-1", 6, false), "edge-1");
        assert_eq!(shortened("edge-12", 6, false), "edge-…");
        assert_eq!(shortened("日本語", 5, true), "日本~", "in cells, not in characters");
    }
}
