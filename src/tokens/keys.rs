//! Keys, and which of them may have signed a token.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

use super::{jwks::Lookup, ring};
use crate::secret::Secret;

/// Keys of one set that are looked at.
const MAX_KEYS: usize = 100;
/// How long an ECDSA key is, by its curve (SEC 1, uncompressed).
const P256_POINT: usize = 65;
const P384_POINT: usize = 97;

/// A key, and what is spoken with it.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    decoding: DecodingKey,
    /// Those that are spoken where none is configured.
    usual: Vec<Algorithm>,
    /// Those that can be.
    possible: Vec<Algorithm>,
}

impl Key {
    pub(super) fn from_secret(secret: &Secret) -> Self {
        Self {
            id: None,
            decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
            usual: vec![Algorithm::HS256],
            possible: AlgorithmFamily::Hmac.algorithms().to_vec(),
        }
    }

    /// `None` if it is no key that can be used.
    pub(super) fn from_pem(pem: &[u8]) -> Option<Self> {
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem));
        Self::new(None, key.ok()?)
    }

    /// `None` if it is not for signatures that can be checked here. A symmetric
    /// key in a public set is nobody's secret.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = match (&common.public_key_use, &common.key_operations) {
            (Some(PublicKeyUse::Signature), _) | (None, None) => true,
            (None, Some(operations)) => operations.contains(&KeyOperations::Verify),
            _ => false,
        };
        let on_curve = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => true,
            AlgorithmParameters::EllipticCurve(key) => {
                matches!(key.curve, EllipticCurve::P256 | EllipticCurve::P384)
            }
            AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
            _ => false,
        };
        if !signs || !on_curve {
            return None;
        }
        let mut decoding = DecodingKey::from_jwk(jwk).ok()?;
        if let DecodingKeyKind::RsaModulusExponent { n, e } = decoding.kind() {
            // ring takes no zeros in front, which some libraries write.
            let zeros = n.iter().take_while(|byte| **byte == 0).count();
            decoding = DecodingKey::from_rsa_raw_components(&n[zeros..], e);
        }
        let mut key = Self::new(common.key_id.clone(), decoding)?;
        if let Some(named) = common.key_algorithm {
            let named: Algorithm = named.to_string().parse().ok()?;
            key.usual = vec![named];
            key.possible.retain(|possible| *possible == named);
        }
        Some(key)
    }

    fn new(id: Option<String>, decoding: DecodingKey) -> Option<Self> {
        let family = decoding.family();
        let length = decoding.try_get_as_bytes().map_or(0, <[u8]>::len);
        let (usual, possible) = match (family, length) {
            (AlgorithmFamily::Rsa, _) if ring::takes_rsa(&decoding) => {
                (Algorithm::RS256, family.algorithms().to_vec())
            }
            (AlgorithmFamily::Ec, P256_POINT) => (Algorithm::ES256, vec![Algorithm::ES256]),
            (AlgorithmFamily::Ec, P384_POINT) => (Algorithm::ES384, vec![Algorithm::ES384]),
            (AlgorithmFamily::Ed, 32) => (Algorithm::EdDSA, vec![Algorithm::EdDSA]),
            _ => return None,
        };
        Some(Self {
            id,
            decoding,
            usual: vec![usual],
            possible,
        })
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// What is spoken with it where these are `configured`; none is what is usual.
    pub(super) fn algorithms(&self, configured: &[Algorithm]) -> Vec<Algorithm> {
        let mut spoken = self.possible.clone();
        match configured {
            [] => spoken.retain(|algorithm| self.usual.contains(algorithm)),
            _ => spoken.retain(|algorithm| configured.contains(algorithm)),
        }
        spoken
    }
}

/// The keys of one issuer.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    pub(super) fn one(key: Key) -> Self {
        Self(vec![key])
    }

    /// Reads a JSON Web Key Set; keys that are not for us are left out (RFC 7517,
    /// 5). `None` if it is no such set.
    pub(super) fn from_jwks(json: &[u8]) -> Option<Self> {
        let set: Set = serde_json::from_slice(json).ok()?;
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let keys = keys
            .filter_map(|key| serde_json::from_value(key).ok())
            .filter_map(|jwk| Key::from_jwk(&jwk));
        Some(Self(keys.collect()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key that a token names by its id, or, where it names none, the only
    /// one that speaks its algorithm.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        configured: &[Algorithm],
    ) -> Lookup {
        let mut speaking = self.0.iter().filter(|key| {
            let named = id.is_none() || key.id.as_deref() == id;
            named && key.algorithms(configured).contains(&algorithm)
        });
        match (speaking.next(), speaking.next()) {
            (Some(key), None) => Lookup::Found(Box::new(key.clone())),
            (Some(_), Some(_)) => Lookup::Ambiguous,
            (None, _) => Lookup::Unknown,
        }
    }
}
