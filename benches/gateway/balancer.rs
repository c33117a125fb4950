//! A load balancer before gateways: HAProxy, set as docs/operations.md says.

use std::{fs, net::SocketAddr, process::Command};

use tempfile::TempDir;

use crate::{
    Outcome,
    process::Process,
    servers::{self, lasting_address},
};

/// Kept in docs/operations.md, word for word; the servers follow.
const SETTINGS: &str = "\
defaults
    mode http
    timeout connect 2s
    timeout http-request 5s
    timeout client 75s
    timeout server 75s
    timeout tunnel 1h
    retries 3
    option redispatch

backend usher
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 1s fall 2 rise 2
";

pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Balancer {
    /// Spreads what comes over these gateways.
    pub(crate) fn start(gateways: &[SocketAddr]) -> Outcome<Self> {
        // Debian has it where only root's PATH looks.
        let program = servers::find("haproxy").unwrap_or("/usr/sbin/haproxy".into());
        if !program.is_file() {
            return Err("there is no haproxy: apt-get install haproxy".into());
        }
        let folder = TempDir::new()?;
        let address = lasting_address()?;
        let mut text = SETTINGS.to_owned();
        for (index, gateway) in gateways.iter().enumerate() {
            text += &format!("    server usher-{index} {gateway}\n");
        }
        text += &format!("\nfrontend public\n    bind {address}\n    default_backend usher\n");
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, text)?;
        let mut process = Process::start(Command::new(program).arg("-db").arg("-f").arg(&file))?;
        servers::until("haproxy has gateways", || {
            if process.has_ended() {
                return Err(format!("haproxy ended:\n{}", process.said()).into());
            }
            Ok(servers::ready(address).then_some(()))
        })?;
        Ok(Self {
            address,
            _process: process,
            _folder: folder,
        })
    }
}
