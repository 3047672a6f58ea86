//! `crawlwire token`: makes, shows and takes back what crawlers prove themselves with.
//!
//! Works on the database itself, beside servers that run on it. A token is shown once, when it is made; kept is only its
//! hash.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use crawlwire_persistence::SqlStore;
use crawlwire_progress::store::{Outcome, Rejection};
use crawlwire_progress::view::CrawlerToken;
use crawlwire_progress::{Op, Store, StoreError};
use crawlwire_router::{token_hash, token_text};
use serde_json::{Value, json};

use crate::app::StartError;
use crate::cli::{TokenCommand, TokenRole};
use crate::config::Config;
use crate::http::json;
use crate::parts;

/// Random bytes of a token: as many as its hash has, so that guessing either is equally hopeless.
const SECRET_BYTES: usize = 32;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] StartError),
    /// It does not do what it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was changed.
    #[error("{name}: {reason}")]
    Refused {
        /// The name given.
        name: String,
        /// Why not.
        reason: Rejection,
    },
    /// No randomness, so no secret.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// Nobody reads what it says. Nothing was changed.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// A token was made and nobody has seen it. Its name is used up.
    #[error("{name}: made, but it could not be shown ({error}). {after}; take another name")]
    Unseen {
        /// The name given.
        name: String,
        /// Why it could not be shown.
        error: io::Error,
        /// What became of it.
        after: String,
    },
}

/// Runs `crawlwire token`: what was asked for on `out`, everything else on `err`.
///
/// # Errors
/// See [`TokenError`]. Whatever it is, nothing was changed, but for [`TokenError::Unseen`].
pub async fn run(
    config: &Config,
    command: &TokenCommand,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), TokenError> {
    let store = parts::open_database_beside(config).await?;
    let done = carry_out(&store, command, out, err).await;
    store.close().await;
    done
}

async fn carry_out(
    store: &Arc<SqlStore>,
    command: &TokenCommand,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), TokenError> {
    match command {
        TokenCommand::Create { name, role, json, .. } => {
            let by = whoever();
            let token = create(&**store, name, *role, &by).await?;
            if let Err(error) = show(name, *role, &token, *json, out) {
                return Err(take_back(&**store, name, &by, error).await);
            }
            tell(
                err,
                format_args!("token {name} made, for a {}; it is not shown again", role.as_str()),
            );
        }
        TokenCommand::List { json, .. } => {
            let tokens = store.crawler_tokens().await?;
            if *json {
                let all: Vec<_> = tokens.iter().map(as_json).collect();
                writeln!(out, "{}", Value::from(all))?;
            } else {
                write!(out, "{}", table(&tokens))?;
            }
        }
        TokenCommand::Revoke { name, .. } => {
            revoke(&**store, name, &whoever()).await?;
            tell(
                err,
                format_args!("token {name} revoked; running servers close its connections within a moment"),
            );
        }
    }
    Ok(())
}

fn show(name: &str, role: TokenRole, token: &str, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        writeln!(
            out,
            "{}",
            json!({ "name": name, "role": role.as_str(), "token": token })
        )?;
    } else {
        writeln!(out, "{token}")?;
    }
    out.flush()
}

/// What was done is done, whether or not somebody reads of it.
fn tell(err: &mut dyn Write, what: fmt::Arguments<'_>) {
    let _ = writeln!(err, "{what}");
}

/// A token that nobody has seen shall let nobody in.
async fn take_back(store: &dyn Store, name: &str, by: &str, error: io::Error) -> TokenError {
    let after = match revoke(store, name, by).await {
        Ok(()) => "It is revoked".to_owned(),
        Err(failed) => format!("It could not be revoked either ({failed}): revoke it"),
    };
    TokenError::Unseen {
        name: name.to_owned(),
        error,
        after,
    }
}

/// Makes a token; the text for its bearer.
pub(crate) async fn create(store: &dyn Store, name: &str, role: TokenRole, by: &str) -> Result<String, TokenError> {
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(|error| TokenError::Random(error.to_string()))?;
    let secret = hex(&random);
    let op = Op::CreateToken {
        name: name.to_owned(),
        role: role.as_str().to_owned(),
        hash: token_hash(&secret),
        by: by.to_owned(),
    };
    match commit(store, name, op).await? {
        Outcome::TokenCreated(key) => Ok(token_text(key, &secret)),
        outcome => Err(StoreError::Broken(format!("an unexpected answer: {outcome:?}")).into()),
    }
}

/// Takes a token back.
pub(crate) async fn revoke(store: &dyn Store, name: &str, by: &str) -> Result<(), TokenError> {
    let op = Op::RevokeToken {
        name: name.to_owned(),
        by: by.to_owned(),
    };
    commit(store, name, op).await.map(drop)
}

async fn commit(store: &dyn Store, name: &str, op: Op) -> Result<Outcome, TokenError> {
    match store.commit(op).await?.into_inner() {
        Outcome::Refused(reason) => Err(TokenError::Refused {
            name: name.to_owned(),
            reason,
        }),
        outcome => Ok(outcome),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who is at the keyboard, for the record. The system's word would be better, but whoever can open the database can write
/// there whatever they like.
pub(crate) fn whoever() -> String {
    match std::env::var("USER") {
        Ok(user) if !user.is_empty() && user.len() <= 64 && !user.contains(char::is_control) => format!("cli:{user}"),
        _ => "cli".to_owned(),
    }
}

fn as_json(token: &CrawlerToken) -> Value {
    json!({
        "name": token.name,
        "role": token.role,
        "created_at": json::time(token.created_at),
        "last_used_at": token.last_used_at.map(json::time),
        "revoked_at": token.revoked_at.map(json::time),
    })
}

/// Columns as wide as what is in them, two spaces between; newest first.
fn table(tokens: &[CrawlerToken]) -> String {
    let heading = ["NAME", "ROLE", "CREATED", "LAST USED", "REVOKED"].map(str::to_owned);
    let rows = tokens.iter().map(|token| {
        let or_never = |at: Option<_>| at.map_or_else(|| "-".to_owned(), json::time);
        [
            token.name.clone(),
            token.role.clone(),
            json::time(token.created_at),
            or_never(token.last_used_at),
            or_never(token.revoked_at),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..5).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    });
    lines.collect()
}
