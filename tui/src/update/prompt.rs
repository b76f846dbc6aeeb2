//! The line that the user is writing: its keys, and what it means once it is whole. Pure.

use api::status::stream::Request;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::ask::next_property;
use super::scroll::hit;
use super::{Effect, act, go};
use crate::palette;
use crate::state::{Confirm, Layer, Prompt, Purpose, State};

/// A line that the user writes has about so many bytes.
pub(super) const LONGEST: usize = 256;

pub(super) fn prompt_key(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    let Some(mut prompt) = state.prompt.take() else { return Vec::new() };
    match key.code {
        KeyCode::Esc => {
            if prompt.purpose == Purpose::Filter {
                state.table_mut().filter.clear();
            }
            return Vec::new();
        }
        KeyCode::Enter => return prompt_done(state, prompt),
        KeyCode::Backspace if prompt.text.is_empty() => return Vec::new(),
        KeyCode::Backspace => {
            prompt.text.pop();
        }
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => prompt.text.clear(),
        KeyCode::Tab => match &prompt.purpose {
            Purpose::Command => {
                if let Some(first) = palette::candidates(state, &prompt.text).into_iter().next() {
                    prompt.text = first.text;
                }
            }
            Purpose::Desired { device } => prompt.text = next_property(state, device, &prompt.text),
            _ => {}
        },
        KeyCode::Char(c)
            if !c.is_control()
                && !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
                && prompt.text.len() < LONGEST =>
        {
            prompt.text.push(c);
        }
        _ => {}
    }
    written(state, prompt);
    Vec::new()
}

/// The line has another text: what shows it at once is brought up to date.
pub(super) fn written(state: &mut State, prompt: Prompt) {
    state.dirty = true;
    match prompt.purpose {
        Purpose::Filter => state.table_mut().filter.clone_from(&prompt.text),
        Purpose::Search => {
            if let Some(Layer::Logs(logs)) = state.layers.last_mut() {
                logs.search.clone_from(&prompt.text);
                logs.hit = None;
            }
        }
        _ => {}
    }
    state.prompt = Some(prompt);
}

fn prompt_done(state: &mut State, prompt: Prompt) -> Vec<Effect> {
    match prompt.purpose {
        Purpose::Filter => Vec::new(),
        Purpose::Search => {
            hit(state, true);
            Vec::new()
        }
        Purpose::Command => command(state, prompt.text.trim()),
        Purpose::Desired { device } => {
            let Some((namespace, name)) = device.key.split_once('/') else { return Vec::new() };
            let known = state.devices.get(&device.key).map(|e| &e.row.twins);
            let has =
                |property: &str| known.is_some_and(|t| t.iter().any(|t| t.property == property));
            let Some((property, value)) = prompt.text.split_once('=').filter(|(p, _)| has(p))
            else {
                state.say("write PROPERTY=VALUE; Tab shows the properties", true);
                return Vec::new();
            };
            let (property, value) = (property.to_owned(), value.to_owned());
            state.confirm = Some(Confirm {
                question: format!("set {property} of device {} to {value}?", device.key),
                command: format!("keadm device set -n {namespace} {name} {property}={value}"),
                request: Request::SetDesired {
                    namespace: namespace.to_owned(),
                    device: name.to_owned(),
                    property,
                    value,
                },
            });
            Vec::new()
        }
    }
}

/// A line of the palette.
fn command(state: &mut State, text: &str) -> Vec<Effect> {
    use palette::Command;
    match palette::parse(state, text) {
        Ok(None) => Vec::new(),
        Ok(Some(Command::Go(screen))) => go(state, screen),
        Ok(Some(Command::GoIn(screen, namespace))) => {
            state.namespace = namespace;
            go(state, screen)
        }
        Ok(Some(Command::Do(action))) => act(state, action),
        Ok(Some(Command::Namespace(namespace))) => {
            state.namespace = namespace;
            Vec::new()
        }
        Ok(Some(Command::Sort(column))) => {
            state.table_mut().sort_by(column);
            Vec::new()
        }
        Err(why) => {
            state.say(why, true);
            Vec::new()
        }
    }
}
