//! Which rows a server writes, noted by its database.

use std::collections::BTreeMap;

use crawlwire_persistence::testing::TestDatabase;
use sea_orm::{FromQueryResult, Statement};

/// Tables to which reports may write, with their column that names the job, and others that show what else happened.
const TABLES: [(&str, &str); 5] = [
    ("job_progress", "job_id"),
    ("tree_progress", "root_id"),
    ("job_history", "job_id"),
    ("job_events", "job_id"),
    ("sessions", "id"),
];

/// Has the database note each row that is written from now on. A server has opened it before.
pub(crate) async fn count(database: &TestDatabase) {
    if database.config().url.starts_with("postgres") {
        execute(
            database,
            "CREATE TABLE writes (id BIGSERIAL PRIMARY KEY, what TEXT NOT NULL, row BIGINT NOT NULL)",
        )
        .await;
        execute(
            database,
            "CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO writes (what, row) VALUES (TG_TABLE_NAME, (to_jsonb(NEW)->>TG_ARGV[0])::BIGINT); \
             RETURN NULL; END $$",
        )
        .await;
        for (table, key) in TABLES {
            let trigger = format!(
                "CREATE TRIGGER note_write AFTER INSERT OR UPDATE ON {table} \
                 FOR EACH ROW EXECUTE FUNCTION note_write('{key}')"
            );
            execute(database, &trigger).await;
        }
        return;
    }
    execute(
        database,
        "CREATE TABLE writes (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, row INTEGER NOT NULL)",
    )
    .await;
    for (table, key) in TABLES {
        for act in ["INSERT", "UPDATE"] {
            let trigger = format!(
                "CREATE TRIGGER note_{table}_{act} AFTER {act} ON {table} \
                 BEGIN INSERT INTO writes (what, row) VALUES ('{table}', NEW.{key}); END"
            );
            execute(database, &trigger).await;
        }
    }
}

async fn execute(database: &TestDatabase, statement: &str) {
    database.execute(statement).await.expect("the database takes it");
}

/// What a query finds.
pub(crate) async fn rows<T: FromQueryResult>(database: &TestDatabase, query: &str) -> Vec<T> {
    let pool = database.pool().await;
    let statement = Statement::from_string(pool.get_database_backend(), query);
    let rows = T::find_by_statement(statement).all(&pool).await.expect("rows");
    pool.close().await.expect("the connection closes");
    rows
}

/// A condition that every write meets.
pub(crate) const EVERYTHING: &str = "1 = 1";

/// The writes are numbered. The number of the newest of those that meet this condition; 0 if there is none.
pub(crate) async fn newest(database: &TestDatabase, condition: &str) -> i64 {
    #[derive(FromQueryResult)]
    struct Row {
        newest: i64,
    }
    let query = format!("SELECT COALESCE(MAX(id), 0) AS newest FROM writes WHERE {condition}");
    let rows: Vec<Row> = rows(database, &query).await;
    rows.first().map_or(0, |row| row.newest)
}

/// For each table, how often each of its rows was written.
pub(crate) type Written = BTreeMap<String, Vec<i64>>;

/// The writes after the first of these numbers, up to the second.
pub(crate) async fn written(database: &TestDatabase, after: i64, until: i64) -> Written {
    #[derive(FromQueryResult)]
    struct Row {
        what: String,
        times: i64,
    }
    let query =
        format!("SELECT what, COUNT(*) AS times FROM writes WHERE id > {after} AND id <= {until} GROUP BY what, row");
    let mut tables = Written::new();
    for Row { what, times } in rows(database, &query).await {
        tables.entry(what).or_default().push(times);
    }
    tables
}
