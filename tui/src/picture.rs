//! A screen of a recording as an SVG picture, for a page or a bug report.
//!
//! Owns: how a cell of the terminal becomes a piece of the picture.
//! Called by: `keadm dashboard --replay FILE --svg FILE`.
//! Never: reads this machine's clock or time zone: the same recording always gives the same picture.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use api::status::stream::ToReader;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use crate::record::{self, Line};
use crate::state::{Replay, State};
use crate::update::{Event, update};
use crate::view;
use crate::view::styles::{Look, Theme};

/// What to draw.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Colours and signs.
    pub look: Look,
    /// Columns and lines.
    pub size: (u16, u16),
    /// Keys that are pressed at the end of the recording: `:nodes<Enter>`.
    pub keys: String,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recording cannot be read.
    #[error("cannot play `{path}`")]
    Recording {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: record::ReadError,
    },
    /// There is no such key.
    #[error("`<{0}>` is no key; there are <Enter>, <Esc>, <Tab>, <Down> and <Up>")]
    Key(String),
}

/// The last screen of a recording, as SVG.
///
/// # Errors
/// See [`Error`].
pub fn of(recording: &Path, picture: &Picture) -> Result<String, Error> {
    let lines = record::read(recording)
        .map_err(|source| Error::Recording { path: recording.to_owned(), source })?;
    let mut state = played(lines, picture.size);
    for key in keys(&picture.keys)? {
        update(&mut state, Event::Key(key));
    }
    let (width, height) = picture.size;
    let mut terminal = match Terminal::new(TestBackend::new(width, height)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| view::draw(&state, &picture.look, frame)) {
        Ok(_) => {}
        Err(never) => match never {},
    }
    Ok(svg(terminal.backend().buffer(), picture.look.theme))
}

/// All of a recording at once, by its own clock, second for second.
fn played(lines: Vec<Line>, (width, height): (u16, u16)) -> State {
    let began = lines.iter().find_map(|line| match &line.message {
        ToReader::Hello(hello) => Some(hello.now - to_i64(line.at)),
        _ => None,
    });
    let began = began.unwrap_or_default();
    let end = lines.last().map_or(0, |line| line.at);
    let mut state = State::new("a recording", began);
    state.zone = jiff::tz::TimeZone::UTC;
    let plays = Replay { at: end, end, speed: 1.0, paused: false };
    update(&mut state, Event::Replay(plays));
    update(&mut state, Event::Resize { width, height });
    let mut second = 0;
    for Line { at, message } in lines {
        while second + 1000 <= at {
            second += 1000;
            update(&mut state, Event::Clock(began + to_i64(second)));
            update(&mut state, Event::Second);
        }
        update(&mut state, Event::Clock(began + to_i64(at)));
        update(&mut state, Event::Message(Box::new(message)));
    }
    update(&mut state, Event::Replay(Replay { paused: true, ..plays }));
    state
}

fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn keys(text: &str) -> Result<Vec<KeyEvent>, Error> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let named = rest.strip_prefix('<').and_then(|r| r.split_once('>'));
        let code = match named {
            Some((name, after)) => {
                rest = after;
                match name {
                    "Enter" => KeyCode::Enter,
                    "Esc" => KeyCode::Esc,
                    "Tab" => KeyCode::Tab,
                    "Down" => KeyCode::Down,
                    "Up" => KeyCode::Up,
                    other => return Err(Error::Key(other.chars().take(32).collect())),
                }
            }
            None => {
                rest = &rest[c.len_utf8()..];
                KeyCode::Char(c)
            }
        };
        keys.push(KeyEvent::new(code, KeyModifiers::NONE));
    }
    Ok(keys)
}

/// The size of a cell.
const CELL: (f32, f32) = (8.4, 17.0);
/// Around the screen.
const MARGIN: f32 = 12.0;

/// The two colours that a terminal has of its own.
struct Ground {
    ink: &'static str,
    paper: &'static str,
}

fn ground(theme: Theme) -> Ground {
    match theme {
        Theme::Light => Ground { ink: "#24292f", paper: "#ffffff" },
        Theme::Dark | Theme::Plain => Ground { ink: "#d8dee9", paper: "#14181f" },
    }
}

