//! Which layer wins, for every setting.

use std::path::Path;
use std::time::Duration;

use super::super::{LogLevel, Origin, Profile, Setting};
use super::{given, shown};

/// Key, value in a file, value in the environment, and how the latter is shown. The two differ from each other and from
/// every built-in value.
const SAMPLES: &[(&str, &str, &str, &str)] = &[
    ("profile", "'production'", "test", "\"test\""),
    ("data_dir", "'/d/file'", "/d/env", "\"/d/env\""),
    ("server_name", "'files'", "envs", "\"envs\""),
    ("socket_path", "'/s/file'", "/s/env", "\"/s/env\""),
    ("socket_mode", "'0660'", "770", "\"0770\""),
    ("socket_group", "'files'", "envs", "\"envs\""),
    ("host", "'127.0.0.2'", "::1", "\"::1\""),
    ("port", "8001", "8002", "8002"),
    ("backlog", "128", "256", "256"),
    ("max_connections", "7", "8", "8"),
    ("connection_timeout_ms", "7000", "8000", "8000"),
    ("hello_timeout_ms", "7000", "8000", "8000"),
    ("partial_line_timeout_ms", "7000", "8000", "8000"),
    ("keepalive_interval_ms", "7000", "8000", "8000"),
    ("keepalive_timeout_ms", "7000", "8000", "8000"),
    ("tls_cert_file", "'/c/file'", "/c/env", "\"/c/env\""),
    ("tls_key_file", "'/k/file'", "/k/env", "\"/k/env\""),
    ("tls_client_ca_file", "'/a/file'", "/a/env", "\"/a/env\""),
    ("require_tokens", "true", "no", "false"),
    ("allowed_uids", "[7, 0x8]", "8,9", "[8, 9]"),
    ("allowed_gids", "[7]", " 8 ", "[8]"),
    ("message_buffer_size_bytes", "70_000_00", "8000000", "8000000"),
    ("max_buffered_bytes", "70_000_00", "80000000", "80000000"),
    ("max_message_size_bytes", "0x10_0001", "1048578", "1048578"),
    ("message_delimiter", "\"\\n\"", "\\n", "\"\\n\""),
    ("max_invalid_messages", "7", "8", "8"),
    ("rate_limit_messages_per_second", "7", "8", "8"),
    ("rate_limit_burst_messages", "7", "8", "8"),
    ("enable_compression", "false", "yes", "true"),
    ("buffer_optimize", "false", "ON", "true"),
    ("heartbeat_interval_ms", "7000", "8000", "8000"),
    ("heartbeat_timeout_ms", "70000", "80000", "80000"),
    ("health_check_interval_ms", "7000", "8000", "8000"),
    ("max_concurrent_jobs", "7", "8", "8"),
    ("job_queue_size", "7", "8", "8"),
    ("max_queued_jobs", "7", "8", "8"),
    ("job_timeout_ms", "7000", "8000", "8000"),
    ("retry_attempts", "7", "8", "8"),
    ("retry_delay_ms", "7000", "8000", "8000"),
    ("max_retry_delay_ms", "7000", "8000", "8000"),
    ("accept_timeout_ms", "7000", "8000", "8000"),
    ("reattach_grace_ms", "7000", "8000", "8000"),
    ("sweep_interval_ms", "700", "800", "800"),
    ("cancel_timeout_ms", "7000", "8000", "8000"),
    ("max_running_jobs_per_account", "7", "8", "8"),
    ("progress_report_interval_ms", "7000", "8000", "8000"),
    ("circuit_breaker_failures", "7", "8", "8"),
    ("circuit_breaker_open_ms", "7000", "8000", "8000"),
    ("progress_milestones", "[7, 100]", "100, 8", "[8, 100]"),
    ("progress_unwatched_interval_ms", "7000", "8000", "8000"),
    ("progress_quiet_after_ms", "7000", "8000", "8000"),
    ("progress_stalled_after_ms", "70000", "80000", "80000"),
    (
        "progress_stalled_after_discover_namespaces_ms",
        "70000",
        "80000",
        "80000",
    ),
    ("progress_stalled_after_crawl_user_ms", "70000", "80000", "80000"),
    ("progress_stalled_after_crawl_group_ms", "70000", "80000", "80000"),
    ("progress_stalled_after_crawl_project_ms", "70000", "80000", "80000"),
    ("max_tree_depth", "7", "8", "8"),
    ("max_children_per_job", "7", "8", "8"),
    ("max_jobs_per_tree", "7", "8", "8"),
    ("max_open_jobs_per_account", "7", "8", "8"),
    ("log_level", "'error'", "WARN", "\"warn\""),
    ("enable_metrics", "true", "off", "false"),
    ("metrics_interval_ms", "7000", "8000", "8000"),
    ("database_url", "'sqlite:/d/file'", "sqlite:/d/env", "\"sqlite:/d/env\""),
    ("database_url_file", "'/d/file'", "/d/env", "\"/d/env\""),
    ("database_connection_pool", "7", "8", "8"),
    ("query_timeout_ms", "7000", "8000", "8000"),
    ("transaction_timeout_ms", "7000", "8000", "8000"),
    ("cleanup_interval_ms", "7000", "8000", "8000"),
    ("max_job_age_ms", "7000", "8000", "8000"),
    ("max_error_log_age_ms", "7000", "8000", "8000"),
    ("http_addr", "'127.0.0.1:7000'", "localhost:8000", "\"127.0.0.1:8000\""),
    (
        "allowed_origins",
        "['https://a.example']",
        "http://b.example, HTTPS://C.example:443/",
        "[\"http://b.example\", \"https://c.example\"]",
    ),
    ("shutdown_timeout_ms", "7000", "8000", "8000"),
];

