//! What cannot or must not be crawled.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use crawlwire_protocol::message::JobType;
use tokio_util::sync::CancellationToken;

use crate::crawler;
use crate::fixture::{ANN, Fixture, commit, git, init};
use crate::peer::{Server, options};

#[tokio::test]
async fn nothing_outside_the_root_is_read() {
    let fixture = Fixture::with_three();
    let outside = fixture.beside("outside");
    init(&outside);
    commit(&outside, ANN, "private", &[("x", "x")]);
    symlink(&outside, fixture.root().join("link")).unwrap();
    symlink(&outside, fixture.root().join("tools & more/link")).unwrap();
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    let absolute = outside.to_str().unwrap().to_owned();
    for path in [
        "..",
        "../outside",
        "alpha/../../outside",
        "tools & more/../../outside",
        "link",
        "/",
        &absolute,
    ] {
        for job_type in [JobType::CrawlProject, JobType::CrawlGroup, JobType::DiscoverNamespaces] {
            let (error_type, message) = connection.refuse(job_type, path).await;
            assert_eq!(error_type, "OutsideRoot", "{path}: {message}");
        }
    }
    // A walk does not follow links, and says so.
    let story = connection.run(JobType::DiscoverNamespaces, ".").await;
    let completed = story.completed.unwrap();
    assert!(completed.summary.contains("2 places skipped"), "{}", completed.summary);
    let skipped = fs::read_to_string(&completed.output_files[0]).unwrap();
    assert!(
        skipped.contains(r#"{"path":"tools & more/link","reason":"a symbolic link to a folder"}"#),
        "{skipped}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    let long = "x".repeat(5000);
    for path in [
        "missing",
        "alpha/missing",
        "alpha/read me.txt",
        "alpha/read me.txt/x",
        "a\0b",
        &long,
    ] {
        for job_type in [JobType::CrawlProject, JobType::CrawlGroup, JobType::DiscoverNamespaces] {
            assert_eq!(connection.refuse(job_type, path).await.0, "NotFound", "{path:?}");
        }
    }
    assert_eq!(
        connection.refuse(JobType::CrawlUser, "nobody@example.com").await.0,
        "NotFound"
    );
    assert_eq!(
        connection.refuse(JobType::CrawlProject, "tools & more").await.0,
        "NotARepository"
    );
    assert_eq!(
        connection.refuse(JobType::CrawlProject, "").await.0,
        "InvalidAssignment"
    );
    assert_eq!(connection.refuse(JobType::CrawlUser, "").await.0, "InvalidAssignment");
}

#[tokio::test]
async fn linked_working_trees_belong_to_their_repository() {
    let fixture = Fixture::with_three();
    git(
        &fixture.root().join("alpha"),
        &["worktree", "add", "-q", "../tree", "feature/ä"],
    );
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    assert_eq!(
        connection.refuse(JobType::CrawlProject, "tree").await.0,
        "NotARepository"
    );
    let completed = connection
        .run(JobType::DiscoverNamespaces, ".")
        .await
        .completed
        .unwrap();
    assert!(
        completed
            .summary
            .contains("1 places skipped (tree: a linked working tree"),
        "{}",
        completed.summary
    );
}

fn damage_objects(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage_objects(&path);
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[tokio::test]
async fn a_broken_repository_fails_for_good_and_alone() {
    let fixture = Fixture::with_three();
    let root = fixture.root();
    // Without the crawler's care git would look further up, and find this one.
    init(&root.join("tools & more/deep/outer"));
    fs::create_dir_all(root.join("no-head/.git")).unwrap();
    let gone = root.join("gone");
    init(&gone);
    commit(&gone, ANN, "one", &[("x", "x")]);
    damage_objects(&gone.join(".git/objects"));
    let garbled = root.join("garbled");
    init(&garbled);
    commit(&garbled, ANN, "one", &[("x", "x")]);
    fs::write(garbled.join(".git/refs/heads/main"), "no hash\n").unwrap();

    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    for path in ["no-head", "gone", "garbled"] {
        let (error_type, message) = connection.refuse(JobType::CrawlProject, path).await;
        assert_eq!(error_type, "GitFailed");
        assert!(message.contains(path) && message.contains("fatal"), "{message}");
    }
    // They are found, as their own jobs will tell what is wrong; the others are complete.
    let story = connection.run(JobType::DiscoverNamespaces, ".").await;
    let items = story.discovered.iter().flat_map(|batch| &batch.discovered_jobs);
    let broken: Vec<&str> = items
        .filter(|item| item.job_type == JobType::CrawlProject && item.estimated_size.is_none())
        .map(|item| item.entity_id.as_str())
        .collect();
    assert_eq!(broken, ["garbled", "gone", "no-head"]);
    let group = connection.run(JobType::CrawlGroup, ".").await.completed.unwrap();
    assert!(group.summary.starts_with("4 projects, 11 commits"), "{}", group.summary);
    assert!(group.summary.contains("3 places skipped"), "{}", group.summary);
}

#[tokio::test]
async fn a_repository_inside_a_broken_one_is_not_its_neighbour() {
    let fixture = Fixture::new();
    init(&fixture.root());
    commit(&fixture.root(), ANN, "the outer one", &[("x", "x")]);
    fs::create_dir_all(fixture.root().join("inner/.git")).unwrap();
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.accept().await;
    assert_eq!(connection.refuse(JobType::CrawlProject, "inner").await.0, "GitFailed");
    connection.complete(JobType::CrawlProject, ".").await;
}

#[tokio::test]
async fn a_folder_whose_name_is_no_text_is_skipped() {
    let fixture = Fixture::with_three();
    init(&fixture.root().join(std::ffi::OsStr::from_bytes(b"bad\xff")));
    let mut server = Server::start(&fixture, &[]).await;
    let completed = server
        .accept()
        .await
        .run(JobType::DiscoverNamespaces, ".")
        .await
        .completed
        .unwrap();
    assert!(
        completed.summary.starts_with("3 groups, 3 projects"),
        "{}",
        completed.summary
    );
    assert!(
        completed.summary.contains("its name is not UTF-8"),
        "{}",
        completed.summary
    );
}

#[tokio::test]
async fn output_never_lands_in_a_repository_of_the_root() {
    let fixture = Fixture::with_three();
    for place in [
        "root/alpha/out",
        "root/alpha/.git/a/b",
        "root/tools & more/beta.git/out",
    ] {
        let mut options = options(&fixture, &[]);
        options.out = fixture.beside(place);
        let error = crawler::run(options, CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains("inside the repository"), "{error}");
        assert!(!fixture.beside(place).exists());
    }
    // Beside the repositories is fine, and is not crawled.
    let mut server = Server::start(&fixture, &["--out", fixture.beside("root/out").to_str().unwrap()]).await;
    let mut connection = server.accept().await;
    connection.complete(JobType::CrawlProject, "alpha").await;
    init(&fixture.beside("root/out/odd"));
    let story = connection.run(JobType::DiscoverNamespaces, ".").await;
    assert!(story.completed.unwrap().summary.starts_with("3 groups, 3 projects"));
}
