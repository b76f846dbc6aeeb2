//! docs/testing.md names the test that holds each promise: every name must be a test that exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The names of all functions that are tests, in all crates.
fn tests_in(root: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.to_string_lossy().starts_with('.');
            if path.is_dir() && name != "target" && !hidden {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                names.extend(tests_of(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    names
}

fn tests_of(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        let attribute = line.starts_with("#[test") || line.starts_with("#[tokio::test");
        marked |= attribute;
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if let Some(rest) = function {
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if marked {
                names.push(name);
            }
            marked = false;
        }
    }
    names
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/testing.md")).unwrap();
    let tests = tests_in(root);
    let rows = page.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| #"));
    let cells: Vec<&str> = rows.filter_map(|l| l.rsplit('|').nth(1)).collect();
    let named: Vec<&str> = cells.iter().flat_map(|c| c.split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 50, "the tables have another form than this test reads: {named:?}");
    let missing: Vec<_> = named.iter().filter(|n| !tests.contains(**n)).collect();
    assert!(missing.is_empty(), "docs/testing.md names tests that do not exist: {missing:#?}");
}