/// What a setting cannot do without.
fn beside(key: &str) -> &'static str {
    match key {
        "tls_cert_file" => "tls_key_file = '/k'",
        "tls_key_file" => "tls_cert_file = '/c'",
        "tls_client_ca_file" => "tls_cert_file = '/c'\ntls_key_file = '/k'",
        _ => "",
    }
}

#[test]
fn every_setting_takes_file_over_preset_and_environment_over_file() {
    let sampled: Vec<&str> = SAMPLES.iter().map(|(key, ..)| *key).collect();
    let all: Vec<&str> = Setting::all().map(|setting| setting.key).collect();
    assert_eq!(sampled, all, "every setting has a sample");

    for (key, in_file, in_env, env_shown) in SAMPLES {
        let setting = Setting::find(key).unwrap();
        let from_file = || {
            let file = format!("{key} = {in_file}\n{}", beside(key));
            given()
                .file(&file)
                .inputs(|inputs| inputs.read_secret = |_| Ok("sqlite:/secret\n".to_owned()))
        };
        let preset = shown(&given().config(), key);
        let file = shown(&from_file().config(), key);
        let column = key.len() + 4;
        assert_eq!(
            file.1,
            Origin::File {
                path: "c.toml".into(),
                line: 1,
                column
            },
            "{key}"
        );
        assert!(file.0.is_some(), "{key}");
        assert!(!preset.1.is_explicit(), "{key}");

        for name in setting.env {
            let env = shown(&from_file().env(name, in_env).config(), key);
            assert_eq!(
                env,
                (Some((*env_shown).to_owned()), Origin::Env((*name).to_owned())),
                "{key}"
            );
            let empty = shown(&from_file().env(name, "").config(), key);
            assert_eq!(empty, file, "an empty {name} counts as unset");
        }
    }
}

#[test]
fn flags_win_over_all() {
    for (flag, key, value, expected) in [
        ("--profile", "profile", "production", "\"production\""),
        ("--data-dir", "data_dir", "/d/flag", "\"/d/flag\""),
        ("--socket", "socket_path", "/s/flag", "\"/s/flag\""),
        ("--listen", "host", "127.0.0.9:9", "\"127.0.0.9\""),
        ("--listen", "port", "127.0.0.9:9", "9"),
        ("--log-level", "log_level", "info", "\"info\""),
        ("--database-url", "database_url", "sqlite:/d/flag", "\"sqlite:/d/flag\""),
        ("--http", "http_addr", "[::1]:9", "\"[::1]:9\""),
    ] {
        let (_, in_file, in_env, _) = SAMPLES.iter().find(|(sample, ..)| *sample == key).unwrap();
        let mut given = given().file(&format!("{key} = {in_file}")).flag(flag, value);
        for name in Setting::find(key).unwrap().env {
            given = given.env(name, in_env);
        }
        assert_eq!(
            shown(&given.config(), key),
            (Some(expected.to_owned()), Origin::Flag(flag)),
            "{flag}"
        );
    }
}

