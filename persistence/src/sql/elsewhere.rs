//! What servers ask about what others do. Each asks every second, so these statements are hot, too.

use super::Sql;

/// What is looked at through other servers, each job once, and how long that counts still. All jobs, '', come first.
pub(crate) const WATCHED_ELSEWHERE: Sql = Sql {
    sqlite: "SELECT job, max(until) - $1->>'now' FROM watches \
             WHERE server <> $1->>'server' AND until > $1->>'now' GROUP BY job ORDER BY job LIMIT $1->>'limit'",
    postgres: "SELECT w.job, max(w.until) - clock.now FROM watches AS w CROSS JOIN (SELECT coalesce(\
               ($1::json->>'now')::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now) AS clock \
               WHERE w.server <> ($1::json->>'server') AND w.until > clock.now \
               GROUP BY w.job, clock.now ORDER BY w.job LIMIT ($1::json->>'limit')::bigint",
};

/// The last key of an event that was drawn, by whomever, committed or not. PostgreSQL only.
pub(crate) const LAST_EVENT_DRAWN: &str =
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM job_events_id_seq";

/// Transactions that are open and may have drawn keys of events: who writes a table locks it before, until its end.
/// PostgreSQL only.
pub(crate) const EVENT_WRITERS: &str = "SELECT virtualtransaction FROM pg_locks \
     WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = 'job_events'::regclass \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The greatest key of an event that is there. SQLite only, where keys rise with commits.
pub(crate) const LAST_EVENT: &str = "SELECT coalesce(max(id), 0) FROM job_events";

/// What happened to all jobs, by rising key.
pub(crate) const FEED: Sql = Sql {
    sqlite: "SELECT e.job_id, j.public_id, j.root_id, r.public_id, a.name, j.job_type, \
             e.id, e.at, e.arrows, e.status, e.fence, e.attempt, e.session FROM (SELECT * FROM job_events \
             WHERE id > $1->>'after' AND id <= $1->>'until' ORDER BY id LIMIT $1->>'limit') AS e \
             CROSS JOIN jobs AS j ON j.id = e.job_id CROSS JOIN jobs AS r ON r.id = j.root_id \
             CROSS JOIN accounts AS a ON a.id = j.account_id ORDER BY e.id",
    postgres: "SELECT e.job_id, j.public_id, j.root_id, r.public_id, a.name, j.job_type, \
               e.id, e.at, e.arrows, e.status, e.fence, e.attempt, e.session FROM (SELECT * FROM job_events \
               WHERE id > ($1::json->>'after')::bigint AND id <= ($1::json->>'until')::bigint \
               ORDER BY id LIMIT ($1::json->>'limit')::bigint) AS e \
               JOIN jobs AS j ON j.id = e.job_id JOIN jobs AS r ON r.id = j.root_id \
               JOIN accounts AS a ON a.id = j.account_id ORDER BY e.id",
};

/// Reports about running jobs of other servers' sessions, those heard longest ago first. Looks at held jobs only; which of
/// them run is told by their deadlines, since no index that holds waiting jobs too has those.
pub(crate) const PROGRESS_ELSEWHERE: Sql = Sql {
    sqlite: "SELECT p.*, j.public_id AS public_id, r.public_id AS root_id \
             FROM jobs AS j INDEXED BY idx_jobs_session CROSS JOIN sessions AS s \
             ON s.id = j.session_id AND s.server <> $1->>'server' CROSS JOIN job_progress AS p \
             ON p.job_id = j.id AND p.attempt = j.attempt AND (p.updated_at, p.job_id) > ($1->>'at', $1->>'job') \
             CROSS JOIN jobs AS r ON r.id = j.root_id WHERE j.session_id IS NOT NULL AND j.deadline IS NOT NULL \
             ORDER BY p.updated_at, p.job_id LIMIT $1->>'limit'",
    postgres: "SELECT p.*, j.public_id AS public_id, r.public_id AS root_id \
               FROM jobs AS j JOIN sessions AS s ON s.id = j.session_id AND s.server <> ($1::json->>'server') \
               JOIN job_progress AS p ON p.job_id = j.id AND p.attempt = j.attempt \
               AND (p.updated_at, p.job_id) > (($1::json->>'at')::bigint, ($1::json->>'job')::bigint) \
               JOIN jobs AS r ON r.id = j.root_id WHERE j.session_id IS NOT NULL AND j.deadline IS NOT NULL \
               ORDER BY p.updated_at, p.job_id LIMIT ($1::json->>'limit')::bigint",
};
