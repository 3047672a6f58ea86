//! A password never shows, however it comes in and whatever is wrong around it.

use std::io;

use super::super::Inputs;
use super::given;

const PASSWORD: &str = "hunter2-s3cret";

#[track_caller]
fn hidden(text: &str) {
    assert!(!text.contains("hunter2") && !text.contains("s3cret"), "{text}");
}

#[test]
fn every_output_masks_the_password() {
    for url in [
        format!("postgresql://user:{PASSWORD}@host:5432/db"),
        format!("postgres://user:{PASSWORD}@[::1]/db?sslmode=require"),
        format!("postgres://host/db?user=u&password={PASSWORD}&sslmode=require"),
        format!("postgres://host:5432/db?sslmode=require&password={PASSWORD}@x"),
        format!("postgres://host/db?options=-c%20a:b&password={PASSWORD}:y@x"),
        format!("postgres://user:a/{PASSWORD}?b#c@host/db"),
        format!("postgres://user:a@{PASSWORD}@host/db"),
        format!("postgres://user:{PASSWORD}:x@host/db"),
        format!("postgres://host/db?{PASSWORD}"),
        format!("postgres://:{PASSWORD}@host/db"),
        format!("sqlite:///d/x.db?key={PASSWORD}"),
    ] {
        let config = given().env("DATABASE_URL", &url).config();
        assert_eq!(config.database.url.expose(), url);
        for output in [
            config.to_string(),
            format!("{config:?}"),
            format!("{config:#?}"),
            format!("{:?}", config.entries()),
            format!("{:?} {}", config.database.url, config.database.url),
        ] {
            hidden(&output);
            assert!(output.contains("***"), "{url}: {output}");
        }
    }
}

#[test]
fn what_is_not_secret_stays_readable() {
    for (url, masked) in [
        (
            "postgresql://user:pw@host:5432/db?sslmode=require",
            "postgresql://user:***@host:5432/db?sslmode=require",
        ),
        (
            "postgresql://user@host/db?password=x",
            "postgresql://user@host/db?password=***",
        ),
        ("postgresql:///db?host=/run/pg", "postgresql:///db?host=/run/pg"),
        ("sqlite:///d/x.db?mode=rwc", "sqlite:///d/x.db?mode=rwc"),
        ("sqlite::memory:", "sqlite::memory:"),
    ] {
        assert_eq!(
            given().env("DATABASE_URL", url).config().database.url.to_string(),
            masked
        );
    }
}

#[test]
fn a_wrong_url_is_not_repeated() {
    for url in [
        format!("mysql://user:{PASSWORD}@host/db"),
        PASSWORD.to_owned(),
        format!("postgres://user:{PASSWORD}"),
        format!("postgres://user:{PASSWORD}/db"),
        format!("postgres://user:{PASSWORD}\n@host/db"),
        format!("postgres://user:{PASSWORD}{}@host/db", "x".repeat(5000)),
        "postgres://".to_owned(),
        "sqlite:".to_owned(),
    ] {
        let toml = format!("database_url = {}", serde_json::Value::from(url.as_str()));
        for given in [
            given().env("DATABASE_URL", &url),
            given().flag("--database-url", &url),
            given().file(&toml),
        ] {
            let errors = given.resolve().unwrap_err();
            assert_eq!(errors.problems.len(), 1, "{errors}");
            hidden(&format!("{errors} {errors:?}"));
        }
    }
}

#[test]
fn a_broken_line_of_the_file_is_not_repeated() {
    for line in [
        format!("database_url = postgres://user:{PASSWORD}@host/db"),
        format!("database_url = \"postgres://user:{PASSWORD}@host/db"),
        format!("database_url = 'x' {PASSWORD}"),
        format!("database_url = ['{PASSWORD}']"),
        format!("database_url = \"{PASSWORD}\\q\""),
    ] {
        let errors = given().file(&line).resolve().unwrap_err();
        assert!(
            errors
                .problems
                .iter()
                .any(|problem| problem.key == Some("database_url")),
            "{errors}"
        );
        hidden(&format!("{errors} {errors:?}"));
    }
}

#[test]
fn inputs_show_names_only() {
    let inputs = Inputs {
        flags: [("--database-url", PASSWORD.to_owned())].into(),
        env: [("DATABASE_URL".to_owned(), PASSWORD.to_owned())].into(),
        file: Some(("c.toml".into(), PASSWORD.to_owned())),
        ..Inputs::default()
    };
    let shown = format!("{inputs:?}");
    hidden(&shown);
    assert!(shown.contains("DATABASE_URL") && shown.contains("c.toml"), "{shown}");
}

fn from_file(given: super::Given, read: fn(&std::path::Path) -> io::Result<String>) -> super::Given {
    given
        .env("DATABASE_URL_FILE", "/run/secrets/db")
        .inputs(|inputs| inputs.read_secret = read)
}

#[test]
fn the_url_can_be_read_from_a_file() {
    let read = |path: &std::path::Path| {
        assert_eq!(path, std::path::Path::new("/run/secrets/db"));
        Ok(format!(" postgres://u:{PASSWORD}@h/d\n"))
    };
    let config = from_file(given(), read).config();
    assert_eq!(config.database.url.expose(), format!("postgres://u:{PASSWORD}@h/d"));
    hidden(&format!("{config} {config:?}"));
    assert!(
        config
            .to_string()
            .contains("# database_url = \"postgres://u:***@h/d\"  # DATABASE_URL_FILE\n"),
        "{config}"
    );

    // A layer above the one that names the file wins, one below it loses.
    let above = from_file(given(), read)
        .flag("--database-url", "sqlite:/above")
        .config();
    assert_eq!(above.database.url.expose(), "sqlite:/above");
    let below = from_file(given(), read).file("database_url = 'sqlite:/below'").config();
    assert_eq!(below.database.url.expose(), format!("postgres://u:{PASSWORD}@h/d"));
}

#[test]
fn a_bad_secret_file_is_one_problem() {
    let start = "DATABASE_URL_FILE: database_url_file: ";
    for (given, rest) in [
        (
            from_file(given(), |_| Err(io::ErrorKind::NotFound.into())),
            "cannot read /run/secrets/db: entity not found",
        ),
        (
            from_file(given(), |_| Ok(PASSWORD.to_owned())),
            "what /run/secrets/db holds must be a URL that begins with sqlite:, postgres:// or postgresql://",
        ),
        (
            from_file(given(), |_| Ok("sqlite::memory:".to_owned())).env("DATABASE_URL", "sqlite::memory:"),
            "give either this or database_url, not both in one place (DATABASE_URL)",
        ),
    ] {
        assert_eq!(given.problems(), [format!("{start}{rest}")]);
    }
}

#[test]
fn secret_files_are_read_up_to_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("url");
    let read = || {
        given()
            .env("DATABASE_URL_FILE", path.to_str().unwrap())
            .resolve()
            .map(|(config, _)| config.database.url.expose().len())
    };
    std::fs::write(&path, "sqlite::memory:\n").unwrap();
    assert_eq!(read().unwrap(), "sqlite::memory:".len());
    std::fs::write(&path, format!("sqlite::memory:{}", " ".repeat(20_000))).unwrap();
    assert!(read().unwrap_err().to_string().contains("larger than 16384 bytes"));
    std::fs::write(&path, [0xff]).unwrap();
    assert!(read().is_err());
}
