//! The loop: wait for keys, stream and clock; update; carry out effects; draw.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use api::status::stream::FromReader;
use crossterm::event::{Event as TermEvent, EventStream};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::conn::{self, Endpoint, StreamEvent};
use crate::record::{self, Recorder};
use crate::state::{Replay, State};
use crate::term::Guard;
use crate::update::{Effect, Event, Steer, update};
use crate::view::{self, styles::Look};

/// The shortest time between two drawings: 30 a second at most.
const FRAME: Duration = Duration::from_millis(33);

/// Where rows come from.
#[derive(Debug)]
pub enum Source {
    /// A status stream.
    Stream(Endpoint),
    /// Somebody who tells the same as a stream would.
    Feed(Feed),
    /// A recording.
    Recording(PathBuf),
}

/// Rows from elsewhere.
#[derive(Debug)]
pub struct Feed {
    /// Where they come from, for the header.
    pub name: String,
    /// What a stream would bring, beginning with a hello.
    pub events: mpsc::Receiver<StreamEvent>,
    /// What is asked of it.
    pub requests: mpsc::Sender<FromReader>,
    /// Whether it knows of links, queues and messages.
    pub knows_links: bool,
}

/// How the dashboard is to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Colours and signs.
    pub look: Look,
    /// Take mouse events, so that the wheel scrolls.
    pub mouse: bool,
    /// Write the stream to this file.
    pub record: Option<PathBuf>,
    /// Leave when this is cancelled (SIGTERM, or the end of what is watched).
    pub stop: CancellationToken,
}

/// Why there is no dashboard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Standard output is a file or a pipe.
    #[error("the dashboard needs a terminal; `keadm get` prints the same as text")]
    NoTerminal,
    /// The terminal does not do what it should.
    #[error("the terminal failed")]
    Terminal(#[source] io::Error),
    /// The file for the recording cannot be made.
    #[error("cannot write the recording `{path}`")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The recording cannot be played.
    #[error("cannot play `{path}`")]
    Replay {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: record::ReadError,
    },
}

struct Wires {
    events: mpsc::Receiver<StreamEvent>,
    position: mpsc::Receiver<Replay>,
    requests: mpsc::Sender<FromReader>,
    steer: mpsc::Sender<Steer>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Wires {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn connect(source: Source) -> Result<(Wires, String), Error> {
    let (events_in, events) = mpsc::channel(64); // full: the connection waits
    let (requests, requests_out) = mpsc::channel(64); // full: the request is refused
    let (position_in, position) = mpsc::channel(1); // full: the replay waits
    let (steer, steer_out) = mpsc::channel(16); // full: the key is lost
    let mut wires = Wires { events, position, requests, steer, task: None };
    let name = match source {
        Source::Recording(path) => {
            let name = format!("replay of {}", path.display());
            let lines = record::read(&path).map_err(|source| Error::Replay { path, source })?;
            let replay = conn::replay::run(lines, events_in, steer_out, position_in);
            wires.task = Some(tokio::spawn(replay));
            name
        }
        Source::Stream(endpoint) => {
            let name = endpoint.to_string();
            wires.task = Some(tokio::spawn(conn::run(endpoint, events_in, requests_out)));
            name
        }
        Source::Feed(feed) => {
            (wires.events, wires.requests) = (feed.events, feed.requests);
            feed.name
        }
    };
    Ok((wires, name))
}

/// Shows the dashboard until the user leaves it.
///
/// # Errors
/// See [`Error`].
pub async fn run(source: Source, options: Options) -> Result<(), Error> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Error::NoTerminal);
    }
    let recording = matches!(source, Source::Recording(_));
    let knows_links = !matches!(&source, Source::Feed(feed) if !feed.knows_links);
    let (wires, name) = connect(source)?;
    let recorder = options
        .record
        .as_ref()
        .map(|path| {
            Recorder::create(path).map_err(|source| Error::Record { path: path.clone(), source })
        })
        .transpose()?;
    let mut app = App {
        state: State::new(&name, now()),
        wires,
        recorder,
        began: Instant::now(),
        look: options.look,
        guard: Guard::enter(options.mouse).map_err(Error::Terminal)?,
    };
    app.state.knows_links = knows_links;
    if recording {
        let begins = Replay { at: 0, end: 0, speed: 1.0, paused: false };
        update(&mut app.state, Event::Replay(begins));
    }
    if let Ok(size) = app.guard.terminal().size() {
        update(&mut app.state, Event::Resize { width: size.width, height: size.height });
    }
    app.until_left(options.stop).await.map_err(Error::Terminal)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

struct App {
    state: State,
    wires: Wires,
    recorder: Option<Recorder>,
    began: Instant,
    look: Look,
    guard: Guard,
}

impl App {
    async fn until_left(&mut self, stop: CancellationToken) -> io::Result<()> {
        let mut keys = EventStream::new();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut drawn = Instant::now() - FRAME;
        loop {
            let due = drawn + FRAME;
            let event = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                key = keys.next() => match key {
                    // The terminal has vanished.
                    None => return Ok(()),
                    Some(Err(e)) => return Err(e),
                    Some(Ok(TermEvent::Key(key))) => Event::Key(key),
                    Some(Ok(TermEvent::Mouse(mouse))) => Event::Mouse(mouse),
                    Some(Ok(TermEvent::Paste(text))) => Event::Paste(text),
                    Some(Ok(TermEvent::Resize(width, height))) => Event::Resize { width, height },
                    Some(Ok(_)) => continue,
                },
                Some(event) = self.wires.events.recv() => self.stream_event(event),
                Some(replay) = self.wires.position.recv() => Event::Replay(replay),
                _ = second.tick() => Event::Second,
                () = tokio::time::sleep_until(due), if self.state.dirty => {
                    self.state.dirty = false;
                    drawn = Instant::now();
                    let (state, look) = (&self.state, &self.look);
                    let mut furthest = 0;
                    self.guard
                        .terminal()
                        .draw(|frame| furthest = view::draw_all(state, look, frame))?;
                    update(&mut self.state, Event::Drawn { furthest });
                    continue;
                }
            };
            update(&mut self.state, Event::Clock(now()));
            for effect in update(&mut self.state, event) {
                if self.carry_out(effect)? {
                    return Ok(());
                }
            }
        }
    }

    fn stream_event(&mut self, event: StreamEvent) -> Event {
        match event {
            StreamEvent::Lost { why, silence } => Event::Lost { why, silence },
            StreamEvent::Source { name, knows_links } => Event::Source { name, knows_links },
            StreamEvent::Message(message) => {
                if let Some(recorder) = &mut self.recorder {
                    let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    if let Err(e) = recorder.write(at, &message) {
                        self.recorder = None;
                        update(&mut self.state, Event::RecordFailed(e.to_string()));
                    }
                }
                Event::Message(message)
            }
        }
    }

    /// Whether the user leaves.
    fn carry_out(&mut self, effect: Effect) -> io::Result<bool> {
        let message = match effect {
            Effect::Quit => return Ok(true),
            Effect::Copy(text) => {
                self.guard.copy(&text)?;
                return Ok(false);
            }
            Effect::Steer(steer) => {
                let _ = self.wires.steer.try_send(steer);
                return Ok(false);
            }
            Effect::Usage => FromReader::Usage { on: true },
            Effect::Flow(on) => FromReader::Flow { on },
            Effect::Stop(id) => FromReader::Stop { id },
            Effect::Request { id, request } => FromReader::Request { id, request },
        };
        if self.state.replay.is_none() && self.wires.requests.try_send(message).is_err() {
            self.state.say("the stream does not take requests now", true);
        }
        Ok(false)
    }
}
