//! The example `git_crawler` against real repositories and a scripted server on a real Unix socket.

// The example's own files: an example cannot be linked, and its process would hide why it failed.
#[path = "../../examples/git_crawler/console.rs"]
mod console;
#[path = "../../examples/git_crawler/crawler.rs"]
mod crawler;
#[path = "../../examples/git_crawler/discover.rs"]
mod discover;
#[path = "../../examples/git_crawler/failure.rs"]
mod failure;
#[path = "../../examples/git_crawler/group.rs"]
mod group;
#[path = "../../examples/git_crawler/jobs.rs"]
mod jobs;
#[path = "../../examples/git_crawler/options.rs"]
mod options;
#[path = "../../examples/git_crawler/output.rs"]
mod output;
#[path = "../../examples/git_crawler/project.rs"]
mod project;
#[path = "../../examples/git_crawler/record.rs"]
mod record;
#[path = "../../examples/git_crawler/report.rs"]
mod report;
#[path = "../../examples/git_crawler/repository.rs"]
mod repository;
#[path = "../../examples/git_crawler/summary.rs"]
mod summary;
#[path = "../../examples/git_crawler/user.rs"]
mod user;
#[path = "../../examples/git_crawler/walk.rs"]
mod walk;

mod base;
mod fixture;
mod going_on;
mod life;
mod peer;
mod refusals;
mod work;
