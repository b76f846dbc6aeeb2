//! The only binary: parse, run, print the error, exit code. No logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    keadm::main()
}
