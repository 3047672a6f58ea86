//! Files nothing uses: Rust files no target reaches, pages nobody links to.

use std::collections::BTreeSet;

use super::{Package, Problem, Tree, links, text, tree};

/// Where a reader starts.
const FRONT_PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

pub(super) fn problems(packages: &[Package], tree: &Tree) -> Vec<Problem> {
    let mut problems = dead_modules(packages, tree);
    problems.extend(unlinked_pages(tree));
    problems
}

/// Rust files in a member's folder that no target reaches through `mod` declarations.
fn dead_modules(packages: &[Package], tree: &Tree) -> Vec<Problem> {
    let roots = packages.iter().flat_map(|package| &package.target_roots);
    let mut live = BTreeSet::new();
    let mut waiting: Vec<(String, bool)> = roots.map(|root| (root.clone(), true)).collect();
    while let Some((file, is_root)) = waiting.pop() {
        if let Some(source) = tree.text(&file)
            && live.insert(file.clone())
        {
            waiting.extend(submodules(&file, is_root, source).map(|path| (path, false)));
        }
    }
    let folders: Vec<&str> = packages.iter().map(|it| tree::folder(&it.manifest)).collect();
    tree.with_extension("rs")
        .filter(|(path, _)| !live.contains(*path))
        .filter(|(path, _)| owner(path, &folders))
        .map(|(path, _)| {
            Problem::new(
                path,
                1,
                "no `mod` declaration reaches this file",
                "declare it or delete it",
            )
        })
        .collect()
}

/// Whether the path lies in one of the folders, its `fuzz/` excepted: that is a package of its own.
fn owner(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| {
        let below = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        below.is_some_and(|rest| !rest.starts_with("fuzz/"))
    })
}

/// Every path a `mod name;` in this file may mean. A declaration inside an inline module is taken for one
/// of the file itself: nest files instead.
fn submodules(file: &str, is_root: bool, source: &str) -> impl Iterator<Item = String> {
    let here = tree::folder(file);
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let below = if is_root || file.ends_with("/mod.rs") {
        here
    } else {
        stem
    };
    let mut given = None;
    let mut paths = Vec::new();
    for line in source.lines() {
        if let Some(path) = path_attribute(line) {
            given = tree::join(here, path);
        } else if let Some((name, true)) = text::module(line) {
            match given.take() {
                Some(path) => paths.push(path),
                None => paths.extend([format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")]),
            }
        }
    }
    paths.into_iter()
}

/// The path in `#[path = "..."]`.
fn path_attribute(line: &str) -> Option<&str> {
    line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]")
}

/// Pages below `docs/` that no chain of links from a front page reaches.
fn unlinked_pages(tree: &Tree) -> Vec<Problem> {
    let mut linked = BTreeSet::new();
    let mut waiting: Vec<String> = FRONT_PAGES.map(str::to_owned).into();
    while let Some(page) = waiting.pop() {
        if let Some(markdown) = tree.text(&page)
            && linked.insert(page.clone())
        {
            waiting.extend(links::linked_paths(&page, markdown).filter(|it| it.ends_with(".md")));
        }
    }
    tree.with_extension("md")
        .filter(|(path, _)| path.starts_with("docs/") && !linked.contains(*path))
        .map(|(path, _)| {
            let remedy = format!("link it from {} or a page they link to", FRONT_PAGES.join(", "));
            Problem::new(path, 1, "nobody finds this page", remedy)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(roots: &[&str], files: &[(&str, &str)]) -> Vec<String> {
        let package = Package {
            name: "crawlwire-a".to_owned(),
            manifest: "a/Cargo.toml".to_owned(),
            dependencies: Vec::new(),
            target_roots: roots.iter().map(|root| (*root).to_owned()).collect(),
        };
        let tree = Tree::from_iter(files.iter().copied());
        dead_modules(&[package], &tree)
            .into_iter()
            .map(|problem| problem.file)
            .collect()
    }

    #[test]
    fn declared_files_are_alive() {
        let files = [
            ("a/src/lib.rs", "mod b;\npub(crate) mod c;\n#[cfg(test)] mod d;"),
            ("a/src/b.rs", "mod deep;"),
            ("a/src/b/deep.rs", ""),
            ("a/src/c/mod.rs", "mod deep;"),
            ("a/src/c/deep.rs", ""),
            ("a/src/d.rs", "#[path = \"elsewhere/e.rs\"]\nmod e;"),
            ("a/src/elsewhere/e.rs", ""),
            ("a/tests/t.rs", "mod support;"),
            ("a/tests/support/mod.rs", ""),
            ("a/fuzz/fuzz_targets/x.rs", ""),
            ("other/x.rs", ""),
        ];
        assert_eq!(dead(&["a/src/lib.rs", "a/tests/t.rs"], &files), [""; 0]);
    }

    #[test]
    fn undeclared_files_are_dead_with_all_below_them() {
        let files = [
            ("a/src/lib.rs", "// mod b;\nmod inline { }\n"),
            ("a/src/b.rs", "mod deep;"),
            ("a/src/b/deep.rs", ""),
            ("a/src/inline.rs", ""),
            ("a/tests/support/mod.rs", ""),
        ];
        assert_eq!(
            dead(&["a/src/lib.rs"], &files),
            [
                "a/src/b.rs",
                "a/src/b/deep.rs",
                "a/src/inline.rs",
                "a/tests/support/mod.rs"
            ]
        );
    }

    #[test]
    fn modules_of_a_file_lie_in_its_folder_not_beside_it() {
        let files = [
            ("a/src/lib.rs", "mod b;"),
            ("a/src/b.rs", "mod deep;"),
            ("a/src/deep.rs", ""),
        ];
        assert_eq!(dead(&["a/src/lib.rs"], &files), ["a/src/deep.rs"]);
    }

    #[test]
    fn pages_are_found_through_other_pages() {
        let tree = Tree::from_iter([
            ("README.md", "[guide](docs/guide.md#start)"),
            ("docs/guide.md", "[next](sub/next.md) and [itself](guide.md)"),
            ("docs/sub/next.md", ""),
            ("docs/lost.md", "[lost too](island.md)"),
            ("docs/island.md", "[lost](lost.md)"),
        ]);
        let lost: Vec<String> = unlinked_pages(&tree).into_iter().map(|it| it.file).collect();
        assert_eq!(lost, ["docs/island.md", "docs/lost.md"]);
    }
}
