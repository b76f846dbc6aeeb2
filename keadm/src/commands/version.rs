//! `keadm version`

use serde::Serialize;

use crate::context::Context;
use crate::errors::CommandError;

/// The KubeEdge release whose wire, files and resources this program speaks.
pub const KUBEEDGE_VERSION: &str = "v1.23.0";

/// Print the version
#[derive(clap::Args, Debug)]
pub struct VersionArgs {
    /// The form; without it, one line for people
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<VersionFormat>,
}

/// The forms of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VersionFormat {
    /// All fields.
    Yaml,
    /// All fields.
    Json,
    /// Only the version.
    Short,
}

/// KubeEdge's keys, and the release of KubeEdge that this program is compatible with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    major: &'static str,
    minor: &'static str,
    git_version: String,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
    kubeedge_version: &'static str,
}

/// Prints the version.
///
/// # Errors
/// When standard output is gone.
pub fn version(args: &VersionArgs, cx: &Context) -> Result<(), CommandError> {
    let info = Info {
        major: env!("CARGO_PKG_VERSION_MAJOR"),
        minor: env!("CARGO_PKG_VERSION_MINOR"),
        git_version: short(),
        git_commit: option_env!("KEADM_GIT_COMMIT").unwrap_or(""),
        git_tree_state: option_env!("KEADM_GIT_TREE_STATE").unwrap_or(""),
        build_date: option_env!("KEADM_BUILD_DATE").unwrap_or(""),
        go_version: "",
        compiler: "rustc",
        platform: platform(),
        kubeedge_version: KUBEEDGE_VERSION,
    };
    let text = match args.output {
        Some(VersionFormat::Short) => info.git_version,
        Some(VersionFormat::Json) => serde_json::to_string_pretty(&info).unwrap_or_default(),
        Some(VersionFormat::Yaml) => {
            serde_saphyr::to_string(&info).unwrap_or_default().trim_end().to_owned()
        }
        None => format!(
            "version: version.Info{{Major:\"{}\", Minor:\"{}\", GitVersion:\"{}\", \
             GitCommit:\"{}\", GitTreeState:\"{}\", BuildDate:\"{}\", GoVersion:\"\", \
             Compiler:\"{}\", Platform:\"{}\", KubeEdgeVersion:\"{KUBEEDGE_VERSION}\"}}",
            info.major,
            info.minor,
            info.git_version,
            info.git_commit,
            info.git_tree_state,
            info.build_date,
            info.compiler,
            info.platform
        ),
    };
    Ok(cx.printer.data(text)?)
}

/// `v0.1.0`
pub fn short() -> String {
    concat!("v", env!("CARGO_PKG_VERSION")).to_owned()
}

fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}
