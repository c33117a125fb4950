//! The side that is connected to.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
    },
};

use super::{
    files::{self, FileError, Identity, Which},
    provider,
    stream::Stream,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a listener shows of itself, and whom it lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Who it is.
    pub identity: Identity,
    /// Clients must show a certificate from one of these authorities.
    pub client_ca_file: Option<std::path::PathBuf>,
    /// The protocols spoken inside, the preferred one first (ALPN, RFC 7301).
    pub protocols: &'static [&'static [u8]],
}

/// Accepts connections with whatever the files say now.
#[derive(Debug, Clone)]
pub struct Acceptor(watch::Receiver<Arc<ServerConfig>>);

/// Takes up what changes in the files.
#[derive(Debug)]
pub struct Reloads {
    files: ServerFiles,
    now: watch::Sender<Arc<ServerConfig>>,
    /// What was taken up, or refused, last.
    judged: Contents,
    /// What was there at the last look.
    seen: Contents,
}

/// The bytes of each file, as far as it can be read.
type Contents = [Option<Vec<u8>>; 3];

impl ServerFiles {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`FileError`] for the first that is not what it should be.
    pub fn load(self) -> Result<(Acceptor, Reloads), FileError> {
        let contents = self.contents();
        let (now, acceptor) = watch::channel(Arc::new(self.config(&contents)?));
        let reloads = Reloads {
            files: self,
            now,
            judged: contents.clone(),
            seen: contents,
        };
        Ok((Acceptor(acceptor), reloads))
    }

    fn contents(&self) -> Contents {
        let identity = &self.identity;
        [
            std::fs::read(&identity.certificate_file).ok(),
            std::fs::read(&identity.key_file).ok(),
            self.client_ca_file
                .as_ref()
                .and_then(|path| std::fs::read(path).ok()),
        ]
    }

    fn config(&self, contents: &Contents) -> Result<ServerConfig, FileError> {
        let Identity {
            certificate_file,
            key_file,
        } = &self.identity;
        // Read again where it could not be read, for the words of the error.
        let content = |which, path, content: &Option<Vec<u8>>| match content {
            Some(content) => Ok(content.clone()),
            None => files::read(which, path),
        };
        let chain = content(Which::Certificate, certificate_file, &contents[0])?;
        let chain = files::certificates(Which::Certificate, certificate_file, &chain)?;
        let key = content(Which::Key, key_file, &contents[1])?;
        let key = files::private_key(key_file, &key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions");
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = content(Which::Ca, path, &contents[2])?;
                let roots = Arc::new(files::authorities(path, &roots)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|error| FileError::new(Which::Ca, path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let complaint = format!("does not go with {certificate_file:?}: {error}");
            FileError::new(Which::Key, key_file, complaint)
        })?;
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        if self.client_ca_file.is_some() {
            // rustls does not look at the client's certificate again when it resumes a
            // session, so one that has expired meanwhile would still let its client in.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }
}

impl Acceptor {
    /// Agrees on the encryption of a connection. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// The client speaks no TLS, or none that we accept.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let config = self.0.borrow().clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

impl Reloads {
    /// Reads the files and takes them up, whether or not they have changed. Connections
    /// that are open keep what they began with.
    ///
    /// # Errors
    ///
    /// [`FileError`] where they are not good: then those before stay.
    pub async fn now(&mut self) -> Result<(), FileError> {
        let files = self.files.clone();
        if let Ok(found) = tokio::task::spawn_blocking(move || files.contents()).await {
            self.seen.clone_from(&found);
            self.judged = found;
        }
        let config = self.files.config(&self.seen)?;
        self.now.send_replace(Arc::new(config));
        Ok(())
    }

    /// Waits until the files have changed, and takes them up. Connections that
    /// are open keep what they began with.
    ///
    /// # Errors
    ///
    /// [`FileError`] where they are not good now: then those before stay.
    pub async fn next(&mut self) -> Result<(), FileError> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let files = self.files.clone();
            let found = tokio::task::spawn_blocking(move || files.contents()).await;
            let Ok(found) = found else { continue };
            // The same twice: nobody is in the middle of writing them.
            let settled = found == self.seen;
            self.seen = found;
            if settled && self.seen != self.judged {
                self.judged = self.seen.clone();
                let config = self.files.config(&self.seen)?;
                self.now.send_replace(Arc::new(config));
                return Ok(());
            }
        }
    }
}
