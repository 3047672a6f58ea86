//! Runs of the machine over each kind of store.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, SqlStore};
use crawlwire_progress::memory::MemoryStore;
use crawlwire_progress::policy::Guard;
use crawlwire_progress::{Committed, Op, Outcome, Policy, Store, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, Reason, RngSeed, TestCaseError, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use crate::machine::coverage::Coverage;
use crate::machine::draw::{Next, is_decided};
use crate::machine::model::Rules;
use crate::machine::step::Transition;
use crate::machine::store::{Engine, Server};
use crate::machine::world::World;

/// Small numbers, so that every limit is met often.
const RULES: Rules = Rules {
    lease: 45_000,
    grace: 5_000,
    accept: 4_000,
    job_timeout: 10_000,
    want_timeout: 7_000,
    retries: 1,
    retry_delay: 300,
    retry_delay_max: 900,
    misses_max: 3,
    queued_max: 9,
    depth_max: 2,
    children_max: 3,
    tree_max: 4,
    account_max: 7,
    held_max: 2,
};

fn policy(rules: &Rules, without: Option<Guard>) -> Policy {
    let span = |ms| Duration::from_millis(u64::try_from(ms).unwrap());
    Policy {
        lease: span(rules.lease),
        reattach_grace: span(rules.grace),
        accept_timeout: span(rules.accept),
        job_timeout: span(rules.job_timeout),
        retry_attempts: u32::try_from(rules.retries).unwrap(),
        retry_delay: span(rules.retry_delay),
        retry_delay_max: span(rules.retry_delay_max),
        misses_max: rules.misses_max,
        queued_jobs_max: rules.queued_max as u64,
        tree_depth_max: rules.depth_max,
        children_max: rules.children_max as u64,
        tree_jobs_max: rules.tree_max as u64,
        account_jobs_max: rules.account_max as u64,
        account_held_max: Some(rules.held_max as u64),
        want_timeout: span(rules.want_timeout),
        without,
        ..Policy::default()
    }
}

/// The model, of so many servers, as the state machine that draws transitions.
#[derive(Debug)]
pub(crate) struct Model<const SERVERS: u8>;

impl<const SERVERS: u8> ReferenceStateMachine for Model<SERVERS> {
    type State = World;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<World> {
        Just(World::new(RULES, SERVERS)).boxed()
    }

    fn transitions(state: &World) -> BoxedStrategy<Transition> {
        Next(state.clone()).boxed()
    }

    fn preconditions(state: &World, transition: &Transition) -> bool {
        is_decided(state, transition)
    }

    fn apply(mut state: World, transition: &Transition) -> World {
        state.apply(transition);
        state
    }
}

/// A kind of store, empty for each case.
pub(crate) trait Kind {
    type Server: Server;
    type Model: ReferenceStateMachine<State = World, Transition = Transition>;
    const NAME: &'static str;

    /// None where there is none of this kind.
    async fn open(policy: Policy, clock: Hand) -> Option<Vec<Self::Server>>;

    /// When a case is over.
    async fn close(servers: Vec<Self::Server>);
}

/// The clock of all servers of a case.
pub(crate) type Hand = Arc<AtomicI64>;

pub(crate) struct Memory(MemoryStore);

impl Server for Memory {
    const ASKED_EVERY: usize = 1;

    async fn together(&self, ops: Vec<Op>) -> Vec<Result<Outcome, String>> {
        self.0.apply_all(ops).into_iter().map(Ok).collect()
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }
}

impl Kind for Memory {
    type Server = Self;
    type Model = Model<2>;
    const NAME: &'static str = "memory";

    async fn open(policy: Policy, clock: Hand) -> Option<Vec<Self>> {
        let now = move || Timestamp(clock.load(Ordering::SeqCst));
        Some(vec![Self(MemoryStore::new(policy, Box::new(now)))])
    }

    async fn close(_: Vec<Self>) {}
}

/// A server over a database; the first of a case owns the database.
pub(crate) struct Sql {
    store: Arc<SqlStore>,
    _database: Option<TestDatabase>,
}

impl Server for Sql {
    const ASKED_EVERY: usize = 4;

    async fn together(&self, ops: Vec<Op>) -> Vec<Result<Outcome, String>> {
        let mut tickets = Vec::new();
        for op in ops {
            tickets.push(self.store.enqueue(op).await);
        }
        let mut outcomes = Vec::new();
        for ticket in tickets {
            outcomes.push(
                ticket
                    .await
                    .map(Committed::into_inner)
                    .map_err(|error| error.to_string()),
            );
        }
        outcomes
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }
}

async fn servers(database: TestDatabase, count: usize, policy: &Policy, clock: &Hand) -> Vec<Sql> {
    let mut servers = Vec::new();
    for number in 0..count {
        let clock = clock.clone();
        let mut config = database.config();
        config.policy = policy.clone();
        config.server = format!("server-{number}");
        config.clock = Some(Arc::new(move || Timestamp(clock.load(Ordering::SeqCst))));
        config.pool_size = 2;
        let store = Database::open(config).await.unwrap();
        servers.push(Sql { store, _database: None });
    }
    if let Some(first) = servers.first_mut() {
        first._database = Some(database);
    }
    servers
}

async fn close(servers: Vec<Sql>) {
    for server in &servers {
        server.store.close().await;
    }
}

pub(crate) struct Sqlite;

impl Kind for Sqlite {
    type Server = Sql;
    /// One: whatever its name, its connections are all there are.
    type Model = Model<1>;
    const NAME: &'static str = "SQLite";

    async fn open(policy: Policy, clock: Hand) -> Option<Vec<Sql>> {
        Some(servers(TestDatabase::sqlite(), 1, &policy, &clock).await)
    }

    async fn close(servers: Vec<Sql>) {
        close(servers).await;
    }
}

/// Two servers over one database.
pub(crate) struct Postgres;

impl Kind for Postgres {
    type Server = Sql;
    type Model = Model<2>;
    const NAME: &'static str = "PostgreSQL";

    async fn open(policy: Policy, clock: Hand) -> Option<Vec<Sql>> {
        Some(servers(TestDatabase::postgres().await?, 2, &policy, &clock).await)
    }

    async fn close(servers: Vec<Sql>) {
        close(servers).await;
    }
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// At most.
    pub(crate) cases: u32,
    pub(crate) transitions: usize,
}

/// Where a case begins, what happens in it, and how far it came.
type Case = (World, Vec<Transition>, Option<Arc<AtomicUsize>>);

/// What came of a run.
pub(crate) struct Run {
    name: &'static str,
    seed: u64,
    coverage: Coverage,
    failure: Option<TestError<Case>>,
}

impl Run {
    /// Prints what was taken; fails when the engine and the model differed, or too little was taken.
    pub(crate) fn conclude(self) {
        let Self {
            name,
            seed,
            coverage,
            failure,
        } = self;
        say(&format!("{name}: seed {seed}, {}\n", coverage.table()));
        match failure {
            Some(TestError::Fail(reason, (_, transitions, _))) => {
                let steps: String = transitions.iter().map(|it| format!("  {it:?}\n")).collect();
                panic!("{name}, PROPTEST_RNG_SEED={seed}: {reason}\nafter\n{steps}");
            }
            Some(TestError::Abort(reason)) => panic!("{name}, PROPTEST_RNG_SEED={seed}: {reason}"),
            None => {}
        }
        if coverage.transitions == 0 {
            // There is no such store here, which was said.
            return;
        }
        let missing = coverage.missing();
        assert!(
            missing.is_empty(),
            "{name}, PROPTEST_RNG_SEED={seed}: taken too seldom: {missing:?}"
        );
    }

    /// For an engine without a guard: fails when nothing was noticed.
    pub(crate) fn notices(self, guard: Guard) {
        let Self {
            name,
            seed,
            coverage,
            failure,
        } = self;
        let Some(TestError::Fail(reason, _)) = failure else {
            panic!("{name}, PROPTEST_RNG_SEED={seed}: the engine without {guard:?} was not told from a whole one");
        };
        let reason: String = reason.message().chars().take(300).collect();
        say(&format!(
            "{name} without {guard:?}: noticed in case {}, seed {seed}: {reason}",
            coverage.cases
        ));
    }
}

#[expect(clippy::print_stderr, reason = "shown with the test")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Cases between two looks at whether enough was taken.
const ROUND: u32 = 4;

/// Runs the machine, round after round, until everything was taken often enough. An engine without a guard is run until it
/// fails, and that is not made small.
pub(crate) fn run<K: Kind>(size: Size, without: Option<Guard>) -> Run {
    let mut seed = match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand_seed(),
    };
    let coverage = RefCell::new(Coverage::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let attempt = |(world, transitions, seen): Case| {
        let mut coverage = coverage.borrow_mut();
        coverage.cases += 1;
        runtime.block_on(case::<K>(world, transitions, seen, without, &mut coverage))
    };
    let failure = loop {
        if let Some(failure) = round::<K>(size, seed, without.is_none(), &attempt) {
            break Some(failure);
        }
        let covered = coverage.borrow();
        let enough = covered.transitions == 0 || covered.missing().is_empty() && without.is_none();
        if enough || covered.cases >= size.cases {
            break None;
        }
        seed = seed.wrapping_add(1);
    };
    Run {
        name: K::NAME,
        seed,
        failure,
        coverage: coverage.into_inner(),
    }
}

fn round<K: Kind>(
    size: Size,
    seed: u64,
    make_small: bool,
    attempt: impl Fn(Case) -> Result<(), TestCaseError>,
) -> Option<TestError<Case>> {
    let mut runner = TestRunner::new(Config {
        cases: ROUND,
        failure_persistence: None,
        max_shrink_iters: if make_small { 3000 } else { 0 },
        max_shrink_time: 120_000,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    });
    let strategy = K::Model::sequential_strategy(size.transitions..=size.transitions);
    match runner.run(&strategy, &attempt) {
        Err(TestError::Fail(reason, (world, transitions, _))) if make_small => {
            let (reason, transitions) = without_idle((reason, transitions), |transitions| {
                attempt((world.clone(), transitions, None)).err()
            });
            Some(TestError::Fail(reason, (world, transitions, None)))
        }
        result => result.err(),
    }
}

/// Leaves out what the strategy could not leave out while the operations around it were still there.
fn without_idle(
    (mut reason, mut transitions): (Reason, Vec<Transition>),
    attempt: impl Fn(Vec<Transition>) -> Option<TestCaseError>,
) -> (Reason, Vec<Transition>) {
    for place in (0..transitions.len()).rev() {
        let mut fewer = transitions.clone();
        fewer.remove(place);
        if let Some(TestCaseError::Fail(still)) = attempt(fewer.clone()) {
            (reason, transitions) = (still, fewer);
        }
    }
    (reason, transitions)
}

/// A seed that differs from run to run.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("seed")
}

async fn case<K: Kind>(
    mut world: World,
    transitions: Vec<Transition>,
    seen: Option<Arc<AtomicUsize>>,
    without: Option<Guard>,
    coverage: &mut Coverage,
) -> Result<(), TestCaseError> {
    let clock = Hand::new(AtomicI64::new(world.now));
    let Some(servers) = K::open(policy(&world.rules, without), clock.clone()).await else {
        return Ok(());
    };
    let mut engine = Engine::new(servers);
    let mut followed = Ok(());
    for transition in transitions {
        // Nobody makes smaller what an engine without a guard did.
        if let Some(seen) = seen.as_ref().filter(|_| without.is_none()) {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        if !is_decided(&world, &transition) {
            continue;
        }
        world.apply(&transition);
        clock.store(world.now, Ordering::SeqCst);
        followed = engine.follow(&world, transition.server).await;
        if followed.is_err() {
            break;
        }
        coverage.transitions += 1;
        world
            .last
            .iter()
            .for_each(|(asked, answer)| coverage.count(&asked.step, answer));
    }
    if followed.is_ok() {
        followed = engine.close(&world).await;
    }
    K::close(engine.servers).await;
    followed
}
