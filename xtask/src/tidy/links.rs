//! Relative links of Markdown pages.

use std::collections::BTreeSet;

use super::{Problem, Tree, tree};

#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// Links whose file, folder or heading does not exist.
pub(super) fn problems(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (page, markdown) in tree.with_extension("md") {
        for link in links(markdown).filter(|link| is_relative(&link.target)) {
            if let Some(what) = broken(tree, page, &link.target) {
                problems.push(Problem::new(
                    page,
                    link.line,
                    what,
                    "correct the link or restore its target",
                ));
            }
        }
    }
    problems
}

/// The files and folders of the repository that a page links to, existing or not.
pub(super) fn linked_paths(page: &str, markdown: &str) -> impl Iterator<Item = String> {
    links(markdown)
        .filter(|it| is_relative(&it.target))
        .filter_map(|it| resolve(page, &it.target)?.0)
}

fn broken(tree: &Tree, page: &str, target: &str) -> Option<String> {
    let Some((path, heading)) = resolve(page, target) else {
        return Some(format!("the link {target} leaves the repository"));
    };
    let path = path.unwrap_or_else(|| page.to_owned());
    if !tree.exists(&path) {
        return Some(format!("the link {target} leads to no file ({path})"));
    }
    let heading = heading.filter(|_| path.ends_with(".md"))?;
    let known = tree.text(&path).is_some_and(|it| anchors(it).contains(heading));
    (!known).then(|| format!("the link {target} leads to no heading of {path}"))
}

/// The linked path, if the target names one, and the heading, if it names one. `None` outside the repository.
fn resolve<'a>(page: &str, target: &'a str) -> Option<(Option<String>, Option<&'a str>)> {
    let (path, heading) = match target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (target, None),
    };
    let path = match path {
        "" => None,
        _ if path.starts_with('/') => Some(tree::join("", path)?),
        _ => Some(tree::join(tree::folder(page), path)?),
    };
    Some((path, heading))
}

/// Whether the target has no scheme such as `https:` or `mailto:`.
fn is_relative(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    !target.starts_with("//") && !scheme.is_some_and(|it| it.chars().all(|it| it.is_ascii_alphanumeric()))
}

/// Inline links, images and reference definitions, outside code.
fn links(markdown: &str) -> impl Iterator<Item = Link> {
    prose(markdown).into_iter().flat_map(|(line, text)| {
        let text = without_code_spans(text);
        let mut targets: Vec<String> = text
            .match_indices("](")
            .filter_map(|(at, open)| Some(destination(enclosed(&text[at + open.len()..])?)))
            .collect();
        targets.extend(definition(&text).map(destination));
        targets
            .into_iter()
            .filter(|it| !it.is_empty())
            .map(move |target| Link { line, target })
    })
}

/// What stands before the parenthesis that closes an already open one.
fn enclosed(text: &str) -> Option<&str> {
    let mut depth = 1;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[..at]);
        }
    }
    None
}

/// The rest of `[label]: rest`, footnotes excepted.
fn definition(line: &str) -> Option<&str> {
    let label = line
        .trim_start()
        .strip_prefix('[')
        .filter(|rest| !rest.starts_with('^'))?;
    let (label, rest) = label.split_once("]:")?;
    (!label.contains(['[', ']'])).then_some(rest)
}

/// A link's destination without its title and angle brackets.
fn destination(text: &str) -> String {
    let text = text.trim();
    let target = match text.strip_prefix('<') {
        Some(rest) => rest.split('>').next(),
        None => text.split_whitespace().next(),
    };
    target.unwrap_or_default().to_owned()
}

/// The identifiers of a page's headings, made as GitHub makes them.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(markdown) {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        if !(1..=6).contains(&level) || !text.starts_with(' ') {
            continue;
        }
        let slug = slug(text.trim().trim_end_matches('#').trim_end());
        let mut anchor = slug.clone();
        let mut repeats = 0;
        while !anchors.insert(anchor) {
            repeats += 1;
            anchor = format!("{slug}-{repeats}");
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase)
        .map(|it| if it == ' ' { '-' } else { it })
        .collect()
}

