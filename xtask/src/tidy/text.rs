//! Rules over the text of single lines. The one file they do not read is this one, which spells them out.

use super::{Problem, Tree};

const THIS_FILE: &str = "xtask/src/tidy/text.rs";
/// Names that say nothing about what belongs inside.
const EMPTY_NAMES: [&str; 4] = ["common", "util", "utils", "helpers"];
/// Marks of code that is not there yet.
const UNFINISHED: [&str; 4] = ["todo!(", "unimplemented!(", "TODO", "FIXME"];
/// Starts of paths that exist on one person's machine.
const MACHINE_PATHS: [&str; 4] = ["/home/", "/root/", "/Users/", "C:\\Users\\"];

/// `root` is where this checkout lies, which no file may mention either.
pub(super) fn problems(tree: &Tree, root: &str) -> Vec<Problem> {
    // A folder right below `/`, such as a container's, has a name that may stand for something else.
    let root = (root.matches('/').count() > 1).then_some(root);
    let machine_paths: Vec<&str> = MACHINE_PATHS.into_iter().chain(root).collect();
    let mut problems = Vec::new();
    for (path, text) in tree.all().filter(|(path, _)| *path != THIS_FILE) {
        let rust = path.ends_with(".rs");
        for (index, line) in text.lines().enumerate() {
            let rules = [
                rust.then(|| empty_name(line)).flatten(),
                rust.then(|| unfinished(line)).flatten(),
                machine_path(line, &machine_paths),
            ];
            for (what, remedy) in rules.into_iter().flatten() {
                problems.push(Problem::new(path, index + 1, what, remedy));
            }
        }
    }
    problems
}

/// What was found and what to do about it.
type Finding = (String, &'static str);

fn empty_name(line: &str) -> Option<Finding> {
    let (name, _) = module(line)?;
    let what = format!("a module called {name}");
    EMPTY_NAMES
        .contains(&name)
        .then_some((what, "name it after what it does"))
}

fn unfinished(line: &str) -> Option<Finding> {
    let mark = UNFINISHED.into_iter().find(|mark| word(line, mark))?;
    Some((
        format!("unfinished ({})", mark.trim_end_matches('(')),
        "finish it or leave it out",
    ))
}

fn machine_path(line: &str, starts: &[&str]) -> Option<Finding> {
    let start = starts.iter().find(|start| {
        line.match_indices(**start).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|it| it.is_whitespace() || "\"'`(=[<,:".contains(it))
        })
    })?;
    let remedy = "write it relative to the repository, or as a path of the deployed system";
    Some((format!("a path of one machine ({start})"), remedy))
}

/// Whether `mark` stands in the line as a word of its own.
fn word(line: &str, mark: &str) -> bool {
    let part = |it: char| it.is_alphanumeric() || it == '_';
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + mark.len()..].chars().next();
        !before.is_some_and(part) && (mark.ends_with('(') || !after.is_some_and(part))
    })
}

/// The module that `mod name;` or `mod name {` declares, and whether it is a file of its own.
pub(super) fn module(line: &str) -> Option<(&str, bool)> {
    let mut rest = line.trim_start();
    while let Some(attribute) = rest.strip_prefix("#[") {
        rest = attribute.split_once(']')?.1.trim_start();
    }
    if let Some(visible) = rest.strip_prefix("pub") {
        rest = visible.trim_start();
        if let Some(scope) = rest.strip_prefix('(') {
            rest = scope.split_once(')')?.1.trim_start();
        }
    }
    let rest = rest.strip_prefix("mod ")?;
    let end = rest.find([';', '{'])?;
    let name = rest[..end].trim();
    let plain = !name.is_empty() && name.chars().all(|it| it.is_alphanumeric() || it == '_');
    plain.then_some((name, rest[end..].starts_with(';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        problems(&Tree::from_iter([(path, text)]), "/srv/checkout")
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn module_declarations_are_recognised() {
        for (line, expected) in [
            ("mod a;", Some(("a", true))),
            ("    pub(crate) mod a_b;", Some(("a_b", true))),
            ("pub(in crate::x) mod a;", Some(("a", true))),
            ("#[cfg(test)] #[rustfmt::skip] pub mod a;", Some(("a", true))),
            ("mod tests {", Some(("tests", false))),
            ("// mod a;", None),
            ("let s = \"mod a;\";", None),
            ("model a;", None),
            ("mod", None),
        ] {
            assert_eq!(module(line), expected, "{line}");
        }
    }

    #[test]
    fn modules_without_a_meaning_are_refused() {
        assert_eq!(
            found("a/src/lib.rs", "//! A.\npub mod util;\nmod common {}\nmod utility;\n"),
            [
                "a/src/lib.rs:2: a module called util: name it after what it does",
                "a/src/lib.rs:3: a module called common: name it after what it does",
            ]
        );
    }

    #[test]
    fn unfinished_code_is_refused() {
        let lines = "fn a() { todo!() }\n// TODO: later\nlet todos = 1; // TODOS\nunimplemented!(\"x\");\n";
        let tree = Tree::from_iter([("a.rs", lines)]);
        let lines_found: Vec<usize> = problems(&tree, "").iter().map(|it| it.line).collect();
        assert_eq!(lines_found, [1, 2, 4]);
        assert_eq!(found("notes.md", lines), [""; 0]);
    }

    #[test]
    fn paths_of_one_machine_are_refused_in_every_file() {
        for line in [
            "cd /home/me/x",
            "`/root/.cargo`",
            "path=\"/Users/me\"",
            "C:\\Users\\me",
            "-v /srv/checkout/a:/a",
        ] {
            assert_eq!(found("docs/a.md", line).len(), 1, "{line}");
        }
        for line in [
            "a/home/b",
            "https://example.org/work/1",
            "~/home/x",
            "/var/lib/crawlwire",
            "/homes",
        ] {
            assert_eq!(found("docs/a.md", line), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_checkout_right_below_the_root_is_no_rule() {
        let tree = Tree::from_iter([("Dockerfile", "WORKDIR /app\n")]);
        assert_eq!(problems(&tree, "/app"), []);
    }
}
