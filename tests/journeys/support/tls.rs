//! A throw-away certificate authority, and ends of TLS for clients and servers
//! that speak none.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::Builder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use usher::tls::{Acceptor, ClientFiles, Identity, ServerFiles};

/// An authority that nobody but a test trusts.
pub(crate) struct Ca {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    issued: AtomicUsize,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self {
            folder,
            issuer,
            issued: AtomicUsize::new(0),
        }
    }

    /// Where its own certificate is.
    pub(crate) fn file(&self) -> String {
        self.path("ca.pem")
    }

    /// A certificate for localhost and 127.0.0.1.
    pub(crate) fn issue(&self) -> Identity {
        self.issue_with(|_| {})
    }

    /// The same, that expires so long from now.
    pub(crate) fn issue_for(&self, life: Duration) -> Identity {
        self.issue_with(|params| params.not_after = (SystemTime::now() + life).into())
    }

    fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        // With the authority's own name OpenSSL takes it for a certificate that vouches for
        // itself.
        let name = format!("certificate {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let identity = Identity {
            certificate_file: self.path(&format!("{number}.pem")).into(),
            key_file: self.path(&format!("{number}.key")).into(),
        };
        fs::write(&identity.certificate_file, certificate.pem()).expect("a file");
        fs::write(&identity.key_file, key.serialize_pem()).expect("a file");
        identity
    }

    /// Clients that trust it.
    pub(crate) fn client(&self, identity: Option<Identity>) -> ClientFiles {
        ClientFiles::new(Some(self.file().into()), identity)
    }

    /// Servers that show a certificate of it; `mutual`: and want to see one.
    pub(crate) fn acceptor(&self, mutual: bool) -> Acceptor {
        let files = ServerFiles {
            identity: self.issue(),
            client_ca_file: mutual.then(|| PathBuf::from(self.file())),
            protocols: &[b"http/1.1"],
        };
        files.load().expect("good files").0
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// A gateway's certificate, in a section of its configuration.
pub(crate) trait Tls {
    fn identity(self, section: &str, identity: &Identity) -> Self;
}

impl Tls for Builder {
    fn identity(self, section: &str, identity: &Identity) -> Self {
        let path = |path: &std::path::Path| path.display().to_string();
        self.set(
            &format!("{section}.certificate_file"),
            path(&identity.certificate_file),
        )
        .set(&format!("{section}.key_file"), path(&identity.key_file))
    }
}

/// Takes plain connections, and carries each on by TLS. A connection that does
/// not get through is closed.
pub(crate) async fn tunnel(to: &str, client: ClientFiles) -> String {
    let to: SocketAddr = to.parse().expect("an address");
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = client.load().expect("good files");
            tokio::spawn(async move {
                let stream = TcpStream::connect(to).await?;
                let mut stream = connector.connect("localhost", stream).await?;
                copy_bidirectional(&mut plain, &mut stream).await
            });
        }
    });
    address
}

/// The other way round: takes connections by TLS for a server that speaks none.
pub(crate) async fn front(acceptor: Acceptor, server: &str) -> String {
    let server: SocketAddr = server.parse().expect("an address");
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut plain = TcpStream::connect(server).await?;
                copy_bidirectional(&mut stream, &mut plain).await
            });
        }
    });
    address
}

/// An https page that a test writes.
pub(crate) struct Page {
    /// Its URL.
    pub(crate) url: String,
    content: watch::Sender<Option<String>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Page {
    pub(crate) async fn new(ca: &Ca, content: String) -> Self {
        let (listener, address) = listener().await;
        let acceptor = ca.acceptor(false);
        let (content, now) = watch::channel(Some(content));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let paths = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, now, paths) = (acceptor.clone(), now.clone(), paths.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut request = [0; 4096];
                    let length = stream.read(&mut request).await?;
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    paths.lock().expect("no panic").push(path);
                    let content = now.borrow().clone();
                    let (status, body) = match content {
                        Some(body) => ("200 OK", body),
                        None => ("500 Internal Server Error", String::new()),
                    };
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await?;
                    stream.shutdown().await
                });
            }
        });
        Self {
            url: format!("https://{}/keys", address.replace("127.0.0.1", "localhost")),
            content,
            asked,
        }
    }

    /// What it shows from now on; none: an error.
    pub(crate) fn show(&self, content: Option<String>) {
        self.content.send_replace(content);
    }

    /// How often it was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.asked_for().len()
    }

    /// The paths that it was asked for.
    pub(crate) fn asked_for(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}
