//! Certificates of callers that end while they are known.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

use crate::support::{Gateway, eventually, servers, tls::Ca, wait::patiently};

/// Whether the gateway takes a connection of this client, and hears it: with TLS 1.3 a
/// client learns of a refusal only when it reads.
async fn is_let_in(gateway: &Gateway, config: &Arc<ClientConfig>) -> bool {
    let stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
    let name = "localhost".try_into().expect("a name");
    let connecting = TlsConnector::from(config.clone()).connect(name, stream);
    let Ok(mut stream) = patiently("a handshake", connecting).await else {
        return false;
    };
    let hello = super::raw_h2::hello();
    if tokio::io::AsyncWriteExt::write_all(&mut stream, &hello)
        .await
        .is_err()
    {
        return false;
    }
    // The gateway's SETTINGS.
    patiently("an answer", stream.read_u8()).await.is_ok()
}

/// A certificate that has expired does not come back by the resumption of a session,
/// which does not look at certificates.
#[tokio::test]
async fn an_expired_certificate_does_not_come_back() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let server = ca.issue();
    let path = |path: &std::path::Path| path.display().to_string();
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tls.certificate_file", path(&server.certificate_file))
        .set("grpc.tls.key_file", path(&server.key_file))
        .set("grpc.tls.client_ca_file", ca.file())
        .start()
        .await;
    let life = Duration::from_secs(4);
    let files = ca.client(Some(ca.issue_for(life)));
    // A certificate's times are whole seconds, and it holds in the last of them.
    let end = SystemTime::now() + life + Duration::from_secs(1);
    let config = || {
        let mut config = files.config().expect("good files");
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    };
    // It remembers the sessions of its connections.
    let remembers = config();
    for _ in 0..3 {
        assert!(is_let_in(&gateway, &remembers).await);
    }
    eventually("the certificate has expired", || {
        std::future::ready(SystemTime::now() > end)
    })
    .await;
    assert!(!is_let_in(&gateway, &config()).await, "by itself");
    for _ in 0..3 {
        assert!(!is_let_in(&gateway, &remembers).await, "by resumption");
    }
}
