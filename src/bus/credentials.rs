//! A NATS credentials file: a user's JWT, and the seed that proves that we are
//! that user (NATS ADR-14 describes the JWT).

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;

/// What a server is shown, once for each nonce. No `Debug`: it holds the seed.
pub struct Credentials {
    pub(super) jwt: String,
    key: KeyPair,
}

impl Credentials {
    /// Reads the file, as `nsc` writes it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without its content.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|cause| {
            format!("can't be read: {cause}; name a file that exists and may be read")
        })?;
        Self::parse(&text).ok_or_else(|| {
            "is no NATS credentials file; `nsc generate creds` writes one".to_owned()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let jwt = section(text, "NATS USER JWT")?.to_owned();
        let key = KeyPair::from_seed(section(text, "USER NKEY SEED")?).ok()?;
        Some(Self { jwt, key })
    }

    /// The signature of the server's nonce, as CONNECT carries it.
    pub(super) fn sign(&self, nonce: &str) -> Option<String> {
        let signature = self.key.sign(nonce.as_bytes()).ok()?;
        Some(URL_SAFE_NO_PAD.encode(signature))
    }
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
    fn a_file_holds_both_and_signs() {
        let key = KeyPair::new_user();
        let seed = key.seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.eyJ.sig\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        );
        let credentials = Credentials::parse(&text).expect("credentials");
        assert_eq!(credentials.jwt, "eyJ.eyJ.sig");
        let signature = credentials.sign("nonce").expect("a signature");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        key.verify(b"nonce", &signature).expect("its own signature");
        for bad in [
            "",
            &text.replace("NKEY", "KEY"),
            &text.replace(&seed, "SUAX"),
            &text.replace("eyJ.eyJ.sig", ""),
        ] {
            assert!(Credentials::parse(bad).is_none(), "{bad}");
        }
    }
}