#[test]
fn the_profile_is_taken_from_the_highest_layer_that_names_one() {
    let profile = |given: super::Given| given.config().general.profile;
    assert_eq!(profile(given()), Profile::Development);
    assert_eq!(profile(given().file("profile = 'test'")), Profile::Test);
    assert_eq!(
        profile(given().file("profile = 'test'").env("NODE_ENV", "production")),
        Profile::Production
    );
    let both = || given().env("NODE_ENV", "production").env("CRAWLWIRE_PROFILE", "test");
    assert_eq!(profile(both()), Profile::Test);
    assert_eq!(profile(both().flag("--profile", "development")), Profile::Development);
}

#[test]
fn a_value_from_the_default_is_told_from_one_of_the_profile() {
    let config = given().config();
    assert_eq!(shown(&config, "backlog"), (Some("511".to_owned()), Origin::Default));
    let of_profile = Origin::Profile(Profile::Development);
    assert_eq!(shown(&config, "max_connections"), (Some("3".to_owned()), of_profile));
    assert_eq!(shown(&config, "port"), (None, Origin::Default));
}

#[test]
fn booleans_have_eight_spellings() {
    for (text, value) in [
        ("true", true),
        ("1", true),
        ("yes", true),
        ("on", true),
        ("TRUE", true),
        ("false", false),
        ("0", false),
        ("no", false),
        ("off", false),
        ("Off", false),
    ] {
        assert_eq!(
            given()
                .env("SOCKET_ENABLE_METRICS", text)
                .config()
                .logging
                .enable_metrics,
            value,
            "{text}"
        );
    }
}

#[test]
fn the_heartbeat_timeout_follows_an_interval_given_alone() {
    let derived = Origin::Derived("3 x heartbeat_interval_ms");
    let env = given()
        .env("CRAWLWIRE_PROFILE", "production")
        .env("SOCKET_HEARTBEAT_INTERVAL", "7000")
        .config();
    assert_eq!(env.heartbeat.timeout, Duration::from_secs(21));
    assert_eq!(shown(&env, "heartbeat_timeout_ms"), (Some("21000".to_owned()), derived));

    let both = given()
        .env("SOCKET_HEARTBEAT_INTERVAL", "7000")
        .file("heartbeat_timeout_ms = 15000")
        .config();
    assert_eq!(both.heartbeat.timeout, Duration::from_secs(15));
}

#[test]
fn the_buffer_grows_to_the_largest_message() {
    // Someone gave the small buffer: they are told.
    let small = || given().env("SOCKET_MESSAGE_BUFFER_SIZE", "65536");
    assert_eq!(small().config().messages.buffer_size, 1 << 20);
    let warning = "SOCKET_MESSAGE_BUFFER_SIZE: message_buffer_size_bytes: 65536 bytes cannot hold a message of \
                   max_message_size_bytes; raised to 1048576";
    assert_eq!(small().warnings(), [warning]);
    // Nobody gave it: it just follows.
    let large = || given().env("SOCKET_MAX_MESSAGE_SIZE", "10485760");
    assert_eq!(large().config().messages.buffer_size, 10_485_760);
    assert!(large().warnings().is_empty());
    // A buffer that is just large enough, or larger, stays as given.
    let exact = given().env("SOCKET_MESSAGE_BUFFER_SIZE", "1048576").config();
    assert!(shown(&exact, "message_buffer_size_bytes").1.is_explicit());
    let roomy = given().env("SOCKET_MESSAGE_BUFFER_SIZE", "4194304").config();
    assert_eq!(roomy.messages.buffer_size, 4 << 20);
}

#[test]
fn port_replaces_only_the_port_of_the_http_address() {
    let addr = |given: super::Given| given.config().http.addr.to_string();
    assert_eq!(addr(given()), "127.0.0.1:8090");
    assert_eq!(addr(given().env("PORT", "3000")), "127.0.0.1:3000");
    assert_eq!(
        addr(given().env("PORT", "3000").file("http_addr = '127.0.0.3:1'")),
        "127.0.0.3:3000"
    );
    assert_eq!(
        addr(given().env("PORT", "3000").env("HTTP_ADDR", "127.0.0.4:1")),
        "127.0.0.4:1"
    );
    assert_eq!(
        addr(given().env("PORT", "3000").flag("--http", "127.0.0.5:1")),
        "127.0.0.5:1"
    );
}

