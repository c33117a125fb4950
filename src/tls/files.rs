//! PEM files, and what may be wrong with them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// A certificate with its chain, and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate first, then those that vouch for it.
    pub certificate_file: PathBuf,
    /// The key, not encrypted.
    pub key_file: PathBuf,
}

impl Identity {
    /// The content of both files.
    pub(super) fn pem(&self) -> Result<[Vec<u8>; 2], FileError> {
        let chain = read(Which::Certificate, &self.certificate_file)?;
        Ok([chain, read(Which::Key, &self.key_file)?])
    }

    /// Reads the content of both files.
    pub(super) fn parse(
        &self,
        [chain, key]: &[Vec<u8>; 2],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), FileError> {
        let chain = certificates(Which::Certificate, &self.certificate_file, chain)?;
        Ok((chain, private_key(&self.key_file, key)?))
    }
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Our certificate.
    Certificate,
    /// Its private key.
    Key,
    /// The authorities that we trust.
    Ca,
}

/// A file is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} {complaint}")]
pub struct FileError {
    /// Which of them.
    pub which: Which,
    /// Where it should be.
    pub path: PathBuf,
    /// What is wrong, and the mend. Nothing of the file's content.
    pub complaint: String,
}

impl FileError {
    pub(super) fn new(which: Which, path: &Path, complaint: impl fmt::Display) -> Self {
        Self {
            which,
            path: path.to_owned(),
            complaint: complaint.to_string(),
        }
    }
}

/// Reads a file.
///
/// # Errors
///
/// [`FileError`] where it can't be read.
pub(super) fn read(which: Which, path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|cause| {
        let complaint = format!("can't be read: {cause}; name a file that exists and may be read");
        FileError::new(which, path, complaint)
    })
}

pub(super) fn certificates(
    which: Which,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(FileError::new(
            which,
            path,
            "holds no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----",
        )),
    }
}

pub(super) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        FileError::new(
            Which::Key,
            path,
            "holds no private key in PEM, or an encrypted one; it begins with \
             -----BEGIN PRIVATE KEY-----",
        )
    })
}

pub(super) fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(Which::Ca, path, pem)? {
        roots.add(certificate).map_err(|error| {
            FileError::new(Which::Ca, path, format!("holds a bad certificate: {error}"))
        })?;
    }
    Ok(roots)
}
