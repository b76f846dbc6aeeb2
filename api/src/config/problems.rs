//! What is wrong with a file, and what deserves a warning.

use std::fmt;

use super::ignored::IgnoredKey;
use crate::printable::printable;

/// How much of a path or message is printed.
const SHOWN: usize = 512;

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The dotted path of the key; empty for the whole file.
    pub path: String,
    /// What is wrong with its value.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", printable(&self.path, SHOWN))?;
        }
        printable(&self.message, SHOWN).fmt(f)
    }
}

/// All that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// `cloudcore.yaml`, `edgecore.yaml` or `--set`.
    pub what: &'static str,
    /// At least one.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn one(what: &'static str, path: &str, message: String) -> Self {
        Self { what, errors: vec![ConfigError { path: path.to_owned(), message }] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.errors.as_slice() {
            return write!(f, "{}: {only}", self.what);
        }
        write!(f, "{} has {} errors:", self.what, self.errors.len())?;
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// What a file's owner may want to know although the file is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// These keys were given a value of their own, and it changes nothing here.
    Ignored(Vec<IgnoredKey>),
    /// These keys are known to neither KubeEdge nor us: misspelt, or from another version.
    Unknown(Vec<String>),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored(keys) => {
                f.write_str("these settings change nothing here and can be removed:")?;
                keys.iter().try_for_each(|key| write!(f, "\n  {}: {}", key.path, key.why))
            }
            Self::Unknown(paths) => {
                f.write_str("these keys are unknown, perhaps misspelt, and are ignored:")?;
                paths.iter().try_for_each(|path| write!(f, " {}", printable(path, SHOWN)))
            }
        }
    }
}

/// Problems found so far.
#[derive(Debug, Default)]
pub struct Problems(Vec<ConfigError>);

impl Problems {
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(ConfigError { path: path.to_owned(), message: message.into() });
    }

    /// Adds the message unless `good`.
    pub(super) fn check(&mut self, good: bool, path: &str, message: &str) {
        if !good {
            self.add(path, message);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_errors(self, what: &'static str) -> ConfigErrors {
        ConfigErrors { what, errors: self.0 }
    }
}
