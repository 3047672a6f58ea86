//! What the configuration means for each part: addresses, database, limits, rules.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crawlwire_persistence::config::KEY_FILE_NAME;
use crawlwire_persistence::{Database, DatabaseConfig, SqlStore};
use crawlwire_progress::Policy;
use crawlwire_protocol::message::{Feature, JobType};
use crawlwire_router::{HelloConfig, ProgressConfig, RateLimit, Retention, RouterConfig};
use crawlwire_transport::{
    Budget, Endpoint, HealthThresholds, Keepalive, Limits, ListenOptions, Listener, PeerAllow, TlsServer,
};

use crate::app::StartError;
use crate::config::Config;
use crate::connection::{IN_FLIGHT_MAX, Rules};

/// Progress is written this often: within the second that may be lost.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) async fn bind(config: &Config, tls: Option<TlsServer>) -> Result<Vec<Listener>, StartError> {
    let connection = &config.connection;
    let group = match &connection.socket_group {
        None => None,
        Some(name) => Some(group_id(name.as_str()).ok_or_else(|| StartError::Group(name.as_str().to_owned()))?),
    };
    let options = ListenOptions {
        mode: connection.socket_mode.bits(),
        group,
        backlog: connection.backlog,
        allowed: allowed(config),
        tls: match tls {
            Some(tls) => Some(tls),
            None => load_tls(config)?,
        },
        keepalive: Some(keepalive(config)),
        ..ListenOptions::default()
    };
    let mut listeners = vec![Listener::bind(&Endpoint::Unix(connection.socket_path.clone()), &options).await?];
    if let Some(address) = connection.tcp() {
        // Checked with the configuration, which an embedding program may have changed since.
        if !address.ip().to_canonical().is_loopback() && !config.security.require_tokens {
            return Err(StartError::TokensNeeded(address));
        }
        let endpoint = Endpoint::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        };
        listeners.push(Listener::bind(&endpoint, &options).await?);
    }
    Ok(listeners)
}

fn load_tls(config: &Config) -> Result<Option<TlsServer>, StartError> {
    let security = &config.security;
    match (&security.tls_cert_file, &security.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let client_ca = security.tls_client_ca_file.as_deref();
            Ok(Some(TlsServer::load(certificate, key, client_ca)?))
        }
        _ => Ok(None),
    }
}

/// None where the mode of the socket file alone decides.
fn allowed(config: &Config) -> Option<PeerAllow> {
    let (uids, gids) = (&config.security.allowed_uids, &config.security.allowed_gids);
    (!uids.is_empty() || !gids.is_empty()).then(|| PeerAllow {
        uids: uids.clone(),
        gids: gids.clone(),
    })
}

/// How the system finds out that the other end of a TCP connection is gone.
fn keepalive(config: &Config) -> Keepalive {
    let probes = Keepalive::default();
    Keepalive {
        idle: config.connection.keepalive_interval,
        interval: config.connection.keepalive_timeout / probes.retries,
        ..probes
    }
}

/// The number of a group, from its number or from the group file.
pub(crate) fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

pub(crate) async fn open_database(config: &Config) -> Result<Arc<SqlStore>, StartError> {
    Ok(Database::open(database_place(config)?).await?)
}

/// The same for a command that works for a moment, beside servers that may run on the database.
pub(crate) async fn open_database_beside(config: &Config) -> Result<Arc<SqlStore>, StartError> {
    Ok(Database::open_beside(database_place(config)?).await?)
}

/// The data directory, made where it is missing, and what is in it.
fn database_place(config: &Config) -> Result<DatabaseConfig, StartError> {
    let data_dir = &config.general.data_dir;
    std::fs::create_dir_all(data_dir).map_err(|source| StartError::DataDir {
        path: data_dir.display().to_string(),
        source,
    })?;
    Ok(database_config(config))
}

pub(crate) fn database_config(config: &Config) -> DatabaseConfig {
    DatabaseConfig {
        pool_size: config.database.connection_pool,
        query_timeout: config.database.query_timeout,
        transaction_timeout: config.database.transaction_timeout,
        server: server_name(config),
        policy: policy(config),
        ..DatabaseConfig::new(
            config.database.url.expose(),
            config.general.data_dir.join(KEY_FILE_NAME),
        )
    }
}

/// The same after a restart, and unlike that of any other server: a socket path belongs to one server of a machine.
pub(crate) fn server_name(config: &Config) -> String {
    if let Some(name) = &config.general.server_name {
        return name.as_str().to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), config.connection.socket_path.display())
}