fn colour(colour: Color, theme: Theme) -> Option<String> {
    let light = theme == Theme::Light;
    let name = match colour {
        Color::Green if light => "#1a7f37",
        Color::Green => "#7ec699",
        Color::Yellow => "#e5c07b",
        Color::LightRed => "#f47067",
        Color::Red => "#cf222e",
        Color::Cyan => "#6cb6d9",
        Color::Blue => "#0550ae",
        Color::Rgb(r, g, b) => return Some(format!("#{r:02x}{g:02x}{b:02x}")),
        _ => return None,
    };
    Some(name.to_owned())
}

/// How a piece of a line looks.
#[derive(PartialEq)]
struct Style {
    ink: Option<String>,
    bold: bool,
    dim: bool,
    reversed: bool,
}

impl Style {
    fn of(cell: &Cell, theme: Theme) -> Self {
        let has = |modifier| cell.modifier.contains(modifier);
        Self {
            ink: colour(cell.fg, theme),
            bold: has(Modifier::BOLD),
            dim: has(Modifier::DIM),
            reversed: has(Modifier::REVERSED),
        }
    }
}

fn svg(buffer: &Buffer, theme: Theme) -> String {
    let ground = ground(theme);
    let (width, height) = (buffer.area.width, buffer.area.height);
    let (w, h) =
        (f32::from(width) * CELL.0 + 2.0 * MARGIN, f32::from(height) * CELL.1 + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{}\"/>\n",
        ground.paper
    );
    for y in 0..height {
        let mut x = 0;
        while x < width {
            let style = Style::of(&buffer[(x, y)], theme);
            let from = x;
            let mut text = String::new();
            while x < width && Style::of(&buffer[(x, y)], theme) == style {
                let symbol = buffer[(x, y)].symbol();
                text.push_str(symbol);
                x += u16::try_from(symbol.width()).unwrap_or(1).max(1);
            }
            piece(&mut out, &ground, &style, (from, y, x - from), &text);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Cells of one line that look alike.
fn piece(out: &mut String, ground: &Ground, style: &Style, at: (u16, u16, u16), text: &str) {
    let (column, line, cells) = at;
    let (x, y) = (MARGIN + f32::from(column) * CELL.0, MARGIN + f32::from(line) * CELL.1);
    let length = f32::from(cells) * CELL.0;
    let mut ink = style.ink.as_deref().unwrap_or(ground.ink);
    if style.reversed {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{ink}\"/>",
            CELL.1
        );
        ink = ground.paper;
    }
    if text.trim().is_empty() {
        return;
    }
    // Blanks before the text are a way to the right.
    let blanks = text.len() - text.trim_start().len();
    let x = x + f32::from(u16::try_from(blanks).unwrap_or(0)) * CELL.0;
    let shown = text.trim();
    let length = f32::from(u16::try_from(shown.width()).unwrap_or(cells)) * CELL.0;
    let _ = write!(
        out,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         xml:space=\"preserve\" fill=\"{ink}\"",
        y + 13.0
    );
    out.push_str(if style.bold { " font-weight=\"bold\"" } else { "" });
    out.push_str(if style.dim { " opacity=\"0.65\"" } else { "" });
    let _ = writeln!(out, ">{}</text>", escaped(shown));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_or_names() {
        let codes = |text| keys(text).unwrap().into_iter().map(|k| k.code).collect::<Vec<_>>();
        assert_eq!(codes("j<Enter>"), [KeyCode::Char('j'), KeyCode::Enter]);
        assert_eq!(codes("<"), [KeyCode::Char('<')]);
        assert!(keys("<Hyper>").unwrap_err().to_string().starts_with("`<Hyper>` is no key"));
    }

    #[test]
    fn what_has_a_meaning_in_xml_is_escaped() {
        let buffer = Buffer::with_lines(["a<b & c"]);
        let text = svg(&buffer, Theme::Dark);
        assert!(text.contains(">a&lt;b &amp; c</text>"), "{text}");
    }
}
