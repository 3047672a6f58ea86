//! What a server keeps, and where.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crawlwire_persistence::DatabaseConfig;
use crawlwire_persistence::inspect::{self, Inspection, Postgres, Schema};
use rustix::fs::{Access, access, statfs, statvfs};

use super::Check;
use crate::config::Config;
use crate::parts;

/// Below this a server soon cannot write; below that it is time to look.
const SPACE_MIN: u64 = 100 << 20;
const SPACE_LOW: u64 = 1 << 30;

/// Clocks that differ by more make times in the API look odd.
const CLOCK_APART_MS: u64 = 2000;

/// Kinds of file systems on other machines, as `statfs` numbers them: NFS, SMB, SMB 2, 9P, AFS.
const REMOTE: [i64; 5] = [0x6969, 0x517b, 0xfe53_4d42, 0x0102_1997, 0x5346_414f];

pub(super) fn examine(config: &Config) -> Vec<Check> {
    let database = parts::database_config(config);
    let data_dir = &config.general.data_dir;
    let mut checks = vec![directory(data_dir), space("disk", data_dir)];
    checks.push(key(&database));
    match inspect::file(&database) {
        Ok(Some(file)) => {
            checks.extend(beside(&file, data_dir));
            checks.push(look(&database));
        }
        Ok(None) => checks.push(look(&database)),
        Err(error) => checks.push(Check::problem(
            "database",
            error.to_string(),
            "correct database_url (DATABASE_URL)",
        )),
    }
    checks
}

/// The nearest folder that is there.
fn nearest(path: &Path) -> PathBuf {
    let found = path
        .ancestors()
        .find(|folder| !folder.as_os_str().is_empty() && folder.is_dir());
    found.unwrap_or(Path::new(".")).to_owned()
}

fn directory(path: &Path) -> Check {
    const NAME: &str = "data folder";
    let shown = path.display();
    if path.exists() && !path.is_dir() {
        return Check::problem(
            NAME,
            format!("{shown} is no folder"),
            "move it away, or name another one with --data-dir",
        );
    }
    let near = nearest(path);
    match access(&near, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if path.is_dir() => Check::ok(NAME, format!("{shown} can be written to")),
        Ok(()) => Check::ok(NAME, format!("{shown} is not there yet; a start makes it")),
        Err(error) => Check::problem(
            NAME,
            format!("this user cannot write to {}: {error}", near.display()),
            "run the server as another user, change the folder's owner, or name another one with --data-dir",
        ),
    }
}

