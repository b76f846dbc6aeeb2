//! The rows of the present table, filtered and sorted; kept as rows change, not made anew.
//!
//! Owns: what each shown row is sorted by.
//! Called by: `State::refresh`, after each event; `view`, which takes only the page it draws.
//! Never: looks at a row that did not change.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::Screen;
use super::table::Sort;

/// What a row is sorted by: numbers before texts before nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    /// By value.
    Number(i64),
    /// By text.
    Text(Box<str>),
    /// Behind all others.
    Last,
}

/// What decides which rows are shown, and in what order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The table.
    pub screen: Screen,
    /// How it is sorted.
    pub sort: Sort,
    /// What rows must pass.
    pub filter: String,
    /// Only this namespace.
    pub namespace: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Order {
    spec: Option<Spec>,
    rows: Vec<(SortKey, Arc<str>)>,
    keys: HashMap<Arc<str>, SortKey>,
}

fn compare(a: (&SortKey, &str), b: (&SortKey, &str), descending: bool) -> Ordering {
    let by = a.0.cmp(b.0);
    let by = if descending { by.reverse() } else { by };
    by.then_with(|| a.1.cmp(b.1))
}

impl Order {
    /// Made for other settings than these.
    pub fn is_for(&self, spec: &Spec) -> bool {
        self.spec.as_ref() == Some(spec)
    }

    /// Made anew from all rows that pass.
    pub fn rebuild(&mut self, spec: Spec, rows: impl Iterator<Item = (Arc<str>, SortKey)>) {
        let descending = spec.sort.descending;
        self.rows = rows.map(|(key, by)| (by, key)).collect();
        self.rows.sort_unstable_by(|a, b| compare((&a.0, &a.1), (&b.0, &b.1), descending));
        self.keys = self.rows.iter().map(|(by, key)| (Arc::clone(key), by.clone())).collect();
        self.spec = Some(spec);
    }

    /// To be made anew.
    pub fn invalidate(&mut self) {
        self.spec = None;
    }

    /// A row has changed; `None` if it is not shown any more.
    pub fn put(&mut self, key: &str, by: Option<SortKey>) {
        if self.keys.get(key) == by.as_ref() {
            return;
        }
        if let Some(at) = self.find(key) {
            self.rows.remove(at);
            self.keys.remove(key);
        }
        if let Some(by) = by {
            let key: Arc<str> = key.into();
            let at = self.search(&by, &key).unwrap_or_else(|at| at);
            self.keys.insert(Arc::clone(&key), by.clone());
            self.rows.insert(at, (by, key));
        }
    }

    fn search(&self, by: &SortKey, key: &str) -> Result<usize, usize> {
        let descending = self.spec.as_ref().is_some_and(|s| s.sort.descending);
        self.rows.binary_search_by(|row| compare((&row.0, &row.1), (by, key), descending))
    }

    /// How many rows are shown.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The key of the row at a place.
    pub fn key(&self, at: usize) -> Option<&str> {
        self.rows.get(at).map(|(_, key)| &**key)
    }

    /// The place of a row.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.search(self.keys.get(key)?, key).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn spec(descending: bool) -> Spec {
        let sort = Sort { column: 0, descending };
        Spec { screen: Screen::Pods, sort, filter: String::new(), namespace: None }
    }

    pub(crate) fn order(keys: &[&str]) -> Order {
        let mut order = Order::default();
        let rows = keys.iter().enumerate();
        let by = |n| SortKey::Number(i64::try_from(n).unwrap());
        order.rebuild(spec(false), rows.map(|(n, k)| (Arc::from(*k), by(n))));
        order
    }

    #[test]
    fn changes_one_by_one_end_where_sorting_anew_does() {
        let mut state = 7u64;
        let mut random = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for descending in [false, true] {
            let mut kept = Order::default();
            kept.rebuild(spec(descending), std::iter::empty());
            let mut truth = BTreeMap::new();
            for _ in 0..2000 {
                let key = format!("row-{}", random(60));
                let by = match random(4) {
                    0 => None,
                    1 => Some(SortKey::Last),
                    2 => Some(SortKey::Text(random(9).to_string().into())),
                    _ => Some(SortKey::Number(i64::try_from(random(9)).unwrap())),
                };
                kept.put(&key, by.clone());
                match by {
                    Some(by) => drop(truth.insert(key, by)),
                    None => drop(truth.remove(&key)),
                }
            }
            let mut anew = Order::default();
            let rows = truth.iter().map(|(k, by)| (Arc::from(k.as_str()), by.clone()));
            anew.rebuild(spec(descending), rows);
            assert_eq!(kept.rows, anew.rows);
            for at in 0..kept.len() {
                assert_eq!(kept.find(kept.key(at).unwrap()), Some(at));
            }
        }
    }
}
