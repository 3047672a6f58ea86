//! Which servers live, on PostgreSQL: each holds a lock under its name as long as it listens. When its process dies, its
//! connection goes and the lock with it, at once. A process that was its crawler may then take its jobs over elsewhere,
//! though nobody was left to say that the connection is gone.
//!
//! The lock is shared, so that it says nothing about names: two servers of one name hold it both.

use crawlwire_progress::SessionKey;
use crawlwire_progress::plan::Snapshot;
use sea_orm::sqlx::postgres::PgListener;
use sea_orm::sqlx::{self};
use serde_json::json;

use crate::connection::{Cells, Connection};
use crate::error::Trouble;

/// Takes the lock. The first number is ours, the second one the name's.
const HOLD: &str = "SELECT pg_advisory_lock_shared(1668443511, hashtext($1))";

/// Sessions with a connection that stands by their rows, to servers of which nobody holds the lock. An id of a lock is
/// unsigned.
const ORPHANS: &str = "SELECT s.id FROM sessions AS s \
    WHERE s.id = ANY (ARRAY (SELECT value::bigint FROM json_array_elements_text($1::json->'ids') AS value)) \
    AND s.connected AND s.server <> ($1::json->>'own') AND NOT EXISTS (SELECT 1 FROM pg_locks AS l \
    WHERE l.locktype = 'advisory' AND l.classid = 1668443511 AND l.objsubid = 2 \
    AND l.objid::bigint = (hashtext(s.server)::bigint & 4294967295) \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

/// Holds the lock of this server as long as the listener's connection lasts.
pub(crate) async fn hold(listener: &mut PgListener, server: &str) -> Result<(), sqlx::Error> {
    sqlx::query(HOLD).bind(server).execute(listener).await?;
    Ok(())
}

/// Takes connections to servers that are no more for what they are.
pub(crate) async fn note_orphans(
    connection: &mut Connection,
    own: &str,
    snapshot: &mut Snapshot,
) -> Result<(), Trouble> {
    let ids: Vec<_> = snapshot.sessions.keys().collect();
    let asked = json!({ "ids": ids, "own": own }).to_string();
    for row in connection.fetch_text(ORPHANS, Some(asked)).await? {
        let key = SessionKey(Cells::of(&row).next()?);
        if let Some(session) = snapshot.sessions.get_mut(&key) {
            session.connected = false;
        }
    }
    Ok(())
}
