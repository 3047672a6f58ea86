//! `crawlwire cancel`, `pause`, `resume`, `retry`: what people do to jobs.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::args::{ActArgs, CancelArgs, RetryArgs};
use super::console::Console;
use super::server::{Trouble, job_path};
use super::text::shown;
use super::view::{many, number, state, text};
use super::{EXIT_DONE, EXIT_FAILED};
use crate::token::whoever;

pub(crate) fn cancel(args: &CancelArgs, console: &mut Console) -> Result<u8, Trouble> {
    let fields = match args.tree {
        true => json!({ "tree": true }),
        false => json!({}),
    };
    act("cancel", &args.act, &fields, console)
}

pub(crate) fn retry(args: &RetryArgs, console: &mut Console) -> Result<u8, Trouble> {
    let what = if args.quarantined { "redrive" } else { "retry" };
    act(what, &args.act, &json!({}), console)
}

pub(crate) fn simple(what: &str, args: &ActArgs, console: &mut Console) -> Result<u8, Trouble> {
    act(what, args, &json!({}), console)
}

/// Does it to each job, also after one was refused: the jobs do not depend on each other.
fn act(what: &str, args: &ActArgs, fields: &Value, console: &mut Console) -> Result<u8, Trouble> {
    if args.ids.len() > 1 && !args.yes && !agreed(what, &args.ids, console)? {
        return Ok(EXIT_FAILED);
    }
    let mut body = fields.clone();
    body["by"] = args.by.clone().unwrap_or_else(whoever).into();
    let mut status = EXIT_DONE;
    let mut results = Vec::new();
    for id in &args.ids {
        let mut result = Map::from_iter([("id".to_owned(), Value::from(id.as_str()))]);
        match console.server.post(&format!("{}/{what}", job_path(id)), &body) {
            Ok(answer) => {
                if !console.json {
                    console.line(&told(id, &answer))?;
                    console.flush()?;
                }
                match answer {
                    Value::Object(answer) if answer.contains_key("job") => result.extend(answer),
                    job => drop(result.insert("job".to_owned(), job)),
                }
            }
            Err(Trouble::Refused(refusal)) => {
                status = EXIT_FAILED;
                for line in refusal.lines() {
                    console.note(&format!("crawlwire: {}: {line}", shown(id)));
                }
                result.insert("problem".to_owned(), refusal.document);
            }
            Err(trouble) => return Err(trouble),
        }
        results.push(Value::Object(result));
    }
    if console.json {
        console.document(&json!({ "items": results }))?;
    }
    Ok(status)
}

fn told(id: &str, answer: &Value) -> String {
    match &answer["job"] {
        Value::Null => shown(&format!("{id}  {}", state(answer))),
        job => {
            let ended = many(number(answer, "cancelled"), "job");
            shown(&format!("{id}  {}, with its tree: {ended} ended", state(job)))
        }
    }
}

/// Asks before jobs of several trees are touched at once.
fn agreed(what: &str, ids: &[String], console: &mut Console) -> Result<bool, Trouble> {
    let mut trees = BTreeSet::new();
    for id in ids {
        match console.server.get(&job_path(id)) {
            Ok(job) => drop(trees.insert(text(&job, "root_id").to_owned())),
            // The act itself will say what is wrong with it.
            Err(Trouble::Refused(_)) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    if trees.len() < 2 {
        return Ok(true);
    }
    let question = format!(
        "{what} {} of {}?",
        many(ids.len() as u64, "job"),
        many(trees.len() as u64, "tree")
    );
    console.confirmed(&question)
}
