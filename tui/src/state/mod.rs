//! What the dashboard knows and where the user is. Knows no colour and no width.
//!
//! Changed by `update.rs` alone; drawn by `view`.

mod entry;
pub mod events;
mod held;
pub mod history;
mod layer;
pub mod order;
pub mod table;
mod tabs;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api::status::row::{DeviceRow, EventRow, MessageRow, Millis, NodeRow, PodRow, RowKind};
use api::status::stream::{Behind, Hello, Totals, Update};

pub use self::entry::{Entry, MARK, Mark};
use self::entry::{Marking, extend, let_go, mark_gone, put};
use self::held::Held;
use self::history::{sample_device, sample_node, sample_pod};
pub use self::layer::{Confirm, Layer, Logs, Notice, Prompt, Purpose};
use self::order::{Order, Spec};
use self::table::{Sort, Table};

/// Events that are kept.
const EVENTS: usize = 512;
/// Messages that are kept.
const MESSAGES: usize = 4096;
/// Samples of the rates, one a second.
pub const SAMPLES: usize = 120;
/// Samples of all rows together. With more rows each remembers fewer.
const ALL_SAMPLES: usize = 200_000;
/// The screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Screen {
    /// Fleet health at a glance.
    Overview,
    /// The table of nodes.
    Nodes,
    /// The table of pods.
    Pods,
    /// The table of devices.
    Devices,
    /// The message flow.
    Flow,
    /// The newest events.
    Events,
}

impl Screen {
    /// All, in the order of Tab.
    pub const ALL: [Screen; 6] = [
        Screen::Overview,
        Screen::Nodes,
        Screen::Pods,
        Screen::Devices,
        Screen::Flow,
        Screen::Events,
    ];

    /// Its name, as the palette takes it.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Overview => "overview",
            Screen::Nodes => "nodes",
            Screen::Pods => "pods",
            Screen::Devices => "devices",
            Screen::Flow => "flow",
            Screen::Events => "events",
        }
    }

    /// The kind of its rows, if it is a table of rows.
    pub fn rows(self) -> Option<RowKind> {
        match self {
            Screen::Nodes => Some(RowKind::Node),
            Screen::Pods => Some(RowKind::Pod),
            Screen::Devices => Some(RowKind::Device),
            _ => None,
        }
    }
}

/// Whether the stream is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The first connection is being made.
    Connecting,
    /// Rows are what the server knows now.
    Live,
    /// Rows are stale.
    Lost {
        /// Since when, on our clock.
        since: Millis,
        /// Why.
        why: String,
    },
}

/// A replay, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replay {
    /// Position, in milliseconds since the recording began.
    pub at: u64,
    /// Its length.
    pub end: u64,
    /// Times real time.
    pub speed: f64,
    /// Standing still.
    pub paused: bool,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    /// Our clock.
    pub now: Millis,
    /// The time zone in which times are shown.
    pub zone: jiff::tz::TimeZone,
    /// What to add to our clock to get the server's.
    pub skew: Millis,
    /// Whether the stream is live.
    pub link: Link,
    /// Who serves it.
    pub hello: Option<Hello>,
    /// Where it comes from, for the header.
    pub source: String,
    /// Whether that knows of links, queues and messages: the Kubernetes API does not.
    pub knows_links: bool,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Entry<NodeRow>>,
    /// Pods by `namespace/name`.
    pub pods: BTreeMap<String, Entry<PodRow>>,
    /// Devices by `namespace/name`.
    pub devices: BTreeMap<String, Entry<DeviceRow>>,
    /// Newest last.
    pub events: VecDeque<EventRow>,
    /// Newest last.
    pub messages: VecDeque<MessageRow>,
    /// Messages that were never shown because the server had to leave them out.
    pub missed_messages: u64,
    /// Totals since the server started.
    pub totals: Totals,
    /// Messages a second up and down, oldest first.
    pub rates: VecDeque<(u64, u64)>,
    /// Totals and time at the last sample.
    pub rate_base: (Totals, Millis),
    /// How far behind we were at the last update, and when.
    pub behind: Option<(Behind, Millis)>,
    /// The screen.
    pub screen: Screen,
    /// What lies over it, topmost last.
    pub layers: Vec<Layer>,
    /// The line being written.
    pub prompt: Option<Prompt>,
    /// The question being asked.
    pub confirm: Option<Confirm>,
    /// A line at the foot.
    pub notice: Option<Notice>,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Tables, by screen.
    pub tables: BTreeMap<&'static str, Table>,
    /// What has come since the screen is held; it shows what it showed then.
    pub held: Option<Box<Held>>,
    /// The rows of the present table, in order.
    pub order: Order,
    /// Keys of rows that changed since `order` was looked after.
    touched: Vec<String>,
    /// Lines of a table that fit on the screen.
    pub page: usize,
    /// Columns of the screen, as clicks count them.
    pub columns: u16,
    /// How far what lies on top can be scrolled, as it was last drawn.
    pub furthest: usize,
    /// More columns.
    pub wide: bool,
    /// The replay, if it is one.
    pub replay: Option<Replay>,
    /// The number of the last request.
    pub last_request: u64,
    /// Something changed since the last drawing.
    pub dirty: bool,
    /// First update is still coming in.
    pub loading: bool,
}

