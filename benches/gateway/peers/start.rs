//! Starting each kind of gateway.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    Outcome,
    process::Process,
    servers::{Gateway, Servers, find, lasting_address, until},
};

/// Where `tests/servers.sh peers` puts them.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.servers/peers");

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Usher,
    Node,
    Centrifugo,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Usher => "Usher, with tickets",
            Self::Node => "Node with ws and nats, no tickets",
            Self::Centrifugo => "Centrifugo on NATS, raw mode, no authentication",
        }
    }

    /// Those that can run here, and a line for each that can't.
    pub(super) fn present() -> (Vec<Self>, Vec<String>) {
        let (mut present, mut missing) = (vec![Self::Usher], Vec::new());
        for (kind, file, what) in [
            (Self::Node, node(), "Node's: run tests/servers.sh peers"),
            (
                Self::Centrifugo,
                centrifugo(),
                "Centrifugo, which needs Go: run tests/servers.sh peers",
            ),
        ] {
            match file.is_file() {
                true => present.push(kind),
                false => missing.push(format!("not measured: {what}")),
            }
        }
        (present, missing)
    }
}

fn node() -> PathBuf {
    Path::new(FOLDER).join("node/gateway.mjs")
}

fn centrifugo() -> PathBuf {
    Path::new(FOLDER).join("bin/centrifugo")
}

/// Starts one, at this address or any.
pub(super) fn start(
    kind: Kind,
    servers: &Servers,
    address: Option<SocketAddr>,
) -> Outcome<Gateway> {
    let address = address.map_or_else(lasting_address, Ok)?;
    let folder = TempDir::new()?;
    let nats = format!("nats://{}", servers.nats);
    let mut command = match kind {
        Kind::Usher => {
            return servers.gateway_with(&[("USHER_PUBLIC__LISTEN", address.to_string())]);
        }
        Kind::Node => {
            let mut command = Command::new(find("node")?);
            command
                .arg(node())
                .arg(address.port().to_string())
                .arg(nats);
            command
        }
        Kind::Centrifugo => {
            let file = folder.path().join("config.json");
            let config = json!({
                "http_server": {"address": "127.0.0.1", "port": address.port().to_string()},
                "client": {"allow_anonymous_connect_without_token": true},
                "uni_websocket": {"enabled": true},
                "broker": {
                    "enabled": true,
                    "type": "nats",
                    "nats": {"url": nats, "raw_mode": {"enabled": true}},
                },
                "channel": {"without_namespace": {
                    "allow_subscribe_for_client": true,
                    "allow_subscribe_for_anonymous": true,
                }},
            });
            fs::write(&file, config.to_string())?;
            let mut command = Command::new(centrifugo());
            command.arg("-c").arg(file);
            command
        }
    };
    command.current_dir(folder.path());
    let mut process = Process::start(&command)?;
    until("a peer listens", || {
        if process.has_ended() {
            return Err(format!("{} ended:\n{}", kind.name(), process.said()).into());
        }
        Ok(TcpStream::connect(address).is_ok().then_some(()))
    })?;
    Ok(Gateway::of(address, process, folder))
}