fn space(name: &'static str, path: &Path) -> Check {
    let near = nearest(path);
    let shown = near.display();
    let found = match statvfs(&near) {
        Ok(found) => found,
        Err(error) => return Check::warning(name, format!("{shown} cannot be measured: {error}"), "look with df"),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let words = format!("{} MiB free at {shown}", free >> 20);
    let help = "make room; jobs that have ended go after max_job_age_ms";
    match free {
        _ if found.f_files > 0 && found.f_favail == 0 => {
            Check::problem(name, format!("no more files fit at {shown}"), help)
        }
        0..SPACE_MIN => Check::problem(name, words, help),
        SPACE_MIN..SPACE_LOW => Check::warning(name, words, help),
        _ => Check::ok(name, words),
    }
}

fn key(database: &DatabaseConfig) -> Check {
    const NAME: &str = "key";
    let path = &database.key_file;
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.len() != 32 => Check::problem(
            NAME,
            format!("{shown} has {} bytes, a key has 32", found.len()),
            "put the right file back; without it the tokens in the database cannot be read",
        ),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => Check::problem(
            NAME,
            format!(
                "other users may read {shown}, mode {:04o}",
                found.permissions().mode() & 0o7777
            ),
            format!("chmod 600 {shown}"),
        ),
        Ok(_) => match access(path, Access::READ_OK) {
            Ok(()) => Check::ok(NAME, format!("{shown} is readable for its owner only")),
            Err(error) => Check::problem(
                NAME,
                format!("{shown} cannot be read: {error}"),
                "run this as the server's user",
            ),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Check::ok(
            NAME,
            format!("{shown} is not there yet; a start makes it where no token is kept"),
        ),
        Err(error) => Check::problem(
            NAME,
            format!("{shown} cannot be looked at: {error}"),
            "run this as the server's user",
        ),
    }
}

/// Where the file of the database lies: how much room there is, and whether SQLite can work there.
fn beside(file: &Path, data_dir: &Path) -> Vec<Check> {
    let near = nearest(file);
    let mut checks = Vec::new();
    if near != nearest(data_dir) {
        checks.push(space("database disk", file));
    }
    if let Ok(found) = statfs(&near)
        && REMOTE.contains(&found.f_type)
    {
        checks.push(Check::problem(
            "database disk",
            format!("{} is on another machine", near.display()),
            "SQLite needs a disk of this machine: name another path, or use PostgreSQL",
        ));
    }
    checks.extend(
        fs::metadata(file)
            .ok()
            .filter(|found| found.mode() & 0o077 != 0)
            .map(|found| {
                Check::warning(
                    "database file",
                    format!(
                        "other users may open {}, mode {:04o}",
                        file.display(),
                        found.mode() & 0o7777
                    ),
                    format!("chmod 600 {}", file.display()),
                )
            }),
    );
    checks
}

fn look(database: &DatabaseConfig) -> Check {
    const NAME: &str = "database";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = match runtime {
        Ok(runtime) => runtime.block_on(inspect::inspect(database)),
        Err(error) => {
            return Check::problem(
                NAME,
                format!("no runtime: {error}"),
                "look at the limits of this process",
            );
        }
    };
    match found {
        Err(error) => Check::problem(
            NAME,
            error.to_string(),
            "look whether it runs, and whether database_url (DATABASE_URL) is right",
        ),
        Ok(Inspection::Missing { creates: true }) => Check::ok(NAME, "is not there yet; a start makes it"),
        Ok(Inspection::Missing { creates: false }) => Check::problem(
            NAME,
            "the file of the database is not there",
            "correct its path, or add ?mode=rwc for it to be made",
        ),
        Ok(Inspection::Unfinished) => Check::warning(
            NAME,
            "changes of a server that broke off wait beside the file",
            "a start takes them over; keep the -wal file with it",
        ),
        Ok(Inspection::Sqlite { schema, journal_mode }) => schema_of(&schema)
            .unwrap_or_else(|words| Check::ok(NAME, format!("SQLite, journal {journal_mode}, {words}"))),
        Ok(Inspection::Postgres(found)) => postgres(&found),
    }
}

fn postgres(found: &Postgres) -> Check {
    const NAME: &str = "database";
    let (version, ahead) = (&found.version, found.clock_ahead_ms);
    if !found.is_supported {
        let detail = format!("PostgreSQL {version} is too old");
        return Check::problem(NAME, detail, "14 or newer is needed");
    }
    if !found.is_permitted {
        return Check::problem(
            NAME,
            "the user may not make tables, or not read and write all of them",
            "make it the owner of the database or schema, or grant CREATE on the schema and everything on its tables",
        );
    }
    if ahead.unsigned_abs() > CLOCK_APART_MS {
        return Check::warning(
            "clock",
            format!("the database's clock is {ahead} ms ahead of this machine's"),
            "synchronise both (chrony, systemd-timesyncd); the database's clock decides about leases",
        );
    }
    schema_of(&found.schema).unwrap_or_else(|words| {
        Check::ok(
            NAME,
            format!("PostgreSQL {version}, {words}, clock ahead by {ahead} ms"),
        )
    })
}

/// What is to be said of the schema: a check when something is wrong with it, else words for one.
fn schema_of(schema: &Schema) -> Result<Check, String> {
    match (&schema.version, schema.pending) {
        _ if !schema.unknown.is_empty() => Ok(Check::problem(
            "database",
            format!(
                "it has steps that this version does not know: {}",
                schema.unknown.join(", ")
            ),
            "it belongs to a newer version: use that one, or another database",
        )),
        (None, _) => Err("empty; a start makes its tables".to_owned()),
        (Some(version), 0) => Err(format!("schema {version}")),
        (Some(version), pending) => Err(format!("schema {version}; a start takes {pending} more steps")),
    }
}
