//! Objects onto standard output, in any form.
//!
//! Owns: the layout of tables, and how changes are written while watching.
//! Called by: the commands that report objects.
//! Never: shortens a cell in a pipe; on a terminal only as much as its width asks for.

use std::io;

use api::config::yaml;
use api::printable::printable;
use api::status::row::Millis;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::{Value, json};

use super::fit::{GAP, Room, fit, shortened, widen};
use super::shape::{self, Kind};
use super::{Form, OutputArgs, table};
use crate::printer::Printer;

/// What happened to an object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there.
    Added,
    /// It is another.
    Modified,
    /// It is gone.
    Deleted,
}

/// Writes objects of a kind.
pub struct Writer<'a> {
    printer: &'a Printer,
    args: &'a OutputArgs,
    kind: Kind,
    namespaces: bool,
    /// What is used, instead of what is.
    used: bool,
    /// Widths of the columns written so far, so that later rows line up.
    widths: Vec<u16>,
    titled: bool,
    /// It has been said that some columns do not fit.
    left_out: bool,
}

impl<'a> Writer<'a> {
    /// Nothing is written yet. `namespaces`: objects of more than one may come.
    pub fn new(printer: &'a Printer, args: &'a OutputArgs, kind: Kind, namespaces: bool) -> Self {
        let (used, widths, titled) = (false, Vec::new(), args.no_headers);
        Self { printer, args, kind, namespaces, used, widths, titled, left_out: false }
    }

    /// A writer whose tables show what is used.
    pub fn used(printer: &'a Printer, args: &'a OutputArgs, kind: Kind, namespaces: bool) -> Self {
        Self { used: true, ..Self::new(printer, args, kind, namespaces) }
    }

    /// All that there are. `one`: exactly one was asked for by name, which is no list.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn all(&mut self, objects: &[Value], one: bool, now: Millis) -> io::Result<()> {
        match (&self.args.output, objects) {
            (Form::Json, [object]) if one => self.json(object),
            (Form::Json, all) => self.json(&shape::list(all)),
            (Form::Yaml, [object]) if one => self.yaml(object),
            (Form::Yaml, all) => self.yaml(&shape::list(all)),
            (Form::JsonPath(template), [object]) if one => self.text(template.render(object)),
            (Form::JsonPath(template), all) => self.text(template.render(&shape::list(all))),
            (_, all) => self.rows(all, now),
        }
    }

    /// One that has changed. Tables and names show those that are gone only by their absence.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn changed(&mut self, change: Change, object: &Value, now: Millis) -> io::Result<()> {
        match &self.args.output {
            Form::JsonLines => {
                let kind = match change {
                    Change::Added => "ADDED",
                    Change::Modified => "MODIFIED",
                    Change::Deleted => "DELETED",
                };
                self.printer.data(json!({ "type": kind, "object": object }).to_string())
            }
            _ if change == Change::Deleted => Ok(()),
            Form::Json => self.json(object),
            Form::Yaml => {
                self.printer.data("---")?;
                self.yaml(object)
            }
            Form::JsonPath(template) => self.text(template.render(object)),
            _ => self.rows(std::slice::from_ref(object), now),
        }
    }

    /// What a template makes; a line of its own, if it does not end one itself.
    fn text(&self, text: String) -> io::Result<()> {
        self.printer.data(text.strip_suffix('\n').unwrap_or(&text))
    }

    fn json(&self, value: &Value) -> io::Result<()> {
        self.printer.data(serde_json::to_string_pretty(value).map_err(io::Error::other)?)
    }

    fn yaml(&self, value: &Value) -> io::Result<()> {
        self.printer.data(yaml::write(value).map_err(io::Error::other)?.trim_end())
    }

    fn rows(&mut self, objects: &[Value], now: Millis) -> io::Result<()> {
        match &self.args.output {
            Form::Name => objects.iter().try_for_each(|object| {
                // Events and messages have no name, but are about something that has.
                let name = object["metadata"]["name"].as_str().or(object["object"].as_str());
                let name = name.unwrap_or_default();
                self.printer.data(format!("{}/{name}", self.kind.singular()))
            }),
            Form::JsonLines => {
                objects.iter().try_for_each(|object| self.printer.data(object.to_string()))
            }
            Form::CustomColumns(columns) => {
                let titles: Vec<String> = columns.iter().map(|(title, _)| title.clone()).collect();
                let cells = |object: &Value| {
                    let all = columns.iter().map(|(_, path)| {
                        let found: Vec<String> =
                            path.values(object).into_iter().map(super::jsonpath::go).collect();
                        let text = found.join(",");
                        if text.is_empty() { "<none>".to_owned() } else { text }
                    });
                    all.map(|text| printable(&text, usize::MAX).to_string()).collect::<Vec<_>>()
                };
                let rows = objects.iter().map(cells).collect();
                self.table(&titles, rows)
            }
            form => {
                let wide = matches!(form, Form::Table { wide: true });
                let columns = if self.used {
                    table::used(self.kind, self.namespaces)
                } else {
                    table::columns(self.kind, wide, self.namespaces)
                };
                let titles: Vec<String> = columns.iter().map(|c| c.title.to_owned()).collect();
                let cells = |o: &Value| columns.iter().map(|c| c.cell(o, now)).collect::<Vec<_>>();
                let rows = objects.iter().map(cells).collect();
                self.table(&titles, rows)
            }
        }
    }

    fn table(&mut self, titles: &[String], rows: Vec<Vec<String>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let titled = std::mem::replace(&mut self.titled, true);
        let head = (!titled).then(|| titles.to_vec());
        let all: Vec<Vec<String>> = head.into_iter().chain(rows).collect();
        self.widths.resize(titles.len(), 0);
        widen(&mut self.widths, &all);
        let laid = lay_out(&all, &self.widths, Room::of(self.printer.manner()));
        for line in laid.lines {
            self.printer.data(line)?;
        }
        let left_out = &titles[laid.shown..];
        if !left_out.is_empty() && !std::mem::replace(&mut self.left_out, true) {
            self.printer.say(unseen(left_out));
        }
        Ok(())
    }
}

