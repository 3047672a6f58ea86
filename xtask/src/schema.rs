//! `cargo xtask schema`: the JSON Schemas in the repository are exactly what the message types generate.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::problem::{self, Problem};
use crate::tree::Tree;

/// Where the generated files live; everything below it is generated.
const FOLDER: &str = "protocol/schemas";
const REMEDY: &str = "run `cargo xtask schema` and commit the result";

/// Makes the folder hold the generated files and nothing else.
pub(crate) fn write(root: &Path) -> anyhow::Result<bool> {
    let generated = generated()?;
    let before = Tree::read(root)?;
    for stale in strays(&generated, &before) {
        fs::remove_file(root.join(&stale)).with_context(|| format!("cannot remove {stale}"))?;
        println!("removed {stale}");
    }
    for (path, text) in &generated {
        if before.text(path) != Some(text) {
            let file = root.join(path);
            let folder = file.parent().unwrap_or(root);
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
            println!("wrote {path}");
        }
    }
    println!("schema: {} files are current", generated.len());
    Ok(true)
}

/// Fails naming each committed file that is not what would be written.
pub(crate) fn check(root: &Path) -> anyhow::Result<bool> {
    Ok(problem::report(
        "schema",
        differences(&generated()?, &Tree::read(root)?),
    ))
}

/// Problems for the files below the schema folder that nothing generates.
pub(crate) fn stray_problems(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    Ok(strays(&generated()?, tree).iter().map(|path| stray(path)).collect())
}

/// Path to text of every generated file: pretty JSON and a final newline.
fn generated() -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for (name, schema) in crawlwire_protocol::schema::files() {
        let text = serde_json::to_string_pretty(&schema)?;
        let previous = files.insert(format!("{FOLDER}/{name}"), text + "\n");
        anyhow::ensure!(previous.is_none(), "two schemas are called {name}");
    }
    Ok(files)
}

fn differences(generated: &BTreeMap<String, String>, committed: &Tree) -> Vec<Problem> {
    let mut problems: Vec<Problem> = strays(generated, committed).iter().map(|path| stray(path)).collect();
    for (path, text) in generated {
        match committed.text(path) {
            None => problems.push(Problem::new(path, 1, "this schema is missing", REMEDY)),
            Some(old) if old != text => {
                let line = first_difference(old, text);
                problems.push(Problem::new(path, line, "this schema differs from its type", REMEDY));
            }
            Some(_) => {}
        }
    }
    problems
}

fn strays(generated: &BTreeMap<String, String>, tree: &Tree) -> Vec<String> {
    let below = tree.all().filter(|(path, _)| Path::new(path).starts_with(FOLDER));
    below
        .map(|(path, _)| path.to_owned())
        .filter(|path| !generated.contains_key(path))
        .collect()
}

fn stray(path: &str) -> Problem {
    Problem::new(path, 1, "this schema is no longer generated", REMEDY)
}

/// The first line, counted from 1, in which two different texts differ.
fn first_difference(a: &str, b: &str) -> usize {
    a.split('\n').zip(b.split('\n')).take_while(|(a, b)| a == b).count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files
            .iter()
            .map(|(name, text)| (format!("{FOLDER}/{name}"), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let generated = files(&[
            ("same.json", "{}\n"),
            ("changed.json", "{\n1\n}\n"),
            ("new.json", "{}\n"),
        ]);
        let committed = Tree::from_iter(files(&[
            ("same.json", "{}\n"),
            ("changed.json", "{\n2\n}\n"),
            ("old.json", "{}\n"),
        ]));
        let found: Vec<String> = differences(&generated, &committed)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                format!("{FOLDER}/old.json:1: this schema is no longer generated: {REMEDY}"),
                format!("{FOLDER}/changed.json:2: this schema differs from its type: {REMEDY}"),
                format!("{FOLDER}/new.json:1: this schema is missing: {REMEDY}"),
            ]
        );
    }

    #[test]
    fn a_missing_final_newline_is_a_difference() {
        let committed = Tree::from_iter(files(&[("a.json", "{}")]));
        assert_eq!(differences(&files(&[("a.json", "{}\n")]), &committed).len(), 1);
    }

    #[test]
    fn a_file_beside_the_folder_is_a_stray() {
        let tree = Tree::from_iter([("protocol/schemas/extra.json", "{}")]);
        assert_eq!(strays(&BTreeMap::new(), &tree), ["protocol/schemas/extra.json"]);
    }

    #[test]
    fn the_generated_files_are_json_with_a_final_newline() {
        let generated = generated().unwrap();
        assert!(!generated.is_empty());
        for (path, text) in generated {
            assert!(path.ends_with(".json") && text.ends_with("}\n"), "{path}");
        }
    }
}
