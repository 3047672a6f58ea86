//! What is looked at through which server.

use crawlwire_progress::Timestamp;
use crawlwire_progress::plan::Plan;
use serde_json::json;

use super::Rows;
use crate::error::Trouble;
use crate::sql;

/// What is over goes with what comes, so that nobody has to look for it when nothing is watched.
pub(super) async fn write(rows: &mut Rows<'_>, plan: &Plan, now: Timestamp) -> Result<(), Trouble> {
    if plan.watches.is_empty() {
        return Ok(());
    }
    let watches = plan.watches.iter();
    let watches = watches.map(|((server, job), until)| json!({"server": server, "job": job, "until": until}));
    rows.all(sql::WRITE_WATCHES, watches).await?;
    rows.one(sql::FORGET_WATCHES, &json!({"now": now})).await?;
    Ok(())
}
