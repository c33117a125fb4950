//! Who somebody is, by a JSON Web Token (RFC 7519) that their login gave them.
//!
//! A key decides which algorithms are spoken with it, never the token: a token
//! may only choose among those that are both configured and the key's own
//! (RFC 8725, 3.1).

mod fetch;
mod jwks;
mod keys;
mod ring;

use std::{
    path::Path,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};
use url::Url;

pub use self::jwks::Lookup;
use self::{
    jwks::Jwks,
    keys::{Key, Keys},
};
use crate::{
    metrics::Metrics,
    secret::Secret,
    user::{USER_ID_RULE, UserId},
};

/// Longer ones are not looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// How tokens are judged.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose tokens are good.
    pub source: Source,
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must name this.
    pub audience: Option<String>,
    /// The claim that is the user id.
    pub user_claim: String,
    /// As RFC 7518 names them; empty for what goes with the key.
    pub algorithms: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// Where the keys are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Known to both sides.
    Secret(Secret),
    /// One that was read from a file.
    PublicKey(PublicKey),
    /// A JSON Web Key Set (RFC 7517) at an https URL, and how long its keys are
    /// good without being seen there again.
    Jwks(Url, Duration),
}

impl Source {
    /// The key that is known without asking anybody.
    fn keys(self) -> Keys {
        match self {
            Self::Secret(secret) => Keys::one(Key::from_secret(&secret)),
            Self::PublicKey(PublicKey(key)) => Keys::one(key),
            Self::Jwks(..) => Keys::default(),
        }
    }
}

/// A public key, and what is spoken with it.
#[derive(Debug, Clone)]
pub struct PublicKey(Key);

impl PublicKey {
    /// Reads an RSA, ECDSA or Ed25519 key in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and the mend.
    pub fn read(path: &Path) -> Result<Self, String> {
        let pem = std::fs::read(path).map_err(|cause| {
            format!("can't be read: {cause}; name a file that exists and may be read")
        })?;
        if String::from_utf8_lossy(&pem).contains("PRIVATE KEY") {
            return Err(
                "holds a private key, which belongs to who signs; give the public one".to_owned(),
            );
        }
        Key::from_pem(&pem).map(Self).ok_or_else(|| {
            "holds no public key in PEM of RSA (2048 bits or more), ECDSA (P-256, P-384) or \
             Ed25519; it begins with -----BEGIN PUBLIC KEY-----"
                .to_owned()
        })
    }

    /// Whether any of these algorithms is spoken with it; none named is any.
    pub fn speaks(&self, algorithms: &[String]) -> bool {
        !self.0.algorithms(&parsed(algorithms)).is_empty()
    }
}

/// Judges tokens.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Judge>);

#[derive(Debug)]
struct Judge {
    keys: KeySource,
    algorithms: Vec<Algorithm>,
    validation: Validation,
    user_claim: String,
    leeway: Duration,
}

#[derive(Debug)]
enum KeySource {
    /// Until [`Tokens::renew`].
    Fixed(RwLock<Keys>),
    Jwks(Jwks),
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub user: UserId,
    /// When the token expires, in Unix seconds; where its own time has just passed,
    /// when the leeway has too.
    pub expires_at: u64,
}

/// A token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not good; says why, as far as that helps its owner and nobody else.
    #[error("{0}")]
    Invalid(&'static str),
    /// The keys can't be had.
    #[error("the keys that tokens are signed with cannot be fetched now")]
    NoKeys,
}

