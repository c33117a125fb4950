//! How a gateway logs in to NATS. Files are read at each connect, so that new
//! credentials hold from the next connect on. A bad file leaves the old ones in use.

use std::path::{Path, PathBuf};

/// What CONNECT carries. It holds secrets and has no `Debug`.
pub(super) use async_nats::Auth as Login;
use nkeys::{KeyPair, KeyPairType};

use crate::{last_good::LastGood, secret::Secret};

/// Credentials for NATS.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// None.
    #[default]
    Anonymous,
    /// A token.
    Token(Secret),
    /// A user and password.
    Password(String, Secret),
    /// A user's JWT and seed (ADR-14), in a file as `nsc` writes it.
    CredentialsFile(PathBuf, LastGood<(String, KeyPair)>),
    /// The seed of a user's nkey, in a file.
    SeedFile(PathBuf, LastGood<KeyPair>),
}

/// A credentials file or a seed file is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {path:?} {complaint}")]
pub struct AuthError {
    /// `credentials_file` or `nkey_seed_file`.
    pub key: &'static str,
    /// Where the file should be.
    pub path: PathBuf,
    /// What is wrong with it, without its content.
    pub complaint: String,
}

impl Auth {
    /// Takes over the secret of `other`, in all clones, for the next connect. Files are read
    /// at each connect anyway. Returns false where `other` is somebody else.
    pub fn renew(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(secret), Self::Token(new)) => secret.replace(new),
            (Self::Password(user, secret), Self::Password(other, new)) if user == other => {
                secret.replace(new);
            }
            (Self::Anonymous, Self::Anonymous)
            | (Self::CredentialsFile(..), Self::CredentialsFile(..))
            | (Self::SeedFile(..), Self::SeedFile(..)) => {}
            _ => return false,
        }
        true
    }

    /// Reads the file, if this names one, as a connect would.
    ///
    /// # Errors
    ///
    /// [`AuthError`] where the file is not what it should be, and was not at an earlier reading.
    pub fn check(&self) -> Result<(), AuthError> {
        self.login(b"").map(drop)
    }

    /// What a server gets that sent this nonce.
    pub(super) fn login(&self, nonce: &[u8]) -> Result<Login, AuthError> {
        let mut login = Login::new();
        match self {
            Self::Anonymous => {}
            Self::Token(token) => login.token = Some(token.expose()),
            Self::Password(user, password) => {
                login.username = Some(user.clone());
                login.password = Some(password.expose());
            }
            Self::CredentialsFile(path, last_good) => {
                let complaint = "is no NATS credentials file; `nsc generate creds` writes one";
                let read = read("credentials_file", path, credentials, complaint);
                let (jwt, key) = last_good.or_before(read)?;
                login.jwt = Some(jwt);
                login.signature = key.sign(nonce).ok();
            }
            Self::SeedFile(path, last_good) => {
                let complaint = "holds no seed of a user's nkey; `nk -gen user` writes one, \
                                 which begins with SU";
                let read = read("nkey_seed_file", path, seed, complaint);
                let key = last_good.or_before(read)?;
                login.nkey = Some(key.public_key());
                login.signature = key.sign(nonce).ok();
            }
        }
        Ok(login)
    }
}

/// What a file holds; `complaint` is for one that holds something else.
fn read<T>(
    key: &'static str,
    path: &Path,
    parse: impl FnOnce(&str) -> Option<T>,
    complaint: &str,
) -> Result<T, AuthError> {
    let unread = |cause| format!("can't be read: {cause}; name a file that exists and may be read");
    let text = std::fs::read_to_string(path).map_err(unread);
    let parsed = text.and_then(|text| parse(&text).ok_or_else(|| complaint.to_owned()));
    parsed.map_err(|complaint| AuthError {
        key,
        path: path.to_owned(),
        complaint,
    })
}

/// The key of a seed file.
fn seed(text: &str) -> Option<KeyPair> {
    let key = KeyPair::from_seed(text.trim()).ok()?;
    // An account's or a server's seed is of no use, and no one's to hold.
    matches!(key.key_pair_type(), KeyPairType::User).then_some(key)
}

/// The JWT and the key of a credentials file.
fn credentials(text: &str) -> Option<(String, KeyPair)> {
    let jwt = section(text, "NATS USER JWT")?.to_owned();
    let key = KeyPair::from_seed(section(text, "USER NKEY SEED")?).ok()?;
    Some((jwt, key))
}

/// The line between `-----BEGIN name-----` and `------END name------`.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {name}-----"))?;
    let (content, _) = rest.split_once("-----")?;
    let content = content.trim().trim_end_matches('-').trim();
    (!content.is_empty() && !content.contains(char::is_whitespace)).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_holds_a_jwt_and_a_key_that_signs() {
        let key = KeyPair::new_user();
        let seed = key.seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.eyJ.sig\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("user.creds");
        let login = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Auth::CredentialsFile(path.clone(), LastGood::default()).login(b"nonce")
        };
        let good = login(&text).expect("credentials");
        assert_eq!(good.jwt.as_deref(), Some("eyJ.eyJ.sig"));
        let signature = good.signature.expect("a signature");
        key.verify(b"nonce", &signature).expect("its own signature");
        for bad in [
            "",
            &text.replace("NKEY", "KEY"),
            &text.replace(&seed, "SUAX"),
            &text.replace("eyJ.eyJ.sig", ""),
        ] {
            let error = login(bad).map(drop).expect_err("no credentials");
            assert!(!error.to_string().contains(&seed), "{error}");
        }
    }

    #[test]
    fn a_seed_file_signs_by_its_key() {
        let key = KeyPair::new_user();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seed");
        let auth = Auth::SeedFile(path.clone(), LastGood::default());
        std::fs::write(&path, key.seed().expect("a seed") + "\n").expect("written");
        let login = auth.login(b"nonce").expect("a seed");
        assert_eq!(login.nkey, Some(key.public_key()));
        key.verify(b"nonce", &login.signature.expect("a signature"))
            .expect("its own signature");
        std::fs::write(&path, "SUX").expect("written");
        let new = Auth::SeedFile(path.clone(), LastGood::default());
        assert!(new.check().is_err());
        let login = auth.clone().login(b"nonce").expect("the seed before");
        assert_eq!(login.nkey, Some(key.public_key()));
    }
}
