//! A later attempt goes on from the checkpoint: nothing is counted twice, and nothing is lost.

use std::fs;

use crawlwire_protocol::Cursor;
use crawlwire_protocol::message::{JobCompleted, JobType};
use serde_json::Value;

use crate::fixture::{ANN, BOB, Fixture, commit, git, import, init};
use crate::peer::{Connection, Server, Story, done};

const COMMITS: usize = 3000;

/// A repository with many commits.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let emails = (0..COMMITS).map(|number| format!("user-{}@x", number % 7));
    import(&fixture.root().join("long"), emails);
    fixture
}

fn column(file: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line[name].as_str().unwrap().to_owned()).collect()
}

fn shas(file: &str) -> Vec<String> {
    column(file, "sha")
}

/// What was written is what git has, once, and that is what was counted.
fn check(fixture: &Fixture, completed: &JobCompleted) {
    let listed = git(&fixture.root().join("long"), &["rev-list", "--all"]);
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(done(&completed.final_counts, "commits"), listed.len() as u64);
    assert_eq!(shas(&completed.output_files[0]), listed);
    assert_eq!(completed.output_files.len(), 4);
    assert_eq!(fixture.parts(), Vec::<String>::new());
}

/// Pauses a job in the middle of the commits; its last checkpoint, and the story up to then.
async fn pause_in_the_middle(connection: &mut Connection) -> (Cursor, Story) {
    connection.assign("p", JobType::CrawlProject, "long").await;
    let mut story = Story::default();
    let is_in_the_middle = |story: &Story| story.commits.last().is_some_and(|commits| *commits >= 300);
    connection.go_on("p", &mut story, is_in_the_middle).await;
    connection.pause("p").await;
    connection.go_on("p", &mut story, |story| story.left.is_some()).await;
    assert_eq!(story.left, Some("job_paused"));
    let last = story.checkpoints.last().cloned();
    (last.expect("a checkpoint before the pause"), story)
}

async fn resume(connection: &mut Connection, checkpoint: &Cursor) -> Story {
    connection
        .assign_from("p", JobType::CrawlProject, "long", Some(checkpoint))
        .await;
    connection.story("p").await
}

#[tokio::test]
async fn after_a_pause_a_project_goes_on_where_it_was() {
    let fixture = fixture();
    let mut server = Server::start(&fixture, &["--slow-ms=30"]).await;
    let mut connection = server.accept().await;
    let (checkpoint, paused) = pause_in_the_middle(&mut connection).await;
    let reached = paused.commits.last().copied().unwrap();
    assert!(reached < COMMITS as u64, "it was no pause in the middle");
    assert_eq!(fixture.parts().len(), 1);

    // Another crawler of the same folder.
    let (_, mut connection) = server.restart(connection, &fixture, &[]).await;
    let story = resume(&mut connection, &checkpoint).await;
    assert!(
        story.commits.iter().all(|commits| *commits >= reached),
        "{:?}",
        story.commits
    );
    check(&fixture, &story.completed.unwrap());
}

#[tokio::test]
async fn what_was_written_after_the_checkpoint_is_written_again() {
    let fixture = fixture();
    let mut server = Server::start(&fixture, &["--slow-ms=30"]).await;
    let mut connection = server.accept().await;
    let (checkpoint, _) = pause_in_the_middle(&mut connection).await;
    // As a killed crawler leaves it: further than its last checkpoint, and in the middle of a line.
    let part = fixture.parts().remove(0);
    let text = fs::read_to_string(&part).unwrap();
    fs::write(&part, format!("{text}{text}{{\"sha\":\"12")).unwrap();
    let story = resume(&mut connection, &checkpoint).await;
    check(&fixture, &story.completed.unwrap());
}

#[tokio::test]
async fn where_it_cannot_go_on_it_begins_anew() {
    let fixture = fixture();
    let long = fixture.root().join("long");
    let mut server = Server::start(&fixture, &["--slow-ms=30"]).await;
    let mut connection = server.accept().await;

    // There is another commit, so that git would print another one at every place.
    let (checkpoint, _) = pause_in_the_middle(&mut connection).await;
    commit(&long, ANN, "one more", &[("more", "")]);
    let story = resume(&mut connection, &checkpoint).await;
    assert!(story.commits[0] < 300, "{:?}", story.commits);
    let completed = story.completed.unwrap();
    assert_eq!(done(&completed.final_counts, "commits"), COMMITS as u64 + 1);
    assert_eq!(shas(&completed.output_files[0]).len(), COMMITS + 1);

    // The file is gone, as on another machine; or is shorter than it was; or another version has written the checkpoint.
    let (checkpoint, _) = pause_in_the_middle(&mut connection).await;
    fs::remove_file(&fixture.parts()[0]).unwrap();
    let story = resume(&mut connection, &checkpoint).await;
    check(&fixture, &story.completed.unwrap());
    let (checkpoint, _) = pause_in_the_middle(&mut connection).await;
    fs::write(&fixture.parts()[0], "{}\n").unwrap();
    let story = resume(&mut connection, &checkpoint).await;
    check(&fixture, &story.completed.unwrap());
    let story = resume(&mut connection, &Cursor::new("{\"page\":3}").unwrap()).await;
    check(&fixture, &story.completed.unwrap());
}

#[tokio::test]
async fn after_a_stop_a_user_goes_on_with_the_next_repository() {
    let fixture = Fixture::new();
    for number in 0..10 {
        let folder = fixture.root().join(format!("p{number}"));
        init(&folder);
        commit(&folder, ANN, "one", &[("x", "x")]);
        commit(&folder, BOB, "two", &[("x", "y")]);
    }
    let mut server = Server::start(&fixture, &["--slow-ms=300"]).await;
    let mut connection = server.accept().await;
    connection.assign("u", JobType::CrawlUser, ANN).await;
    let mut story = Story::default();
    connection
        .go_on("u", &mut story, |story| !story.checkpoints.is_empty())
        .await;
    server.stop();
    connection.go_on("u", &mut story, |story| story.left.is_some()).await;
    assert_eq!(story.left, Some("job_returned"));
    let checkpoint = story.checkpoints.pop().unwrap();

    let (_, mut connection) = server.restart(connection, &fixture, &[]).await;
    connection
        .assign_from("u", JobType::CrawlUser, ANN, Some(&checkpoint))
        .await;
    let story = connection.story("u").await;
    assert!(story.commits[0] >= 3, "{:?}", story.commits);
    let completed = story.completed.unwrap();
    assert_eq!(completed.summary, format!("10 commits by {ANN} in 10 projects"));
    let projects: Vec<_> = column(&completed.output_files[0], "project");
    assert_eq!(projects, (0..10).map(|number| format!("p{number}")).collect::<Vec<_>>());
}
