//! Where the user is in a table: sorting, filter, the chosen row.

use super::order::Order;

/// The column to sort by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sort {
    /// Number of the column.
    pub column: usize,
    /// Largest first.
    pub descending: bool,
}

/// Where the user is in a table. The chosen row is known by its key, so it stays chosen when rows
/// move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// How rows are sorted.
    pub sort: Sort,
    /// Only rows that contain this; `key=value` or `key` after `-l ` looks at labels.
    pub filter: String,
    /// Key of the chosen row.
    pub chosen: Option<String>,
    /// Where it was, for when it is gone. Of events and messages: lines scrolled back.
    pub at: usize,
    /// The first row on the screen.
    pub first: usize,
}

impl Table {
    /// Sorted so, nothing chosen.
    pub fn new(sort: Sort) -> Self {
        Self { sort, ..Self::default() }
    }

    /// The place of the chosen row, or of what took its place.
    pub fn position(&self, order: &Order) -> Option<usize> {
        let last = order.len().checked_sub(1)?;
        let found = self.chosen.as_ref().and_then(|c| order.find(c));
        Some(found.unwrap_or(self.at.min(last)))
    }

    /// Moves by `by` rows, staying within the table.
    pub fn step(&mut self, order: &Order, by: isize) {
        let Some(at) = self.position(order) else { return };
        self.choose(order, at.saturating_add_signed(by));
    }

    /// Chooses the row at a place; the last one if there are fewer.
    pub fn choose(&mut self, order: &Order, at: usize) {
        let Some(last) = order.len().checked_sub(1) else { return };
        self.at = at.min(last);
        self.chosen = order.key(self.at).map(str::to_owned);
    }

    /// Moves the part that is shown no further than it takes to have the chosen row in it.
    pub fn keep_in_sight(&mut self, order: &Order, page: usize) {
        let at = self.position(order).unwrap_or(0);
        let last = order.len().saturating_sub(page);
        self.first = self.first.clamp(at.saturating_sub(page.saturating_sub(1)), at).min(last);
    }

    /// Sorts by a column; by the same one again: the other way round.
    pub fn sort_by(&mut self, column: usize) {
        let descending = self.sort.column == column && !self.sort.descending;
        self.sort = Sort { column, descending };
    }
}

/// Whether a row passes a filter.
///
/// `-l a=b,c` compares labels; anything else must be contained, whatever its case, in one of the
/// texts; `!` before it turns the answer round.
pub fn passes<'a>(
    filter: &str,
    texts: impl IntoIterator<Item = &'a str>,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    let filter = filter.trim();
    if let Some(selector) = filter.strip_prefix("-l") {
        return selector.trim().split(',').filter(|s| !s.is_empty()).all(|s| {
            match (s.split_once("!="), s.split_once('=')) {
                (Some((k, v)), _) => labels.get(k.trim()).is_none_or(|l| l != v.trim()),
                (None, Some((k, v))) => {
                    labels.get(k.trim()).is_some_and(|l| l == v.trim_start_matches('=').trim())
                }
                (None, None) => labels.contains_key(s.trim()),
            }
        });
    }
    let (not, needle) = filter.strip_prefix('!').map_or((false, filter), |f| (true, f));
    if needle.is_empty() {
        return true;
    }
    let needle = needle.to_lowercase();
    let found = texts.into_iter().any(|t| t.to_lowercase().contains(&needle));
    found != not
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::order::tests::order;
    use std::collections::BTreeMap;

    #[test]
    fn the_cursor_stays_on_its_row_when_rows_move() {
        let mut t = Table::default();
        t.choose(&order(&["a", "b", "c"]), 1);
        assert_eq!(t.position(&order(&["x", "a", "b", "c"])), Some(2));
        assert_eq!(t.position(&order(&["a", "c"])), Some(1), "what took its place");
        assert_eq!(t.position(&order(&[])), None);
        t.step(&order(&["a", "b", "c"]), 100);
        assert_eq!(t.chosen.as_deref(), Some("c"));
        t.step(&order(&["a", "b", "c"]), -100);
        assert_eq!(t.chosen.as_deref(), Some("a"));
    }

    #[test]
    fn the_screen_moves_no_further_than_the_cursor_pushes_it() {
        let order = order(&["a", "b", "c", "d", "e", "f"]);
        let mut t = Table::default();
        let mut go = |at| {
            t.choose(&order, at);
            t.keep_in_sight(&order, 3);
            t.first
        };
        assert_eq!([0, 2, 3, 1, 5, 4, 0].map(&mut go), [0, 0, 1, 1, 3, 3, 0]);
    }

    #[test]
    fn filters_look_at_texts_or_labels() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let yes = |f: &str| passes(f, ["edge-1", "Running"], &labels);
        for f in ["", "EDGE", "run", "!stopped", "-l app", "-l app=web", "-l app==web", "-l x!=y"] {
            assert!(yes(f), "{f}");
        }
        for f in ["edge-2", "!edge", "-l app=db", "-l tier", "-l app!=web"] {
            assert!(!yes(f), "{f}");
        }
    }
}
