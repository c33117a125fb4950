//! Listeners, and what this gateway is called.

use std::net::SocketAddr;

use rand::Rng as _;
use tokio::net::{TcpListener, TcpSocket};

use super::BindError;

/// Connections that the kernel keeps until we accept them; fewer where
/// `net.core.somaxconn` is. Whoever finds no room there tries again after a second at
/// the earliest, so there is room for a storm.
const BACKLOG: u32 = 4096;

pub(super) fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|source| BindError {
        key,
        address,
        source,
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // What is left of the connections of the process before must not keep this one out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

pub(super) fn listening(listener: &str, socket: &TcpListener) {
    if let Ok(address) = socket.local_addr() {
        tracing::info!(listener, %address, "listening");
    }
}

/// The host's name, and six characters that tell apart two gateways on it.
pub(super) fn gateway_name() -> String {
    let host = gethostname::gethostname();
    let mut rng = rand::rng();
    let suffix: String = (0..6)
        .map(|_| char::from(b"0123456789abcdefghjkmnpqrstvwxyz"[rng.random_range(0..32)]))
        .collect();
    format!("{}-{suffix}", host.to_string_lossy())
}
