//! What the tabs say, and where a click meets them.
//!
//! Owns: their texts, short where the whole do not fit. Called by: the view, and `update.rs` for clicks.
//! Never: draws.

use super::{Screen, State};

impl State {
    /// What stands on each tab, with a space or a bracket on each side, in so many columns.
    pub fn tabs(&self, columns: u16) -> Vec<(Screen, String)> {
        let whole: Vec<_> = Screen::ALL.map(|s| (s, self.around(s, self.tab(s)))).into();
        let length = |tabs: &[(Screen, String)]| tabs.iter().map(|(_, t)| t.len()).sum::<usize>();
        if length(&whole) <= usize::from(columns) {
            return whole;
        }
        // The one that is open in full, of the others the letter that they begin with.
        let short = |s: Screen| match s == self.screen {
            true => self.tab(s),
            false => s.name().chars().take(1).collect(),
        };
        Screen::ALL.map(|s| (s, self.around(s, short(s)))).into()
    }

    /// What the tab of a screen says.
    fn tab(&self, screen: Screen) -> String {
        let count = match screen {
            Screen::Nodes => self.nodes.len(),
            Screen::Pods => self.pods.len(),
            Screen::Devices => self.devices.len(),
            _ => return screen.name().to_owned(),
        };
        format!("{} {count}", screen.name())
    }

    /// Brackets too, for screens without reverse video.
    fn around(&self, screen: Screen, name: String) -> String {
        if screen == self.screen { format!("[{name}]") } else { format!(" {name} ") }
    }
}
