//! Colours and signs. Colour means something and is never alone.

use ratatui::style::{Color, Modifier, Style};

use crate::rows::Health;
use crate::state::Mark;

/// Which colours there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// For a dark background.
    #[default]
    Dark,
    /// For a light background.
    Light,
    /// No colour at all: bold, dim and reverse only.
    Plain,
}

/// How the dashboard looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Colours.
    pub theme: Theme,
    /// Only characters that a plain console has.
    pub ascii: bool,
}

impl Look {
    fn colour(&self, dark: Color, light: Color) -> Style {
        match self.theme {
            Theme::Dark => Style::new().fg(dark),
            Theme::Light => Style::new().fg(light),
            Theme::Plain => Style::new(),
        }
    }

    /// Of something's health.
    pub fn health(&self, health: Health) -> Style {
        match health {
            Health::Good => self.colour(Color::Green, Color::Green),
            Health::Plain => Style::new(),
            Health::Uncertain => self.colour(Color::Yellow, Color::Rgb(150, 90, 0)),
            Health::Bad => {
                let style = self.colour(Color::LightRed, Color::Red);
                if self.theme == Theme::Plain { style.add_modifier(Modifier::BOLD) } else { style }
            }
        }
    }

    /// The sign beside it.
    pub fn sign(&self, health: Health) -> &'static str {
        match (health, self.ascii) {
            (Health::Good, false) => "●",
            (Health::Good, true) => "+",
            (Health::Plain, _) => " ",
            (Health::Uncertain, false) => "◐",
            (Health::Uncertain, true) => "?",
            (Health::Bad, false) => "✖",
            (Health::Bad, true) => "x",
        }
    }

    /// In place of what does not fit.
    pub fn more(&self) -> &'static str {
        if self.ascii { "~" } else { "…" }
    }

    /// The sign of a fresh mark.
    pub fn mark(&self, mark: Option<Mark>) -> &'static str {
        match (mark, self.ascii) {
            (None, _) => " ",
            (Some(Mark::New), _) => "+",
            (Some(Mark::Changed), false) => "•",
            (Some(Mark::Changed), true) => "*",
            (Some(Mark::Gone), _) => "-",
        }
    }

    /// Headings.
    pub fn heading(&self) -> Style {
        self.colour(Color::Cyan, Color::Blue).add_modifier(Modifier::BOLD)
    }

    /// Things of less weight.
    pub fn faint(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The chosen row.
    pub fn chosen(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Sparklines.
    pub fn line(&self) -> Style {
        self.colour(Color::Cyan, Color::Blue)
    }

    /// The steps of a sparkline.
    pub fn bars(&self) -> &'static [&'static str] {
        if self.ascii {
            &[" ", ".", ".", "-", "-", "=", "=", "#", "#"]
        } else {
            &[" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
        }
    }
}

/// A sparkline of the newest values, as wide as `width`. It begins at zero, unless all values are far
/// from it or below: then at the least.
pub fn sparkline(look: &Look, values: &[i64], width: usize) -> String {
    let values = &values[values.len().saturating_sub(width)..];
    let most = values.iter().copied().max().unwrap_or(0);
    let least = values.iter().copied().min().unwrap_or(0);
    // What differs little from its own size would be one solid bar.
    let near = least > 0 && most - least < most / 4 && most > least;
    let base = if near || least < 0 { least - (most - least).max(8) / 8 } else { 0 };
    let top = i128::from(most - base).max(1);
    let bars = look.bars();
    let mut text = " ".repeat(width.saturating_sub(values.len()));
    for v in values {
        let above = i128::from(v - base) * 8;
        let step = usize::try_from((above + top - 1) / top).unwrap_or(8).min(8);
        text.push_str(bars[step]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_what_changes() {
        let line = |values: &[i64]| sparkline(&Look::default(), values, 5);
        assert_eq!(line(&[0, 4, 8]), "   ▄█");
        assert_eq!(line(&[0, 0, 0, 0, 0]), "     ");
        assert_eq!(line(&[7]), "    █");
        assert!(line(&[2150, 2160, 2150, 2170, 2150]).contains('█'));
        assert_ne!(line(&[2150, 2160]).chars().nth(3), line(&[2150, 2160]).chars().nth(4));
        assert_eq!(line(&[-10, 0, -10]).chars().nth(3), Some('█'), "below zero");
        assert_eq!(line(&[i64::MIN / 4, i64::MAX / 4]).chars().count(), 5);
    }
}
