//! What happened to all jobs, over databases: nothing is left out, however transactions end.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, SqlStore};
use crawlwire_progress::view::FeedCursor;
use crawlwire_progress::{Op, Policy, Store};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, QueryResult, Statement, TransactionTrait};
use support::{Kit, new_job, on_both};

on_both!(
    a_place_outlasts_a_restart,
    nothing_is_left_out_while_servers_write,
    what_others_do_is_read_by_key,
);

const ALL: usize = 10_000;

/// Keys of the events behind a place, and where it goes on.
async fn behind(store: &dyn Store, place: FeedCursor) -> (Vec<i64>, FeedCursor) {
    let feed = store.feed(place, ALL).await.unwrap();
    (feed.items.iter().map(|item| item.event.id).collect(), feed.next)
}

async fn a_place_outlasts_a_restart(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    kit.submit().await;
    let place = kit.store.feed_end().await.unwrap();
    kit.submit().await;
    let told = behind(&*kit.store, place).await;
    assert_eq!(told.0.len(), 1);
    kit.sql().close().await;
    let again = kit.opened_again().await;
    assert_eq!(behind(&*again.store, place).await, told);
    assert_eq!(again.store.feed_end().await.unwrap(), told.1);
    again.submitted(new_job(77)).await;
    assert_eq!(behind(&*again.store, told.1).await.0, [told.0[0] + 1]);
}

/// Follows what happens, a few at a time, until told that nothing more will, and what is there then.
async fn follow(store: Arc<SqlStore>, ended: Arc<AtomicBool>) -> Vec<(i64, String)> {
    let mut place = FeedCursor(0);
    let mut told = Vec::new();
    loop {
        let last = ended.load(Ordering::Acquire);
        let feed = store.feed(place, 7).await.unwrap();
        place = feed.next;
        if feed.items.is_empty() && last {
            return told;
        }
        let items = feed.items.into_iter();
        told.extend(items.map(|item| (item.event.id, item.public_id)));
    }
}

async fn nothing_is_left_out_while_servers_write(database: TestDatabase) {
    let postgres = database.config().url.starts_with("postgres");
    let mut servers = Vec::new();
    for server in 0..if postgres { 4_u64 } else { 1 } {
        let mut config = database.config();
        config.server = format!("server-{server}");
        servers.push(Database::open(config).await.unwrap());
    }
    let ended = Arc::new(AtomicBool::new(false));
    let followers =
        [&servers[0], servers.last().unwrap()].map(|store| tokio::spawn(follow(store.clone(), ended.clone())));
    let writers = servers.iter().zip(0..).map(|(store, server)| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..60 {
                // Transactions of different lengths.
                let jobs = 1 + (round * 7 + server * 3) % 40;
                let mut tickets = Vec::new();
                for job in 0..jobs {
                    let new = new_job(server * 1_000_000 + round * 1000 + job);
                    tickets.push(store.enqueue(Op::Submit(Box::new(new))).await);
                }
                for ticket in tickets {
                    ticket.await.unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    ended.store(true, Ordering::Release);
    let (all, _) = behind(&*servers[0], FeedCursor(0)).await;
    for follower in followers {
        let told = follower.await.unwrap();
        assert!(told.is_sorted_by(|one, next| one.0 < next.0), "in order, and each once");
        let told: BTreeSet<_> = told.iter().map(|(id, _)| *id).collect();
        let missing: Vec<_> = all.iter().filter(|id| !told.contains(id)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(told.len(), all.len());
    }
    for server in servers {
        server.close().await;
    }
}

/// A range of events, and of jobs those that are held.
async fn what_others_do_is_read_by_key(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    for _ in 0..50 {
        kit.submit().await;
    }
    let plans = kit.database().plans(10).await;
    let plan = |asked: &str| {
        let found = plans.iter().find(|(name, _)| name == asked);
        found.map(|(_, plan)| plan.as_str()).unwrap()
    };
    let (feed, reports) = (plan("feed"), plan("progress elsewhere"));
    let used = match kit.sql().database().get_database_backend() {
        DbBackend::Sqlite => [
            "SEARCH job_events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
            "USING INDEX idx_jobs_session",
        ],
        _ => ["on job_events_pkey", "on idx_jobs_session"],
    };
    for (plan, index) in [feed, reports].into_iter().zip(used) {
        let (is_used, scans) = (plan.contains(index), plan.contains("Seq Scan"));
        assert!(is_used && !scans, "{plan}");
    }
}

/// An event of the first job, in a transaction that stays open; its key.
async fn open_event(pool: &sea_orm::DatabaseConnection) -> (DatabaseTransaction, i64) {
    let transaction = pool.begin().await.unwrap();
    let text = "INSERT INTO job_events (job_id, at, arrows, status, fence, attempt) \
                SELECT min(id), 1, 'pause', 'paused', 0, 0 FROM jobs RETURNING id";
    let asked = Statement::from_string(transaction.get_database_backend(), text);
    let row: QueryResult = transaction.query_one_raw(asked).await.unwrap().unwrap();
    let id = row.try_get("", "id").unwrap();
    (transaction, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_goes_past_a_transaction_that_is_open() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let kit = Kit::over(database, Policy::default()).await;
    kit.submit().await;
    let start = kit.store.feed_end().await.unwrap();
    let (one, two) = (kit.database().pool().await, kit.database().pool().await);
    for rolled_back in [false, true] {
        let (_, place) = behind(&*kit.store, start).await;
        let (first, early) = open_event(&one).await;
        kit.submit().await;
        assert_eq!(
            behind(&*kit.store, place).await,
            (vec![], place),
            "{early} may come still"
        );
        let (second, late) = open_event(&two).await;
        kit.submit().await;
        assert_eq!(behind(&*kit.store, place).await, (vec![], place));
        if rolled_back {
            first.rollback().await.unwrap();
        } else {
            first.commit().await.unwrap();
        }
        // What was drawn before the second began to write is there now, though that one is open.
        let (told, next) = behind(&*kit.store, place).await;
        let expected = if rolled_back {
            vec![early + 1]
        } else {
            vec![early, early + 1]
        };
        assert_eq!(told, expected);
        assert_eq!(next, FeedCursor(early + 1));
        assert_eq!(behind(&*kit.store, next).await, (vec![], next), "{late} may come still");
        // The end is behind all that is committed, so somebody has to wait for it.
        let store = kit.store.clone();
        let mut end = tokio::spawn(async move { store.feed_end().await });
        tokio::time::timeout(Duration::from_millis(100), &mut end)
            .await
            .expect_err("a transaction is open");
        second.commit().await.unwrap();
        assert_eq!(end.await.unwrap().unwrap(), FeedCursor(late + 1));
        assert_eq!(
            behind(&*kit.store, next).await,
            (vec![late, late + 1], FeedCursor(late + 1))
        );
    }
    // Whoever writes other things, and only looks at events, holds nobody up.
    let other = one.begin().await.unwrap();
    other.execute_unprepared("DELETE FROM errors").await.unwrap();
    other
        .execute_unprepared("SELECT * FROM job_events FOR SHARE")
        .await
        .unwrap();
    let end = kit.store.feed_end().await.unwrap();
    kit.submit().await;
    assert_eq!(behind(&*kit.store, end).await.0.len(), 1);
    other.commit().await.unwrap();
    one.close().await.unwrap();
    two.close().await.unwrap();
}
