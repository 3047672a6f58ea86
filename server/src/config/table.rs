//! The settings: the one place that gives each its names, built-in values, range and meaning.
//!
//! Names and defaults follow the API reference (lines 298-342) and the deployment guide (lines 36-87). An environment
//! variable may leave out the unit that the key in the file names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crawlwire_progress::track::Milestones;

use super::database_url::DatabaseUrl;
use super::reader::Reader;
use super::setting::Preset::{Computed, Fixed};
use super::setting::{Setting, sections};
use super::types::Profile::{Development, Production, Test};
use super::types::{Delimiter, FileMode, GroupName, LogLevel, Profile, ServerName, WebOrigin};
use super::value::Value;

/// 64 MiB: the most one message or buffer may hold. Every connection may need this much.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// One hour.
const HOUR_MS: u64 = 3_600_000;
/// One day.
const DAY_MS: u64 = 24 * HOUR_MS;
/// A bound for counts of rows: high enough for any crawl, low enough to catch a slip of the keyboard.
const ROWS_MAX: u64 = 1_000_000_000;

sections! {
    /// What concerns the whole server.
    General {
        /// The set of built-in values to start from.
        profile: Profile = Setting::new("profile", &["CRAWLWIRE_PROFILE", "NODE_ENV"])
            .flag("--profile").default("development");
        /// Directory for the server's own files, such as the SQLite database.
        data_dir: PathBuf = Setting::new("data_dir", &["SOCKET_DATA_DIR"]).flag("--data-dir")
            .computed("`$XDG_STATE_HOME/crawlwire`, else `~/.local/state/crawlwire`")
            .profiles(&[(Test, Computed("`$TMPDIR/crawlwire-test-<pid>`"))]);
        /// Name of this server among those that share a database. It stays the same over restarts, and no two servers
        /// have the same.
        server_name: Option<ServerName> = Setting::new("server_name", &["SOCKET_SERVER_NAME"])
            .computed("the host name and `socket_path`");
    }

    /// Where crawlers connect, and how many may.
    Connection {
        /// Path of the Unix socket that crawlers connect to; 107 bytes at most on Linux, 103 elsewhere.
        socket_path: PathBuf = Setting::new("socket_path", &["SOCKET_PATH"]).flag("--socket")
            .default("/tmp/crawler-socket.sock")
            .profiles(&[
                (Production, Fixed("/var/run/crawlwire/crawler.sock")),
                (Test, Computed("`$TMPDIR/crawlwire-test-<pid>/crawler.sock`")),
            ]);
        /// Permissions of the Unix socket, in octal. `0660` lets a group connect.
        socket_mode: FileMode = Setting::new("socket_mode", &["SOCKET_MODE"]).default("0600");
        /// Group that owns the Unix socket. Unset: the group of the server process.
        socket_group: Option<GroupName> = Setting::new("socket_group", &["SOCKET_GROUP"]);
        /// Host of the TCP listener: `localhost` (which is 127.0.0.1) or an IP address. One that other machines can reach
        /// needs `tls_cert_file` and `tls_key_file`. The flag takes `HOST:PORT` or `tcp://HOST:PORT` and sets `port` too.
        host: IpAddr = Setting::new("host", &["SOCKET_HOST"]).flag("--listen").default("localhost");
        /// Port of the TCP listener, 8080 by convention; 0 lets the system choose. Unset: no TCP listener. Without
        /// `require_tokens`, whoever can run a program on this machine can connect there and be given jobs and their
        /// tokens; the Unix socket asks for permission.
        port: Option<u16> = Setting::new("port", &["SOCKET_PORT"]).flag("--listen").range(0, 65_535);
        /// How many connections the system may hold that are not yet accepted.
        backlog: u32 = Setting::new("backlog", &["SOCKET_BACKLOG"]).default("511").range(1, 65_535);
        /// How many crawlers may be connected at once.
        max_connections: usize = Setting::new("max_connections", &["SOCKET_MAX_CONNECTIONS"])
            .default("10").profiles(&[(Development, Fixed("3")), (Production, Fixed("20")), (Test, Fixed("1"))])
            .range(1, 100_000).hot();
        /// Longest wait for the first complete message of a connection, and for each write to it. An idle connection
        /// is a matter of heartbeats.
        timeout: Duration = Setting::new("connection_timeout_ms", &["SOCKET_CONNECTION_TIMEOUT"])
            .default("30000").profiles(&[(Production, Fixed("120000"))])
            .range(10, HOUR_MS).hot();
        /// Silence at the beginning of a connection after which it speaks the base protocol: a crawler of the session
        /// protocol says `hello` first. Below `connection_timeout_ms` it closes nothing.
        hello_timeout: Duration = Setting::new("hello_timeout_ms", &["SOCKET_HELLO_TIMEOUT"])
            .default("2000").range(10, HOUR_MS);
        /// Longest time from the first byte of a message to its last, for every message after the first one.
        partial_line_timeout: Duration = Setting::new("partial_line_timeout_ms", &["SOCKET_PARTIAL_LINE_TIMEOUT"])
            .default("30000").range(10, HOUR_MS);
        /// Silence of a TCP connection after which the system begins to ask whether its other end is still there. In
        /// whole seconds, one at least.
        keepalive_interval: Duration = Setting::new("keepalive_interval_ms", &["SOCKET_KEEPALIVE_INTERVAL"])
            .default("30000").range(1000, HOUR_MS);
        /// How long that may stay without an answer. Then the connection is closed. A process that hangs answers; it is
        /// noticed by its heartbeats.
        keepalive_timeout: Duration = Setting::new("keepalive_timeout_ms", &["SOCKET_KEEPALIVE_TIMEOUT"])
            .default("30000").range(3000, HOUR_MS);
    }

    /// Who may connect as a crawler, and how that is protected.
    Security {
        /// File with the certificate of the TCP listener and those above it, as PEM, its own first. With it and
        /// `tls_key_file` everything on TCP is TLS.
        tls_cert_file: Option<PathBuf> = Setting::new("tls_cert_file", &["SOCKET_TLS_CERT_FILE"]);
        /// File with the private key of that certificate, as PEM.
        tls_key_file: Option<PathBuf> = Setting::new("tls_key_file", &["SOCKET_TLS_KEY_FILE"]);
        /// File with the authorities whose certificates crawlers on TCP have to show, as PEM. Unset: none is asked for.
        tls_client_ca_file: Option<PathBuf> = Setting::new("tls_client_ca_file", &["SOCKET_TLS_CLIENT_CA_FILE"]);
        /// Whether a crawler on TCP has to show a token, made with `crawlwire token create`. A crawler of the base protocol
        /// cannot.
        require_tokens: bool = Setting::new("require_tokens", &["SOCKET_REQUIRE_TOKENS"])
            .computed("`true` where other machines can reach `host`, else `false`");
        /// Numbers of the users whose processes may connect on the Unix socket; separated by commas in the environment.
        /// Empty, together with `allowed_gids`: whoever the file lets in.
        allowed_uids: Vec<u32> = Setting::new("allowed_uids", &["SOCKET_ALLOWED_UIDS"]).default("");
        /// Numbers of the groups whose processes may connect on the Unix socket, beside those of `allowed_uids`. The main
        /// group of a process counts.
        allowed_gids: Vec<u32> = Setting::new("allowed_gids", &["SOCKET_ALLOWED_GIDS"]).default("");
    }

    /// What may be sent on a connection.
    Messages {
        /// Bytes a connection may have under way: messages that were received and have not had their effect yet. Then it is
        /// not read until there is room. Never below `max_message_size_bytes`: a smaller value is raised to it.
        buffer_size: usize = Setting::new("message_buffer_size_bytes", &["SOCKET_MESSAGE_BUFFER_SIZE"])
            .default("1048576").range(1024, MESSAGE_BYTES_MAX);
        /// Bytes that all connections together may have under way: half of them for messages that came in, beyond which
        /// nothing more is read, and half for those that wait to go out, beyond which the connection with most is closed.
        /// At least twice `message_buffer_size_bytes`.
        buffered_max: usize = Setting::new("max_buffered_bytes", &["SOCKET_MAX_BUFFERED_BYTES"])
            .default("268435456").range(2 << 20, 1 << 40);
        /// Longest message accepted. A longer one is refused; the connection goes on.
        max_size: usize = Setting::new("max_message_size_bytes", &["SOCKET_MAX_MESSAGE_SIZE"])
            .default("1048576").profiles(&[(Production, Fixed("2097152"))])
            .range(1024, MESSAGE_BYTES_MAX);
        /// What ends a message. Only a newline is valid.
        delimiter: Delimiter = Setting::new("message_delimiter", &["SOCKET_MESSAGE_DELIMITER"]).default("\\n");
        /// Invalid messages, over the whole life of a connection, after which it is closed. Those of unknown types and those
        /// that are refused for another cause do not count.
        max_invalid: u32 = Setting::new("max_invalid_messages", &["SOCKET_MAX_INVALID_MESSAGES"])
            .default("100").range(1, 1_000_000).hot();
        /// Messages per second that one connection may send of one type; 0 for no limit.
        rate_limit: u32 = Setting::new("rate_limit_messages_per_second", &["SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND"])
            .default("100").profiles(&[(Development, Fixed("0"))])
            .range(0, 1_000_000).hot();
        /// Messages that may come at once before the rate limit holds.
        rate_limit_burst: u32 = Setting::new("rate_limit_burst_messages", &["SOCKET_RATE_LIMIT_BURST_MESSAGES"])
            .default("1000").range(1, 1_000_000).hot();
        /// Whether crawlers of the session protocol that can do so send and get large messages compressed, with zstd.
        enable_compression: bool = Setting::new("enable_compression", &["SOCKET_ENABLE_COMPRESSION"])
            .default("false");
        /// Whether buffers are kept for reuse between messages.
        buffer_optimize: bool = Setting::new("buffer_optimize", &["SOCKET_BUFFER_OPTIMIZE"])
            .default("false").awaits("buffer reuse");
    }

    /// How silence is noticed.
    Heartbeat {
        /// Time between the heartbeats asked of a crawler. One of the session protocol that is silent for as long is sent
        /// a `ping`.
        interval: Duration = Setting::new("heartbeat_interval_ms", &["SOCKET_HEARTBEAT_INTERVAL"])
            .default("30000").profiles(&[(Development, Fixed("10000")), (Production, Fixed("60000"))])
            .range(10, HOUR_MS).hot();
        /// Silence after which a crawler's jobs are taken from it, and the connection of one of the session protocol is
        /// closed. At least twice the interval and a margin of a tenth
        /// of it, 1 s at most. Where only the interval is given, it is three times that.
        timeout: Duration = Setting::new("heartbeat_timeout_ms", &["SOCKET_HEARTBEAT_TIMEOUT"])
            .default("90000").profiles(&[(Development, Fixed("30000")), (Production, Fixed("180000"))])
            .range(20, DAY_MS).hot();
        /// Time between two looks at the health of all connections.
        check_interval: Duration = Setting::new("health_check_interval_ms", &["SOCKET_HEALTH_CHECK_INTERVAL"])
            .default("60000").range(10, HOUR_MS).hot();
    }

    /// How jobs are queued, handed out, watched and tried again.
    Jobs {
        /// Jobs one crawler may hold at once, unless it says how many it takes.
        max_concurrent: usize = Setting::new("max_concurrent_jobs", &["SOCKET_MAX_CONCURRENT_JOBS"])
            .default("5").profiles(&[(Development, Fixed("2"))])
            .range(1, 10_000).hot();
        /// Queued jobs that are read at a time to find the next ones to give out. The queue itself is in the database.
        queue_size: usize = Setting::new("job_queue_size", &["SOCKET_JOB_QUEUE_SIZE"])
            .default("100").range(1, 100_000);
        /// Jobs that may wait in the database before further submissions are refused. Discovered jobs are not.
        max_queued: u64 = Setting::new("max_queued_jobs", &["SOCKET_MAX_QUEUED_JOBS"])
            .default("100000").range(1, ROWS_MAX).hot();
        /// Longest run of a job. After it the run has failed.
        timeout: Duration = Setting::new("job_timeout_ms", &["SOCKET_JOB_TIMEOUT"])
            .default("3600000").range(100, 30 * DAY_MS).hot();
        /// How often a failed job is tried again.
        retry_attempts: u32 = Setting::new("retry_attempts", &["SOCKET_RETRY_ATTEMPTS"])
            .default("3").range(0, 100).hot();
        /// Wait before the first further try. It doubles with each, and a random part of it is taken.
        retry_delay: Duration = Setting::new("retry_delay_ms", &["SOCKET_RETRY_DELAY"])
            .default("5000").range(0, DAY_MS).hot();
        /// Longest wait before a further try. Not below `retry_delay_ms`.
        max_retry_delay: Duration = Setting::new("max_retry_delay_ms", &["SOCKET_MAX_RETRY_DELAY"])
            .default("3600000").range(0, 30 * DAY_MS).hot();
        /// Time an assigned job may wait for its crawler to begin before it goes back to the queue.
        accept_timeout: Duration = Setting::new("accept_timeout_ms", &["SOCKET_ACCEPT_TIMEOUT"])
            .default("30000").range(10, HOUR_MS).hot();
        /// Time a crawler that lost its connection has to come back before its jobs are taken from it.
        reattach_grace: Duration = Setting::new("reattach_grace_ms", &["SOCKET_REATTACH_GRACE"])
            .default("5000").range(0, HOUR_MS).hot();
        /// Time between two searches for jobs whose lease, deadline or delay has passed.
        sweep_interval: Duration = Setting::new("sweep_interval_ms", &["SOCKET_SWEEP_INTERVAL"])
            .default("1000").range(10, 5000).hot();
        /// Time a crawler has to confirm that it ended or paused a job as it was asked to. Then the job is taken from it.
        /// A crawler that cannot be asked loses the job at once.
        cancel_timeout: Duration = Setting::new("cancel_timeout_ms", &["SOCKET_CANCEL_TIMEOUT"])
            .default("30000").range(10, HOUR_MS).hot();
        /// Jobs of one account that crawlers may hold at a time, over all servers; 0 for no limit.
        max_running_per_account: u64 =
            Setting::new("max_running_jobs_per_account", &["SOCKET_MAX_RUNNING_JOBS_PER_ACCOUNT"])
            .default("0").range(0, ROWS_MAX).hot();
        /// Time between two reports of progress about a job that a crawler of the session protocol is asked for while
        /// somebody looks at it; see `progress_unwatched_interval_ms`.
        report_interval: Duration = Setting::new("progress_report_interval_ms", &["SOCKET_PROGRESS_REPORT_INTERVAL"])
            .default("1000").range(10, HOUR_MS);
        /// Failures in a row after which a circuit breaker opens.
        breaker_failures: u32 = Setting::new("circuit_breaker_failures", &["SOCKET_CIRCUIT_BREAKER_FAILURES"])
            .default("5").range(1, 1000).hot().awaits("circuit breakers");
        /// Time an open circuit breaker waits before it lets one attempt through.
        breaker_open: Duration = Setting::new("circuit_breaker_open_ms", &["SOCKET_CIRCUIT_BREAKER_OPEN"])
            .default("30000").range(10, HOUR_MS).hot().awaits("circuit breakers");
    }

    /// What is told of how far jobs are.
    Progress {
        /// Parts of the whole, in percent, that are told when a job, one of its counters, or a whole tree passes them; 16 at
        /// most, separated by commas in the environment. Each is told once.
        milestones: Milestones = Setting::new("progress_milestones", &["SOCKET_PROGRESS_MILESTONES"])
            .default("25,50,75,90,100");
        /// Time between two reports of progress about a job that a crawler of the session protocol is asked for while nobody
        /// looks at the job, its parent or its tree. Below `progress_report_interval_ms` it counts as that.
        unwatched_interval: Duration =
            Setting::new("progress_unwatched_interval_ms", &["SOCKET_PROGRESS_UNWATCHED_INTERVAL"])
            .default("10000").range(10, HOUR_MS);
        /// Time without a word about a running job after which it is shown as `quiet`.
        quiet_after: Duration = Setting::new("progress_quiet_after_ms", &["SOCKET_PROGRESS_QUIET_AFTER"])
            .default("60000").range(10, DAY_MS);
        /// Time without a step forward of a running job after which it is `stalled`: that is an issue, an event, and a line
        /// in the error log. What a job waits behind a closed gate does not count. Not below `progress_quiet_after_ms`.
        stalled_after: Duration = Setting::new("progress_stalled_after_ms", &["SOCKET_PROGRESS_STALLED_AFTER"])
            .default("300000").range(10, DAY_MS);
        /// The same for jobs of the type `discover_namespaces`. Unset: as for all.
        stalled_after_discover_namespaces: Option<Duration> = Setting::new(
            "progress_stalled_after_discover_namespaces_ms", &["SOCKET_PROGRESS_STALLED_AFTER_DISCOVER_NAMESPACES"])
            .range(10, DAY_MS);
        /// The same for jobs of the type `crawl_user`. Unset: as for all.
        stalled_after_crawl_user: Option<Duration> = Setting::new(
            "progress_stalled_after_crawl_user_ms", &["SOCKET_PROGRESS_STALLED_AFTER_CRAWL_USER"])
            .range(10, DAY_MS);
        /// The same for jobs of the type `crawl_group`. Unset: as for all.
        stalled_after_crawl_group: Option<Duration> = Setting::new(
            "progress_stalled_after_crawl_group_ms", &["SOCKET_PROGRESS_STALLED_AFTER_CRAWL_GROUP"])
            .range(10, DAY_MS);
        /// The same for jobs of the type `crawl_project`. Unset: as for all.
        stalled_after_crawl_project: Option<Duration> = Setting::new(
            "progress_stalled_after_crawl_project_ms", &["SOCKET_PROGRESS_STALLED_AFTER_CRAWL_PROJECT"])
            .range(10, DAY_MS);
    }

    /// How far discovered jobs may spread. What is over a budget is refused, item by item.
    Discovery {
        /// Generations of jobs below a submitted one.
        max_depth: u32 = Setting::new("max_tree_depth", &["SOCKET_MAX_TREE_DEPTH"])
            .default("20").range(1, 1000).hot();
        /// Jobs that one job may discover.
        max_children: u64 = Setting::new("max_children_per_job", &["SOCKET_MAX_CHILDREN_PER_JOB"])
            .default("100000").range(1, ROWS_MAX).hot();
        /// Jobs in the tree of one submitted job.
        max_jobs_per_tree: u64 = Setting::new("max_jobs_per_tree", &["SOCKET_MAX_JOBS_PER_TREE"])
            .default("1000000").range(1, ROWS_MAX).hot();
        /// Jobs of one account that have not ended. What is discovered beyond is refused; submissions are not.
        max_open_per_account: u64 =
            Setting::new("max_open_jobs_per_account", &["SOCKET_MAX_OPEN_JOBS_PER_ACCOUNT"])
            .default("1000000").range(1, ROWS_MAX).hot();
    }

    /// What the server tells of itself.
    Logging {
        /// The least important messages that are logged. `DEBUG=socket:*` stands for `debug` where `SOCKET_LOG_LEVEL`
        /// is not set.
        level: LogLevel = Setting::new("log_level", &["SOCKET_LOG_LEVEL"]).flag("--log-level")
            .default("info").profiles(&[(Development, Fixed("debug")), (Test, Fixed("warn"))]).hot();
        /// Whether metrics are collected.
        enable_metrics: bool = Setting::new("enable_metrics", &["SOCKET_ENABLE_METRICS"])
            .default("true").awaits("metrics");
        /// Time between two collections of metrics.
        metrics_interval: Duration = Setting::new("metrics_interval_ms", &["SOCKET_METRICS_INTERVAL"])
            .default("60000").profiles(&[(Development, Fixed("30000"))])
            .range(10, DAY_MS).hot().awaits("metrics");
    }

    /// Where jobs are kept.
    Database {
        /// SQLite or PostgreSQL, with login. The password is never shown. As a flag every local user can read it in
        /// the list of processes: use a file for one with a password.
        url: DatabaseUrl = Setting::new("database_url", &["DATABASE_URL"]).flag("--database-url").secret()
            .computed("the SQLite file `crawlwire.db` in `data_dir`");
        /// File that holds the database URL, in place of `database_url`.
        url_file: Option<PathBuf> = Setting::new("database_url_file", &["DATABASE_URL_FILE"]);
        /// Connections kept to the database. SQLite has one writer whatever the number.
        connection_pool: u32 = Setting::new(
            "database_connection_pool", &["DATABASE_CONNECTION_POOL", "SOCKET_DATABASE_CONNECTION_POOL"])
            .default("10").profiles(&[(Development, Fixed("5")), (Production, Fixed("20"))])
            .range(1, 1000);
        /// Longest time for one query.
        query_timeout: Duration = Setting::new("query_timeout_ms", &["SOCKET_QUERY_TIMEOUT"])
            .default("30000").range(10, HOUR_MS);
        /// Longest time for one transaction.
        transaction_timeout: Duration = Setting::new("transaction_timeout_ms", &["SOCKET_TRANSACTION_TIMEOUT"])
            .default("60000").range(10, HOUR_MS);
    }

    /// How long what is over is kept.
    Cleanup {
        /// Time between two searches for what is too old.
        interval: Duration = Setting::new("cleanup_interval_ms", &["SOCKET_CLEANUP_INTERVAL"])
            .default("3600000").range(1000, 30 * DAY_MS).hot();
        /// Age at which a submitted job is deleted with everything below it, from the moment when all of it had ended; 7
        /// days unless set.
        max_job_age: Duration = Setting::new("max_job_age_ms", &["SOCKET_MAX_JOB_AGE"])
            .default("604800000").range(1000, 3650 * DAY_MS).hot();
        /// Age at which a recorded error is deleted; 30 days unless set.
        max_error_log_age: Duration = Setting::new("max_error_log_age_ms", &["SOCKET_MAX_ERROR_LOG_AGE"])
            .default("2592000000").range(1000, 3650 * DAY_MS).hot();
    }

    /// The HTTP interface.
    Http {
        /// Address of the HTTP interface: an IP address or `localhost`, and a port. The variable `PORT` replaces only
        /// its port, where `HTTP_ADDR` is not set.
        addr: SocketAddr = Setting::new("http_addr", &["HTTP_ADDR"]).flag("--http").default("127.0.0.1:8090");
        /// Origins whose web pages may use the HTTP interface; separated by commas in the environment.
        allowed_origins: Vec<WebOrigin> = Setting::new("allowed_origins", &["SOCKET_ALLOWED_ORIGINS"])
            .default("").hot();
    }

    /// How the server ends.
    Shutdown {
        /// Time for connections and writes to finish after a request to stop.
        timeout: Duration = Setting::new("shutdown_timeout_ms", &["SOCKET_SHUTDOWN_TIMEOUT"])
            .default("30000").range(0, HOUR_MS).hot();
    }
}

impl Connection {
    /// Address of the TCP listener; `None` when there is none. Port 0 lets the system choose.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.port.map(|port| SocketAddr::new(self.host, port))
    }
}
