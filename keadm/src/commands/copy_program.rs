//! `keadm copy-program`: this program, copied. For containers of an installation image that has
//! nothing else in it.

use camino::Utf8PathBuf;

use crate::context::Context;
use crate::errors::{CommandError, file_error};

/// Copy this program
#[derive(clap::Args, Debug)]
pub struct CopyProgramArgs {
    /// Where to
    to: Utf8PathBuf,
}

/// Copies.
///
/// # Errors
/// As the operating system says.
pub fn copy_program(args: &CopyProgramArgs, cx: &Context) -> Result<(), CommandError> {
    let failed = |e: std::io::Error| file_error("write", &args.to, &e);
    let from = cx.host.this_program().map_err(failed)?;
    cx.host.copy(&from, &args.to).map_err(failed)
}
