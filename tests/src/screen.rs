//! A terminal for a test: a pty, and what a user would see on it.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use vt100::{MouseProtocolMode, Parser};

use crate::wait;

/// A program on a terminal of its own; killed when dropped.
pub struct Screen {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    shown: Arc<Mutex<Parser>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

fn nonzero(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

impl Screen {
    /// Starts `command` on a terminal of so many columns and lines.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(command: &Command, columns: u16, lines: u16) -> Self {
        let size = PtySize { rows: lines, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pty = native_pty_system().openpty(size).unwrap();
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args());
        builder.env("TERM", "xterm-256color");
        builder.env_remove("NO_COLOR");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => builder.env(name, value),
                None => builder.env_remove(name),
            }
        }
        // Else it would be the home of whom the program runs as, which need not exist.
        builder.cwd(std::env::current_dir().unwrap());
        let child = pty.slave.spawn_command(builder).unwrap();
        drop(pty.slave);
        let parser = Parser::new(nonzero(lines), nonzero(columns), 0);
        let shown = Arc::new(Mutex::new(parser));
        let mut out = pty.master.try_clone_reader().unwrap();
        let into = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            // A pty whose program has ended gives an error, not an end.
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                into.lock().process(&bytes[..n]);
            }
        });
        let keys = pty.master.take_writer().unwrap();
        Self { child, master: pty.master, keys, shown, reader: Some(reader) }
    }

    /// The program's process. (`nsenter` becomes the program.)
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Another size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, lines: u16) {
        let size = PtySize { rows: lines, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.shown.lock().screen_mut().set_size(nonzero(lines), nonzero(columns));
        self.master.resize(size).unwrap();
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.shown.lock().screen().contents()
    }

    /// Whether anything on the screen has a colour.
    pub fn has_colour(&self) -> bool {
        let parser = self.shown.lock();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let cells = (0..rows.get()).flat_map(|y| (0..columns.get()).map(move |x| (y, x)));
        let plain = vt100::Color::Default;
        cells
            .filter_map(|(y, x)| screen.cell(y, x))
            .any(|cell| cell.fgcolor() != plain || cell.bgcolor() != plain)
    }

    /// Waits until `text` is on the screen; returns how long that took.
    ///
    /// # Panics
    /// After `limit`, with the screen.
    #[track_caller]
    pub fn until_shows(&mut self, text: &str, limit: Duration) -> Duration {
        self.until(&format!("`{text}` on the screen"), limit, |screen| screen.contains(text))
    }

    /// Waits until the screen is as it should be; returns how long that took. Looks every
    /// millisecond, for times that are measured.
    ///
    /// # Panics
    /// After `limit`, with the screen.
    #[track_caller]
    pub fn until(&mut self, what: &str, limit: Duration, is: impl Fn(&str) -> bool) -> Duration {
        let start = std::time::Instant::now();
        loop {
            let screen = self.text();
            if is(&screen) {
                return start.elapsed();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(start.elapsed() < limit, "{what}: not within {limit:?}; {ended:?}\n{screen}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// After `limit`.
    #[track_caller]
    pub fn until_ended(&mut self, limit: Duration) -> ExitStatus {
        let shown = Arc::clone(&self.shown);
        let child = &mut self.child;
        let (status, _) = wait::until("the end of the program", limit, || {
            child.try_wait().unwrap().ok_or_else(|| shown.lock().screen().contents())
        });
        // Its last words are still on their way; the reader ends with them.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    /// What is not as it was before the program took the terminal over.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn not_restored(&self) -> Vec<&'static str> {
        let parser = self.shown.lock();
        let screen = parser.screen();
        // ICANON and ECHO of the line discipline.
        let modes = self.master.get_termios().map_or(0, |t| t.local_flags.bits());
        let wrong = [
            (screen.alternate_screen(), "the alternate screen"),
            (screen.mouse_protocol_mode() != MouseProtocolMode::None, "the mouse"),
            (screen.bracketed_paste(), "bracketed paste"),
            (screen.hide_cursor(), "no cursor"),
            (modes & 0o12 != 0o12, "raw mode"),
        ];
        wrong.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the screen ---\n{}", self.text());
        }
    }
}
