//! What crawlers say, as lines.

use serde_json::{Value, json};

fn line(type_name: &str, job: Option<&str>, data: Value) -> String {
    let mut line = json!({ "type": type_name, "timestamp": "2024-01-15T10:30:00Z", "data": data });
    if let Some(job) = job {
        line["job_id"] = job.into();
    }
    line.to_string()
}

pub(crate) fn heartbeat() -> String {
    heartbeat_with(0, "idle")
}

pub(crate) fn heartbeat_with(active_jobs: u64, status: &str) -> String {
    let data = json!({
        "active_jobs": active_jobs, "last_activity": "2024-01-15T10:29:45Z", "system_status": status,
    });
    line("heartbeat", None, data)
}

pub(crate) fn custom(type_name: &str) -> String {
    line(type_name, None, json!({ "anything": 1 }))
}

pub(crate) fn started(job: &str) -> String {
    line("job_started", Some(job), json!({ "job_type": "crawl_group" }))
}

pub(crate) fn progress(job: &str, completion: f64) -> String {
    let counts = [json!({ "entity_type": "issues", "total_discovered": 10, "total_processed": 5 })];
    let data = json!({ "progress": counts, "overall_completion": completion, "time_elapsed": 1500 });
    line("job_progress", Some(job), data)
}

/// A report of one counter.
pub(crate) fn counted(job: &str, discovered: u64, processed: u64, remaining: u64) -> String {
    let counts = [json!({
        "entity_type": "issues", "total_discovered": discovered, "total_processed": processed,
        "estimated_remaining": remaining,
    })];
    let data = json!({ "progress": counts, "overall_completion": 0.1, "time_elapsed": 1500 });
    line("job_progress", Some(job), data)
}

pub(crate) fn completed(job: &str) -> String {
    completed_with(job, &["a.json".to_owned()], "all done")
}

pub(crate) fn completed_with(job: &str, files: &[String], summary: &str) -> String {
    let counts = [json!({ "entity_type": "issues", "total_discovered": 10, "total_processed": 10 })];
    let data = json!({
        "job_type": "crawl_group", "final_counts": counts, "total_duration": 2500, "output_files": files,
        "summary": summary,
    });
    line("job_completed", Some(job), data)
}

pub(crate) fn failed(job: &str, recoverable: bool) -> String {
    failed_saying(job, recoverable, "503 from the host")
}

pub(crate) fn failed_saying(job: &str, recoverable: bool, message: &str) -> String {
    let counts = [json!({ "entity_type": "issues", "total_discovered": 10, "total_processed": 3 })];
    let data = json!({
        "job_type": "crawl_group", "partial_results": counts,
        "error_context": { "error_type": "HttpError", "error_message": message, "is_recoverable": recoverable },
    });
    line("job_failed", Some(job), data)
}

pub(crate) fn failed_without_counts(job: &str) -> String {
    let data = json!({
        "job_type": "crawl_group", "error_context": { "error_type": "HttpError", "error_message": "503" },
    });
    line("job_failed", Some(job), data)
}

pub(crate) fn discovered(job: &str, entities: &[&str]) -> String {
    let items: Vec<_> = entities
        .iter()
        .map(|entity| {
            json!({
                "job_type": "crawl_project", "entity_id": entity, "namespace_path": format!("group/{entity}"),
                "entity_name": entity, "priority": 5,
            })
        })
        .collect();
    found(job, &items.into())
}

/// Items as they are told.
pub(crate) fn found(job: &str, items: &Value) -> String {
    let data = json!({ "discovered_jobs": items, "discovery_summary": {} });
    line("jobs_discovered", Some(job), data)
}

pub(crate) fn refresh(job: &str) -> String {
    line(
        "token_refresh_request",
        Some(job),
        json!({ "current_token_expired": true }),
    )
}
