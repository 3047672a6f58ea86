//! `crawl_project`: commits, branches, tags and files of one repository, a file of each.

use crate::failure::Failure;
use crate::jobs::{Context, Task};
use crate::output::NdjsonFile;
use crate::record::{Branch, Commit, File, Tag};
use crate::report::{Done, Reporter};
use crate::repository::Records;

pub(crate) fn run(context: &Context, task: &Task, reporter: &mut Reporter) -> Result<Done, Failure> {
    let name = task.path().ok_or_else(|| Failure::assignment("it names no project"))?;
    let project = context.root.project(name)?;
    let repository = &project.repository;

    // Counting first is quick, and makes every report true from the beginning.
    reporter.expect("commits", repository.count_commits()?);
    reporter.expect("branches", repository.branches()?.count()?);
    reporter.expect("tags", repository.tags()?.count()?);
    let files = repository.files()?.map(Records::count).transpose()?;
    reporter.expect("files", files.unwrap_or(0));

    let mut crawl = Crawl {
        context,
        project: &project.path,
        reporter,
        output_files: Vec::new(),
    };
    crawl.copy("commits", Some(repository.commits()?), |file, record| {
        file.write(&Commit::read(record))
    })?;
    crawl.copy("branches", Some(repository.branches()?), |file, record| {
        file.write(&Branch::read(record))
    })?;
    crawl.copy("tags", Some(repository.tags()?), |file, record| {
        file.write(&Tag::read(record))
    })?;
    crawl.copy("files", repository.files()?, |file, record| {
        file.write(&File::read(record))
    })?;

    let output_files = crawl.output_files;
    let count = |entity_type| reporter.processed(entity_type);
    let mut summary = format!(
        "{} commits, {} branches, {} tags, {} files",
        count("commits"),
        count("branches"),
        count("tags"),
        count("files")
    );
    if files.is_none() {
        summary += "; HEAD names no commit";
    }
    Ok(Done { summary, output_files })
}

struct Crawl<'a> {
    context: &'a Context,
    project: &'a str,
    reporter: &'a mut Reporter,
    output_files: Vec<String>,
}

impl Crawl<'_> {
    /// Writes one kind of entity to its file, record by record as git prints them.
    fn copy(
        &mut self,
        kind: &'static str,
        records: Option<Records>,
        write: fn(&mut NdjsonFile, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut file = self.context.output.file("project", self.project, kind)?;
        if let Some(mut records) = records {
            while let Some(record) = records.next()? {
                write(&mut file, record)?;
                self.reporter.step(kind)?;
            }
        }
        self.output_files.push(file.finish()?);
        self.reporter.pause();
        Ok(())
    }
}
