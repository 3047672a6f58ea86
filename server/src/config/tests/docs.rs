//! The documentation says what the code does: its table comes from the list of settings, its examples are valid.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::super::{Inputs, Preset, Profile, SECTIONS, Setting};
use super::given;

const BEGIN: &str = "<!-- settings: begin. Made from the list of settings; see the note at the end of this page. -->\n";
const END: &str = "<!-- settings: end -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn preset(value: Preset) -> String {
    match value {
        Preset::Fixed("") => "none".to_owned(),
        Preset::Fixed(text) => format!("`{text}`"),
        Preset::Computed(how) => how.to_owned(),
        Preset::Unset => "unset".to_owned(),
    }
}

fn defaults(setting: &Setting) -> String {
    let mut text = preset(setting.default);
    for (profile, value) in setting.profiles {
        write!(text, "; {profile}: {}", preset(*value)).unwrap();
    }
    text
}

fn row(setting: &Setting) -> String {
    let mut names: Vec<String> = setting.env.iter().map(|name| format!("`{name}`")).collect();
    names.extend(setting.flag.map(|flag| format!("`{flag}`")));
    let mut kind = setting.kind.to_owned();
    if setting.range != (0, u64::MAX) {
        write!(kind, ", {} to {}{}", setting.range.0, setting.range.1, setting.unit()).unwrap();
    }
    if setting.secret {
        kind.push_str("; secret");
    }
    let change = if setting.hot { "reload" } else { "restart" };
    let force = match setting.awaits {
        None => "yes".to_owned(),
        Some(feature) => format!("accepted, takes effect with {feature}"),
    };
    let names = names.join("<br>");
    format!(
        "| `{}` | {names} | {kind} | {} | {} | {change} | {force} |\n",
        setting.key,
        defaults(setting),
        setting.doc.trim()
    )
}

fn table() -> String {
    let mut text = String::new();
    for (section, settings) in SECTIONS {
        write!(text, "\n### {section}\n\n").unwrap();
        text.push_str("| key in the file | variable, flag | value | default | meaning | change needs | in force |\n");
        text.push_str("|---|---|---|---|---|---|---|\n");
        settings.iter().for_each(|setting| text.push_str(&row(setting)));
    }
    text.push('\n');
    text
}

#[test]
fn the_table_in_the_documentation_is_current() {
    let path = root().join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page marks where its table begins");
    let (_, after) = rest.split_once(END).expect("the page marks where its table ends");
    let current = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, current).unwrap();
    } else {
        assert!(page == current, "out of date: run this test once with UPDATE_DOCS=1");
    }
}

#[test]
fn names_are_unique_and_every_setting_is_described() {
    let mut keys: Vec<&str> = Setting::all().map(|setting| setting.key).collect();
    let mut names: Vec<&str> = Setting::all().flat_map(|setting| setting.env.iter().copied()).collect();
    for list in [&mut keys, &mut names] {
        let length = list.len();
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), length);
    }
    for setting in Setting::all() {
        assert!(setting.doc.trim().ends_with('.'), "{}", setting.key);
        assert!(
            !setting.doc.contains('|') && !setting.doc.contains('\n'),
            "{} would break the table",
            setting.key
        );
        assert!(!setting.env.is_empty() && !setting.kind.is_empty(), "{}", setting.key);
    }
}

/// The variables that the source documents name, and one for every option of the API reference.
#[test]
fn every_documented_variable_is_known() {
    let known = super::super::env::known_names();
    for name in [
        // Named outright.
        "SOCKET_PATH",
        "SOCKET_HOST",
        "SOCKET_PORT",
        "SOCKET_MAX_CONNECTIONS",
        "SOCKET_LOG_LEVEL",
        "SOCKET_HEARTBEAT_INTERVAL",
        "SOCKET_ENABLE_METRICS",
        "SOCKET_METRICS_INTERVAL",
        "SOCKET_MAX_CONCURRENT_JOBS",
        "SOCKET_CONNECTION_TIMEOUT",
        "SOCKET_QUERY_TIMEOUT",
        "SOCKET_TRANSACTION_TIMEOUT",
        "SOCKET_ALLOWED_ORIGINS",
        "SOCKET_MAX_MESSAGE_SIZE",
        "SOCKET_MESSAGE_BUFFER_SIZE",
        "SOCKET_ENABLE_COMPRESSION",
        "SOCKET_BUFFER_OPTIMIZE",
        "SOCKET_CLEANUP_INTERVAL",
        "SOCKET_MAX_JOB_AGE",
        "SOCKET_MAX_ERROR_LOG_AGE",
        "SOCKET_DATABASE_CONNECTION_POOL",
        "DATABASE_CONNECTION_POOL",
        "DATABASE_URL",
        "NODE_ENV",
        "PORT",
        "MAX_CONNECTIONS",
        "LOG_LEVEL",
        "DEBUG",
        "NODE_OPTIONS",
        // Options whose variable is only implied.
        "SOCKET_BACKLOG",
        "SOCKET_MESSAGE_DELIMITER",
        "SOCKET_HEARTBEAT_TIMEOUT",
        "SOCKET_HEALTH_CHECK_INTERVAL",
        "SOCKET_JOB_QUEUE_SIZE",
        "SOCKET_JOB_TIMEOUT",
        "SOCKET_RETRY_ATTEMPTS",
        "SOCKET_RETRY_DELAY",
    ] {
        assert!(known.contains(&name), "{name}");
    }
}