impl State {
    /// Before the first message.
    pub fn new(source: &str, now: Millis) -> Self {
        let mut tables = BTreeMap::new();
        for screen in Screen::ALL {
            tables.insert(screen.name(), Table::new(Sort::default()));
        }
        Self {
            now,
            zone: jiff::tz::TimeZone::system(),
            skew: 0,
            link: Link::Connecting,
            hello: None,
            source: source.to_owned(),
            knows_links: true,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            devices: BTreeMap::new(),
            events: VecDeque::new(),
            messages: VecDeque::new(),
            missed_messages: 0,
            totals: Totals::default(),
            rates: VecDeque::new(),
            rate_base: (Totals::default(), 0),
            behind: None,
            screen: Screen::Overview,
            layers: Vec::new(),
            prompt: None,
            confirm: None,
            notice: None,
            namespace: None,
            tables,
            held: None,
            order: Order::default(),
            touched: Vec::new(),
            page: 20,
            columns: 80,
            furthest: 0,
            wide: false,
            replay: None,
            last_request: 0,
            dirty: true,
            loading: true,
        }
    }

    /// Our clock; it stands still while the screen is held.
    pub fn shown_now(&self) -> Millis {
        self.held.as_ref().map_or(self.now, |h| h.since)
    }

    /// The server's clock now: ages are of its time.
    pub fn server_now(&self) -> Millis {
        self.shown_now() + self.skew
    }

    /// Holds the screen as it is, or shows all that has come meanwhile.
    pub fn hold(&mut self) {
        match self.held.take() {
            None => self.held = Some(Box::new(Held::new(self.now))),
            Some(held) => {
                if let Some(update) = held.release() {
                    self.apply(update);
                }
            }
        }
    }

    /// Looks after `order`: makes it anew if the table is another, else takes in what changed.
    pub fn refresh(&mut self) {
        let Some(kind) = self.screen.rows() else { return self.touched.clear() };
        let table = self.table();
        let spec = Spec {
            screen: self.screen,
            sort: table.sort,
            filter: table.filter.clone(),
            namespace: self.namespace.clone(),
        };
        let mut order = std::mem::take(&mut self.order);
        if order.is_for(&spec) {
            for key in self.touched.drain(..).collect::<Vec<_>>() {
                order.put(&key, crate::columns::judged(self, &spec, &key));
            }
        } else {
            let keys: Vec<&String> = match kind {
                RowKind::Node => self.nodes.keys().collect(),
                RowKind::Pod => self.pods.keys().collect(),
                RowKind::Device => self.devices.keys().collect(),
            };
            let judged = |key: &String| {
                Some((Arc::from(key.as_str()), crate::columns::judged(self, &spec, key)?))
            };
            let rows: Vec<_> = keys.into_iter().filter_map(judged).collect();
            order.rebuild(spec, rows.into_iter());
            self.touched.clear();
        }
        let page = self.page;
        let table = self.table_mut();
        if let Some(at) = table.chosen.as_ref().and_then(|key| order.find(key)) {
            table.at = at;
        }
        table.keep_in_sight(&order, page);
        self.order = order;
    }

    /// A row has changed, and its place may have.
    fn touch(&mut self, kind: RowKind, key: &str) {
        if self.screen.rows() == Some(kind) {
            self.touched.push(key.to_owned());
        }
    }

    /// The table of a screen.
    ///
    /// # Panics
    /// Never: every screen has one.
    pub fn table(&self) -> &Table {
        &self.tables[self.screen.name()]
    }

    /// The table of the present screen.
    pub fn table_mut(&mut self) -> &mut Table {
        self.tables.entry(self.screen.name()).or_insert_with(|| Table::new(Sort::default()))
    }

    /// Whether the server answers a kind of request.
    pub fn can(&self, request: &str) -> bool {
        self.hello.as_ref().is_some_and(|h| h.requests.iter().any(|r| r == request))
    }

