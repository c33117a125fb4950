//! Signatures judged by ring, so that there is one provider of cryptography.
//! jsonwebtoken takes any, and brings none of its own here.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::ErrorKind,
    signature,
};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
        RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| {
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        Ok(Box::new(Verifier {
            algorithm: *algorithm,
            key: key.clone(),
        }))
    },
    // For who makes keys and thumbprints of them; nobody does here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the judge, for the whole process.
pub(super) fn install() {
    // Only ever this one, so it does not matter who was first.
    let _ = PROVIDER.install_default();
}

struct Verifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let good = match self.algorithm.family() {
            AlgorithmFamily::Hmac => self.hmac(message, signature),
            AlgorithmFamily::Rsa => self.rsa(message, signature),
            AlgorithmFamily::Ec | AlgorithmFamily::Ed => self.curve(message, signature),
        };
        good.ok_or_else(signature::Error::new)
    }
}

impl Verifier {
    fn hmac(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        let algorithm = match self.algorithm {
            Algorithm::HS256 => hmac::HMAC_SHA256,
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => return None,
        };
        let key = hmac::Key::new(algorithm, self.key.try_get_as_bytes().ok()?);
        // In constant time.
        hmac::verify(&key, message, signature).ok()
    }

    fn rsa(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        let parameters: &'static RsaParameters = match self.algorithm {
            Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
            Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
            _ => return None,
        };
        let verified = match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            DecodingKeyKind::SecretOrDer(der) => {
                UnparsedPublicKey::new(parameters, der).verify(message, signature)
            }
        };
        verified.ok()
    }

    fn curve(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
            Algorithm::EdDSA => &ED25519,
            _ => return None,
        };
        let key = self.key.try_get_as_bytes().ok()?;
        UnparsedPublicKey::new(algorithm, key)
            .verify(message, signature)
            .ok()
    }
}

/// Whether ring can use an RSA key at all: from 2048 to 8192 bits.
pub(super) fn takes_rsa(key: &DecodingKey) -> bool {
    let bits = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            let leading = n.iter().take_while(|byte| **byte == 0).count();
            (n.len() - leading) * 8
        }
        // Its length in DER, less the exponent and the framing.
        DecodingKeyKind::SecretOrDer(der) => der.len().saturating_sub(12) * 8,
    };
    (2048 - 7..=8192 + 128).contains(&bits)
}
