//! Databases that are away for a while: what waits, what is answered at once, and how a store closes meanwhile.

mod support;

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, DatabaseConfig};
use crawlwire_progress::discovery::Verdict;
use crawlwire_progress::store::Ticket;
use crawlwire_progress::view::JobView;
use crawlwire_progress::{Arrow, Op, Outcome, State, Store, StoreError};
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use support::{Kit, Peer, complete, discover, moved, nobody, report, start};
use tokio::time::{Instant, timeout};

/// Far below what a patient operation waits in these tests.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Which database, and how it goes away.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Sqlite,
    LockedPostgres,
    LostPostgres,
}

/// Why the database is away.
enum Outage {
    /// Another program has the SQLite file, or the PostgreSQL tables, for itself.
    Locked(DatabaseConnection),
    /// The PostgreSQL server is down.
    Down,
}

/// A database that can go away, and the store over it.
struct World {
    database: TestDatabase,
    kit: Kit,
    kind: Kind,
    outage: Option<Outage>,
}

impl World {
    async fn over(database: TestDatabase, kind: Kind) -> Self {
        let kit = Kit::around(Database::open(config(&database)).await.unwrap());
        Self {
            database,
            kit,
            kind,
            outage: None,
        }
    }

    async fn goes_away(&mut self) {
        let lock = match self.kind {
            Kind::Sqlite => "BEGIN EXCLUSIVE",
            Kind::LockedPostgres => "BEGIN; LOCK TABLE jobs, sessions IN EXCLUSIVE MODE",
            Kind::LostPostgres => {
                self.database.stop();
                self.outage = Some(Outage::Down);
                return;
            }
        };
        let shell = self.database.pool().await;
        shell.execute_unprepared(lock).await.unwrap();
        self.outage = Some(Outage::Locked(shell));
    }

    async fn comes_back(&mut self) {
        match self.outage.take().unwrap() {
            Outage::Locked(shell) => {
                shell.execute_unprepared("ROLLBACK").await.unwrap();
                shell.close().await.unwrap();
            }
            Outage::Down => self.database.start(),
        }
    }

    /// Gives a patient operation, and returns when the writer has found that it has to wait.
    async fn found_away(&self, op: Op) -> Ticket {
        let ticket = self.kit.store.enqueue(op).await;
        // It is behind, so it is answered when the first one waits.
        assert_unavailable(self.kit.store.commit(Op::Sweep).await);
        assert!(self.kit.sql().statistics().waiting >= 1);
        ticket
    }

    async fn running(&self) -> (JobView, Peer, crawlwire_progress::store::Holder) {
        let peer = self.kit.session("one").await;
        let job = self.kit.submit().await;
        let holder = self.kit.start(&job, &peer).await;
        (job, peer, holder)
    }
}

fn config(database: &TestDatabase) -> DatabaseConfig {
    let mut config = database.config();
    config.transaction_timeout = Duration::from_secs(1);
    config
}

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
}

fn verdicts(outcome: &Outcome) -> Vec<Verdict> {
    match outcome {
        Outcome::Discovered(verdicts) => verdicts.iter().map(|(verdict, _)| *verdict).collect(),
        other => panic!("{other:?}"),
    }
}

/// Runs each case over each kind of outage.
macro_rules! in_each {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let database = super::TestDatabase::sqlite();
                super::$case(super::World::over(database, super::Kind::Sqlite).await).await;
            })+
        }
        mod locked_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(database) = super::TestDatabase::postgres().await {
                    super::$case(super::World::over(database, super::Kind::LockedPostgres).await).await;
                }
            })+
        }
        mod lost_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(database) = super::TestDatabase::postgres_alone().await {
                    super::$case(super::World::over(database, super::Kind::LostPostgres).await).await;
                }
            })+
        }
    };
}

in_each!(
    patient_operations_wait_in_order_and_the_others_do_not,
    a_patient_operation_that_is_refused_costs_only_itself,
    more_than_can_be_kept_waits_outside,
    a_store_closes_while_its_database_is_away,
    a_store_that_nobody_holds_gives_up_too,
    a_ping_is_answered_in_time,
);

async fn patient_operations_wait_in_order_and_the_others_do_not(mut world: World) {
    let (job, peer, holder) = world.running().await;
    let late = world.kit.submit().await;
    let late_holder = world.kit.claim(&late, &peer).await;
    world.goes_away().await;
    let store = world.kit.store.clone();
    let mut found = world.found_away(discover(job.key, &holder, "x", &["a", "b"])).await;
    let mut began = store.enqueue(start(late.key, &late_holder)).await;

    let before = Instant::now();
    for op in [
        Op::Submit(Box::new(world.kit.new_job())),
        Op::Progress(vec![(job.key, holder.lease(), report(1))]),
        Op::Renew(vec![peer.reference()]),
        Op::Recover {
            server: "crawlwire".to_owned(),
            connected: true,
        },
    ] {
        assert_unavailable(store.commit(op).await);
    }
    assert!(before.elapsed() < AT_ONCE, "{:?}", before.elapsed());
    let mut ended = store.enqueue(complete(job.key, &holder)).await;
    let mut gone = store.enqueue(Op::Disconnect(peer.reference())).await;
    for ticket in [&mut found, &mut began, &mut ended, &mut gone] {
        assert!(timeout(Duration::from_millis(50), ticket).await.is_err());
    }
    assert_eq!(world.kit.sql().statistics().waiting, 4);

    world.comes_back().await;
    let accepted = verdicts(&found.await.unwrap());
    assert_eq!(accepted.len(), 2);
    assert!(
        accepted.iter().all(|verdict| *verdict == Verdict::Accepted),
        "before the end of the job: {accepted:?}"
    );
    assert_eq!(moved(began.await.unwrap().into_inner()).arrow, Arrow::Start);
    assert_eq!(moved(ended.await.unwrap().into_inner()).state, State::Completed);
    assert_eq!(gone.await.unwrap().into_inner(), Outcome::Done);
    assert_eq!(world.kit.view(&job).await.tree.children, 2);
    world.kit.submit().await;
    assert_eq!(world.kit.sql().statistics().waiting, 0);
}

