//! The only binary: parse, run, print the error, exit code. No logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Containers are started by this same program, which may have no other thread then.
    #[cfg(feature = "edge")]
    {
        let argv: Vec<std::ffi::OsString> = std::env::args_os().collect();
        if let Some(code) = edgecore::shim::dispatch(&argv) {
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
    }
    keadm::main()
}
