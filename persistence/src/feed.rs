//! What happened to all jobs, in an order in which nothing comes later.
//!
//! On SQLite the keys of events rise with commits. On PostgreSQL a key is drawn before its transaction commits, so a
//! greater one may be there before a smaller one; who went on behind the greater one would never see the other. But whoever
//! writes a table locks it before and until its end. So the last key that was drawn is read, and then who holds such a lock:
//! once those are through, everything up to that key is there, or never will be. Transactions that write other things,
//! however long they take, are of no concern.

use std::collections::BTreeSet;
use std::time::Duration;

use crawlwire_progress::view::{Feed, FeedCursor};
use sea_orm::{DatabaseConnection, DbBackend};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::error::Trouble;
use crate::read;

/// How long the end is looked for while transactions are open: none of ours takes so long.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at who is through.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    /// Held while it is looked, so that nobody goes by what he saw before somebody else began to wait.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Everything up to this key is there.
    until: i64,
    /// The last key that had been drawn at some moment, and the transactions that may have drawn one up to it.
    waits: Option<(i64, BTreeSet<String>)>,
}

impl Seen {
    /// Takes note of the last key that was drawn, and of who was writing after that.
    fn note(&mut self, drawn: i64, writers: BTreeSet<String>) {
        if let Some((key, _)) = self.waits.take_if(|(_, open)| open.is_disjoint(&writers)) {
            self.until = self.until.max(key);
        }
        if writers.is_empty() {
            self.until = self.until.max(drawn);
            self.waits = None;
        } else if self.waits.is_none() && drawn > self.until {
            self.waits = Some((drawn, writers));
        }
    }
}

impl Horizon {
    /// The key up to which everything is there that will ever be; and the last one that was drawn.
    async fn look(&self, database: &DatabaseConnection) -> Result<(i64, i64), Trouble> {
        if database.get_database_backend() == DbBackend::Sqlite {
            let last = read::last_event(database).await?;
            return Ok((last, last));
        }
        let mut seen = self.seen.lock().await;
        let drawn = read::last_event_drawn(database).await?;
        let writers = read::event_writers(database).await?;
        seen.note(drawn, writers);
        Ok((seen.until, drawn))
    }

    /// A place behind everything that is committed.
    pub(crate) async fn end(&self, database: &DatabaseConnection) -> Result<FeedCursor, Trouble> {
        let (mut until, drawn) = self.look(database).await?;
        let patience = Instant::now() + END_PATIENCE;
        while until < drawn {
            if Instant::now() > patience {
                return Err(Trouble::Busy(
                    "a transaction that writes events does not end".to_owned(),
                ));
            }
            sleep(LOOK_PAUSE).await;
            (until, _) = self.look(database).await?;
        }
        Ok(FeedCursor(until))
    }

    /// What is behind a place.
    pub(crate) async fn feed(
        &self,
        database: &DatabaseConnection,
        after: FeedCursor,
        limit: usize,
    ) -> Result<Feed, Trouble> {
        let (until, _) = self.look(database).await?;
        let items = read::feed(database, (after.0, until), limit).await?;
        let next = match items.last() {
            Some(last) if items.len() >= limit => last.event.id,
            _ => after.0.max(until),
        };
        let next = FeedCursor(next);
        Ok(Feed { items, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn nobody_goes_past_a_key_that_may_still_come() {
        let mut seen = Seen::default();
        let mut note = |drawn, open: &[&str]| {
            seen.note(drawn, writers(open));
            seen.until
        };
        assert_eq!(note(5, &[]), 5);
        assert_eq!(note(7, &["a"]), 5);
        assert_eq!(note(9, &["a", "b"]), 5);
        // What was drawn before is there; who came since is waited for next.
        assert_eq!(note(9, &["b"]), 7);
        assert_eq!(note(12, &["b", "c"]), 7);
        assert_eq!(note(13, &["c"]), 9);
        assert_eq!(note(13, &["d"]), 13);
        assert_eq!(note(13, &["e"]), 13);
        assert_eq!(note(15, &["e"]), 13);
        assert_eq!(note(15, &[]), 15);
    }
}
