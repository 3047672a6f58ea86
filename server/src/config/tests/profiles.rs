//! What each profile means.

use std::path::Path;
use std::time::Duration;

use super::super::{Config, Delimiter, LogLevel, Profile};
use super::given;

fn profile(name: &str) -> Config {
    given()
        .env("CRAWLWIRE_PROFILE", name)
        .env("TMPDIR", "/temporary")
        .config()
}

#[test]
fn development_is_the_default() {
    let config = given().config();
    assert_eq!(config.general.profile, Profile::Development);
    assert_eq!(config.to_string(), given().file("").config().to_string());
    assert_eq!(config.connection.socket_path, Path::new("/tmp/crawler-socket.sock"));
    assert_eq!(config.connection.max_connections, 3);
    assert_eq!(config.connection.timeout, Duration::from_secs(30));
    assert_eq!(config.heartbeat.interval, Duration::from_secs(10));
    assert_eq!(config.heartbeat.timeout, Duration::from_secs(30));
    assert_eq!(config.jobs.max_concurrent, 2);
    assert_eq!(config.logging.level, LogLevel::Debug);
    assert_eq!(config.logging.metrics_interval, Duration::from_secs(30));
    assert_eq!(config.database.connection_pool, 5);
    assert_eq!(config.messages.rate_limit, 0);
}

#[test]
fn production_is_roomier_and_slower_to_give_up() {
    let config = profile("production");
    assert_eq!(config.general.profile, Profile::Production);
    assert_eq!(
        config.connection.socket_path,
        Path::new("/var/run/crawlwire/crawler.sock")
    );
    assert_eq!(config.connection.max_connections, 20);
    assert_eq!(config.connection.timeout, Duration::from_secs(120));
    assert_eq!(config.heartbeat.interval, Duration::from_secs(60));
    assert_eq!(config.heartbeat.timeout, Duration::from_secs(180));
    assert_eq!(config.jobs.max_concurrent, 5);
    assert_eq!(config.messages.max_size, 2 << 20);
    assert_eq!(config.messages.buffer_size, 2 << 20);
    assert_eq!(config.messages.rate_limit, 100);
    assert_eq!(config.logging.level, LogLevel::Info);
    assert_eq!(config.logging.metrics_interval, Duration::from_secs(60));
    assert_eq!(config.database.connection_pool, 20);
}

#[test]
fn test_stays_in_a_temporary_directory_of_the_process() {
    let config = profile("test");
    let directory = format!("/temporary/crawlwire-test-{}", std::process::id());
    let directory = Path::new(&directory);
    assert_eq!(config.general.data_dir, directory);
    assert_eq!(config.connection.socket_path, directory.join("crawler.sock"));
    assert!(config.database.url.expose().contains(&directory.display().to_string()));
    assert_eq!(config.connection.max_connections, 1);
    assert_eq!(config.logging.level, LogLevel::Warn);
}

/// API reference, lines 298-342, where no profile says otherwise; the test profile has the fewest words of its own.
#[test]
fn what_no_profile_changes_is_as_the_api_reference_says() {
    let config = profile("test");
    let seconds = Duration::from_secs;
    assert_eq!(config.connection.host.to_string(), "127.0.0.1");
    assert_eq!(config.connection.tcp(), None);
    assert_eq!(config.connection.backlog, 511);
    assert_eq!(config.connection.socket_mode.bits(), 0o600);
    assert_eq!(config.connection.timeout, seconds(30));
    assert_eq!(config.messages.buffer_size, 1 << 20);
    assert_eq!(config.messages.max_size, 1 << 20);
    assert_eq!(config.messages.delimiter, Delimiter::Newline);
    assert_eq!(config.messages.max_invalid, 100);
    assert_eq!(
        (config.messages.rate_limit, config.messages.rate_limit_burst),
        (100, 1000)
    );
    assert_eq!(config.heartbeat.interval, seconds(30));
    assert_eq!(config.heartbeat.timeout, seconds(90));
    assert_eq!(config.heartbeat.check_interval, seconds(60));
    assert_eq!(config.jobs.max_concurrent, 5);
    assert_eq!((config.jobs.queue_size, config.jobs.max_queued), (100, 100_000));
    assert_eq!(config.jobs.timeout, seconds(3600));
    assert_eq!(config.jobs.retry_attempts, 3);
    assert_eq!(
        (config.jobs.retry_delay, config.jobs.max_retry_delay),
        (seconds(5), seconds(3600))
    );
    assert_eq!(
        (config.jobs.accept_timeout, config.jobs.reattach_grace),
        (seconds(30), seconds(5))
    );
    assert_eq!(config.jobs.sweep_interval, seconds(1));
    assert_eq!(
        (config.jobs.cancel_timeout, config.jobs.max_running_per_account),
        (seconds(30), 0)
    );
    assert_eq!(config.general.server_name, None);
    assert_eq!(
        (config.jobs.breaker_failures, config.jobs.breaker_open),
        (5, seconds(30))
    );
    assert_eq!(
        (config.discovery.max_depth, config.discovery.max_children),
        (20, 100_000)
    );
    assert_eq!(config.discovery.max_jobs_per_tree, 1_000_000);
    assert_eq!(config.discovery.max_open_per_account, 1_000_000);
    assert!(config.logging.enable_metrics);
    assert_eq!(config.logging.metrics_interval, seconds(60));
    assert_eq!(config.database.connection_pool, 10);
    assert_eq!(
        (config.database.query_timeout, config.database.transaction_timeout),
        (seconds(30), seconds(60))
    );
    assert_eq!(config.cleanup.interval, seconds(3600));
    assert_eq!(config.cleanup.max_job_age, seconds(7 * 86_400));
    assert_eq!(config.cleanup.max_error_log_age, seconds(30 * 86_400));
    assert_eq!(config.http.addr.to_string(), "127.0.0.1:8090");
    assert!(config.http.allowed_origins.is_empty());
    assert_eq!(config.shutdown.timeout, seconds(30));
}

#[test]
fn a_profile_alone_warns_of_nothing() {
    for name in ["development", "production", "test"] {
        assert!(given().env("CRAWLWIRE_PROFILE", name).warnings().is_empty(), "{name}");
    }
}
