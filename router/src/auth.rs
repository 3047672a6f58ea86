//! Who a peer of the session dialect is.
//!
//! A token is `cwt_<key>_<secret>`: the key finds its row, which keeps the SHA-256 of the secret alone. A secret has as much
//! chance in it as its hash, so that a plain hash is enough.

use crawlwire_progress::view::CrawlerToken;
use crawlwire_progress::{Op, StoreError, TokenKey};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::Role;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::code;
use crate::peer::Origin;
use crate::shared::{Shared, wall_clock};

/// What a token begins with, so that people and scanners for secrets know it when they see one.
const PREFIX: &str = "cwt_";

/// Between two notes of when a token was last shown, in seconds.
const USED_EVERY_SECONDS: u64 = 60;

/// Somebody who proved who they are, as far as that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) name: String,
    pub(crate) token: Option<TokenKey>,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// No token where one is asked for.
    #[error("a token is required here")]
    Required,
    /// The token came in the clear from another machine; whoever listened has it by now.
    #[error("a token is not taken over an unencrypted connection from another machine")]
    InTheClear,
    /// No such token, or it was taken back: nobody is told which.
    #[error("the token is not valid")]
    Invalid,
    /// The token is not for this role.
    #[error("the token is not for this role")]
    Role,
    /// Nobody can tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Denied {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Required | Self::InTheClear => code::AUTHENTICATION_REQUIRED,
            Self::Invalid => code::INVALID_TOKEN,
            Self::Role => code::FORBIDDEN_ROLE,
            Self::Store(_) => code::DATABASE_UNAVAILABLE,
        }
    }
}

/// The text of a token, as it is shown to whoever gets it: once.
pub fn token_text(key: TokenKey, secret: &str) -> String {
    format!("{PREFIX}{key}_{secret}")
}

/// What is kept of a token's secret: its SHA-256 in hexadecimal.
pub fn token_hash(secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The two parts of a token's text.
fn parts(text: &str) -> Option<(TokenKey, &str)> {
    let (key, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    Some((TokenKey(key.parse().ok()?), secret))
}

/// Finds out who a peer is. Any token that is shown has to be good, also where none is asked for.
pub(crate) async fn authenticate(
    shared: &Shared,
    origin: Origin,
    token: Option<&AccessToken>,
    role: Role,
) -> Result<Principal, Denied> {
    let name = match (origin, token) {
        (Origin::Tcp { tls: false }, Some(_)) => return Err(Denied::InTheClear),
        (_, Some(token)) => {
            let known = verify(shared, token).await?;
            if Role::named(&known.role).is_none_or(|known| known != Role::Crawler && known != role) {
                return Err(Denied::Role);
            }
            return Ok(Principal {
                name: format!("token:{}", known.key),
                token: Some(known.key),
            });
        }
        (Origin::Tcp { .. }, None) if shared.config.hello.tokens_required => return Err(Denied::Required),
        (Origin::Tcp { .. }, None) => "anonymous".to_owned(),
        (Origin::Unix { uid, .. }, None) => format!("unix:{uid}"),
        (Origin::TcpLoopback | Origin::Memory, None) => "local".to_owned(),
    };
    Ok(Principal { name, token: None })
}

async fn verify(shared: &Shared, token: &AccessToken) -> Result<CrawlerToken, Denied> {
    let Some((key, secret)) = parts(token.expose()) else {
        return Err(Denied::Invalid);
    };
    let known = shared.store.crawler_token(key).await?;
    // Also compared where there is no such token, so that time tells nothing.
    let expected = known.as_ref().map_or_else(String::new, |known| known.hash.clone());
    let given = token_hash(secret);
    let expected = if expected.len() == given.len() {
        expected
    } else {
        "-".repeat(given.len())
    };
    let same = bool::from(given.as_bytes().ct_eq(expected.as_bytes()));
    match known {
        Some(known) if same && known.revoked_at.is_none() => {
            note_used(shared, &known).await;
            Ok(known)
        }
        _ => Err(Denied::Invalid),
    }
}

/// Remembers that a token was shown, now and then.
async fn note_used(shared: &Shared, token: &CrawlerToken) {
    let lately = |at| wall_clock().since(at).as_secs() < USED_EVERY_SECONDS;
    if !token.last_used_at.is_some_and(lately) {
        // Nobody waits for it, and nothing depends on it.
        drop(shared.store.enqueue(Op::TokenUsed(token.key)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_its_row_and_its_hash() {
        let text = token_text(TokenKey(17), "ab_c-1");
        assert_eq!(text, "cwt_17_ab_c-1");
        assert_eq!(parts(&text), Some((TokenKey(17), "ab_c-1")));
        for text in [
            "",
            "cwt_",
            "cwt_x_secret",
            "17_secret",
            "cwt_17",
            "cwt_99999999999999999999_x",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
        // The well-known digest of nothing.
        assert!(token_hash("").starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
        assert_eq!(token_hash("x").len(), 64);
    }
}
