//! Who somebody is, by a JSON Web Token (RFC 7519) that their login gave them.
//!
//! A key decides which algorithms are spoken with it, never the token: a token
//! may only choose among those that are both configured and the key's own
//! (RFC 8725, 3.1).

mod check;
mod claims;
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

pub use self::{
    check::check,
    claims::{GrantClaims, Identity},
    jwks::Lookup,
};
use self::{
    claims::Claims,
    jwks::Jwks,
    keys::{Key, Keys},
};
use crate::{metrics::Metrics, secret::Secret, tls::ClientFiles};

/// The longest token in bytes. Longer ones are not looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// How tokens are judged.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose tokens are good.
    pub source: Source,
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// The claim that names the audience, and what it must name; `None`: anything.
    pub audience: Option<(String, String)>,
    /// The claim that is the user id.
    pub user_claim: String,
    /// The claims that grant something.
    pub grant_claims: GrantClaims,
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
    /// Fetched by https.
    Remote(Remote),
}

/// Keys that are fetched.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where they are.
    pub location: Location,
    /// How long they are good without being seen there again.
    pub max_age: Duration,
    /// Whom to trust there.
    pub tls: ClientFiles,
}

/// Where a JSON Web Key Set (RFC 7517) is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// At this URL.
    Jwks(Url),
    /// At the URL that this issuer's configuration names (OpenID Connect Discovery 1.0).
    Oidc(String),
}

impl Source {
    /// The key that is known without asking anybody.
    fn keys(self) -> Keys {
        match self {
            Self::Secret(secret) => Keys::one(Key::from_secret(&secret)),
            Self::PublicKey(PublicKey(key)) => Keys::one(key),
            Self::Remote(_) => Keys::default(),
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
    claims: Claims,
}

#[derive(Debug)]
enum KeySource {
    /// Until [`Tokens::renew`].
    Fixed(RwLock<Keys>),
    Jwks(Jwks),
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
            // By `claims`, which also takes an audience under another name, and no list of
            // issuers.
            validate_aud: false,
            ..Validation::default()
        };
        validation.set_required_spec_claims(&["exp"]);
        let mut fetching: Option<Fetching> = None;
        let keys = match config.source {
            Source::Remote(remote) => {
                let (jwks, task) = Jwks::new(remote, metrics);
                fetching = Some(Box::pin(task));
                KeySource::Jwks(jwks)
            }
            fixed => KeySource::Fixed(RwLock::new(fixed.keys())),
        };
        let tokens = Self(Arc::new(Judge {
            keys,
            algorithms,
            validation,
            claims: Claims {
                issuer: config.issuer,
                audience: config.audience,
                user: config.user_claim,
                grants: config.grant_claims,
                leeway: config.leeway,
            },
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
        if !is_login(header.typ.as_deref()) {
            return Err(TokenError::Invalid(
                "it is a token for another use (typ); send one of type JWT or at+jwt",
            ));
        }
        let key = judge.key(&header).await?;
        let mut validation = judge.validation.clone();
        validation.algorithms = vec![header.alg];
        let claims: Map<String, Value> = decode(token, key.decoding(), &validation)
            .map_err(|error| TokenError::Invalid(in_words(error.kind())))?
            .claims;
        judge.claims.read(&claims)
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
            Lookup::Unknown => Err(TokenError::Invalid(match &self.keys {
                KeySource::Fixed(_) => OTHER_ALGORITHM,
                KeySource::Jwks(_) => UNKNOWN_KEY,
            })),
            Lookup::Ambiguous => Err(TokenError::Invalid(
                "more than one key goes with its key id (kid) and algorithm",
            )),
            Lookup::NoKeys => Err(TokenError::NoKeys),
        }
    }
}

/// Whether a token of this type says who somebody is. One that was signed for another use,
/// such as a logout token, is not taken (RFC 8725, 3.11). RFC 7515, 4.1.9: `application/`
/// may be left out.
fn is_login(typ: Option<&str>) -> bool {
    let Some(typ) = typ else { return true };
    let typ = typ.to_ascii_lowercase();
    let typ = typ.strip_prefix("application/").unwrap_or(&typ);
    ["jwt", "at+jwt"].contains(&typ)
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

/// Why a token is not good whose time is over.
pub const EXPIRED: &str = "it has expired (exp)";
/// Why a token is not good whose key is not in the key set; it may be there a moment later.
pub const UNKNOWN_KEY: &str = "no known key goes with its key id (kid) and algorithm";
/// Why a token is not good whose time has not come.
pub const NOT_YET: &str = "it is not valid yet (nbf)";
/// Why a token is not good that was signed in another way than the one key is for.
const OTHER_ALGORITHM: &str = "its algorithm does not go with the key";

fn in_words(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is not the key's",
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => NOT_YET,
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => {
            "it has no time of expiry (exp), or one that is no number"
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => OTHER_ALGORITHM,
        _ => "it cannot be read",
    }
}
