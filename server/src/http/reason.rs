//! Why a job does not move, in words and as data.

use crawlwire_progress::admit::{ClosedGate, Gate, Lack, Waiting};
use serde_json::{Map, Value, json};

use super::json;

/// The reason with its stable `code`, a sentence, what would clear it, and its own fields.
pub(super) fn reason(waiting: &Waiting) -> Value {
    let mut fields = data(waiting);
    fields.insert("code".to_owned(), waiting.as_str().into());
    fields.insert("detail".to_owned(), sentence(waiting).into());
    fields.insert("cleared_by".to_owned(), waiting.cleared_by().into());
    Value::Object(fields)
}

fn data(waiting: &Waiting) -> Map<String, Value> {
    let value = match waiting {
        Waiting::Scheduled { until } => json!({ "until": json::time(*until) }),
        Waiting::Backoff { until, failures } => json!({ "until": json::time(*until), "failures": failures }),
        Waiting::Paused | Waiting::TokenUnreadable | Waiting::NoCrawler => json!({}),
        Waiting::Quarantined { misses } => json!({ "misses": misses }),
        Waiting::Acceptance { session, since, until } => {
            json!({ "session": session, "since": json::time(*since), "until": json::time(*until) })
        }
        Waiting::GateClosed(gate) => json!({ "gate": json::closed_gate(gate) }),
        Waiting::AccountShare { held, limit } => json!({ "held": held, "limit": limit }),
        Waiting::NoCapableCrawler { crawlers, missing } => {
            let missing: Vec<_> = missing.iter().map(lack).collect();
            json!({ "crawlers": crawlers, "missing": missing })
        }
        Waiting::Draining { capable } | Waiting::Unresponsive { capable } => json!({ "capable": capable }),
        Waiting::Slot { capable, slots } => json!({ "capable": capable, "slots": slots }),
        Waiting::Turn { session } => json!({ "session": session }),
    };
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn lack(lack: &Lack) -> Value {
    match lack {
        Lack::JobType(job_type) => json!({ "kind": "job_type", "value": job_type.as_str() }),
        Lack::Host(host) => json!({ "kind": "gitlab_host", "value": host }),
        Lack::Label(label) => json!({ "kind": "label", "value": label }),
    }
}

fn sentence(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Scheduled { until } => format!("It may not run before {}.", json::time(*until)),
        Waiting::Backoff { until, failures } => {
            format!(
                "It went wrong {}; the next try is at {}.",
                times(*failures),
                json::time(*until)
            )
        }
        Waiting::Paused => "Somebody paused it.".to_owned(),
        Waiting::Quarantined { misses } => format!("It was given out {} in a row and never begun.", times(*misses)),
        Waiting::Acceptance { session, since, until } => format!(
            "Crawler {session} was given it at {} and has not begun; at {} it is taken back.",
            json::time(*since),
            json::time(*until)
        ),
        Waiting::GateClosed(gate) => gate_closed(gate),
        Waiting::TokenUnreadable => "Its token cannot be read with the key of this server.".to_owned(),
        Waiting::AccountShare { held, limit } => {
            format!("Crawlers hold {held} jobs of its account, which may have {limit} at a time.")
        }
        Waiting::NoCrawler => "No crawler is connected.".to_owned(),
        Waiting::NoCapableCrawler { crawlers, missing } => {
            let missing: Vec<_> = missing.iter().map(lacked).collect();
            let missing = missing.join(", ");
            match crawlers {
                1 => format!("The only crawler cannot run it: it lacks {missing}."),
                crawlers => format!("None of {crawlers} crawlers can run it; the nearest lacks {missing}."),
            }
        }
        Waiting::Draining { capable } => {
            format!(
                "{} that can run it, but given nothing more: draining, or on a server that is.",
                there_are(*capable)
            )
        }
        Waiting::Unresponsive { capable } => format!(
            "{} that can run it, but silent, or not taking what is sent.",
            there_are(*capable)
        ),
        Waiting::Slot { capable, slots } => {
            format!(
                "{} that can run it, all busy; together they take {}.",
                there_are(*capable),
                many(*slots, "job")
            )
        }
        Waiting::Turn { session } => format!("Crawler {session} has room; its turn is about to come."),
    }
}

fn lacked(lack: &Lack) -> String {
    match lack {
        Lack::JobType(job_type) => format!("the job type {}", job_type.as_str()),
        Lack::Host(host) => format!("the host {host}"),
        Lack::Label(label) => format!("the label {label}"),
    }
}

fn gate_closed(closed: &ClosedGate) -> String {
    let what = match &closed.gate {
        Gate::Queue => "The queue is paused".to_owned(),
        Gate::Host(host) => format!("The gate of host {host} is closed"),
        Gate::Credentials { account_id, host } => {
            format!("The gate of the credentials of {account_id} on {host} is closed")
        }
    };
    let until = closed.until.map(|until| format!(" until {}", json::time(until)));
    let reason = closed.reason.as_ref().map(|reason| format!(": {reason}"));
    format!(
        "{what} since {}{}, by {}{}.",
        json::time(closed.closed_at),
        until.unwrap_or_default(),
        closed.by,
        reason.unwrap_or_default()
    )
}

fn times(count: i32) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

fn many(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn there_are(count: usize) -> String {
    match count {
        1 => "There is 1 crawler".to_owned(),
        count => format!("There are {count} crawlers"),
    }
}
