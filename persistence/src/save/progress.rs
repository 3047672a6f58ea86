//! How far jobs and trees are.

use crawlwire_progress::Timestamp;
use crawlwire_progress::plan::{NewReport, Plan};
use crawlwire_progress::store::HISTORIES_MAX;
use serde_json::json;

use super::Rows;
use crate::error::Trouble;
use crate::sql;

/// Reports, histories that changed, and what trees add up to.
pub(super) async fn write(rows: &mut Rows<'_>, plan: &Plan, now: Timestamp) -> Result<(), Trouble> {
    let reports = plan.progress.iter().map(|(job, report)| {
        let NewReport { tracker: report, sum } = report;
        let said = report.said;
        json!({
            "job_id": job, "attempt": report.attempt, "n": report.n,
            "overall_completion": said.overall_completion, "time_elapsed": said.time_elapsed,
            "estimated_time_remaining": said.estimated_time_remaining,
            "entities": json!(report.entities).to_string(), "updated_at": report.updated_at,
            "completion": report.completion(), "done": sum.done, "expected": sum.expected,
            "open_totals": sum.open_jobs > 0, "kept": json!(report.kept).to_string(),
        })
    });
    rows.all(sql::WRITE_PROGRESS, reports).await?;
    let histories = plan.histories.iter().map(
        |((job, attempt), report)| json!({"job_id": job, "attempt": attempt, "points": json!(report.history).to_string()}),
    );
    rows.all(sql::WRITE_HISTORY, histories).await?;
    let many = plan.histories.keys().filter(|(_, attempt)| *attempt > HISTORIES_MAX);
    let old = many.map(|(job, attempt)| json!({"job_id": job, "until": attempt - HISTORIES_MAX}));
    rows.some(sql::THIN_HISTORY, old).await?;
    let trees = plan.trees.iter().map(|(root, tree)| {
        let sum = tree.sum;
        json!({
            "root_id": root, "jobs_reported": sum.jobs_reported, "done": sum.done, "expected": sum.expected,
            "open_jobs": sum.open_jobs, "reached": tree.reached, "is_open": tree.is_open, "updated_at": now,
            "weight_reported": sum.weighed.items, "weighed_reported": sum.weighed.jobs,
        })
    });
    rows.all(sql::WRITE_TREES, trees).await
}
