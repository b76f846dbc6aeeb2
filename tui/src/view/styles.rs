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

/// A sparkline of the newest values, as wide as `width`.
pub fn sparkline(look: &Look, values: impl IntoIterator<Item = u64>, width: usize) -> String {
    let values: Vec<u64> = values.into_iter().collect();
    let values = &values[values.len().saturating_sub(width)..];
    let top = values.iter().copied().max().unwrap_or(0).max(1);
    let bars = look.bars();
    let mut text = " ".repeat(width.saturating_sub(values.len()));
    for v in values {
        let step = usize::try_from((v * 8).div_ceil(top)).unwrap_or(8).min(8);
        text.push_str(bars[step]);
    }
    text
}
