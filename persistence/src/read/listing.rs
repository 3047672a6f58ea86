//! Pages of long tables, as SQL.
//!
//! A page goes along one or more indexes that lead to rows by falling key, and takes those that fit. Where the rest of the
//! filter has no index, a bound on the key keeps it from looking at more than
//! [`LOOKED_AT_MAX`] rows.

use crawlwire_progress::store::{ErrorFilter, JobFilter, LOOKED_AT_MAX};
use crawlwire_progress::{AccountKey, State};
use sea_orm::{DbBackend, Value};

/// Rows that an index leads to, by falling key.
struct Walk {
    condition: String,
    /// The key, as it is to be spelled in comparisons.
    key: &'static str,
}

impl Walk {
    fn along(condition: impl Into<String>) -> Self {
        Self {
            condition: condition.into(),
            key: "id",
        }
    }
}

/// Which rows a page takes. `$1` is the key that they are below.
pub(super) struct Listing {
    table: &'static str,
    walks: Vec<Walk>,
    /// What nothing leads to.
    rest: Vec<String>,
    /// `$2` and the following.
    values: Vec<Value>,
    /// How many of those the walks have; they are the first.
    walk_values: usize,
}

impl Listing {
    /// Of jobs. `account` is the row of the filter's account.
    pub(super) fn of_jobs(backend: DbBackend, filter: &JobFilter, account: Option<AccountKey>) -> Self {
        let mut listing = Self {
            table: "jobs",
            walks: Vec::new(),
            rest: Vec::new(),
            values: Vec::new(),
            walk_values: 0,
        };
        listing.walk(filter, account);
        if !filter.job_types.is_empty() {
            let names: Vec<_> = filter.job_types.iter().map(|it| it.as_str()).collect();
            listing.rest.push(is_one_of("job_type", &names));
        }
        if let Some(host) = &filter.host {
            let host = listing.bind(host.as_str());
            listing.rest.push(format!("host = {host}"));
        }
        if let Some(tag) = &filter.tag {
            listing.tagged(backend, tag);
        }
        if let Some(text) = &filter.text {
            listing.search(backend, text);
        }
        listing
    }

    /// Each state is looked up by itself, in the index that holds it (which is found by a literal only), so that a page
    /// costs the same however many jobs rest in other states.
    fn walk(&mut self, filter: &JobFilter, account: Option<AccountKey>) {
        let of_account = account.map(|account| format!("account_id = {account}"));
        let states = if filter.states.is_empty() {
            State::ALL
        } else {
            &filter.states
        };
        let in_tree = filter.parent.is_some() || filter.root.is_some();
        if in_tree {
            self.rest.extend(of_account.clone());
            if !filter.states.is_empty() {
                let names: Vec<_> = states.iter().map(|state| state.as_str()).collect();
                self.rest.push(is_one_of("status", &names));
            }
        }
        match (filter.parent, filter.root) {
            (Some(parent), root) => {
                self.walks = vec![Walk::along(format!("parent_id = {parent}"))];
                self.rest.extend(root.map(|root| format!("root_id = {root}")));
            }
            (None, Some(root)) => {
                self.walks = vec![
                    Walk::along(format!("root_id = {root} AND parent_id IS NOT NULL")),
                    Walk::along(format!("id = {root} AND parent_id IS NULL")),
                ];
            }
            (None, None) if filter.states.is_empty() && of_account.is_none() => {
                self.walks = vec![Walk::along("true")];
            }
            (None, None) => {
                self.walks = states
                    .iter()
                    .map(|state| in_state(*state, of_account.as_deref()))
                    .collect();
            }
        }
    }

