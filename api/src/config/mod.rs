//! The configuration files of both halves, as KubeEdge has them.
//!
//! A file is laid over the defaults, as the original does it: maps key by key, lists whole. The
//! defaults themselves are files ([`cloudcore.yaml`](cloudcore), [`edgecore.yaml`](edgecore)) and
//! print as they are; the structs have those keys that mean something here. Keys that mean nothing
//! here are named in one warning ([`ignored`]); all that is wrong with a file is reported together.
//!
//! Owns: reading, checking, changing and printing these files' text.
//! Called by: `keadm` (reads files, makes them), and whoever takes a part of the result.
//! Never: opens a file, asks the machine for its name ([`Host`] is given), prints a token.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub mod cloudcore;
pub mod duration;
pub mod edgecore;
pub mod ignored;
pub mod kubelet;
mod problems;
mod set;
mod tree;
pub mod yaml;

pub use cloudcore::CloudCoreConfig;
pub use duration::GoDuration;
pub use edgecore::EdgeCoreConfig;
pub use ignored::IgnoredKey;
pub use problems::{ConfigError, ConfigErrors, Warning};

use problems::Problems;

/// What the defaults need to know of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The address that others reach this machine by.
    pub local_ip: IpAddr,
    /// The host name; becomes the default node name, in lower case.
    pub hostname: String,
}

impl Default for Host {
    /// A machine of which nothing is known.
    fn default() -> Self {
        Self { local_ip: IpAddr::from([127, 0, 0, 1]), hostname: String::new() }
    }
}

impl Host {
    /// The default node name, as the original makes it.
    fn node_name(&self) -> String {
        let name = self.hostname.to_lowercase();
        if name.parse::<crate::names::NodeName>().is_ok() {
            name
        } else {
            "default-edge-node".into()
        }
    }
}

/// One of the two kinds of file.
pub trait ConfigFile: DeserializeOwned + sealed::Sealed {
    /// What it is called in errors.
    const NAME: &'static str;
    #[doc(hidden)]
    const DEFAULTS: &'static str;
    #[doc(hidden)]
    const OTHER_KEYS: &'static str;
    #[doc(hidden)]
    const FREE: &'static [&'static str];
    #[doc(hidden)]
    const MINIMAL: &'static [&'static str];
    #[doc(hidden)]
    const IGNORED: &'static [IgnoredKey];
    #[doc(hidden)]
    fn check(&self, problems: &mut Problems);

    /// Reads the text of a file, laid over the defaults.
    ///
    /// # Errors
    /// All that is wrong with it, together.
    fn parse(text: &str, host: &Host) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Document::<Self>::read(text, host)?.config()
    }

    /// The defaults.
    fn default_for(host: &Host) -> Self {
        Document::<Self>::defaults(host).config().expect("the defaults are valid").0
    }

    /// The whole file with its defaults, as `--defaultconfig` prints it.
    fn default_yaml(host: &Host) -> String {
        Document::<Self>::defaults(host).to_yaml().expect("the defaults are YAML")
    }

    /// What somebody starting out needs, as `--minconfig` prints it.
    fn min_yaml(host: &Host) -> String {
        Document::<Self>::defaults(host).to_minimal_yaml().expect("the defaults are YAML")
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::CloudCoreConfig {}
    impl Sealed for super::EdgeCoreConfig {}
}

/// A configuration file as a tree, before it is checked: defaults, the file, `--set`.
#[derive(Clone)]
pub struct Document<C> {
    /// The whole, in the original's spelling of keys.
    value: Value,
    defaults: Value,
    unknown: Vec<String>,
    config: PhantomData<C>,
}

impl<C> fmt::Debug for Document<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document") // it may hold a token
    }
}

impl<C: ConfigFile> Document<C> {
    /// Nothing but the defaults.
    pub fn defaults(host: &Host) -> Self {
        let text = C::DEFAULTS
            .replace("{local-ip}:", &with_port(host.local_ip))
            .replace("{local-ip}", &host.local_ip.to_string())
            .replace("{hostname}", &host.node_name());
        let value: Value = yaml::read(&text).expect("the defaults are YAML");
        Self { defaults: value.clone(), value, unknown: Vec::new(), config: PhantomData }
    }

