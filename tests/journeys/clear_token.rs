//! Commands that call a gateway do not show its token to the network.

use std::{fs, net::UdpSocket};

use tempfile::NamedTempFile;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::{
    commands::run::{bare, to_end},
    support::{Gateway, servers, tls::Ca, wait::patiently},
};

const TOKEN: &str = "a-token-that-is-long-enough";

/// An address of this machine that is not on loopback. Nothing is sent.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket
        .connect("192.0.2.1:9")
        .expect("this machine has a route to other machines");
    socket.local_addr().expect("an address").ip().to_string()
}

/// `--grpc HOST:PORT` is by TLS where the configuration says that gRPC is.
#[tokio::test]
async fn an_address_without_a_scheme_is_encrypted_where_grpc_tls_is_set() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let server = ca.issue();
    let file = NamedTempFile::new().expect("a file");
    let text = format!(
        "[grpc]\ntokens = [{TOKEN:?}]\n[grpc.tls]\ncertificate_file = {:?}\nkey_file = {:?}\n",
        server.certificate_file, server.key_file
    );
    fs::write(&file, &text).expect("written");
    let gateway = Gateway::builder(&nats, &redis).config(&text).start().await;
    let config = file.path().to_str().expect("a path");
    let push = async |grpc: &str| {
        let place = ["push", "42", "1", "--config", config, "--grpc", grpc];
        let trust = ["--ca-file", &ca.file()];
        to_end(bare(&[&place[..], &trust].concat()), Vec::new()).await
    };
    assert_eq!(push(&gateway.grpc).await.json()["status"], "dispatched");

    // Where it is in clear, on loopback, is somebody's own word.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let hears = async || {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut first = [0; 3];
        stream.read_exact(&mut first).await.expect("three bytes");
        first
    };
    for (grpc, first) in [
        (address.clone(), [0x16, 3, 1]),
        (format!("http://{address}"), *b"PRI"),
    ] {
        let (heard, ran) =
            patiently("both ends", async { tokio::join!(hears(), push(&grpc)) }).await;
        assert_eq!(heard, first, "{grpc}");
        assert_ne!(ran.code, Some(0), "{grpc}");
    }
}

/// In clear, and not to this machine, a token is not sent, nor is the connection made.
#[tokio::test]
async fn a_token_is_not_sent_in_clear_to_another_machine() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let address = format!("{}:{port}", own_address());
    let token = NamedTempFile::new().expect("a file");
    fs::write(&token, TOKEN).expect("written");
    let token = token.path().to_str().expect("a path");
    for grpc in [address.clone(), format!("http://{address}")] {
        let arguments = ["push", "42", "1", "--grpc", &grpc, "--token-file", token];
        let ran = to_end(bare(&arguments), Vec::new()).await;
        assert_eq!(ran.code, Some(78), "{}{}", ran.out, ran.err);
        for part in [
            "--token-file",
            &format!("https://{address}"),
            "--clear-token",
        ] {
            assert!(ran.err.contains(part), "{part}: {}", ran.err);
        }
        assert!(!ran.err.contains(TOKEN), "{}", ran.err);
    }
    let accepted = futures_util::FutureExt::now_or_never(listener.accept());
    assert!(accepted.is_none(), "a connection was made");

    // Who insists is believed.
    let arguments = ["push", "42", "1", "--grpc", &address, "--clear-token"];
    let arguments = [&arguments[..], &["--token-file", token]].concat();
    let hears = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut first = [0; 3];
        stream.read_exact(&mut first).await.expect("three bytes");
        assert_eq!(&first, b"PRI");
    };
    patiently("both ends", async {
        tokio::join!(hears, to_end(bare(&arguments), Vec::new()))
    })
    .await;
}