async fn a_patient_operation_that_is_refused_costs_only_itself(mut world: World) {
    let (job, _, holder) = world.running().await;
    world.goes_away().await;
    let first = world.found_away(discover(job.key, &holder, "x", &["a"])).await;
    let mut poison = discover(job.key, &holder, "x", &["b"]);
    if let Op::Discover { items, .. } = &mut poison {
        // Public ids are made by our caller, so no rule looks for one that is taken.
        items[0].public_id.clone_from(&job.public_id);
    }
    let mut poison = world.kit.store.enqueue(poison).await;
    let last = world.kit.store.enqueue(complete(job.key, &holder)).await;
    assert!(timeout(Duration::from_millis(50), &mut poison).await.is_err());
    world.comes_back().await;
    assert_eq!(verdicts(&first.await.unwrap()), [Verdict::Accepted]);
    let error = poison.await.unwrap_err();
    assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
    assert_eq!(moved(last.await.unwrap().into_inner()).state, State::Completed);
}

async fn more_than_can_be_kept_waits_outside(mut world: World) {
    const MANY: usize = 6000;
    world.goes_away().await;
    let first = world.found_away(Op::Disconnect(nobody().reference())).await;
    let store = world.kit.store.clone();
    let giving = tokio::spawn(async move {
        let mut tickets = Vec::new();
        for _ in 0..MANY {
            tickets.push(store.enqueue(Op::Disconnect(nobody().reference())).await);
        }
        tickets
    });
    // One queue full at the front and one in the channel: then whoever gives waits.
    let mut kept = 0;
    while kept < 2000 {
        tokio::task::yield_now().await;
        kept = world.kit.sql().statistics().waiting;
    }
    let before = Instant::now();
    for _ in 0..20 {
        assert_unavailable(world.kit.store.commit(Op::Sweep).await);
    }
    assert!(before.elapsed() < AT_ONCE, "{:?}", before.elapsed());
    assert!(!giving.is_finished());
    assert!(world.kit.sql().statistics().waiting < MANY / 2);
    world.comes_back().await;
    first.await.unwrap();
    for ticket in giving.await.unwrap() {
        assert_eq!(ticket.await.unwrap().into_inner(), Outcome::Done);
    }
}

async fn a_store_closes_while_its_database_is_away(mut world: World) {
    let (job, _, holder) = world.running().await;
    world.goes_away().await;
    let found = world.found_away(discover(job.key, &holder, "x", &["a"])).await;
    let ended = world.kit.store.enqueue(complete(job.key, &holder)).await;
    let closing = timeout(Duration::from_secs(5), world.kit.sql().close());
    closing.await.expect("it gives up");
    assert_eq!(found.await, Err(StoreError::Closed));
    assert_eq!(ended.await, Err(StoreError::Closed));
    for op in [Op::Sweep, complete(job.key, &holder)] {
        assert_eq!(world.kit.store.commit(op).await, Err(StoreError::Closed));
    }
    world.comes_back().await;
    let again = Kit::around(Database::open(world.database.config()).await.unwrap());
    assert_eq!(again.view(&job).await.state, State::Running);
    moved(again.commit(complete(job.key, &holder)).await);
}

async fn a_store_that_nobody_holds_gives_up_too(mut world: World) {
    world.goes_away().await;
    let ticket = world.found_away(Op::Disconnect(nobody().reference())).await;
    drop(world.kit);
    let told = timeout(Duration::from_secs(5), ticket).await.expect("it gives up");
    assert_eq!(told, Err(StoreError::Closed));
}

async fn a_ping_is_answered_in_time(world: World) {
    let mut config = world.database.config();
    world.kit.sql().close().await;
    config.pool_size = 1;
    let store = Database::open(config).await.unwrap();
    store.ping().await.unwrap();
    let held = store.database().begin().await.unwrap();
    let before = Instant::now();
    assert_unavailable(store.ping().await);
    let took = before.elapsed();
    assert!(took < Duration::from_millis(2500), "{took:?}");
    held.rollback().await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_connection_is_not_noticed_by_patient_operations() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let world = World::over(database, Kind::LostPostgres).await;
    let (job, _, holder) = world.running().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'crawlwire' AND datname = current_database()";
    for entity in ["a", "b", "c"] {
        assert!(world.database.execute(kill).await.unwrap() >= 1);
        let found = world.kit.commit(discover(job.key, &holder, "x", &[entity])).await;
        assert_eq!(verdicts(&found), [Verdict::Accepted]);
    }
    moved(world.kit.commit(complete(job.key, &holder)).await);
    assert_eq!(world.kit.view(&job).await.tree.children, 3);
}
