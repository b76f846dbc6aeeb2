//! `keadm completion`

use completions::Shell;

use crate::context::Context;
use crate::errors::{CommandError, Kind};

/// Print the completion script of a shell
///
/// For bash: `source <(keadm completion bash)`, or put it into
/// `/etc/bash_completion.d/keadm`. Names of nodes, pods, devices and namespaces are completed, too,
/// where a status stream or an API server answers at once.
#[derive(clap::Args, Debug)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When standard output is gone.
pub fn completion(args: &CompletionArgs, cx: &Context) -> Result<(), CommandError> {
    let script = completions::script(args.shell, &crate::command())?;
    let script = String::from_utf8(script)
        .map_err(|e| CommandError::new(Kind::Failed, "the script is broken").caused_by(&e))?;
    Ok(cx.printer.data(script.trim_end())?)
}

#[cfg(all(test, feature = "cloud", feature = "edge", feature = "dashboard"))]
mod tests {
    /// `UPDATE_GENERATED=1 cargo test -p keadm` writes them anew.
    #[test]
    fn the_checked_in_scripts_pages_and_reference_are_fresh() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../completions/generated");
        let update = std::env::var_os("UPDATE_GENERATED").is_some();
        let mut wanted = std::collections::BTreeSet::new();
        for (name, content) in
            completions::all(crate::command(), &crate::errors::EXIT_CODES).unwrap()
        {
            let path = std::path::Path::new(folder).join(&name);
            if update {
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(&path, &content).unwrap();
            }
            let there = std::fs::read(&path).unwrap_or_default();
            assert!(there == content, "{name} is stale: UPDATE_GENERATED=1 cargo test -p keadm");
            wanted.insert(name);
        }
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            assert!(wanted.contains(&name), "{name} is left over from an older command line");
        }
    }
}
