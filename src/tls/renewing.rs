//! A client's configuration for a library that keeps it: the files behind it are read at
//! each connection, so that renewed certificates need no restart.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use super::{client::ClientFiles, provider};

type Names = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl ClientFiles {
    /// A configuration that reads the files at each connection. A bad file leaves the one before
    /// it in use; where there was none, that connection fails. `names` gives, for the host of a server, the name that its
    /// certificate must bear.
    pub fn renewing(&self, names: Names) -> ClientConfig {
        let shared = Arc::new(Renewing {
            files: self.clone(),
            names,
            provider: provider(),
        });
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .dangerous()
            .with_custom_certificate_verifier(shared.clone())
            .with_client_cert_resolver(shared);
        // A resumed session would not look at the certificates again.
        config.resumption = Resumption::disabled();
        config
    }
}

struct Renewing {
    files: ClientFiles,
    names: Names,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Renewing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let general = |error: &dyn fmt::Display| Error::General(error.to_string());
        let loaded = self.files.loaded().map_err(|error| general(&error))?;
        let roots = loaded.roots();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
                .build()
                .map_err(|error| general(&error))?;
        let name = (self.names)(&server_name.to_str());
        let name = ServerName::try_from(name).map_err(|error| general(&error))?;
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Renewing {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let loaded = self.files.loaded();
        let loaded = loaded
            .inspect_err(|error| tracing::warn!(%error, "no client certificate is shown"))
            .ok()?;
        let key = loaded.key.clone()?;
        key.key.choose_scheme(schemes)?;
        Some(key)
    }

    fn has_certs(&self) -> bool {
        self.files.identity.is_some()
    }
}