/// Fetches keys. Where it ends, tokens are judged by keys that grow old.
pub type Fetching = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Tokens {
    /// Also returns what has to be polled for as long as the process lives, where the keys
    /// are elsewhere.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> (Self, Option<Fetching>) {
        ring::install();
        let algorithms = parsed(&config.algorithms);
        let mut validation = Validation {
            leeway: config.leeway.as_secs(),
            validate_nbf: true,
            validate_aud: config.audience.is_some(),
            ..Validation::default()
        };
        let mut required = vec!["exp"];
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        let mut fetching: Option<Fetching> = None;
        let keys = match config.source {
            Source::Jwks(url, max_age) => {
                let (jwks, task) = Jwks::new(url, max_age, metrics);
                fetching = Some(Box::pin(task));
                KeySource::Jwks(jwks)
            }
            fixed => KeySource::Fixed(RwLock::new(fixed.keys())),
        };
        let tokens = Self(Arc::new(Judge {
            keys,
            algorithms,
            validation,
            user_claim: config.user_claim,
            leeway: config.leeway,
        }));
        (tokens, fetching)
    }

    /// Judges by this key from now on. Keys of a URL are fetched anyway.
    pub fn renew(&self, source: Source) {
        if let KeySource::Fixed(keys) = &self.0.keys {
            *keys.write().unwrap_or_else(PoisonError::into_inner) = source.keys();
        }
    }

    /// Checks a token's signature, times, issuer and audience.
    ///
    /// # Errors
    ///
    /// [`TokenError`] says why it proves nothing.
    pub async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let judge = &*self.0;
        let rubbish = TokenError::Invalid(
            "it is no JSON Web Token, or says an algorithm that is not supported",
        );
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid("it is too long"));
        }
        let header = decode_header(token).map_err(|_| rubbish)?;
        if header.crit.is_some() {
            return Err(TokenError::Invalid(
                "it demands an extension (crit) that is not supported",
            ));
        }
        let key = judge.key(&header).await?;
        let mut validation = judge.validation.clone();
        validation.algorithms = vec![header.alg];
        let claims: Map<String, Value> = decode(token, key.decoding(), &validation)
            .map_err(|error| TokenError::Invalid(in_words(error.kind())))?
            .claims;
        judge.identity(&claims)
    }
}

impl Judge {
    /// The one key that may have signed a token with such a header.
    async fn key(&self, header: &Header) -> Result<Key, TokenError> {
        let found = match &self.keys {
            // What a single key is called is its issuer's business.
            KeySource::Fixed(keys) => {
                let keys = keys.read().unwrap_or_else(PoisonError::into_inner);
                keys.find(None, header.alg, &self.algorithms)
            }
            KeySource::Jwks(jwks) => {
                let kid = header.kid.as_deref();
                jwks.find(kid, header.alg, &self.algorithms).await
            }
        };
        match found {
            Lookup::Found(key) => Ok(*key),
            Lookup::Unknown => Err(TokenError::Invalid(
                "no known key goes with its key id (kid) and algorithm",
            )),
            Lookup::Ambiguous => Err(TokenError::Invalid(
                "more than one key goes with its key id (kid) and algorithm",
            )),
            Lookup::NoKeys => Err(TokenError::NoKeys),
        }
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        let user = match claims.get(&self.user_claim) {
            Some(Value::String(user)) => user.clone(),
            // Many number their users.
            Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
            _ => {
                return Err(TokenError::Invalid(
                    "it has no claim tickets.jwt.user_claim that is a text or a whole number",
                ));
            }
        };
        let user = UserId::parse(&user).map_err(|_| TokenError::Invalid(USER_ID_RULE))?;
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0);
        // From a float it never wraps. Nobody's clock goes further than the year 9999.
        let expires = (expires as u64).min(253_402_300_799);
        let now = jsonwebtoken::get_current_timestamp();
        Ok(Identity {
            user,
            expires_at: match expires > now {
                true => expires,
                false => expires + self.leeway.as_secs(),
            },
        })
    }
}

/// Names that the configuration has checked.
fn parsed(algorithms: &[String]) -> Vec<Algorithm> {
    let parse = |name: &String| name.parse().ok();
    algorithms.iter().filter_map(parse).collect()
}

/// Whether a name is that of an algorithm, and whether that is symmetric.
pub fn is_symmetric(algorithm: &str) -> Option<bool> {
    let algorithm: Algorithm = algorithm.parse().ok()?;
    Some(algorithm.family() == jsonwebtoken::AlgorithmFamily::Hmac)
}

fn in_words(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is not the key's",
        ErrorKind::ExpiredSignature => "it has expired (exp)",
        ErrorKind::ImmatureSignature => "it is not valid yet (nbf)",
        ErrorKind::InvalidIssuer => "its issuer (iss) is not tickets.jwt.issuer",
        ErrorKind::InvalidAudience => "its audience (aud) does not include tickets.jwt.audience",
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => {
            "it has no time of expiry (exp), or one that is no number"
        }
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => "it has no issuer (iss)",
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => "it has no audience (aud)",
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            "its algorithm does not go with the key"
        }
        _ => "it cannot be read",
    }
}
