//! HTTP/2 by hand, as no library would write it.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::wait::patiently;

pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;

/// The preface and an empty SETTINGS.
pub(crate) fn hello() -> Vec<u8> {
    [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(SETTINGS, 0, b""),
    ]
    .concat()
}

/// A frame of the connection itself.
pub(crate) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

/// A connection that has said hello.
pub(crate) async fn connect(address: &str) -> TcpStream {
    let mut stream = silent(address).await;
    stream.write_all(&hello()).await.expect("taken");
    stream
}

/// A connection that has said nothing.
pub(crate) async fn silent(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Reads frames until one of this kind; none where the connection ends first.
pub(crate) async fn read_until(stream: &mut TcpStream, kind: u8) -> Option<()> {
    patiently("a frame", async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.ok()?;
            if head[3] == kind {
                return Some(());
            }
        }
    })
    .await
}

/// Whether the other side has closed the connection; waits for it.
pub(crate) async fn closes(stream: &mut TcpStream) {
    let mut sink = [0; 4096];
    patiently("the connection is closed", async {
        while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    })
    .await;
}
