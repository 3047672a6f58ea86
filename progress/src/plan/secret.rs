//! What a batch knows of tokens. None of it is told by `Debug`.

use std::collections::BTreeMap;

use crawlwire_protocol::AccessToken;

use crate::ids::{AccountKey, CredentialKey, TokenKey};

/// Tokens by account and host. Only compared: one that is submitted again unchanged is no news.
#[derive(Clone, Default)]
pub struct Tokens(pub BTreeMap<(String, String), AccessToken>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{} tokens", self.0.len())
    }
}

/// A token that crawlers may show, to be inserted.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its row.
    pub key: TokenKey,
    /// Its name, unique.
    pub name: String,
    /// What its bearers may do.
    pub role: String,
    /// SHA-256 of the token, in hexadecimal.
    pub hash: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("NewToken")
            .field("key", &self.key)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A token to seal and keep.
#[derive(Clone)]
pub struct CredentialWrite {
    /// Its row.
    pub key: CredentialKey,
    /// Whose.
    pub account: AccountKey,
    /// For which host.
    pub host: String,
    /// 1 for a new row.
    pub version: i64,
    /// The token.
    pub token: AccessToken,
}

impl std::fmt::Debug for CredentialWrite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("CredentialWrite")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
