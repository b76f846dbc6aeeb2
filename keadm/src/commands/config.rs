//! `keadm config`, and how every command reads the two configuration files.

use api::config::{
    CloudCoreConfig, ConfigErrors, ConfigFile as _, Document, EdgeCoreConfig, Host, Warning,
};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};

/// Print or check configuration files
#[derive(clap::Args, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: ConfigAction,
}

/// What to do with configuration files.
#[derive(clap::Subcommand, Debug)]
pub enum ConfigAction {
    /// Print the configuration with all its defaults
    Default {
        /// Whose
        #[arg(value_enum)]
        program: Program,
        /// JSON instead of YAML
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<super::JsonOutput>,
    },
    /// Print the part of the configuration that somebody starting out needs
    Minimal {
        /// Whose
        #[arg(value_enum)]
        program: Program,
        /// JSON instead of YAML
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<super::JsonOutput>,
    },
    /// Check a file: all that is wrong with it, and what in it changes nothing
    Check {
        /// Whose
        #[arg(value_enum)]
        program: Program,
        /// The file [default: where the program would look]
        file: Option<Utf8PathBuf>,
        /// The form of the result
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<super::JsonOutput>,
    },
}

/// A program with a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// `cloudcore.yaml`
    Cloudcore,
    /// `edgecore.yaml`
    Edgecore,
}

/// Prints or checks.
///
/// # Errors
/// When the file is wrong.
pub fn config(args: &ConfigArgs, cx: &Context) -> Result<(), CommandError> {
    let host = facts(cx);
    match &args.action {
        ConfigAction::Default { program, output } => {
            print(cx, &default(*program, &host), output.is_some())
        }
        ConfigAction::Minimal { program, output } => {
            print(cx, &minimal(*program, &host), output.is_some())
        }
        ConfigAction::Check { program, file, output } => {
            let file = file.clone().unwrap_or_else(|| match program {
                Program::Cloudcore => cx.paths.cloudcore_yaml(),
                Program::Edgecore => cx.paths.edgecore_yaml(),
            });
            let read = match program {
                Program::Cloudcore => read_cloudcore(cx, &file).map(|(_, warnings)| warnings),
                Program::Edgecore => read_edgecore(cx, &file).map(|(_, warnings)| warnings),
            };
            if output.is_some() {
                let errors = read.as_ref().err().map_or(&[][..], CommandError::causes);
                let warnings = read
                    .as_ref()
                    .map_or(Vec::new(), |all| all.iter().map(ToString::to_string).collect());
                cx.printer.json(&json!({
                    "file": file, "valid": read.is_ok(), "errors": errors, "warnings": warnings,
                }))?;
                return read.map(|_| ());
            }
            warn(cx, &read?);
            cx.printer.say(format!("`{file}` is valid"));
            Ok(())
        }
    }
}

fn print(cx: &Context, yaml: &str, as_json: bool) -> Result<(), CommandError> {
    if !as_json {
        return Ok(cx.printer.data(yaml.trim_end())?);
    }
    let value: serde_json::Value = api::config::yaml::read(yaml)
        .map_err(|e| CommandError::new(Kind::Failed, "the configuration is no YAML").because(e))?;
    Ok(cx.printer.json(&value)?)
}

/// What `--defaultconfig` prints.
pub fn default(program: Program, host: &Host) -> String {
    match program {
        Program::Cloudcore => CloudCoreConfig::default_yaml(host),
        Program::Edgecore => EdgeCoreConfig::default_yaml(host),
    }
}

/// What `--minconfig` prints.
pub fn minimal(program: Program, host: &Host) -> String {
    match program {
        Program::Cloudcore => CloudCoreConfig::min_yaml(host),
        Program::Edgecore => EdgeCoreConfig::min_yaml(host),
    }
}

/// What the defaults of a configuration need to know of this machine.
pub fn facts(cx: &Context) -> Host {
    Host {
        local_ip: cx.host.addresses().first().copied().unwrap_or(Host::default().local_ip),
        hostname: cx.host.hostname(),
    }
}

/// Reads `cloudcore.yaml`.
///
/// # Errors
/// All that is wrong with it, together.
pub fn read_cloudcore(
    cx: &Context,
    path: &Utf8Path,
) -> Result<(CloudCoreConfig, Vec<Warning>), CommandError> {
    let text = text_of(cx, path, "keadm init")?;
    CloudCoreConfig::parse(&text, &facts(cx)).map_err(|e| invalid(path, &e))
}

/// Reads `edgecore.yaml`.
///
/// # Errors
/// All that is wrong with it, together.
pub fn read_edgecore(
    cx: &Context,
    path: &Utf8Path,
) -> Result<(EdgeCoreConfig, Vec<Warning>), CommandError> {
    let text = text_of(cx, path, "keadm join")?;
    EdgeCoreConfig::parse(&text, &facts(cx)).map_err(|e| invalid(path, &e))
}

fn text_of(cx: &Context, path: &Utf8Path, maker: &str) -> Result<String, CommandError> {
    let bytes = cx.host.read(path).map_err(|e| {
        let error = file_error("read", path, &e);
        if e.kind() == std::io::ErrorKind::NotFound {
            error.hint(format!("`{maker}` writes it; `--config FILE` names another"))
        } else {
            error
        }
    })?;
    String::from_utf8(bytes)
        .map_err(|e| CommandError::new(Kind::Failed, format!("`{path}` is not text")).caused_by(&e))
}

fn invalid(path: &Utf8Path, errors: &ConfigErrors) -> CommandError {
    let error = CommandError::new(Kind::Failed, format!("`{path}` cannot be used"));
    errors
        .errors
        .iter()
        .fold(error, |error, one| error.because(one.to_string()))
        .hint("`keadm config check` says whether it is right when you have corrected it")
}

/// A `--set` or a flag that the configuration refuses.
pub fn refused(errors: &ConfigErrors) -> CommandError {
    let error = CommandError::new(Kind::Usage, format!("{} cannot be used", errors.what));
    errors.errors.iter().fold(error, |error, one| error.because(one.to_string()))
}

/// Applies all `--set` flags.
///
/// # Errors
/// When a key does not exist or a value does not fit.
pub fn apply_settings<C: api::config::ConfigFile>(
    document: &mut Document<C>,
    settings: &[String],
) -> Result<(), CommandError> {
    settings.iter().try_for_each(|setting| document.set(setting).map_err(|e| refused(&e)))
}

/// Says what in a file changes nothing.
pub fn warn(cx: &Context, warnings: &[Warning]) {
    for warning in warnings {
        cx.printer.warn(warning.to_string());
    }
}

#[cfg(test)]
mod tests {
    use crate::host::fake::Fake;
    use crate::testing::keadm;

    #[test]
    fn a_configuration_is_printed_as_json_too_and_says_the_same() {
        for what in ["default edgecore", "minimal cloudcore"] {
            let read = |text: &str| -> serde_json::Value {
                let (_, data) = text.split_once("--- out\n").unwrap();
                api::config::yaml::read(data).unwrap()
            };
            let yaml = keadm(&format!("keadm config {what}"), &Fake::default());
            let json = keadm(&format!("keadm config {what} -o json"), &Fake::default());
            assert!(json.contains(r#""modules": {"#), "{json}");
            assert_eq!(read(&json), read(&yaml), "{what}");
        }
    }
}
