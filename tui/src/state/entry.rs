//! Rows with what happened to them: new, changed, gone for a moment still.

use std::collections::{BTreeMap, VecDeque};

use api::status::row::Millis;

use super::history::Sample;

/// For how long a row is marked as new, changed or gone, in milliseconds.
pub const MARK: Millis = 2_000;

/// What a row went through lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It was not there before.
    New,
    /// Something about it changed.
    Changed,
    /// It is gone; shown for a moment still.
    Gone,
}

/// A row with what happened to it.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    /// The row.
    pub row: T,
    /// What happened last.
    pub mark: Mark,
    /// When, on our clock. 0 for rows of the first update.
    pub marked: Millis,
    /// What it was before, oldest first.
    pub history: VecDeque<Sample>,
}

impl<T> Entry<T> {
    /// The mark, while it is fresh.
    pub fn fresh(&self, now: Millis) -> Option<Mark> {
        (now - self.marked < MARK).then_some(self.mark)
    }
}

/// Removes rows that have been gone for a moment; returns their keys.
pub(super) fn let_go<T>(rows: &mut BTreeMap<String, Entry<T>>, now: Millis) -> Vec<String> {
    let over = |e: &Entry<T>| e.mark == Mark::Gone && now - e.marked >= MARK;
    let gone: Vec<String> =
        rows.iter().filter(|(_, e)| over(e)).map(|(key, _)| key.clone()).collect();
    for key in &gone {
        rows.remove(key);
    }
    gone
}

pub(super) fn mark_gone<T>(rows: &mut BTreeMap<String, Entry<T>>, key: &str, now: Millis) {
    if let Some(entry) = rows.get_mut(key) {
        entry.mark = Mark::Gone;
        entry.marked = now;
    }
}

/// How a row that came is remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marking {
    /// When it was marked; 0 for the first update.
    pub(super) marked: Millis,
    /// So many samples.
    pub(super) keep: usize,
}

pub(super) fn put<T: PartialEq>(
    rows: &mut BTreeMap<String, Entry<T>>,
    key: String,
    mut sample: Sample,
    row: T,
    Marking { marked, keep }: Marking,
) {
    match rows.get_mut(&key) {
        Some(entry) => {
            let reborn = entry.mark == Mark::Gone;
            let last = entry.history.back();
            let same = last.is_some_and(|last| last.says(&sample));
            let news = last.is_none_or(|last| sample.is_news(last));
            entry.row = row;
            if reborn || news {
                entry.mark = if reborn { Mark::New } else { Mark::Changed };
                entry.marked = marked;
            }
            if same {
                return;
            }
            while entry.history.len() >= keep {
                entry.history.pop_front();
            }
            if let Some(last) = entry.history.back() {
                sample.share(last);
            }
            entry.history.push_back(sample);
        }
        None => {
            let history = VecDeque::from([sample]);
            rows.insert(key, Entry { row, mark: Mark::New, marked, history });
        }
    }
}

pub(super) fn extend<T>(to: &mut VecDeque<T>, new: Vec<T>, limit: usize) {
    to.extend(new);
    let over = to.len().saturating_sub(limit);
    to.drain(..over);
}
