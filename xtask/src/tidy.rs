//! `cargo xtask tidy`: what the compiler and clippy do not check.

mod arrows;
mod dead;
mod links;
mod text;

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::problem::{self, Problem};
use crate::schema;
use crate::tree::{self, Tree};

/// Above this a file has probably taken on a second job.
const LONG_FILE_LINES: usize = 500;

/// One workspace package, as `cargo metadata` tells it. Paths start at the repository root.
#[derive(Debug)]
struct Package {
    name: String,
    manifest: String,
    dependencies: Vec<Dependency>,
    /// The files cargo compiles: libraries, binaries, tests, benches, examples, build scripts.
    target_roots: Vec<String>,
}

/// A normal, development or build dependency.
#[derive(Debug)]
struct Dependency {
    name: String,
    /// Whether it is named by path, so that its source is expected in this repository.
    local: bool,
}

/// Prints what is untidy and says whether nothing was. Long files are only mentioned.
pub(crate) fn check(root: &Path) -> anyhow::Result<bool> {
    let tree = Tree::read(root)?;
    let packages = packages(&metadata(root)?)?;
    for warning in long_files(&tree) {
        println!("warning: {warning}");
    }
    let mut problems = arrows::problems(&packages, &tree);
    problems.extend(dead::problems(&packages, &tree));
    problems.extend(schema::stray_problems(&tree)?);
    problems.extend(text::problems(&tree, &root.to_string_lossy()));
    problems.extend(links::problems(&tree));
    Ok(problem::report("tidy", problems))
}

fn metadata(root: &Path) -> anyhow::Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .context("cannot start cargo metadata")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cargo metadata failed: {}", complaint.trim());
    serde_json::from_slice(&output.stdout).context("cargo metadata did not answer with JSON")
}

fn packages(metadata: &Value) -> anyhow::Result<Vec<Package>> {
    let root = string(metadata, "workspace_root")?;
    let relative = |path: &str| {
        let below = path.strip_prefix(root).unwrap_or(path);
        below.replace('\\', "/").trim_start_matches('/').to_owned()
    };
    array(metadata, "packages")?
        .iter()
        .map(|package| {
            let targets = array(package, "targets")?;
            let dependencies = array(package, "dependencies")?;
            Ok(Package {
                name: string(package, "name")?.to_owned(),
                manifest: relative(string(package, "manifest_path")?),
                dependencies: dependencies.iter().map(dependency).collect::<Result<_, _>>()?,
                target_roots: targets
                    .iter()
                    .map(|target| string(target, "src_path").map(relative))
                    .collect::<Result<_, _>>()?,
            })
        })
        .collect()
}

fn dependency(value: &Value) -> anyhow::Result<Dependency> {
    let local = value.get("path").is_some_and(Value::is_string);
    Ok(Dependency {
        name: string(value, "name")?.to_owned(),
        local,
    })
}

fn string<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("cargo metadata has no text {key}"))
}

fn array<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a Vec<Value>> {
    value
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("cargo metadata has no list {key}"))
}

fn long_files(tree: &Tree) -> Vec<Problem> {
    tree.with_extension("rs")
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONG_FILE_LINES)
        .map(|(path, lines)| {
            let what = format!("{lines} lines, more than {LONG_FILE_LINES}");
            Problem::new(path, LONG_FILE_LINES + 1, what, "which second job has it taken on?")
        })
        .collect()
}

/// The first line, counted from 1, that holds `needle`; 1 when none does.
fn line_of(text: &str, needle: &str) -> usize {
    text.lines()
        .position(|line| line.contains(needle))
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_becomes_packages_with_relative_paths() {
        let found = packages(&json!({
            "workspace_root": "/somewhere/repo",
            "packages": [{
                "name": "crawlwire-router",
                "manifest_path": "/somewhere/repo/router/Cargo.toml",
                "targets": [{ "src_path": "/somewhere/repo/router/src/lib.rs" }],
                "dependencies": [
                    { "name": "tokio", "kind": null },
                    { "name": "crawlwire-protocol", "kind": "dev", "path": "/somewhere/repo/protocol" },
                ],
            }],
        }))
        .unwrap();
        assert_eq!(found[0].manifest, "router/Cargo.toml");
        assert_eq!(found[0].target_roots, ["router/src/lib.rs"]);
        let local: Vec<bool> = found[0].dependencies.iter().map(|it| it.local).collect();
        assert_eq!(local, [false, true]);
    }

    #[test]
    fn metadata_of_another_shape_is_an_error() {
        let error = packages(&json!({ "workspace_root": "/repo" })).unwrap_err();
        assert_eq!(error.to_string(), "cargo metadata has no list packages");
    }

    #[test]
    fn only_files_above_the_mark_are_long() {
        let tree = Tree::from_iter([("a.rs", "\n".repeat(500)), ("b.rs", "\n".repeat(501))]);
        let long = long_files(&tree);
        assert_eq!(long.len(), 1);
        assert_eq!((long[0].file.as_str(), long[0].line), ("b.rs", 501));
    }
}