/// The lines outside fenced code, with their numbers.
fn prose(markdown: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in markdown.lines().enumerate() {
        let start = line.trim_start();
        match fence {
            Some(open) if start.starts_with(open) && start.trim_end().len() == run(start).len() => fence = None,
            Some(_) => {}
            None if start.starts_with("```") || start.starts_with("~~~") => fence = Some(run(start)),
            None => lines.push((index + 1, line)),
        }
    }
    lines
}

/// The leading run of one repeated character.
fn run(text: &str) -> &str {
    let first = text.chars().next();
    let end = text.find(|it| Some(it) != first).unwrap_or(text.len());
    &text[..end]
}

/// The line with its code spans left out. A backtick run nothing closes is kept.
fn without_code_spans(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let ticks = run(&rest[at..]);
        let after = &rest[at + ticks.len()..];
        kept.push_str(&rest[..at]);
        rest = match closing(after, ticks) {
            Some(close) => &after[close + ticks.len()..],
            None => {
                kept.push_str(ticks);
                after
            }
        };
    }
    kept + rest
}

/// Where a run of exactly these backticks begins.
fn closing(text: &str, ticks: &str) -> Option<usize> {
    text.match_indices(ticks)
        .map(|(at, _)| at)
        .find(|&at| !text[..at].ends_with('`') && !text[at + ticks.len()..].starts_with('`'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(markdown: &str) -> Vec<(usize, String)> {
        links(markdown).map(|link| (link.line, link.target)).collect()
    }

    #[test]
    fn links_images_and_definitions_are_found() {
        let page = "[a](x.md) ![b](y.png \"title\")\n\n[`c`](<with space.md>)\n[d]: ../z.md 'title'\n[e](f(1).md)\n";
        let expected = [
            (1, "x.md"),
            (1, "y.png"),
            (3, "with space.md"),
            (4, "../z.md"),
            (5, "f(1).md"),
        ];
        assert_eq!(targets(page), expected.map(|(line, it)| (line, it.to_owned())));
    }

    #[test]
    fn code_and_footnotes_hold_no_links() {
        let page = "`[a](b)` ``x ` [a](b)``\n```sh\n[a](b)\n~~~\n```\n~~~~\n[a](b)\n~~~\n~~~~\n[^1]: note\n[open](\n";
        assert_eq!(targets(page), []);
        assert_eq!(targets("a ` b [c](d)"), [(1, "d".to_owned())]);
    }

    #[test]
    fn headings_become_anchors() {
        let page = "# The `claim`: how, why?\n## Same\n### Same ###\n#not one\n```\n# code\n```\n";
        let expected = ["same", "same-1", "the-claim-how-why"];
        assert_eq!(anchors(page).into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_broken_link_is_named() {
        let tree = Tree::from_iter([
            (
                "README.md",
                "# Top\n[ok](docs/a.md#part-1)\n[gone](docs/b.md)\n[none](#bottom) [top](#top)",
            ),
            (
                "docs/a.md",
                "## Part 1\n[up](../README.md) [folder](../docs) [root](/README.md)\n[out](../../x)",
            ),
            (
                "docs/c.md",
                "[web](https://example.org/x.md) [mail](mailto:a@example.org) [code](../s.rs#L1)",
            ),
            ("s.rs", ""),
        ]);
        let found: Vec<String> = problems(&tree).iter().map(ToString::to_string).collect();
        let remedy = "correct the link or restore its target";
        assert_eq!(
            found,
            [
                format!("README.md:3: the link docs/b.md leads to no file (docs/b.md): {remedy}"),
                format!("README.md:4: the link #bottom leads to no heading of README.md: {remedy}"),
                format!("docs/a.md:3: the link ../../x leaves the repository: {remedy}"),
            ]
        );
    }

    #[test]
    fn a_link_to_a_missing_heading_of_another_page_is_named() {
        let tree = Tree::from_iter([("a.md", "[x](b.md#two)"), ("b.md", "# One")]);
        assert_eq!(problems(&tree)[0].what, "the link b.md#two leads to no heading of b.md");
    }
}
