//! The terminal is as it was, however the dashboard ends. The program on the pty is this test itself.

use std::io::Read;
use std::num::NonZeroU16;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use tui::term::Guard;
use vt100::MouseProtocolMode;

/// Says to the child that it is one.
const CHILD: &str = "TUI_TEST_ON_A_PTY";

/// Runs a test of this file as a program on a terminal; the terminal afterwards.
fn on_a_pty(test: &str) -> (vt100::Parser, u32, u32) {
    let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
    let pty = native_pty_system().openpty(size).unwrap();
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    command.env(CHILD, "1");
    command.env("TERM", "xterm-256color");
    command.env("RUST_BACKTRACE", "0");
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let (mut reader, mut said) = (pty.master.try_clone_reader().unwrap(), Vec::new());
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = reader.read(&mut bytes) {
        said.extend_from_slice(&bytes[..n]);
    }
    let code = child.wait().unwrap().exit_code();
    let modes = pty.master.get_termios().unwrap().local_flags.bits();
    let (lines, columns) = (NonZeroU16::new(24).unwrap(), NonZeroU16::new(80).unwrap());
    let mut terminal = vt100::Parser::new(lines, columns, 0);
    terminal.process(&said);
    let taken = b"\x1b[?1049h";
    assert!(said.windows(taken.len()).any(|w| w == taken), "it took the terminal over");
    (terminal, modes, code)
}

fn assert_restored(terminal: &vt100::Parser, modes: u32) {
    let screen = terminal.screen();
    assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor());
    assert!(screen.mouse_protocol_mode() == MouseProtocolMode::None);
    assert_eq!(modes & 0o12, 0o12, "lines and echo");
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_readable() {
    if std::env::var_os(CHILD).is_some() {
        let _guard = Guard::enter(true).unwrap();
        panic!("what went wrong");
    }
    let here = "terminal::a_panic_gives_the_terminal_back_and_is_readable";
    let (terminal, modes, code) = on_a_pty(here);
    assert_restored(&terminal, modes);
    assert_ne!(code, 0);
    let said = terminal.screen().contents();
    assert!(said.contains("what went wrong"), "{said}");
}

#[test]
fn a_panic_of_another_thread_gives_the_terminal_back() {
    if std::env::var_os(CHILD).is_some() {
        let guard = Guard::enter(true).unwrap();
        std::thread::spawn(|| panic!("what went wrong")).join().unwrap_err();
        // As where a panic ends the process: nothing is unwound.
        return std::mem::forget(guard);
    }
    let here = "terminal::a_panic_of_another_thread_gives_the_terminal_back";
    let (terminal, modes, _) = on_a_pty(here);
    assert_restored(&terminal, modes);
    assert!(terminal.screen().contents().contains("what went wrong"));
}
