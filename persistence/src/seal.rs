//! Tokens at rest: XChaCha20-Poly1305, a random nonce for each, bound to row and version.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use crawlwire_progress::CredentialKey;
use crawlwire_protocol::AccessToken;
use zeroize::Zeroizing;

use crate::error::OpenError;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The seal cannot be opened: another master key, or the row was changed by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token of credential {0} cannot be unsealed: it was sealed with another master key, or changed")]
pub struct Unsealable(pub CredentialKey);

/// Seals and unseals tokens. Holds the master key.
pub struct Seal(XChaCha20Poly1305);

impl std::fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("Seal(***)")
    }
}

impl Seal {
    /// With this master key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// With the key in a file; a missing one is created when `create` says so, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be read or created, or does not hold exactly 32 bytes.
    pub fn from_file(path: &Path, create: bool) -> Result<Self, OpenError> {
        let failed = |source| OpenError::File {
            path: path.to_owned(),
            source,
        };
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                create_key(path).map_err(failed)?;
                // Another process may have been faster; its key counts.
                fs::read(path)
            }
            read => read,
        };
        let bytes = Zeroizing::new(bytes.map_err(failed)?);
        let key: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| OpenError::Key {
            path: path.to_owned(),
            reason: format!("a master key has {KEY_BYTES} bytes, this file has {}", bytes.len()),
        })?;
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others may read the master key");
        }
        Ok(Self::new(key))
    }

    /// Seals a token for this row and version: nonce and ciphertext, in base64.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn seal(&self, key: CredentialKey, version: i64, token: &AccessToken) -> io::Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload {
            msg: token.expose().as_bytes(),
            aad: &bound_to(key, version),
        };
        let sealed = self
            .0
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| io::Error::other("the token cannot be sealed"))?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The token, if this key sealed it for this row and version.
    pub(crate) fn unseal(&self, key: CredentialKey, version: i64, sealed: &str) -> Result<AccessToken, Unsealable> {
        let opened = || {
            let bytes = STANDARD.decode(sealed).ok()?;
            let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
            let payload = Payload {
                msg: sealed,
                aad: &bound_to(key, version),
            };
            let token = Zeroizing::new(self.0.decrypt(&XNonce::from(*nonce), payload).ok()?);
            Some(AccessToken::new(std::str::from_utf8(&token).ok()?))
        };
        opened().ok_or(Unsealable(key))
    }
}

fn bound_to(key: CredentialKey, version: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.0.to_be_bytes());
    bytes[8..].copy_from_slice(&version.to_be_bytes());
    bytes
}

/// Written beside its place and linked into it: whoever finds the file finds all of it, and the first one wins.
fn create_key(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice())?;
    let draft = path.with_extension(format!("{}.new", uuid::Uuid::now_v7().simple()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let linked = file
        .write_all(key.as_slice())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: CredentialKey = CredentialKey(7);

    #[test]
    fn a_token_opens_only_with_its_key_row_and_version() {
        let seal = Seal::new(&[1; 32]);
        let token = AccessToken::new("glpat-secret");
        let sealed = seal.seal(ROW, 3, &token).unwrap();
        assert_ne!(
            sealed,
            seal.seal(ROW, 3, &token).unwrap(),
            "a nonce is never used twice"
        );
        assert_eq!(seal.unseal(ROW, 3, &sealed).unwrap().expose(), "glpat-secret");
        assert_eq!(seal.unseal(ROW, 4, &sealed).err(), Some(Unsealable(ROW)));
        assert!(seal.unseal(CredentialKey(8), 3, &sealed).is_err());
        assert!(Seal::new(&[2; 32]).unseal(ROW, 3, &sealed).is_err());
        assert!(seal.unseal(ROW, 3, "").is_err());
        assert!(seal.unseal(ROW, 3, &sealed[..sealed.len() - 4]).is_err());
    }

    #[test]
    fn the_key_file_is_made_once_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crawlwire.key");
        assert!(Seal::from_file(&path, false).is_err());
        let sealed = Seal::from_file(&path, true)
            .unwrap()
            .seal(ROW, 1, &AccessToken::new("t"))
            .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Seal::from_file(&path, true).unwrap();
        assert_eq!(again.unseal(ROW, 1, &sealed).unwrap().expose(), "t");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside the key"
        );
        fs::write(&path, "short").unwrap();
        assert!(Seal::from_file(&path, true).is_err());
    }
}
