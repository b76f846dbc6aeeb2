//! Who may depend on whom, and what only one module may know: the rules of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

const OURS: [&str; 9] = [
    "api",
    "service",
    "control-plane",
    "cloudcore",
    "edgecore",
    "tui",
    "completions",
    "keadm",
    "tests",
];

/// What each of our crates may use of ours, and what it may never reach, even indirectly.
const RULES: [(&str, &[&str], &[&str]); 8] = [
    ("api", &[], &["tokio", "kube", "rusqlite", "clap", "ratatui", "hyper"]),
    ("service", &[], &["kube", "rusqlite", "clap", "ratatui", "k8s-openapi"]),
    ("control-plane", &["api", "service"], &["kube", "cloudcore", "edgecore", "ratatui", "clap"]),
    (
        "cloudcore",
        &["api", "service"],
        &["rusqlite", "control-plane", "edgecore", "clap", "ratatui"],
    ),
    ("edgecore", &["api", "service"], &["kube", "cloudcore", "control-plane", "clap", "ratatui"]),
    ("tui", &["api"], &["kube", "rusqlite", "cloudcore", "edgecore", "clap", "service"]),
    ("completions", &[], &["tokio", "kube", "rusqlite", "ratatui"]),
    (
        "keadm",
        &["api", "service", "control-plane", "cloudcore", "edgecore", "tui", "completions"],
        &["tests"],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform=x86_64-unknown-linux-gnu"].map(String::from))
        .exec()
        .unwrap()
}

fn package<'a>(meta: &'a Metadata, name: &str) -> &'a Package {
    meta.workspace_packages().into_iter().find(|p| p.name.as_str() == name).unwrap()
}

/// Everything that `from` links in, through normal dependencies.
fn reachable(meta: &Metadata, from: &PackageId) -> BTreeSet<String> {
    let nodes: BTreeMap<_, _> =
        meta.resolve.as_ref().unwrap().nodes.iter().map(|n| (&n.id, n)).collect();
    let names: BTreeMap<_, _> = meta.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
    while let Some(id) = todo.pop() {
        for dep in &nodes[id].deps {
            let normal = dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            if normal && seen.insert(&dep.pkg) {
                todo.push(&dep.pkg);
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[test]
fn every_crate_keeps_to_the_dependency_table() {
    let meta = metadata();
    assert_eq!(meta.workspace_packages().len(), OURS.len(), "a crate is missing from this test");
    for (name, may, never) in RULES {
        let reached = reachable(&meta, &package(&meta, name).id);
        for ours in OURS {
            let allowed = may.contains(&ours);
            assert!(
                allowed || !reached.contains(ours),
                "`{name}` depends on `{ours}`; the table does not allow that"
            );
        }
        for forbidden in never {
            assert!(!reached.contains(*forbidden), "`{name}` reaches `{forbidden}`");
        }
    }
}

/// What one feature of `keadm`, alone, links in.
fn tree_of(feature: &str) -> BTreeSet<String> {
    let out = std::process::Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--offline", "-p", "keadm", "--no-default-features"])
        .args(["--features", feature, "-e", "normal", "--prefix", "none", "-f", "{p}"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_edge_build_has_no_kubernetes_client_and_no_dashboard() {
    let reached = tree_of("edge");
    assert!(reached.contains("edgecore"));
    for forbidden in ["kube", "ratatui", "cloudcore", "control-plane", "kube-cel"] {
        assert!(!reached.contains(forbidden), "the edge build reaches `{forbidden}`");
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its unit tests and comments.
fn code_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn only_api_wire_names_route_strings() {
    // Words that appear on the wire and nowhere else.
    let words = ["\"podpatch\"", "\"nodepatch\"", "\"applicationResponse\"", "/edge_updated"];
    for name in ["cloudcore", "edgecore", "keadm", "tui", "control-plane", "service"] {
        let folder = root().join(name).join("src");
        let mut files = Vec::new();
        rust_files(&folder, &mut files);
        for file in files {
            let path = file.strip_prefix(&folder).unwrap().to_string_lossy();
            // The keys of the original's table have the same words; tests may name them.
            if path.starts_with("metamanager/") || path.contains("tests") {
                continue;
            }
            let code = code_of(&file);
            for word in words {
                assert!(!code.contains(word), "{} names the route string {word}", file.display());
            }
        }
    }
}

#[test]
fn only_the_stores_know_sql() {
    for name in ["cloudcore", "edgecore", "keadm", "tui", "control-plane", "service", "api"] {
        let mut files = Vec::new();
        rust_files(&root().join(name).join("src"), &mut files);
        for file in files {
            let path = file.to_string_lossy().into_owned();
            if path.contains("/store") {
                continue;
            }
            let code = code_of(&file);
            for word in ["SELECT ", "INSERT INTO", "INSERT OR", "CREATE TABLE"] {
                assert!(!code.contains(word), "{path} has SQL ({word})");
            }
        }
    }
}

#[test]
fn every_test_file_is_a_module_of_the_one_test_binary() {
    let folder = root().join("tests/tests");
    let mut files = Vec::new();
    rust_files(&folder, &mut files);
    for file in files {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        if stem == "main" || stem == "mod" {
            continue;
        }
        let parent = file.parent().unwrap();
        let owner = [parent.join("mod.rs"), parent.join("main.rs"), parent.with_extension("rs")]
            .into_iter()
            .find(|p| p.exists())
            .unwrap();
        let text = std::fs::read_to_string(&owner).unwrap();
        assert!(
            text.contains(&format!("mod {stem};")),
            "{} is not a module of {}",
            file.display(),
            owner.display()
        );
    }
}
