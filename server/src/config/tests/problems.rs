//! What is wrong is found, all of it, and said so that it can be mended.

use super::given;

#[track_caller]
fn one_problem(given: super::Given, expected: &str) {
    assert_eq!(given.problems(), [expected]);
}

#[test]
fn all_layers_are_listed_together() {
    let file =
        "max_connections = 0\nlog_level = 'loud'\nbacklog = 'x'\nconnection_timeout = 5\n\n  job_timeout_ms = 1.5\n";
    let problems = given()
        .file(file)
        .env("SOCKET_HEARTBEAT_INTERVAL", "10s")
        .env("SOCKET_RETRY_DELAY", "9000")
        .env("SOCKET_MAX_RETRY_DELAY", "8000")
        .env("SOCKET_ENABLE_METRICS", "maybe")
        .env("PORT", "web")
        .flag("--socket", "")
        .flag("--listen", "localhost")
        .problems();
    let expected = [
        "c.toml:4:1: unknown key `connection_timeout`; did you mean `connection_timeout_ms`?",
        "--listen: must be HOST:PORT or tcp://HOST:PORT, not `localhost`",
        "PORT: http_addr: the port must be a whole number from 0 to 65535, not `web`",
        "--socket: socket_path: must be a path, not empty",
        "c.toml:3:11: backlog: must be a whole number from 1 to 65535, not a string",
        "c.toml:1:19: max_connections: must be a whole number from 1 to 100000, not `0`",
        "SOCKET_HEARTBEAT_INTERVAL: heartbeat_interval_ms: must be a whole number from 10 to 3600000 ms, in plain \
         digits, not `10s`",
        "c.toml:6:20: job_timeout_ms: must be a whole number from 100 to 2592000000 ms, not a number with a fraction",
        "c.toml:2:13: log_level: must be one of debug, info, warn, error, not `loud`",
        "SOCKET_ENABLE_METRICS: enable_metrics: must be one of true, false, 1, 0, yes, no, on, off, not `maybe`",
        "SOCKET_MAX_RETRY_DELAY: max_retry_delay_ms: 8000 ms is below retry_delay_ms, which is 9000 \
         (SOCKET_RETRY_DELAY)",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn the_error_shows_problems_and_warnings() {
    let errors = given()
        .env("SOCKET_PORT", "x")
        .env("SOCKET_PRT", "1")
        .resolve()
        .unwrap_err();
    let expected = "the configuration has 1 problem\n  error: SOCKET_PORT: port: must be a whole number from 0 to \
                    65535, in plain digits, not `x`\n  warning: SOCKET_PRT: is not a known variable; did you mean \
                    `SOCKET_PORT`?";
    assert_eq!(errors.to_string(), expected);
    let two = given()
        .env("SOCKET_PORT", "x")
        .env("SOCKET_BACKLOG", "x")
        .resolve()
        .unwrap_err();
    assert!(
        two.to_string().starts_with("the configuration has 2 problems\n"),
        "{two}"
    );
}

#[test]
fn a_mistake_that_a_higher_layer_hides_is_found_too() {
    one_problem(
        given().file("max_connections = 'x'").env("SOCKET_MAX_CONNECTIONS", "7"),
        "c.toml:1:19: max_connections: must be a whole number from 1 to 100000, not a string",
    );
}

#[test]
fn ranges_hold_at_both_ends() {
    for setting in super::super::Setting::all() {
        let (min, max) = setting.range;
        if setting.range == (0, u64::MAX) {
            continue;
        }
        let name = setting.env[0];
        let blamed = |number: u128| {
            let mut given = given().env(name, &number.to_string());
            // Rules between settings are not what is asked here.
            if setting.key == "retry_delay_ms" {
                given = given.env("SOCKET_MAX_RETRY_DELAY", "2592000000");
            } else if setting.key == "max_retry_delay_ms" {
                given = given.env("SOCKET_RETRY_DELAY", "0");
            } else if setting.key == "heartbeat_timeout_ms" && number <= 21 {
                given = given.env("SOCKET_HEARTBEAT_INTERVAL", "10");
            }
            match given.resolve() {
                Ok(_) => false,
                Err(errors) => errors
                    .problems
                    .iter()
                    .any(|problem| problem.message.contains("whole number")),
            }
        };
        assert!(!blamed(min.into()), "{name}={min}");
        assert!(!blamed(max.into()), "{name}={max}");
        assert!(min == 0 || blamed(u128::from(min) - 1), "{name} below {min}");
        assert!(blamed(u128::from(max) + 1), "{name} above {max}");
        assert!(blamed(u128::MAX), "{name} beyond every integer");
    }
}

#[test]
fn numbers_are_plain_digits() {
    for text in [
        "-1", "+1", "1_000", "1e3", "0x10", "1.0", "10s", "1 000", "one", "\u{661}",
    ] {
        assert_eq!(given().env("SOCKET_JOB_QUEUE_SIZE", text).problems().len(), 1, "{text}");
    }
    // White space around them is what a shell or an environment file leaves behind.
    assert_eq!(given().env("SOCKET_JOB_QUEUE_SIZE", " 7\n").config().jobs.queue_size, 7);
}

#[test]
fn the_heartbeat_timeout_leaves_room_for_one_lost_heartbeat() {
    let times = |interval: u64, timeout: u64| {
        given().file(&format!(
            "heartbeat_interval_ms = {interval}\nheartbeat_timeout_ms = {timeout}"
        ))
    };
    for (interval, least) in [(10, 21), (100, 210), (10_000, 21_000), (60_000, 121_000)] {
        times(interval, least).config();
        one_problem(
            times(interval, least - 1),
            &format!(
                "c.toml:2:24: heartbeat_timeout_ms: {} ms is too short for a heartbeat_interval_ms of {interval} \
                 (c.toml:1:25); at least {least} ms, so that one lost heartbeat does no harm",
                least - 1
            ),
        );
    }
}

#[test]
fn unknown_keys_are_errors_with_place_and_nearest_name() {
    for (file, expected) in [
        (
            "heartbeatInterval = 5",
            "c.toml:1:1: unknown key `heartbeatInterval`; did you mean `heartbeat_interval_ms`?",
        ),
        (
            "# é\n  'sockt_path' = ''",
            "c.toml:2:3: unknown key `sockt_path`; did you mean `socket_path`?",
        ),
        ("é = 1\nq = 1", "c.toml:2:1: unknown key `q`"),
        (
            "[jobs]\nretry_attempts = 1",
            "c.toml:1:2: unknown table `jobs`: every key stands at the top level, as in `max_connections = 10`",
        ),
        (
            "[[jobs]]\nretry_attempts = 1",
            "c.toml:1:3: unknown table `jobs`: every key stands at the top level, as in `max_connections = 10`",
        ),
        (
            "[max_connections]\nx = 1",
            "c.toml:1:1: max_connections: must be a whole number from 1 to 100000, not a table",
        ),
    ] {
        let problems = given().file(file).problems();
        assert_eq!(problems.last().map(String::as_str), Some(expected), "{file}");
    }
}

#[test]
fn broken_lines_do_not_hide_other_problems() {
    let problems = given()
        .file("backlog = 12x\nlog_level = loud\nport = 1\nport = 2\nmax_connections = 0\n")
        .problems();
    let starts = [
        "c.toml:1:",
        "c.toml:2:",
        "c.toml:4:1: port: duplicate key",
        "c.toml:5:19: max_connections: ",
    ];
    for start in starts {
        let found = problems.iter().filter(|problem| problem.starts_with(start)).count();
        assert_eq!(found, 1, "{start} in {problems:#?}");
    }
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
}

#[test]
fn unknown_variables_of_ours_are_warnings_with_the_nearest_name() {
    let warnings = given()
        .env("SOCKET_HEARTBEAT_INTERVAL_MS", "1")
        .env("SOCKET_DATABASE_URL", "x")
        .env("SOCKET_QQQ", "1")
        .env("CRAWLWIRE_PROFIL", "production")
        .env("SOCKET_EMPTY", "")
        .env("OTHER_SOCKET_PATH", "1")
        .warnings();
    let expected = [
        "CRAWLWIRE_PROFIL: is not a known variable; did you mean `CRAWLWIRE_PROFILE`?",
        "SOCKET_DATABASE_URL: is not a known variable; did you mean `DATABASE_URL`?",
        "SOCKET_HEARTBEAT_INTERVAL_MS: is not a known variable; did you mean `SOCKET_HEARTBEAT_INTERVAL`?",
        "SOCKET_QQQ: is not a known variable",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn names_of_other_programs_are_told_and_not_obeyed() {
    let others = || {
        given()
            .env("MAX_CONNECTIONS", "99")
            .env("LOG_LEVEL", "error")
            .env("NODE_OPTIONS", "--enable-source-maps --max-old-space-size=2048")
    };
    let config = others().config();
    assert_eq!(config.connection.max_connections, 3);
    assert_eq!(config.logging.level, super::super::LogLevel::Debug);
    let expected = [
        "MAX_CONNECTIONS: is ignored; this server reads SOCKET_MAX_CONNECTIONS",
        "LOG_LEVEL: is ignored; this server reads SOCKET_LOG_LEVEL",
        "NODE_OPTIONS: max-old-space-size has no effect; memory is bounded by max_connections, \
         message_buffer_size_bytes and job_queue_size",
    ];
    assert_eq!(others().warnings(), expected);
    assert!(
        given()
            .env("NODE_OPTIONS", "--enable-source-maps")
            .warnings()
            .is_empty()
    );
}

#[test]
fn an_unknown_profile_is_an_error_and_the_rest_is_still_checked() {
    let problems = given().env("NODE_ENV", "staging").env("SOCKET_BACKLOG", "0").problems();
    let expected = [
        "NODE_ENV: profile: must be one of development, production, test, not `staging`",
        "SOCKET_BACKLOG: backlog: must be a whole number from 1 to 65535, not `0`",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn a_listener_is_an_address() {
    for listen in [
        "::1:8080",
        ":8080",
        "localhost:",
        "unix:///x",
        "",
        "crawler.example:80",
        "localhost:70000",
    ] {
        assert_eq!(given().flag("--listen", listen).problems().len(), 1, "{listen}");
    }
    let both = given().flag("--listen", "example.org:http").problems();
    assert_eq!(both.len(), 2, "host and port are told together: {both:?}");
}

#[test]
fn port_is_a_port() {
    for port in ["+3000", "-1", "65536", "3000/tcp", "0x10"] {
        let problems = given().env("PORT", port).problems();
        let expected = format!("PORT: http_addr: the port must be a whole number from 0 to 65535, not `{port}`");
        assert_eq!(problems, [expected]);
    }
}

#[test]
fn the_longest_retry_delay_may_equal_the_first() {
    let times = |longest| given().file(&format!("retry_delay_ms = 500\nmax_retry_delay_ms = {longest}"));
    times(500).config();
    assert_eq!(times(499).problems().len(), 1);
}

#[test]
fn an_http_address_beyond_this_machine_is_told() {
    let warnings = given().env("HTTP_ADDR", "0.0.0.0:8090").warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("HTTP_ADDR: http_addr: 0.0.0.0:8090 can be reached"),
        "{warnings:?}"
    );
    for addr in [
        "8090",
        "host.example:1",
        "localhost",
        "127.0.0.1:70000",
        "http://127.0.0.1:1",
    ] {
        assert_eq!(given().env("HTTP_ADDR", addr).problems().len(), 1, "{addr}");
    }
}

#[test]
fn the_socket_file_is_checked() {
    for mode in [
        "0800",
        "1777",
        "0400",
        "rw-rw----",
        "",
        "0o",
        "+600",
        "00000000000600600",
    ] {
        assert_eq!(
            given().file(&format!("socket_mode = '{mode}'")).problems().len(),
            1,
            "{mode}"
        );
    }
    assert_eq!(
        given()
            .file("socket_mode = '0o660'")
            .config()
            .connection
            .socket_mode
            .bits(),
        0o660
    );
    one_problem(
        given().file("socket_mode = 660"),
        "c.toml:1:15: socket_mode: must be octal permissions from 0200 to 0777 that let the owner write, in quotes, not \
         an integer",
    );
    assert_eq!(
        given().env("SOCKET_MODE", "0666").warnings(),
        ["SOCKET_MODE: socket_mode: 0666 lets every local user connect as a crawler"]
    );
    assert!(
        given().env("SOCKET_MODE", "0604").warnings().is_empty(),
        "reading is not connecting"
    );
    assert_eq!(
        given().env("SOCKET_GROUP", "crawlers").warnings(),
        ["SOCKET_GROUP: socket_group: has no effect: socket_mode 0600 does not let the group write; 0660 does"]
    );
    assert!(
        given()
            .env("SOCKET_GROUP", "crawlers")
            .env("SOCKET_MODE", "0660")
            .warnings()
            .is_empty()
    );

    let fits = if cfg!(target_os = "linux") { 107 } else { 103 };
    given().env("SOCKET_PATH", &"x".repeat(fits)).config();
    assert_eq!(given().env("SOCKET_PATH", &"x".repeat(fits + 1)).problems().len(), 1);
    assert_eq!(given().file("socket_path = \"a\\u0000b\"").problems().len(), 1);
}

#[test]
fn origins_are_scheme_host_and_port() {
    let origins = |text: &str| given().env("SOCKET_ALLOWED_ORIGINS", text).resolve();
    for (text, kept) in [
        ("http://localhost:5173", "http://localhost:5173"),
        ("https://App.Example.com", "https://app.example.com"),
        ("http://x:80/", "http://x"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[::1]", "http://[::1]"),
    ] {
        let (config, _) = origins(text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.http.allowed_origins[0].as_str(), kept, "{text}");
    }
    for text in [
        "*",
        "example.com",
        "ftp://x",
        "https://",
        "https://x/path",
        "https://u@x",
        "https://x:0",
        "https://x:",
        "https://x:99999",
        "https://[::1",
        "https://a b",
        "https://x?q",
        "https://*.example.com",
        "null",
    ] {
        assert!(origins(text).is_err(), "{text}");
    }
    one_problem(
        given().file("allowed_origins = ['https://a.example', 'b', '*']"),
        "c.toml:1:19: allowed_origins: must hold origins such as https://app.example.com, without a path or wildcard; \
         not `b`, `*`",
    );
    assert_eq!(
        given()
            .file("allowed_origins = ['https://a.example', 1]")
            .problems()
            .len(),
        1
    );
    assert_eq!(
        given().file("allowed_origins = 'https://a.example'").problems().len(),
        1
    );
}

#[test]
fn only_a_newline_ends_a_message() {
    assert_eq!(given().file("message_delimiter = ''").problems().len(), 1);
    one_problem(
        given().env("SOCKET_MESSAGE_DELIMITER", "\r\n"),
        "SOCKET_MESSAGE_DELIMITER: message_delimiter: must be a newline, `\\n`, not `\\r\\n`",
    );
    given().env("SOCKET_MESSAGE_DELIMITER", "\n").config();
}

#[test]
fn without_a_home_the_data_directory_must_be_given() {
    one_problem(
        given().env("HOME", ""),
        "default: data_dir: has no default here, because neither XDG_STATE_HOME nor HOME is an absolute path; set it",
    );
    given().env("HOME", "").env("SOCKET_DATA_DIR", "data").config();
    given().env("HOME", "").env("NODE_ENV", "test").config();
}

#[test]
fn settings_that_change_nothing_yet_are_told_once() {
    let warnings = given()
        .env("SOCKET_METRICS_INTERVAL", "1000")
        .file("circuit_breaker_failures = 3")
        .warnings();
    assert_eq!(
        warnings,
        [
            "c.toml:1:28: without effect in this version, which lacks the feature named: \
          circuit_breaker_failures (circuit breakers), metrics_interval_ms (metrics)"
        ]
    );
}

#[test]
fn ages_below_the_interval_of_the_cleanup_are_told() {
    let given = given().env("SOCKET_CLEANUP_INTERVAL", "60000");
    assert_eq!(
        given.env("SOCKET_MAX_JOB_AGE", "1000").warnings(),
        [
            "SOCKET_MAX_JOB_AGE: max_job_age_ms: 1000 ms is below cleanup_interval_ms, which is 60000 \
          (SOCKET_CLEANUP_INTERVAL): what is too old stays until the next look"
        ]
    );
}

#[test]
fn a_server_name_fits_in_one_line() {
    for wrong in ["a\u{7}b", &"x".repeat(201)] {
        let problems = given().env("SOCKET_SERVER_NAME", wrong).problems();
        assert!(problems[0].contains("server_name: must be a name"), "{problems:?}");
    }
    let config = given().env("SOCKET_SERVER_NAME", " one ").config();
    assert_eq!(config.general.server_name.unwrap().as_str(), "one");
}

#[test]
fn control_characters_of_a_value_do_not_reach_the_terminal() {
    let problems = given()
        .env("SOCKET_LOG_LEVEL", "x\u{1b}[2Jy")
        .file("\"a\\u001b\\nb\" = 1")
        .problems();
    assert_eq!(
        problems,
        [
            "c.toml:1:1: unknown key `a\\u{1b}\\nb`",
            "SOCKET_LOG_LEVEL: log_level: must be one of debug, info, warn, error, not `x\\u{1b}[2Jy`",
        ]
    );
    let long = given().env("SOCKET_LOG_LEVEL", &"y".repeat(5000)).problems();
    assert!(long[0].len() < 200, "{long:?}");
}