/// What is said of columns that the terminal has no room for.
pub fn unseen(titles: &[String]) -> String {
    format!("too narrow for {}; a pipe has them: `| cat`", titles.join(", "))
}

/// A table as lines.
pub struct LaidOut {
    /// The lines.
    pub lines: Vec<String>,
    /// So many columns are in them; the terminal has no room for those after them.
    pub shown: usize,
}

/// Lines of a table.
pub fn lay_out(rows: &[Vec<String>], widths: &[u16], room: Room) -> LaidOut {
    let widths = match room.columns {
        Some(columns) => fit(widths, columns),
        None => widths.to_vec(),
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    for row in rows {
        let cells = row.iter().zip(&widths);
        table.add_row(cells.map(|(cell, width)| shortened(cell, *width, room.ascii)));
    }
    let last = widths.len().saturating_sub(1);
    for (at, column) in table.column_iter_mut().enumerate() {
        let gap = if at == last { 0 } else { GAP };
        column.set_padding((0, gap));
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(widths[at] + gap)));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned()).collect();
    LaidOut { lines, shown: widths.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [
            ["NAME", "MESSAGE"],
            ["edge-1", "a rather long text that does not fit into a narrow screen"],
        ]
        .map(|row| row.map(str::to_owned).to_vec())
        .to_vec()
    }

    #[test]
    fn a_table_in_a_pipe_is_never_shortened_and_on_a_terminal_fits() {
        let of = |columns, ascii| lay_out(&rows(), &[6, 57], Room { columns, ascii });
        let whole = of(None, false).lines;
        assert_eq!(whole[0], "NAME     MESSAGE");
        assert!(whole[1].ends_with("narrow screen"), "{whole:?}");
        let narrow = of(Some(40), false);
        assert_eq!((narrow.lines.len(), narrow.shown), (2, 2), "{:?}", narrow.lines);
        assert_eq!(narrow.lines[1], "edge-1   a rather long text that does n…");
        let narrow = of(Some(30), true);
        assert_eq!((narrow.lines, narrow.shown), (vec!["NAME".into(), "edge-1".into()], 1));
    }
}
