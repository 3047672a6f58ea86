//! `crawlwire submit`: a new job.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::args::{JobFields, SubmitArgs};
use super::console::Console;
use super::server::Trouble;
use super::view::text;
use super::{EXIT_DONE, many, watch};

/// Longest file of a token. They are a hundred bytes.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

pub(crate) fn run(args: &SubmitArgs, console: &mut Console) -> Result<u8, Trouble> {
    if let Some(file) = &args.file {
        return many::run(file, console);
    }
    let job = console.server.post("/api/v1/jobs", &body(&args.fields)?)?;
    if console.json {
        console.document(&job)?;
    } else {
        console.line(&super::text::shown(text(&job, "id")))?;
    }
    console.flush()?;
    if args.watch {
        return watch::run(Some(text(&job, "id")), console);
    }
    Ok(EXIT_DONE)
}

fn body(fields: &JobFields) -> Result<Value, Trouble> {
    let mut body = Map::new();
    let texts = [
        ("job_type", fields.job_type.as_ref()),
        ("account_id", fields.account.as_ref()),
        ("gitlab_host", fields.host.as_ref()),
        ("entity_id", fields.entity.as_ref()),
        ("namespace_path", fields.namespace.as_ref()),
        ("web_app_job_id", fields.name.as_ref()),
        ("run_at", fields.run_at.as_ref()),
        ("provider", fields.provider.as_ref()),
        ("user_id", fields.user_id.as_ref()),
        ("created_by_user_id", fields.created_by_user_id.as_ref()),
    ];
    let numbers = [
        ("job_timeout_ms", fields.job_timeout_ms),
        ("retry_attempts", fields.retry_attempts),
        ("retry_delay_ms", fields.retry_delay_ms),
    ];
    let given = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?.as_str().into())));
    let given = given.chain(
        numbers
            .into_iter()
            .filter_map(|(name, number)| Some((name, number?.into()))),
    );
    let given = given.chain(
        fields
            .priority
            .clone()
            .map(|priority| ("priority", Value::Number(priority))),
    );
    let given = given.chain(fields.metadata.clone().map(|metadata| ("metadata", metadata)));
    body.extend(given.map(|(name, value)| (name.to_owned(), value)));
    for (name, words) in [("labels", &fields.labels), ("tags", &fields.tags)] {
        if !words.is_empty() {
            body.insert(name.to_owned(), words.clone().into());
        }
    }
    if fields.resume {
        body.insert("resume".to_owned(), true.into());
    }
    if let Some(file) = &fields.token_file {
        body.insert("access_token".to_owned(), token(file)?.into());
    }
    Ok(body.into())
}

/// A token without the end of its line. No error shows any of it.
pub(crate) fn token(path: &Path) -> Result<String, Trouble> {
    let mut token = String::new();
    let read = match path == Path::new("-") {
        true => io::stdin().lock().take(TOKEN_BYTES_MAX).read_to_string(&mut token),
        false => File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut token)),
    };
    let name = path.display();
    read.map_err(|error| Trouble::Usage(format!("cannot read the token from {name}: {error}")))?;
    token.truncate(token.trim_end().len());
    match token.is_empty() {
        true => Err(Trouble::Usage(format!("{name} holds no token"))),
        false => Ok(token),
    }
}