    /// Of errors.
    pub(super) fn of_errors(filter: &ErrorFilter) -> Self {
        let mut listing = Self {
            table: "errors",
            walks: vec![Walk::along("true")],
            rest: Vec::new(),
            values: Vec::new(),
            walk_values: 0,
        };
        if let Some(job) = &filter.job {
            let job = listing.bind(job.as_str());
            listing.walks = vec![Walk::along(format!("job = {job}"))];
            listing.walk_values = listing.values.len();
        }
        if !filter.categories.is_empty() {
            let names: Vec<_> = filter.categories.iter().map(|it| it.as_str()).collect();
            listing.rest.push(is_one_of("category", &names));
        }
        if !filter.severities.is_empty() {
            let names: Vec<_> = filter.severities.iter().map(|it| it.as_str()).collect();
            listing.rest.push(is_one_of("severity", &names));
        }
        listing
    }

    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", 1 + self.values.len())
    }

    /// The database reads the array only of rows in which the text of the tag occurs.
    fn tagged(&mut self, backend: DbBackend, tag: &str) {
        let quoted = self.bind(serde_json::Value::from(tag).to_string());
        let tag = self.bind(tag);
        self.rest.push(match backend {
            DbBackend::Sqlite => format!(
                "CASE WHEN instr(tags, {quoted}) = 0 THEN false \
                 ELSE EXISTS (SELECT 1 FROM json_each(jobs.tags) AS tag WHERE tag.value = {tag}) END"
            ),
            _ => format!(
                "CASE WHEN strpos(tags, {quoted}) = 0 THEN false \
                 ELSE EXISTS (SELECT 1 FROM json_array_elements_text(tags::json) AS tag WHERE tag = {tag}) END"
            ),
        });
    }

    /// No pattern, so that nothing in the text has a meaning of its own. `lower` knows the letters of ASCII only: by its
    /// nature on SQLite, by the collation on PostgreSQL.
    fn search(&mut self, backend: DbBackend, text: &str) {
        let text = self.bind(text.to_ascii_lowercase());
        let names = [
            "public_id",
            "web_app_job_id",
            "entity_id",
            "namespace_path",
            "(SELECT name FROM accounts WHERE accounts.id = jobs.account_id)",
        ];
        let holds = names.map(|name| match backend {
            DbBackend::Sqlite => format!("instr(lower({name}), {text}) > 0"),
            _ => format!("strpos(lower({name} COLLATE \"C\"), {text}) > 0"),
        });
        self.rest.push(format!("({})", holds.join(" OR ")));
    }

    /// Finds the least key down to which a page may look, if there are as many rows; no statement when each row that the
    /// indexes lead to is wanted. Of several indexes each leads to an equal share: whatever lies above the highest of their
    /// ends was looked at in all of them.
    pub(super) fn bound(&self, before: i64) -> Option<(String, Vec<Value>)> {
        if self.rest.is_empty() {
            return None;
        }
        let skipped = (LOOKED_AT_MAX / self.walks.len().max(1)).saturating_sub(1);
        let table = self.table;
        let ends = self.walks.iter().enumerate().map(|(number, Walk { condition, key })| {
            format!(
                "SELECT id FROM (SELECT id FROM {table} WHERE {condition} AND {key} < $1 \
                 ORDER BY {key} DESC LIMIT 1 OFFSET {skipped}) AS end_{number}"
            )
        });
        let ends: Vec<_> = ends.collect();
        let text = format!("SELECT max(id) AS id FROM ({}) AS ends", ends.join(" UNION ALL "));
        Some((text, self.parameters(before, self.walk_values)))
    }

    /// Selects the keys of at most so many rows, not below the bound.
    fn keys(&self, bound: Option<i64>, limit: i64) -> String {
        let table = self.table;
        let rest: String = self.rest.iter().map(|rest| format!(" AND {rest}")).collect();
        let parts = self.walks.iter().enumerate().map(|(number, Walk { condition, key })| {
            let bound = bound.map_or_else(String::new, |bound| format!(" AND {key} >= {bound}"));
            format!(
                "SELECT id FROM (SELECT id FROM {table} WHERE {condition} AND {key} < $1{bound}{rest} \
                 ORDER BY {key} DESC LIMIT {limit}) AS part_{number}"
            )
        });
        let parts: Vec<_> = parts.collect();
        parts.join(" UNION ALL ")
    }

    /// What goes behind a `SELECT` from the table, with its parameters: the rows of a page, newest first.
    pub(super) fn page(&self, backend: DbBackend, before: i64, bound: Option<i64>, limit: i64) -> (String, Vec<Value>) {
        let (table, keys) = (self.table, self.keys(bound, limit));
        let chosen = match backend {
            DbBackend::Sqlite => format!("IN ({keys})"),
            // An array is looked up by key whatever the planner expects of the selection.
            _ => format!("= ANY (ARRAY ({keys}))"),
        };
        let text = format!("WHERE {table}.id {chosen} ORDER BY {table}.id DESC LIMIT {limit}");
        (text, self.parameters(before, self.values.len()))
    }

    fn parameters(&self, before: i64, count: usize) -> Vec<Value> {
        let own = self.values.iter().take(count).cloned();
        std::iter::once(before.into()).chain(own).collect()
    }
}

fn is_one_of(column: &str, names: &[&'static str]) -> String {
    format!("{column} IN ('{}')", names.join("', '"))
}

fn in_state(state: State, account: Option<&str>) -> Walk {
    let held = if state.is_leased() {
        " AND session_id IS NOT NULL"
    } else {
        ""
    };
    let of_account = account.map_or_else(String::new, |account| format!(" AND {account}"));
    // Jobs that move are few, and sorted after they are found; the sign keeps planners from looking for them in the order
    // of the keys, among all that rest.
    let moves = state.is_leased() || state.is_backlog();
    Walk {
        condition: format!("status = '{state}'{held}{of_account}"),
        key: if moves && account.is_none() { "+id" } else { "id" },
    }
}