    /// All namespaces that pods or devices are in, sorted.
    pub fn namespaces(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self
            .pods
            .values()
            .map(|e| e.row.namespace.as_str())
            .chain(self.devices.values().map(|e| e.row.namespace.as_str()))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Takes in what changed.
    pub fn apply(&mut self, update: Update) {
        self.dirty = true;
        if let Some(held) = &mut self.held {
            return held.take_in(update);
        }
        self.skew = update.now - self.now;
        self.take_in(update);
    }

    fn take_in(&mut self, update: Update) {
        let first = update.full;
        if update.full {
            self.nodes.clear();
            self.pods.clear();
            self.devices.clear();
            self.events.clear();
            self.messages.clear();
            self.order.invalidate();
            // What passed before we looked is no rate.
            self.rate_base = (update.totals, self.now);
        }
        let marked = if first || self.loading { 0 } else { self.now };
        self.loading = update.more;
        for key in &update.gone {
            self.touch(key.kind, &key.key);
            match key.kind {
                RowKind::Node => mark_gone(&mut self.nodes, &key.key, self.now),
                RowKind::Pod => mark_gone(&mut self.pods, &key.key, self.now),
                RowKind::Device => mark_gone(&mut self.devices, &key.key, self.now),
            }
        }
        let now = self.now;
        let rows = self.nodes.len() + self.pods.len() + self.devices.len();
        let keep = (ALL_SAMPLES / rows.max(1)).clamp(4, SAMPLES);
        let mark = Marking { marked, keep };
        for row in update.nodes {
            self.touch(RowKind::Node, &row.name);
            put(&mut self.nodes, row.name.clone(), sample_node(&row, now), row, mark);
        }
        for row in update.pods {
            let key = format!("{}/{}", row.namespace, row.name);
            self.touch(RowKind::Pod, &key);
            put(&mut self.pods, key, sample_pod(&row, now), row, mark);
        }
        for row in update.devices {
            let key = format!("{}/{}", row.namespace, row.name);
            self.touch(RowKind::Device, &key);
            put(&mut self.devices, key, sample_device(&row, now), row, mark);
        }
        self.lines_came(&update.events, &update.messages);
        events::put(&mut self.events, update.events, EVENTS);
        extend(&mut self.messages, update.messages, MESSAGES);
        self.totals = update.totals;
        if let Some(behind) = update.behind {
            self.missed_messages += behind.missed_messages;
            self.behind = Some((behind, self.now));
        }
    }

    /// Whoever has scrolled back goes on seeing the same lines.
    fn lines_came(&mut self, events: &[EventRow], messages: &[MessageRow]) {
        for screen in [Screen::Events, Screen::Flow] {
            let Some(table) = self.tables.get(screen.name()).filter(|table| table.at > 0) else {
                continue;
            };
            let filter = &table.filter;
            let above = match screen {
                Screen::Events => {
                    // One that was seen before what is on top goes below it.
                    let top = self.shown_events().nth(table.at).map_or(Millis::MIN, |e| e.at);
                    let shown = |e: &&EventRow| e.at >= top && event_passes(filter, e);
                    events.iter().filter(shown).count()
                }
                _ => messages.iter().filter(|m| message_passes(filter, m)).count(),
            };
            if let Some(table) = self.tables.get_mut(screen.name()) {
                table.at += above;
            }
        }
    }

    /// The events that pass the filter, newest first.
    pub fn shown_events(&self) -> impl Iterator<Item = &EventRow> {
        let filter = &self.tables[Screen::Events.name()].filter;
        self.events.iter().rev().filter(move |e| event_passes(filter, e))
    }

    /// The messages that pass the filter, newest first.
    pub fn shown_messages(&self) -> impl Iterator<Item = &MessageRow> {
        let filter = &self.tables[Screen::Flow.name()].filter;
        self.messages.iter().rev().filter(move |m| message_passes(filter, m))
    }

    /// A second has passed: takes a sample of the rates, lets go of rows that are gone.
    pub fn second(&mut self) {
        let (base, at) = self.rate_base;
        let elapsed = u64::try_from(self.now - at).unwrap_or(0).max(1);
        if at != 0 {
            let rate = |new: u64, old: u64| new.saturating_sub(old) * 1000 / elapsed;
            let sample = (rate(self.totals.up, base.up), rate(self.totals.down, base.down));
            if self.rates.len() == SAMPLES {
                self.rates.pop_front();
            }
            self.rates.push_back(sample);
        }
        self.rate_base = (self.totals, self.now);
        let now = self.now;
        if self.held.is_none() {
            let nodes = let_go(&mut self.nodes, now);
            let pods = let_go(&mut self.pods, now);
            let devices = let_go(&mut self.devices, now);
            for (kind, keys) in
                [(RowKind::Node, nodes), (RowKind::Pod, pods), (RowKind::Device, devices)]
            {
                keys.iter().for_each(|key| self.touch(kind, key));
            }
        }
        if self.notice.as_ref().is_some_and(|n| now - n.at > 8_000) {
            self.notice = None;
        }
        self.dirty = true;
    }

    /// Says something at the foot of the screen.
    pub fn say(&mut self, text: impl Into<String>, failed: bool) {
        self.notice = Some(Notice { text: crate::rows::clean(&text.into()), failed, at: self.now });
        self.dirty = true;
    }
}

fn event_passes(filter: &str, e: &EventRow) -> bool {
    let texts = [&e.reason, &e.object, &e.node, &e.message];
    table::passes(filter, texts.map(String::as_str), &BTreeMap::new())
}

fn message_passes(filter: &str, m: &MessageRow) -> bool {
    let texts = [&m.node, &m.kind, &m.object, &m.outcome];
    table::passes(filter, texts.map(String::as_str), &BTreeMap::new())
}
