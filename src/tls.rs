//! TLS by rustls, with ring as the one provider of cryptography: who we are,
//! whom we trust, and a stream that may or may not be encrypted.
//!
//! Files are PEM. A server's are looked at every second and taken up when they
//! change; a client's are read at every connection. A bad file leaves the one before it in use.

mod client;
mod files;
mod renewing;
mod server;
mod stream;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use self::{
    client::{CertificateFault, ClientFiles, Connector, Pem, certificate_fault},
    files::{FileError, Identity, Which},
    server::{Acceptor, Reloads, ServerFiles},
    stream::Stream,
};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
