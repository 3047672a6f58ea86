//! The folder a crawler was started for, and what lies below it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::failure::{End, Failure};
use crate::repository::{Kind, Repository, look};

/// Repositories found by one walk: as many as a server takes as children of one job, unless it is told otherwise.
const PROJECTS_MAX: usize = 100_000;

/// Skipped places that are remembered one by one; the others are only counted.
const SKIPPED_MAX: usize = 10_000;

/// The folder to crawl. Everything is named by its path relative to it, with `/` between the parts; it is `.` itself.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    /// Our own files, when they lie below the root: they are not part of what is crawled.
    out: PathBuf,
}

/// What a walk found, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Folders with repositories at any depth below them, and how many.
    pub(crate) groups: BTreeMap<String, u64>,
    pub(crate) projects: Vec<Project>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) skipped_total: u64,
    /// Levels of groups below the start.
    pub(crate) depth: u32,
}

/// A folder that a job names.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    /// However the job wrote it, one folder has one name.
    pub(crate) name: String,
}

/// A repository and its place.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) path: String,
    pub(crate) repository: Repository,
}

/// A place that was not looked into.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    pub(crate) path: String,
    pub(crate) reason: String,
}

impl Found {
    /// Notes a place that was left out.
    pub(crate) fn skip(&mut self, path: String, reason: impl Into<String>) {
        self.skipped_total += 1;
        if self.skipped.len() < SKIPPED_MAX {
            let reason = reason.into();
            self.skipped.push(Skipped { path, reason });
        }
    }
}

impl Root {
    /// The folder with all symbolic links followed, so that leaving it can be noticed.
    ///
    /// # Errors
    /// When it is not there or no folder.
    pub(crate) fn open(root: &Path, out: PathBuf) -> io::Result<Self> {
        let path = fs::canonicalize(root)?;
        fs::read_dir(&path)?;
        Ok(Self { path, out })
    }

    /// The root itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that a job names.
    ///
    /// # Errors
    /// When it is not there, or not below the root once every `..` and symbolic link is taken at its word.
    pub(crate) fn resolve(&self, name: &str) -> Result<Place, Failure> {
        let relative = Path::new(name);
        let stays_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !relative.components().all(stays_inside) {
            return Err(Failure::outside(name));
        }
        let folder = match fs::canonicalize(self.path.join(relative)) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(Failure::io(name, &error)),
            // Too long, with a NUL, a file on the way, links in a circle: nothing of that name can be there.
            Err(_) => return Err(Failure::not_found(name)),
        };
        if !folder.starts_with(&self.path) {
            return Err(Failure::outside(name));
        }
        match self.name(&folder) {
            Some(name) if folder.is_dir() => Ok(Place { folder, name }),
            _ => Err(Failure::not_found(name)),
        }
    }

    /// The repository that a job names.
    pub(crate) fn project(&self, name: &str) -> Result<Project, Failure> {
        let Place { folder, name } = self.resolve(name)?;
        match look(&folder) {
            Kind::Repository(repository) => Ok(Project { path: name, repository }),
            Kind::Linked(reason) => Err(Failure::not_a_repository(&name, reason)),
            Kind::Folder => Err(Failure::not_a_repository(&name, "a folder without a repository")),
        }
    }

    /// The name of a folder below the root; `None` when it is not UTF-8, which a JSON string has to be.
    fn name(&self, folder: &Path) -> Option<String> {
        let relative = folder.strip_prefix(&self.path).ok()?.to_str()?;
        Some(if relative.is_empty() { "." } else { relative }.to_owned())
    }

    /// What people call a folder: the last part of its path, also for the root.
    pub(crate) fn title(&self, name: &str) -> String {
        let path = if name == "." { &*self.path } else { Path::new(name) };
        path.file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// Everything below a folder of the root.
    ///
    /// A repository ends the way: what lies in its working tree is its content. Symbolic links are not followed.
    ///
    /// # Errors
    /// When it is told to stop, or when the start cannot be read.
    pub(crate) fn walk(&self, start: &Path, stop: &CancellationToken) -> Result<Found, End> {
        let mut found = Found::default();
        let mut folders = vec![start.to_owned()];
        while let Some(folder) = folders.pop() {
            if stop.is_cancelled() {
                return Err(End::Stopped);
            }
            let Some(name) = self.name(&folder) else {
                found.skip(folder.to_string_lossy().into_owned(), "its name is not UTF-8");
                continue;
            };
            match look(&folder) {
                Kind::Repository(_) if found.projects.len() >= PROJECTS_MAX => {
                    found.skip(name, "one repository too many");
                }
                Kind::Repository(repository) => found.projects.push(Project { path: name, repository }),
                Kind::Linked(reason) => found.skip(name, reason),
                Kind::Folder => match self.below(&folder, &mut found) {
                    Ok(below) => folders.extend(below),
                    Err(error) if folder == start => return Err(Failure::io(name, &error).into()),
                    Err(error) => found.skip(name, error.to_string()),
                },
            }
        }
        found.projects.sort_by(|one, other| one.path.cmp(&other.path));
        self.group(start, &mut found);
        Ok(found)
    }

    fn below(&self, folder: &Path, found: &mut Found) -> io::Result<Vec<PathBuf>> {
        let mut below = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.file_type()?;
            if kind.is_symlink() && path.is_dir() {
                let name = self.name(&path);
                let name = name.unwrap_or_else(|| path.to_string_lossy().into_owned());
                found.skip(name, "a symbolic link to a folder");
            } else if kind.is_dir() && path != self.out {
                below.push(path);
            }
        }
        Ok(below)
    }

    /// Counts the repositories of every folder on the way from `start` to each of them.
    fn group(&self, start: &Path, found: &mut Found) {
        let start_depth = self.depth(start);
        if !matches!(look(start), Kind::Repository(_)) {
            found.groups.extend(self.name(start).map(|name| (name, 0)));
        }
        for project in &found.projects {
            let folder = self.path.join(&project.path);
            // A repository that is the start itself has no group.
            let above = folder.ancestors().skip(1).take_while(|above| above.starts_with(start));
            for above in above {
                if let Some(name) = self.name(above) {
                    *found.groups.entry(name).or_default() += 1;
                    found.depth = found.depth.max(self.depth(above).saturating_sub(start_depth));
                }
            }
        }
    }

    fn depth(&self, folder: &Path) -> u32 {
        folder
            .strip_prefix(&self.path)
            .map_or(0, |relative| relative.components().count() as u32)
    }
}