#[test]
fn tcp_is_off_until_a_port_is_given() {
    let tcp = |given: super::Given| given.config().connection.tcp().map(|addr| addr.to_string());
    let is = |addr: &str| Some(addr.to_owned());
    assert_eq!(tcp(given()), None);
    assert_eq!(tcp(given().env("SOCKET_PORT", "8080")), is("127.0.0.1:8080"));
    assert_eq!(tcp(given().file("port = 0")), is("127.0.0.1:0"));
    assert_eq!(tcp(given().flag("--listen", "localhost:8080")), is("127.0.0.1:8080"));
    assert_eq!(tcp(given().flag("--listen", "tcp://[::1]:8080")), is("[::1]:8080"));
    assert_eq!(
        tcp(given().env("SOCKET_HOST", "::1").flag("--listen", "127.0.0.2:1")),
        is("127.0.0.2:1")
    );

    let host_alone = given().env("SOCKET_HOST", "localhost");
    assert_eq!(
        host_alone.warnings(),
        ["SOCKET_HOST: host: has no effect without a port: there is no TCP listener"]
    );
}

#[test]
fn debug_raises_the_log_level_where_none_is_set_in_the_environment() {
    let level = |given: super::Given| given.env("CRAWLWIRE_PROFILE", "production").config().logging.level;
    assert_eq!(level(given().env("DEBUG", "socket:*")), LogLevel::Debug);
    assert_eq!(level(given().env("DEBUG", "express:*,socket:*")), LogLevel::Debug);
    assert_eq!(
        level(given().env("DEBUG", "socket:*").file("log_level = 'error'")),
        LogLevel::Debug
    );
    assert_eq!(level(given().env("DEBUG", "express:*")), LogLevel::Info);
    assert_eq!(
        level(given().env("DEBUG", "socket:*").env("SOCKET_LOG_LEVEL", "warn")),
        LogLevel::Warn
    );
    assert_eq!(
        level(given().env("DEBUG", "socket:*").flag("--log-level", "error")),
        LogLevel::Error
    );
}

#[test]
fn both_names_of_the_pool_are_read_and_a_difference_is_told() {
    const LONG: &str = "SOCKET_DATABASE_CONNECTION_POOL";
    const SHORT: &str = "DATABASE_CONNECTION_POOL";
    assert_eq!(given().env(LONG, "7").config().database.connection_pool, 7);
    assert_eq!(given().env(SHORT, "8").config().database.connection_pool, 8);
    assert!(given().env(SHORT, "8").env(LONG, "8").warnings().is_empty());
    let differ = || given().env(SHORT, "8").env(LONG, "7");
    assert_eq!(differ().config().database.connection_pool, 8);
    let warning = format!("{LONG}: database_connection_pool: differs from {SHORT}, which is used instead");
    assert_eq!(differ().warnings(), [warning]);
}

#[test]
fn the_data_directory_follows_the_environment() {
    let directory = |given: super::Given| given.config().general.data_dir;
    assert_eq!(directory(given()), Path::new("/srv/someone/.local/state/crawlwire"));
    assert_eq!(
        directory(given().env("XDG_STATE_HOME", "/state")),
        Path::new("/state/crawlwire")
    );
    let relative = given().env("XDG_STATE_HOME", "state");
    assert_eq!(directory(relative), Path::new("/srv/someone/.local/state/crawlwire"));
}

#[test]
fn the_database_is_a_file_in_the_data_directory_unless_named() {
    let url = |given: super::Given| given.config().database.url.expose().to_owned();
    assert_eq!(
        url(given().flag("--data-dir", "/d")),
        "sqlite:///d/crawlwire.db?mode=rwc"
    );
    // What would end the path of a URL is escaped.
    assert_eq!(
        url(given().flag("--data-dir", "/a?b#c%d")),
        "sqlite:///a%3Fb%23c%25d/crawlwire.db?mode=rwc"
    );
    assert_eq!(
        url(given().flag("--data-dir", "/d").env("DATABASE_URL", "sqlite::memory:")),
        "sqlite::memory:"
    );
}

#[test]
fn the_listing_is_a_file_that_gives_the_same_configuration() {
    for profile in ["development", "production", "test"] {
        let first = given()
            .env("CRAWLWIRE_PROFILE", profile)
            .env("SOCKET_ALLOWED_ORIGINS", "https://a.example,https://b.example:8443")
            .env("SOCKET_PATH", "/tmp/odd \"name\"\u{7f}\\")
            .flag("--listen", "localhost:8080")
            .config();
        let second = given().file(&first.to_string()).config();
        let values = |config: &super::Config| -> Vec<_> {
            config
                .entries()
                .iter()
                .map(|entry| (entry.key, entry.value.clone()))
                .collect()
        };
        assert_eq!(values(&first), values(&second));
        assert_eq!(first.connection, second.connection);
    }
}