    /// The text of a file over the defaults.
    ///
    /// # Errors
    /// When the text is not YAML, or not a mapping.
    pub fn read(text: &str, host: &Host) -> Result<Self, ConfigErrors> {
        let mut document = Self::defaults(host);
        let mut file: Value = yaml::read(text).map_err(|e| ConfigErrors::one(C::NAME, "", e))?;
        if file.is_null() {
            return Ok(document);
        }
        if !file.is_object() {
            return Err(ConfigErrors::one(C::NAME, "", "it should be a mapping of keys".into()));
        }
        document.unknown = document.known().make_canonical(&mut file);
        tree::merge(&mut document.value, file);
        Ok(document)
    }

    fn known(&self) -> tree::Known {
        let mut known = self.defaults.clone();
        if let Ok(others) = yaml::read(C::OTHER_KEYS) {
            tree::merge(&mut known, others);
        }
        tree::Known { keys: known, free: C::FREE }
    }

    /// Applies a setting in Helm's syntax: `a.b[0]=c,d={x,y},e=null`.
    ///
    /// # Errors
    /// When the syntax is wrong or a key is none that the file may have.
    pub fn set(&mut self, setting: &str) -> Result<(), ConfigErrors> {
        let refuse = |message| ConfigErrors::one("--set", setting_name(setting), message);
        for (path, value) in set::parse(setting).map_err(refuse)? {
            self.set_at(path, value).map_err(refuse)?;
        }
        Ok(())
    }

    /// Sets the value at a dotted path, whatever characters the value has.
    ///
    /// # Errors
    /// When the path is none that the file may have.
    pub fn set_value(&mut self, path: &str, value: impl Into<Value>) -> Result<(), ConfigErrors> {
        let refuse = |message| ConfigErrors::one(C::NAME, path, message);
        let steps = set::path(path).map_err(refuse)?;
        self.set_at(steps, value.into()).map_err(refuse)
    }

    fn set_at(&mut self, mut path: set::Path, value: Value) -> Result<(), String> {
        self.known().make_path_canonical(&mut path)?;
        set::put(&mut self.value, &path, value)
    }

    /// The whole file as YAML, with its defaults.
    ///
    /// # Errors
    /// Never in practice: the tree came from YAML.
    pub fn to_yaml(&self) -> Result<String, ConfigErrors> {
        yaml::write(&self.value).map_err(|e| ConfigErrors::one(C::NAME, "", e))
    }

    /// The part of the file that somebody starting out needs, as YAML.
    ///
    /// # Errors
    /// Never in practice: the tree came from YAML.
    pub fn to_minimal_yaml(&self) -> Result<String, ConfigErrors> {
        let mut minimal = Value::Object(serde_json::Map::new());
        for path in C::MINIMAL {
            if let Some(value) = tree::get(&self.value, path) {
                tree::insert(&mut minimal, path, value.clone());
            }
        }
        yaml::write(&minimal).map_err(|e| ConfigErrors::one(C::NAME, "", e))
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong, together.
    pub fn config(&self) -> Result<(C, Vec<Warning>), ConfigErrors> {
        let mut problems = Problems::default();
        let config: C = match tree::typed(&self.value, &self.defaults, &mut problems) {
            Some(config) => config,
            None => return Err(problems.into_errors(C::NAME)),
        };
        config.check(&mut problems);
        if !problems.is_empty() {
            return Err(problems.into_errors(C::NAME));
        }
        let mut warnings = Vec::new();
        let ignored = ignored::changed(C::IGNORED, &self.value, &self.defaults);
        if !ignored.is_empty() {
            warnings.push(Warning::Ignored(ignored));
        }
        if !self.unknown.is_empty() {
            warnings.push(Warning::Unknown(self.unknown.clone()));
        }
        Ok((config, warnings))
    }
}

/// The key of a setting without its value, which may be a secret.
fn setting_name(setting: &str) -> &str {
    setting.split('=').next().unwrap_or(setting)
}

/// An address as it stands before a port.
fn with_port(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:"),
        IpAddr::V6(ip) => format!("[{ip}]:"),
    }
}

/// A text that no log may show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text. Give it to whom it is meant for, and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "(none)" } else { "(redacted)" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        // The words of the inner error could show the text.
        String::deserialize(de).map(Self).map_err(|_| serde::de::Error::custom("it should be text"))
    }
}

/// Feature gates by name.
pub type FeatureGates = BTreeMap<String, bool>;

/// A port, said as such when it is none.
fn port<'de, D: Deserializer<'de>>(de: D) -> Result<u16, D::Error> {
    let number = i64::deserialize(de)?;
    u16::try_from(number).map_err(|_| serde::de::Error::custom(format!("{number} is not a port")))
}

#[cfg(test)]
mod tests;
