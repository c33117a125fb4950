//! The side that connects.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::ServerName,
        sign::{CertifiedKey, SingleCertAndKey},
    },
};

use super::{
    files::{self, FileError, Identity, Which},
    provider,
    stream::Stream,
};
use crate::last_good::LastGood;

/// Whom to trust, and who to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The only authorities to trust; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// What to show where the server asks for it.
    pub identity: Option<Identity>,
    last_good: LastGood<Arc<Loaded>>,
}

/// The content of the files.
#[derive(Clone)]
pub struct Pem {
    /// The authorities to trust; `None`: those that the system trusts.
    pub authorities: Option<Vec<u8>>,
    /// The certificate and its key.
    pub identity: Option<[Vec<u8>; 2]>,
}

/// What the files hold, and each is good.
pub(super) struct Loaded {
    pem: Pem,
    roots: Option<RootCertStore>,
    pub(super) key: Option<Arc<CertifiedKey>>,
}

/// Connects by TLS.
#[derive(Debug, Clone)]
pub struct Connector(Arc<ClientConfig>);

/// Why a server's certificate was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// It is the certificate of an authority, which may only sign others.
    IsAnAuthority,
    /// No authority that is trusted signed it, it is of another name, or it has expired.
    Other,
}

/// What is wrong with a server's certificate, if the error says that something is.
pub fn certificate_fault(error: &(dyn Error + 'static)) -> Option<CertificateFault> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    match inner.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => {
            // The library has no type of its own for this one.
            let is_an_authority = format!("{fault:?}").contains("CaUsedAsEndEntity");
            Some(match is_an_authority {
                true => CertificateFault::IsAnAuthority,
                false => CertificateFault::Other,
            })
        }
        _ => None,
    }
}

impl ClientFiles {
    /// Those at these paths.
    pub fn new(ca_file: Option<PathBuf>, identity: Option<Identity>) -> Self {
        Self {
            ca_file,
            identity,
            last_good: LastGood::default(),
        }
    }

    /// Whether anything was said about TLS at all.
    pub fn are_given(&self) -> bool {
        *self != Self::default()
    }

    /// Reads the files. Where one is not good, all stay as they were at the last good reading.
    ///
    /// # Errors
    ///
    /// [`FileError`] for the first that is not what it should be, where there was none.
    pub fn load(&self) -> Result<Connector, FileError> {
        self.config().map(|config| Connector(Arc::new(config)))
    }

    /// Reads the files, for connections on which this protocol is spoken, as ALPN names it.
    ///
    /// # Errors
    ///
    /// As [`ClientFiles::load`].
    pub fn load_for(&self, protocol: &[u8]) -> Result<Connector, FileError> {
        let mut config = self.config()?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Connector(Arc::new(config)))
    }

    /// Reads the files, for a client that brings its own connections.
    ///
    /// # Errors
    ///
    /// As [`ClientFiles::load`].
    pub fn config(&self) -> Result<ClientConfig, FileError> {
        let loaded = self.loaded()?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_root_certificates(loaded.roots());
        Ok(match loaded.key.clone() {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        })
    }

    /// Reads the files, for a library that parses them itself.
    ///
    /// # Errors
    ///
    /// As [`ClientFiles::load`].
    pub fn pem(&self) -> Result<Pem, FileError> {
        self.loaded().map(|loaded| loaded.pem.clone())
    }

    /// As [`ClientFiles::load`].
    pub(super) fn loaded(&self) -> Result<Arc<Loaded>, FileError> {
        self.last_good.or_before(self.read().map(Arc::new))
    }

    fn read(&self) -> Result<Loaded, FileError> {
        let ca = self.ca_file.as_deref();
        let authorities = ca.map(|path| files::read(Which::Ca, path)).transpose()?;
        let roots = ca.zip(authorities.as_deref());
        let roots = roots.map(|(path, pem)| files::authorities(path, pem));
        let identity = self.identity.as_ref();
        let pem = Pem {
            authorities,
            identity: identity.map(Identity::pem).transpose()?,
        };
        let key = identity.zip(pem.identity.as_ref());
        let key = key.map(|(identity, pem)| {
            let (chain, key) = identity.parse(pem)?;
            CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
                let certificate = &identity.certificate_file;
                let complaint = format!("does not go with {certificate:?}: {error}");
                FileError::new(Which::Key, &identity.key_file, complaint)
            })
        });
        Ok(Loaded {
            roots: roots.transpose()?,
            key: key.transpose()?.map(Arc::new),
            pem,
        })
    }
}

impl Loaded {
    /// The authorities to trust.
    pub(super) fn roots(&self) -> RootCertStore {
        self.roots.clone().unwrap_or_else(system_roots)
    }
}

impl Connector {
    /// Agrees on the encryption of a connection with the server of this name,
    /// and checks that it is the one. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// It is another, or does not speak TLS.
    pub async fn connect(&self, name: &str, stream: TcpStream) -> io::Result<Stream> {
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.0.clone())
            .connect(name, stream)
            .await?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

/// Read at each use: a system's authorities change, and connections are few.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        tracing::warn!(
            error = errors.join("; "),
            "this system trusts no certificate authority; name one by a ca_file of ours, or all \
             by SSL_CERT_FILE"
        );
    }
    roots
}
