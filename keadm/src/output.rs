//! How a command that reports writes what it has found: tables for people, shapes for scripts.
//!
//! Owns: `-o`, and the selection and order of objects. docs/output.md describes the shapes.
//! Called by: `get`, `describe`, `status`, `top`, `events`.
//! Never: knows where an object came from.

pub mod fit;
pub mod jsonpath;
pub mod print;
pub mod select;
pub mod shape;
pub mod table;

use jsonpath::Template;

/// The form of the output.
#[derive(Debug, Clone)]
pub enum Form {
    /// Columns for people.
    Table {
        /// With the columns that seldom matter.
        wide: bool,
    },
    /// One JSON document.
    Json,
    /// One JSON document a line.
    JsonLines,
    /// YAML.
    Yaml,
    /// `kind/name`
    Name,
    /// kubectl's template.
    JsonPath(Template),
    /// A path per column.
    CustomColumns(Vec<(String, Template)>),
}

impl std::str::FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (form, rest) = text.split_once('=').map_or((text, None), |(f, r)| (f, Some(r)));
        match (form, rest) {
            ("table", None) => Ok(Self::Table { wide: false }),
            ("wide", None) => Ok(Self::Table { wide: true }),
            ("json", None) => Ok(Self::Json),
            ("jsonl", None) => Ok(Self::JsonLines),
            ("yaml", None) => Ok(Self::Yaml),
            ("name", None) => Ok(Self::Name),
            ("jsonpath", Some(template)) => Template::parse(template).map(Self::JsonPath),
            ("custom-columns", Some(columns)) => custom_columns(columns),
            ("jsonpath", None) => Err("say what: `jsonpath={.metadata.name}`".to_owned()),
            ("custom-columns", None) => Err(
                "say which: `custom-columns=NAME:.metadata.name,AGE:.metadata.creationTimestamp`"
                    .to_owned(),
            ),
            _ => Err(format!(
                "`{form}` is none of table, wide, json, jsonl, yaml, name, jsonpath=TEMPLATE, \
                 custom-columns=TITLE:PATH,.."
            )),
        }
    }
}

fn custom_columns(text: &str) -> Result<Form, String> {
    let mut columns = Vec::new();
    for column in split_outside_brackets(text) {
        let (title, path) = column
            .split_once(':')
            .filter(|(title, path)| !title.is_empty() && !path.is_empty())
            .ok_or_else(|| format!("the column `{column}` is not TITLE:PATH"))?;
        columns.push((title.to_owned(), Template::path(path)?));
    }
    Ok(Form::CustomColumns(columns))
}

/// At commas that are in no bracket or quotes.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '{' | '(') => depth += 1,
            (None, ']' | '}' | ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `-o` and what goes with it.
#[derive(clap::Args, Debug, Clone)]
pub struct OutputArgs {
    /// table, wide, json, jsonl, yaml, name, jsonpath=TEMPLATE or custom-columns=TITLE:PATH,..
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true, add = completions::ArgValueCompleter::new(crate::complete::forms))]
    pub output: Form,
    /// Leave the line with the titles out
    #[arg(long)]
    pub no_headers: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_is_none_is_told_with_all_that_there_are() {
        let wrong = |text: &str| text.parse::<Form>().unwrap_err();
        assert!(wrong("toml").contains("custom-columns"));
        assert!(wrong("jsonpath").contains("jsonpath={.metadata.name}"));
        assert!(wrong("custom-columns=NAME").contains("`NAME` is not TITLE:PATH"));
        assert!(wrong("jsonpath={.x").contains("is not closed"));
        assert!(wrong("jsonpath=").contains("jsonpath={.metadata.name}"));
        assert!(wrong("custom-columns=A:{.x").contains("is not closed"));
        assert!(wrong("custom-columns=A:.x}").contains("is not opened"));
    }

    #[test]
    fn commas_within_a_path_do_not_end_a_column() {
        let form: Form = "custom-columns=A:.x[?(@.y==\"a,b\")].z,B:.y".parse().unwrap();
        let Form::CustomColumns(columns) = form else { panic!("{form:?}") };
        let titles: Vec<&str> = columns.iter().map(|(title, _)| title.as_str()).collect();
        assert_eq!(titles, ["A", "B"]);
    }
}
