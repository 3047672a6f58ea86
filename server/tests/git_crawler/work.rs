//! What the jobs find is what git finds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crawlwire_protocol::message::{DiscoveredJob, JobType};
use serde_json::Value;

use crate::fixture::{ANN, BOB, Fixture, git, git_lines, import};
use crate::peer::{Server, Story, done};

fn read(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn items(story: &Story) -> Vec<&DiscoveredJob> {
    story
        .discovered
        .iter()
        .flat_map(|batch| &batch.discovered_jobs)
        .collect()
}

fn named(story: &Story, job_type: JobType) -> BTreeMap<&str, f64> {
    let of_type = items(story).into_iter().filter(|item| item.job_type == job_type);
    of_type
        .map(|item| {
            assert_eq!(item.entity_id, item.namespace_path);
            let size = item.estimated_size.as_ref().unwrap();
            (item.entity_id.as_str(), *size.values().next().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn discovery_finds_groups_projects_and_users() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let story = server.accept().await.run(JobType::DiscoverNamespaces, ".").await;

    let groups = BTreeMap::from([(".", 3.0), ("tools & more", 2.0), ("tools & more/deep", 1.0)]);
    assert_eq!(named(&story, JobType::CrawlGroup), groups);
    let commits: f64 = git(&fixture.root().join("alpha"), &["rev-list", "--count", "--all"])
        .trim()
        .parse()
        .unwrap();
    let cloned: f64 = git(
        &fixture.root().join("tools & more/beta.git"),
        &["rev-list", "--count", "--all"],
    )
    .trim()
    .parse()
    .unwrap();
    assert_eq!((commits, cloned), (6.0, 5.0));
    let projects = BTreeMap::from([
        ("alpha", 6.0),
        ("tools & more/beta.git", 5.0),
        ("tools & more/deep/empty", 0.0),
    ]);
    assert_eq!(named(&story, JobType::CrawlProject), projects);
    let users = BTreeMap::from([(ANN, 6.0), (BOB, 3.0), ("m@x", 2.0)]);
    assert_eq!(named(&story, JobType::CrawlUser), users);

    let names: Vec<&str> = items(&story).iter().map(|item| &*item.entity_name).collect();
    let expected = [
        "root",
        "tools & more",
        "deep",
        "alpha",
        "beta.git",
        "empty",
        ANN,
        BOB,
        "m@x",
    ];
    assert_eq!(names, expected);

    let last = &story.discovered.last().unwrap().discovery_summary;
    let totals = [
        last.total_groups,
        last.total_projects,
        last.total_users,
        last.hierarchy_depth,
    ];
    assert_eq!(totals.map(|total| total.unwrap().get()), [3, 3, 3, 2]);
    let counts = &story.completed.unwrap().final_counts;
    assert_eq!(
        ["groups", "projects", "users"].map(|kind| done(counts, kind)),
        [3, 3, 3]
    );
}

#[tokio::test]
async fn discovery_can_begin_further_down() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    let story = connection.run(JobType::DiscoverNamespaces, "tools & more/deep").await;
    assert_eq!(
        named(&story, JobType::CrawlGroup),
        BTreeMap::from([("tools & more/deep", 1.0)])
    );
    assert_eq!(
        named(&story, JobType::CrawlProject),
        BTreeMap::from([("tools & more/deep/empty", 0.0)])
    );

    // A start that is a repository is a project and no group.
    let story = connection.run(JobType::DiscoverNamespaces, "alpha").await;
    assert_eq!(named(&story, JobType::CrawlGroup), BTreeMap::new());
    assert_eq!(named(&story, JobType::CrawlProject), BTreeMap::from([("alpha", 6.0)]));
}

#[tokio::test]
async fn what_is_found_comes_in_batches() {
    let fixture = Fixture::new();
    import(
        &fixture.root().join("many"),
        (0..2500).map(|number| format!("user-{number}@x")),
    );
    let mut server = Server::start(&fixture, &[]).await;
    let story = server.accept().await.run(JobType::DiscoverNamespaces, ".").await;
    assert_eq!(items(&story).len(), 2502);
    assert!(
        story
            .discovered
            .iter()
            .all(|batch| (1..=1000).contains(&batch.discovered_jobs.len()))
    );
    assert!(story.completions.len() < 20, "{} reports", story.completions.len());
}

fn count_of(folder: &Path, arguments: &[&str]) -> u64 {
    git(folder, arguments).trim().parse().unwrap()
}

#[tokio::test]
async fn a_project_has_what_git_counts() {
    let fixture = Fixture::with_three();
    import(
        &fixture.root().join("long"),
        (0..1234).map(|number| format!("user-{}@x", number % 7)),
    );
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    for path in ["alpha", "tools & more/beta.git", "long"] {
        let folder = fixture.root().join(path);
        let completed = connection.complete(JobType::CrawlProject, path).await;
        let expected = [
            ("commits", count_of(&folder, &["rev-list", "--count", "--all"])),
            ("branches", git_lines(&folder, &["for-each-ref", "refs/heads"])),
            ("tags", git_lines(&folder, &["for-each-ref", "refs/tags"])),
            (
                "files",
                git(&folder, &["ls-tree", "-r", "-z", "--name-only", "HEAD"])
                    .matches('\0')
                    .count() as u64,
            ),
        ];
        assert_eq!(completed.output_files.len(), 4);
        for ((kind, count), file) in expected.into_iter().zip(&completed.output_files) {
            assert!(count > 0 || path == "long" && kind == "tags", "{path} {kind}");
            assert_eq!(done(&completed.final_counts, kind), count, "{path} {kind}");
            assert!(file.ends_with(&format!("/{kind}.ndjson")), "{file}");
            assert_eq!(read(file).len() as u64, count, "{path} {kind}");
        }
        let shas: Vec<String> = read(&completed.output_files[0])
            .iter()
            .map(|commit| commit["sha"].as_str().unwrap().to_owned())
            .collect();
        let git_shas: Vec<String> = git(&folder, &["rev-list", "--all"])
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(shas, git_shas);
    }
}

#[tokio::test]
async fn names_and_texts_arrive_whole() {
    let fixture = Fixture::with_three();
    let alpha = fixture.root().join("alpha");
    let mut server = Server::start(&fixture, &[]).await;
    let completed = server.accept().await.complete(JobType::CrawlProject, "alpha").await;
    let [commits, branches, tags, files] = completed.output_files.as_slice() else {
        panic!()
    };

    let column = |file: &str, name: &str| -> Vec<String> {
        read(file)
            .iter()
            .map(|line| line[name].as_str().unwrap().to_owned())
            .collect()
    };
    let mut names = column(files, "path");
    names.sort_unstable();
    let expected = [".mailmap", "new\nline", "read me.txt", "straße/ünï.txt", "tab\there"];
    assert_eq!(names, expected);
    assert_eq!(column(branches, "name"), ["feature/ä", "main"]);
    assert_eq!(column(tags, "name"), ["light-weight", "v1.0"]);
    assert_eq!(
        column(tags, "target"),
        ["".to_owned(), git(&alpha, &["rev-parse", "v1.0^{}"]).trim().to_owned()]
    );

    let subjects = column(commits, "subject");
    assert!(
        subjects.contains(&"second \"quoted\" \\ subject".to_owned()),
        "{subjects:?}"
    );
    let merge = read(commits)
        .into_iter()
        .find(|commit| commit["parents"].as_array().unwrap().len() == 2);
    assert_eq!(merge.unwrap()["author"]["email"], "m@x");
    let sizes = read(files);
    let readme = sizes.iter().find(|file| file["path"] == "read me.txt").unwrap();
    assert_eq!(
        (&readme["size"], &readme["kind"], &readme["mode"]),
        (&7.into(), &"blob".into(), &"100644".into())
    );
}

#[tokio::test]
async fn an_empty_repository_is_no_failure() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let completed = server
        .accept()
        .await
        .run(JobType::CrawlProject, "tools & more/deep/empty")
        .await
        .completed
        .unwrap();
    assert!(
        completed
            .final_counts
            .iter()
            .all(|data| data.total_discovered.get() == 0)
    );
    assert_eq!(
        completed.summary,
        "0 commits, 0 branches, 0 tags, 0 files; HEAD names no commit"
    );
    assert!(completed.output_files.iter().all(|file| read(file).is_empty()));
}

#[tokio::test]
async fn a_group_is_the_sum_of_its_projects() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let completed = server.accept().await.complete(JobType::CrawlGroup, ".").await;
    assert_eq!(done(&completed.final_counts, "projects"), 3);
    let lines = read(&completed.output_files[0]);
    let commits: Vec<u64> = lines.iter().map(|line| line["commits"].as_u64().unwrap()).collect();
    assert_eq!(commits, [6, 5, 0]);
    assert!(lines[0]["size_bytes"].as_u64().unwrap() > 0);
    assert!(
        completed.summary.starts_with("3 projects, 11 commits, "),
        "{}",
        completed.summary
    );
}

#[tokio::test]
async fn a_user_has_the_commits_of_one_address_everywhere() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    for (email, count) in [(ANN, 6), (BOB, 3)] {
        let completed = connection.complete(JobType::CrawlUser, email).await;
        assert_eq!(done(&completed.final_counts, "commits"), count);
        let lines = read(&completed.output_files[0]);
        assert_eq!(lines.len() as u64, count);
        assert!(lines.iter().all(|line| line["author"]["email"] == email));
        assert!(lines.iter().any(|line| line["project"] == "tools & more/beta.git"));
    }
}
