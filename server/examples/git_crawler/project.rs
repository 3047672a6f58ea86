//! `crawl_project`: commits, branches, tags and files of one repository, a file of each.
//!
//! The checkpoint is the place in the file of one kind, the kinds before it being finished. It holds for as long as the
//! repository has the same refs: then git prints the same records in the same order.

use crawlwire_transport::client::JobHandle;
use serde::{Deserialize, Serialize};

use crate::failure::{End, Failure};
use crate::jobs::{self, Context};
use crate::output::{Mark, NdjsonFile};
use crate::record::{Branch, Commit, File, Tag};
use crate::report::{Done, Reporter};
use crate::repository::{Records, Repository};
use crate::walk::Project;

/// A kind of entity: how git prints it, and how it is written.
struct Kind {
    name: &'static str,
    /// `None` when there cannot be any.
    open: fn(&Repository) -> Result<Option<Records>, Failure>,
    write: fn(&mut NdjsonFile, &[u8]) -> Result<(), Failure>,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "commits",
        open: |repository| repository.commits().map(Some),
        write: |file, record| file.write(&Commit::read(record)),
    },
    Kind {
        name: "branches",
        open: |repository| repository.branches().map(Some),
        write: |file, record| file.write(&Branch::read(record)),
    },
    Kind {
        name: "tags",
        open: |repository| repository.tags().map(Some),
        write: |file, record| file.write(&Tag::read(record)),
    },
    Kind {
        name: "files",
        open: Repository::files,
        write: |file, record| file.write(&File::read(record)),
    },
];

/// Where to go on.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    /// The refs that all of it is about.
    refs: String,
    /// The kind, and how many of its records are in the file up to the mark.
    kind: String,
    records: u64,
    mark: Mark,
}

/// A kind in the middle.
struct Begun {
    file: NdjsonFile,
    records: Records,
    written: u64,
}

pub(crate) fn run(context: &Context, job: &JobHandle, reporter: &mut Reporter) -> Result<Done, End> {
    let name = jobs::path(job).ok_or_else(|| Failure::assignment("it names no project"))?;
    let project = context.root.project(name)?;
    let repository = &project.repository;
    let mut crawl = Crawl {
        context,
        refs: repository.fingerprint()?,
        project: &project,
        output_files: Vec::new(),
    };
    // Counting first is quick, and makes every report true from the beginning.
    let mut has_files = true;
    for kind in &KINDS {
        let count = match kind.name {
            "commits" => Some(repository.count_commits()?),
            _ => (kind.open)(repository)?.map(Records::count).transpose()?,
        };
        has_files &= count.is_some();
        reporter.expect(kind.name, count.unwrap_or(0));
    }

    let place = job.last_checkpoint::<Place>().ok().flatten();
    let (next, mut begun) = match place.map(|place| crawl.go_on(&place)).transpose()?.flatten() {
        Some((kind, begun)) => {
            for done in &KINDS[..kind] {
                reporter.go_on(done.name, None);
            }
            reporter.go_on(KINDS[kind].name, Some(begun.written));
            (kind, Some(begun))
        }
        None => (0, None),
    };
    for kind in &KINDS[next..] {
        crawl.copy(kind, begun.take(), reporter)?;
    }

    let count = |kind: &Kind| format!("{} {}", reporter.processed(kind.name), kind.name);
    let mut summary = KINDS.iter().map(count).collect::<Vec<_>>().join(", ");
    if !has_files {
        summary += "; HEAD names no commit";
    }
    let output_files = crawl.output_files;
    Ok(Done { summary, output_files })
}

struct Crawl<'a> {
    context: &'a Context,
    project: &'a Project,
    refs: String,
    output_files: Vec<String>,
}

impl Crawl<'_> {
    /// The kind to go on with, if everything is still as it was at the checkpoint.
    fn go_on(&mut self, place: &Place) -> Result<Option<(usize, Begun)>, Failure> {
        let (output, path) = (&self.context.output, &self.project.path);
        let Some(kind) = KINDS.iter().position(|kind| kind.name == place.kind) else {
            return Ok(None);
        };
        let finished = KINDS[..kind]
            .iter()
            .map(|kind| output.finished("project", path, kind.name));
        let Some(finished) = finished.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let Some(file) = output.go_on("project", path, KINDS[kind].name, &place.mark) else {
            return Ok(None);
        };
        let Some(mut records) = (KINDS[kind].open)(&self.project.repository)? else {
            return Ok(None);
        };
        // The refs are looked at again once git has begun: it may have begun with others.
        let is_same = records.skip(place.records)? && self.project.repository.fingerprint()? == place.refs;
        if !is_same {
            return Ok(None);
        }
        self.refs.clone_from(&place.refs);
        self.output_files = finished;
        let written = place.records;
        Ok(Some((kind, Begun { file, records, written })))
    }

    /// Writes one kind of entity to its file, record by record as git prints them.
    fn copy(&mut self, kind: &Kind, begun: Option<Begun>, reporter: &mut Reporter) -> Result<(), End> {
        let (mut file, records, written) = match begun {
            Some(begun) => (begun.file, Some(begun.records), begun.written),
            None => {
                let file = self.context.output.file("project", &self.project.path, kind.name)?;
                (file, (kind.open)(&self.project.repository)?, 0)
            }
        };
        if let Some(records) = records
            && let Err(end) = self.write(kind, &mut file, records, written, reporter)
        {
            if reporter.may_go_on_after(&end) {
                file.leave();
            }
            return Err(end);
        }
        self.output_files.push(file.finish()?);
        reporter.pause();
        Ok(())
    }

    fn write(
        &self,
        kind: &Kind,
        file: &mut NdjsonFile,
        mut records: Records,
        mut written: u64,
        reporter: &mut Reporter,
    ) -> Result<(), End> {
        while let Some(record) = records.next()? {
            (kind.write)(file, record)?;
            written += 1;
            reporter.step_at(kind.name, || {
                Ok(Place {
                    refs: self.refs.clone(),
                    kind: kind.name.to_owned(),
                    records: written,
                    mark: file.mark()?,
                })
            })?;
        }
        Ok(())
    }
}
