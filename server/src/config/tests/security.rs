//! Who may connect, and how much they may hold.

use super::given;

#[track_caller]
fn one_problem(given: super::Given, expected: &str) {
    assert_eq!(given.problems(), [expected]);
}

#[test]
fn what_others_can_reach_needs_tls_and_tokens() {
    for (listen, host) in [
        ("0.0.0.0:8080", "0.0.0.0"),
        ("tcp://192.168.1.7:8080", "192.168.1.7"),
        ("[::]:8080", "::"),
        ("tcp://[2001:db8::1]:1", "2001:db8::1"),
    ] {
        let beyond = || given().flag("--listen", listen);
        let tls = || beyond().file("tls_cert_file = '/c.pem'\ntls_key_file = '/k.pem'");
        let expected = format!(
            "--listen: host: {host} can be reached from other machines, which needs TLS: set tls_cert_file and \
             tls_key_file, or listen on localhost"
        );
        assert_eq!(beyond().problems(), [expected.as_str()]);
        let config = tls().config();
        assert!(config.security.require_tokens);
        let open = format!(
            "SOCKET_REQUIRE_TOKENS: require_tokens: must be true, because host {host} can be reached from other machines"
        );
        assert_eq!(tls().env("SOCKET_REQUIRE_TOKENS", "no").problems(), [open.as_str()]);
        // Both together, beside what else is wrong.
        let all = beyond()
            .env("SOCKET_REQUIRE_TOKENS", "no")
            .env("SOCKET_BACKLOG", "0")
            .problems();
        let backlog = "SOCKET_BACKLOG: backlog: must be a whole number from 1 to 65535, not `0`";
        assert_eq!(all, [backlog, &expected, &open]);
    }
}

#[test]
fn certificate_and_key_come_together() {
    let local = || given().flag("--listen", "localhost:1");
    one_problem(
        local().env("SOCKET_TLS_CERT_FILE", "/c.pem"),
        "SOCKET_TLS_CERT_FILE: tls_cert_file: needs tls_key_file beside it",
    );
    one_problem(
        local().file("tls_key_file = '/k.pem'"),
        "c.toml:1:16: tls_key_file: needs tls_cert_file beside it",
    );
    one_problem(
        local().file("tls_client_ca_file = '/a.pem'"),
        "c.toml:1:22: tls_client_ca_file: needs tls_cert_file and tls_key_file beside it",
    );
    let both = || given().file("tls_cert_file = '/c.pem'\ntls_key_file = '/k.pem'\ntls_client_ca_file = '/a.pem'");
    let config = both().flag("--listen", "localhost:1").config();
    assert!(!config.security.require_tokens);
    assert_eq!(
        both().warnings(),
        ["c.toml:1:17: tls_cert_file: has no effect without a port: there is no TCP listener"]
    );
}

#[test]
fn lists_of_numbers_hold_numbers() {
    assert_eq!(given().config().security.allowed_uids, [0_u32; 0]);
    assert_eq!(
        given().file("allowed_uids = []").config().security.allowed_uids,
        [0_u32; 0]
    );
    let most = given().env("SOCKET_ALLOWED_GIDS", "0, 4294967295,").config();
    assert_eq!(most.security.allowed_gids, [0, u32::MAX]);
    for (value, wrong) in [
        ("crawler", "`crawler`"),
        ("1,-1", "`-1`"),
        ("1;2", "`1;2`"),
        ("4294967296", "`4294967296`"),
    ] {
        let expected =
            format!("SOCKET_ALLOWED_UIDS: allowed_uids: must be a list of numbers such as [1000, 1001]; not {wrong}");
        assert_eq!(given().env("SOCKET_ALLOWED_UIDS", value).problems(), [expected]);
    }
    for text in ["'7'", "['7']", "7", "[1.5]", "[[1]]", "[-1]"] {
        let problems = given().file(&format!("allowed_uids = {text}")).problems();
        assert!(
            problems.len() == 1 && problems[0].contains("must be a list of numbers"),
            "{problems:?}"
        );
    }
}

#[test]
fn what_one_connection_holds_fits_into_what_all_hold() {
    let sizes = |one| {
        given().file(&format!(
            "message_buffer_size_bytes = {one}\nmax_buffered_bytes = 4194304\n"
        ))
    };
    sizes(2_097_152).config();
    one_problem(
        sizes(2_097_153),
        "c.toml:2:22: max_buffered_bytes: 4194304 bytes is below twice the message_buffer_size_bytes, which is 2097153 \
         (c.toml:1:29)",
    );
}