/// What the database is, for people.
pub(crate) fn database_name(config: &Config) -> &'static str {
    match config.database.url.expose().starts_with("sqlite:") {
        true => "sqlite",
        false => "postgresql",
    }
}

/// Connections are numbered from the time of the start on, so that no number comes twice in the history of a database.
pub(crate) fn first_connection() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(1) * 1000
}

pub(crate) fn policy(config: &Config) -> Policy {
    let jobs = &config.jobs;
    Policy {
        lease: config.heartbeat.timeout,
        reattach_grace: jobs.reattach_grace,
        accept_timeout: jobs.accept_timeout,
        job_timeout: jobs.timeout,
        retry_attempts: jobs.retry_attempts,
        retry_delay: jobs.retry_delay,
        retry_delay_max: jobs.max_retry_delay,
        queued_jobs_max: jobs.max_queued,
        tree_depth_max: config.discovery.max_depth,
        children_max: config.discovery.max_children,
        tree_jobs_max: config.discovery.max_jobs_per_tree,
        account_jobs_max: config.discovery.max_open_per_account,
        account_held_max: Some(jobs.max_running_per_account).filter(|limit| *limit > 0),
        want_timeout: jobs.cancel_timeout,
        milestones: config.progress.milestones.clone(),
        ..Policy::default()
    }
}

pub(crate) fn router_config(config: &Config) -> RouterConfig {
    RouterConfig {
        server: server_name(config),
        slots_per_crawler: config.jobs.max_concurrent,
        job_queue_size: config.jobs.queue_size,
        sweep_interval: config.jobs.sweep_interval,
        flush_interval: FLUSH_INTERVAL,
        policy: policy(config),
        retention: Retention {
            interval: config.cleanup.interval,
            max_job_age: config.cleanup.max_job_age,
            max_error_age: config.cleanup.max_error_log_age,
        },
        hello: hello(config),
        rate_limit: RateLimit {
            per_second: config.messages.rate_limit,
            burst: config.messages.rate_limit_burst,
        },
        progress: progress(config),
    }
}

/// When silence about a job means something.
fn progress(config: &Config) -> ProgressConfig {
    let progress = &config.progress;
    let by_type = [
        (JobType::DiscoverNamespaces, progress.stalled_after_discover_namespaces),
        (JobType::CrawlUser, progress.stalled_after_crawl_user),
        (JobType::CrawlGroup, progress.stalled_after_crawl_group),
        (JobType::CrawlProject, progress.stalled_after_crawl_project),
    ];
    ProgressConfig {
        quiet_after: progress.quiet_after,
        stalled_after: progress.stalled_after,
        stalled_after_by_type: by_type
            .into_iter()
            .filter_map(|(job_type, after)| Some((job_type, after?)))
            .collect(),
    }
}

/// What a crawler of the session protocol is told at the beginning.
fn hello(config: &Config) -> HelloConfig {
    let mut hello = HelloConfig {
        heartbeat_interval: config.heartbeat.interval,
        heartbeat_timeout: config.heartbeat.timeout,
        max_message_bytes: config.messages.max_size as u64,
        max_in_flight: IN_FLIGHT_MAX as u64,
        max_in_flight_bytes: config.messages.buffer_size as u64,
        tokens_required: config.security.require_tokens,
        progress_interval: config.jobs.report_interval,
        unwatched_interval: config.progress.unwatched_interval,
        ..HelloConfig::default()
    };
    if config.messages.enable_compression {
        hello.features.push(Feature::Zstd);
    }
    hello
}

pub(crate) fn rules(config: &Config) -> Rules {
    Rules {
        invalid_max: config.messages.max_invalid,
        in_flight_bytes_max: config.messages.buffer_size,
        line_bytes_max: config.messages.max_size,
        first_line_timeout: config.connection.timeout,
        hello_timeout: config.connection.hello_timeout,
        tokens_on_tcp: config.security.require_tokens,
    }
}

pub(crate) fn thresholds(config: &Config) -> HealthThresholds {
    HealthThresholds {
        heartbeat_interval: config.heartbeat.interval,
        heartbeat_timeout: config.heartbeat.timeout,
        ..HealthThresholds::default()
    }
}

pub(crate) fn limits(config: &Config) -> Limits {
    let half = config.messages.buffered_max / 2;
    Limits {
        max_line_bytes: config.messages.max_size,
        partial_line_timeout: config.connection.partial_line_timeout,
        write_timeout: config.connection.timeout,
        heartbeat_interval: config.heartbeat.interval,
        budget: Budget::new(half, half),
        ..Limits::default()
    }
}
