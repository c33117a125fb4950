//! A TCP connection to a name, which may have several addresses.

use std::{io, net::SocketAddr};

use futures_util::future::select_ok;
use tokio::net::{TcpStream, lookup_host};

/// The most addresses of a name that are tried.
const MOST: usize = 8;

/// Connects to a name, or to an address; that of IPv6 may be in brackets.
///
/// # Errors
///
/// What the last of its addresses answers, or why it has none.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    first(lookup_host((bare, port)).await?).await
}

/// Connects to whichever answers first: all are tried at once, since one may never answer.
async fn first(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let tries = addresses
        .take(MOST)
        .map(|address| Box::pin(TcpStream::connect(address)));
    let tries: Vec<_> = tries.collect();
    if tries.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    let (stream, _) = select_ok(tries).await?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use tokio::{net::TcpSocket, time::timeout};

    use super::*;

    #[tokio::test]
    async fn an_address_that_never_answers_does_not_hide_the_next() {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen = || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(anywhere).unwrap();
            socket.listen(1).unwrap()
        };
        let (full, good) = (listen(), listen());
        let (silent, good_address) = (full.local_addr().unwrap(), good.local_addr().unwrap());
        // Until nobody accepts any more.
        let mut waiting = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(silent)).await
        {
            waiting.push(stream.unwrap());
        }
        let stream = timeout(
            Duration::from_secs(5),
            first([silent, good_address].into_iter()),
        );
        let stream = stream.await.expect("the second answers").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good_address);
    }
}
