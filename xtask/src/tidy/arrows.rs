//! Which crate may depend on which, and that there is no eighth.

use super::{Dependency, Package, Problem, Tree, line_of};

/// Folder and package name suffix of each crate, and the crates of ours it may depend on.
const ARROWS: [(&str, &[&str]); 7] = [
    ("protocol", &[]),
    ("transport", &["protocol"]),
    ("progress", &["protocol"]),
    ("persistence", &["protocol", "progress"]),
    ("router", &["protocol", "progress"]),
    (
        "server",
        &["protocol", "transport", "progress", "persistence", "router"],
    ),
    ("xtask", &["protocol"]),
];
const PREFIX: &str = "crawlwire-";

pub(super) fn problems(packages: &[Package], tree: &Tree) -> Vec<Problem> {
    let mut problems = members(packages, tree);
    for package in packages {
        let Some((own, allowed)) = arrows_of(&package.name) else {
            continue;
        };
        for dependency in &package.dependencies {
            problems.extend(dependency_problem(package, dependency, own, allowed, tree));
        }
    }
    problems.extend(other_manifests(tree));
    problems
}

/// The seven packages are there, each in its folder, and no other.
fn members(packages: &[Package], tree: &Tree) -> Vec<Problem> {
    let root = tree.text("Cargo.toml").unwrap_or_default();
    let mut problems = Vec::new();
    for (folder, _) in ARROWS {
        let manifest = format!("{folder}/Cargo.toml");
        let name = format!("{PREFIX}{folder}");
        if !packages.iter().any(|it| it.name == name && it.manifest == manifest) {
            let what = format!("{name} is not a workspace member in {folder}/");
            problems.push(Problem::new("Cargo.toml", line_of(root, "members"), what, "add it"));
        }
    }
    for package in packages.iter().filter(|it| arrows_of(&it.name).is_none()) {
        let what = format!("{} is not one of the seven crates", package.name);
        problems.push(Problem::new(
            &package.manifest,
            1,
            what,
            "move its code to the crate that owns it",
        ));
    }
    problems
}

fn dependency_problem(
    package: &Package,
    dependency: &Dependency,
    own: &str,
    allowed: &[&str],
    tree: &Tree,
) -> Option<Problem> {
    let name = &dependency.name;
    let what = match name.strip_prefix(PREFIX) {
        // A crate may turn on its own features for its tests.
        Some(ours) if ours == own || allowed.contains(&ours) => return None,
        Some(ours) if arrows_of(name).is_some() => format!("{own} may not depend on {ours}"),
        _ if dependency.local => format!("{name} is a path outside the seven crates"),
        _ => return None,
    };
    let manifest = tree.text(&package.manifest).unwrap_or_default();
    let remedy = match allowed {
        [] => "it may depend on no crate of ours".to_owned(),
        _ => format!("it may depend on {} only", allowed.join(", ")),
    };
    Some(Problem::new(&package.manifest, line_of(manifest, name), what, remedy))
}

/// Manifests that are no member: only `<crate>/fuzz/` may hold one.
fn other_manifests(tree: &Tree) -> Vec<Problem> {
    tree.all()
        .filter(|(path, _)| *path == "Cargo.toml" || path.ends_with("/Cargo.toml"))
        .filter(|(path, _)| {
            let known = |(folder, _): &(&str, _)| {
                *path == format!("{folder}/Cargo.toml") || *path == format!("{folder}/fuzz/Cargo.toml")
            };
            *path != "Cargo.toml" && !ARROWS.iter().any(known)
        })
        .map(|(path, _)| {
            let remedy = "only the seven folders and their fuzz/ hold crates: move it into one";
            Problem::new(path, 1, "a crate outside the seven", remedy)
        })
        .collect()
}

fn arrows_of(package: &str) -> Option<(&'static str, &'static [&'static str])> {
    let folder = package.strip_prefix(PREFIX)?;
    ARROWS.into_iter().find(|(name, _)| *name == folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, dependencies: &[&str]) -> Package {
        Package {
            name: format!("{PREFIX}{folder}"),
            manifest: format!("{folder}/Cargo.toml"),
            dependencies: dependencies
                .iter()
                .map(|name| Dependency {
                    name: (*name).to_owned(),
                    local: name.starts_with(PREFIX),
                })
                .collect(),
            target_roots: Vec::new(),
        }
    }

    /// The seven packages with every allowed arrow drawn.
    fn workspace() -> Vec<Package> {
        let draw = |(folder, allowed): (&str, &[&str])| {
            let mut dependencies: Vec<String> = allowed.iter().map(|it| format!("{PREFIX}{it}")).collect();
            dependencies.push("tokio".to_owned());
            package(folder, &dependencies.iter().map(String::as_str).collect::<Vec<_>>())
        };
        ARROWS.into_iter().map(draw).collect()
    }

    fn found(packages: &[Package], tree: &Tree) -> Vec<String> {
        problems(packages, tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_allowed_arrows_are_accepted() {
        assert_eq!(found(&workspace(), &Tree::default()), [""; 0]);
    }

    #[test]
    fn a_forbidden_arrow_is_named_with_its_line() {
        let mut packages = workspace();
        packages[4] = package("router", &["crawlwire-protocol", "crawlwire-transport"]);
        let tree = Tree::from_iter([(
            "router/Cargo.toml",
            "[package]\n[dev-dependencies]\ncrawlwire-transport.workspace = true\n",
        )]);
        assert_eq!(
            found(&packages, &tree),
            ["router/Cargo.toml:3: router may not depend on transport: it may depend on protocol, progress only"]
        );
    }

    #[test]
    fn no_arrow_leaves_protocol_except_to_itself() {
        let mut packages = workspace();
        packages[0] = package("protocol", &["crawlwire-protocol", "crawlwire-xtask"]);
        assert_eq!(
            found(&packages, &Tree::default()),
            ["protocol/Cargo.toml:1: protocol may not depend on xtask: it may depend on no crate of ours"]
        );
    }

    #[test]
    fn a_missing_and_an_eighth_crate_are_named() {
        let mut packages = workspace();
        packages[6] = package("helpers", &[]);
        let tree = Tree::from_iter([("Cargo.toml", "[workspace]\nmembers = []\n")]);
        assert_eq!(
            found(&packages, &tree),
            [
                "Cargo.toml:2: crawlwire-xtask is not a workspace member in xtask/: add it",
                "helpers/Cargo.toml:1: crawlwire-helpers is not one of the seven crates: \
                 move its code to the crate that owns it",
            ]
        );
    }

    #[test]
    fn a_path_dependency_outside_the_seven_is_named() {
        let mut packages = workspace();
        packages[1].dependencies.push(Dependency {
            name: "fork".to_owned(),
            local: true,
        });
        assert_eq!(
            found(&packages, &Tree::default()),
            ["transport/Cargo.toml:1: fork is a path outside the seven crates: it may depend on protocol only"]
        );
    }

    #[test]
    fn manifests_elsewhere_are_named_but_fuzz_folders_are_not() {
        let tree = Tree::from_iter(
            [
                "Cargo.toml",
                "protocol/Cargo.toml",
                "protocol/fuzz/Cargo.toml",
                "server/extra/Cargo.toml",
            ]
            .map(|path| (path, "")),
        );
        let found = other_manifests(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, "server/extra/Cargo.toml");
    }
}