/// The environment files of the deployment guide (lines 38-87) and the presets of the summary (lines 566-589) work as
/// they stand, the database apart.
#[test]
fn the_environments_of_the_documents_are_valid() {
    for env in [
        "NODE_ENV=development SOCKET_PATH=/tmp/gitlab-crawler-dev.sock SOCKET_LOG_LEVEL=debug SOCKET_MAX_CONNECTIONS=3 \
         SOCKET_HEARTBEAT_INTERVAL=10000 SOCKET_MAX_CONCURRENT_JOBS=2 DATABASE_CONNECTION_POOL=5 \
         SOCKET_ENABLE_METRICS=true SOCKET_METRICS_INTERVAL=30000",
        "NODE_ENV=production SOCKET_LOG_LEVEL=info SOCKET_MAX_CONNECTIONS=10 SOCKET_HEARTBEAT_INTERVAL=60000 \
         SOCKET_MAX_CONCURRENT_JOBS=5 SOCKET_CONNECTION_TIMEOUT=120000 DATABASE_CONNECTION_POOL=20 \
         SOCKET_QUERY_TIMEOUT=30000 SOCKET_TRANSACTION_TIMEOUT=60000 SOCKET_ALLOWED_ORIGINS=https://app.example.com \
         SOCKET_MAX_MESSAGE_SIZE=2097152 SOCKET_ENABLE_METRICS=true SOCKET_METRICS_INTERVAL=60000 \
         SOCKET_CLEANUP_INTERVAL=3600000 SOCKET_MAX_JOB_AGE=604800000 SOCKET_MAX_ERROR_LOG_AGE=2592000000 PORT=3000",
        "SOCKET_MAX_CONNECTIONS=50 DATABASE_CONNECTION_POOL=30 SOCKET_HEARTBEAT_INTERVAL=30000",
        "SOCKET_MAX_CONNECTIONS=5 DATABASE_CONNECTION_POOL=10 SOCKET_HEARTBEAT_INTERVAL=120000",
        "SOCKET_ENABLE_COMPRESSION=true SOCKET_MAX_MESSAGE_SIZE=10485760 SOCKET_MESSAGE_BUFFER_SIZE=131072 \
         SOCKET_BUFFER_OPTIMIZE=true",
    ] {
        let given = env.split_whitespace().fold(given(), |given, pair| {
            let (name, value) = pair.split_once('=').unwrap();
            given.env(name, value)
        });
        given.config();
    }
}

/// As they stand, and with every setting switched on that they show as a comment (`#key = value`, without a space).
#[test]
fn the_example_files_give_their_profiles() {
    for (name, profile) in [
        ("development", Profile::Development),
        ("production", Profile::Production),
        ("test", Profile::Test),
    ] {
        let path = root().join(format!("server/config/{name}.toml"));
        let text = std::fs::read_to_string(&path).unwrap();
        let (example, warnings) = given()
            .file(&text)
            .resolve()
            .unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(example.general.profile, profile);
        assert!(warnings.is_empty(), "{warnings:?}");

        let switched_on = |line: &str| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        };
        let all_on: String = text.lines().map(switched_on).collect();
        let secret = |inputs: &mut Inputs| inputs.read_secret = |_| Ok("postgresql://u:p@localhost/d".to_owned());
        let full = given().file(&all_on).inputs(secret).config();
        let from_file = full.entries().iter().filter(|entry| entry.origin.is_explicit()).count();
        assert!(from_file > 5, "{name} sets hardly anything");
    }
}
