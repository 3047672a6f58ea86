//! Memory follows the rows: what another server did to the jobs that are held here.

use std::collections::HashMap;
use std::sync::Arc;

use crawlwire_progress::view::HeldJob;
use crawlwire_progress::{JobKey, StoreError};

use crate::session::{Held, Session};
use crate::shared::Shared;
use crate::wishes;

/// Sessions that one read asks for, so that none grows without bound.
const SESSIONS_MAX: usize = 500;

/// A session, and what it held when that was noted.
type Noted = (Vec<(String, Held)>, Arc<Session>);

/// Lets go of the jobs that the rows say are not held here any more, and tells crawlers what they were not told of wishes. What they say is held here, and is not known here, is
/// on its way into memory, or the timers take it back.
///
/// A claim or a takeover is in the rows before it is in memory, and memory is noted before the rows are read. So a noted
/// job that has no row has lost it; unless it was given out anew meanwhile, and then memory has a newer fence.
pub(crate) async fn reconcile(shared: &Shared) {
    let noted = shared
        .sessions
        .all()
        .into_iter()
        .map(|session| (session.all_held(), session));
    let noted: Vec<Noted> = noted.filter(|(held, _)| !held.is_empty()).collect();
    for group in noted.chunks(SESSIONS_MAX) {
        if let Err(error) = compare(shared, group).await {
            tracing::warn!(%error, "held jobs not read");
            return;
        }
    }
}

async fn compare(shared: &Shared, group: &[Noted]) -> Result<(), StoreError> {
    let sessions = group.iter().map(|(_, session)| session.key).collect();
    let rows = shared.store.held(sessions).await?;
    let rows: HashMap<JobKey, HeldJob> = rows.into_iter().map(|row| (row.key, row)).collect();
    for (noted, session) in group {
        for (public_id, held) in noted {
            let ours = |row: &&HeldJob| row.session == session.key && row.fence == held.fence;
            if let Some(row) = rows.get(&held.key).filter(ours) {
                wishes::repair(shared, session, public_id, held, row.want).await;
                continue;
            }
            tracing::debug!(session = %session.name, job = public_id, "job is not held here any more");
            if let Some(held) = shared.lose(session, public_id, held.fence) {
                wishes::drop_it(shared, session, public_id, &held).await;
            }
        }
    }
    Ok(())
}
