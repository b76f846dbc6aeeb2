//! `keadm debug`: what is wrong on this edge node, with the cloud or without it.

mod check;
mod collect;
mod diagnose;
mod get;
mod probe;
mod redact;

use camino::Utf8PathBuf;

use crate::context::Context;
use crate::errors::{CommandError, Kind};

/// Look into this edge node, also while nothing else works
#[derive(clap::Args, Debug)]
pub struct DebugArgs {
    #[command(subcommand)]
    action: DebugAction,
}

/// What to look into.
#[derive(clap::Subcommand, Debug)]
pub enum DebugAction {
    /// List the objects that the edge's database holds
    Get(get::DebugGetArgs),
    /// Check this machine and its edge side, or one thing of it
    Check(check::DebugCheckArgs),
    /// Say why the node or a pod is not well
    Diagnose(diagnose::DiagnoseArgs),
    /// Put all that a bug report needs into one file, without keys, tokens and secrets
    Collect(collect::CollectArgs),
}

/// Where the database is.
#[derive(clap::Args, Debug, Clone)]
pub struct DatabaseArg {
    /// The edge's database [default: as edgecore.yaml says, else that of a `keadm up` here]
    #[arg(short = 'p', long = "edgedb-path", value_name = "FILE")]
    path: Option<Utf8PathBuf>,
}

impl DatabaseArg {
    fn file(&self, cx: &Context) -> Utf8PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        let configured = super::config::read_edgecore(cx, &cx.paths.edgecore_yaml()).ok();
        let configured = configured
            .and_then(|(config, _)| Utf8PathBuf::from_path_buf(config.database.data_source).ok());
        // Where an installed edge keeps it, and where `keadm up` does.
        let usual = cx.paths.lib().join("edgecore.db");
        let up = cx.paths.at("/var/lib/keadm/edgecore/edgecore.db");
        configured.unwrap_or(if cx.host.exists(&up) && !cx.host.exists(&usual) {
            up
        } else {
            usual
        })
    }

    /// What it holds.
    fn read(&self, cx: &Context) -> Result<Vec<edgecore::Stored>, CommandError> {
        let path = self.file(cx);
        edgecore::stored(path.as_std_path()).map_err(|e| {
            let kind = match &e {
                edgecore::StoreError::Open { source, .. } => crate::errors::kind_of(source),
                _ => Kind::Failed,
            };
            CommandError::new(kind, "cannot read what this edge holds")
                .caused_by(&e)
                .hint("`--edgedb-path FILE` names another database; root may read it")
        })
    }
}

/// Looks.
///
/// # Errors
/// When it cannot be looked at, or something is not well.
pub fn debug(args: &DebugArgs, cx: &Context) -> Result<(), CommandError> {
    match &args.action {
        DebugAction::Get(args) => get::get(args, cx),
        DebugAction::Check(args) => check::check(args, cx),
        DebugAction::Diagnose(args) => diagnose::diagnose(args, cx),
        DebugAction::Collect(args) => collect::collect(args, cx),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn the_database_is_the_installed_edges_or_else_that_of_keadm_up() {
        let of_up = "/var/lib/keadm/edgecore/edgecore.db";
        let usual = "/var/lib/kubeedge/edgecore.db";
        let found = |there: &[&str]| {
            let fake = Fake::new(|state| {
                state.files.extend(there.iter().map(|path| ((*path).into(), (0o600, Vec::new()))));
            });
            DatabaseArg { path: None }.file(&crate::testing::context(&fake))
        };
        assert_eq!(found(&[]), usual);
        assert_eq!(found(&[of_up]), of_up);
        assert_eq!(found(&[of_up, usual]), usual);
    }
}
