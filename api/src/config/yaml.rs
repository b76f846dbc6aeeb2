//! YAML read as Go reads it.
//!
//! Owns: the options of the YAML library, the limits.
//! Called by: the rest of `config`, and whoever reads or prints YAML for people.
//! Never: quotes the text in an error; it may hold a token.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// No configuration file is larger: 1 MiB.
pub const MAX_LEN: usize = 1 << 20;

/// Reads one document as Go's library would: `0644` is octal, `on` and `yes` are booleans,
/// a key that stands twice is an error.
///
/// # Errors
/// What is wrong and in which line, without quoting the text.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.len() > MAX_LEN {
        return Err(format!("{} bytes exceed the limit of {MAX_LEN}", text.len()));
    }
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())
}

/// Prints `value` so that Go reads the same from it.
///
/// # Errors
/// When `value` has no YAML form.
pub fn write<T: Serialize>(value: &T) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|e| e.to_string())
}
