//! One connection to one server, and what a pool does with it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{self, Manager as _, Metrics, RecycleError, RecycleResult};
use deadpool_redis::{
    Manager,
    redis::{
        AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind,
        IntoConnectionInfo as _, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
        RedisError, RedisResult, TlsCertificates, aio::MultiplexedConnection,
    },
};
use tokio::time::timeout;

use super::{
    config::{Address, Config},
    fault::Fault,
    inspect,
    node::is_useless,
};
use crate::tls::ClientFiles;

/// A connection that was used within this time is taken to be open unless it was seen to
/// close: the question whether it is would double the price of an admission.
const FRESH: Duration = Duration::from_secs(1);

/// Whom a connection is to, which says how to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A server that holds tickets.
    Server,
    Sentinel,
}

/// One connection.
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    /// deadpool-redis's own manager, which made it and which recycles it.
    manager: Manager,
    /// Whether the server has closed it. `None`: an old protocol that does not tell.
    closed: Option<Arc<AtomicBool>>,
}

/// Makes connections to one server for a pool, and finds out which still work.
pub(super) struct Links {
    config: Arc<Config>,
    address: Address,
}

impl Links {
    pub(super) fn new(config: Arc<Config>, address: Address) -> Self {
        Self { config, address }
    }
}

impl managed::Manager for Links {
    type Type = Link;
    type Error = Fault;

    async fn create(&self) -> Result<Link, Fault> {
        // Rare and large: in a box, so that a command that finds a connection stays small.
        Box::pin(async {
            let mut link = connect(&self.config, &self.address, Peer::Server).await?;
            let report = inspect::ask(&self.config, &self.address, &mut link).await?;
            report.check(&self.config, &self.address)?;
            Ok(link)
        })
        .await
    }

    /// Discards a connection that was seen to close, and asks one that was idle for a
    /// while. The limit leaves time for a new connection within `redis.timeout`.
    async fn recycle(&self, link: &mut Link, metrics: &Metrics) -> RecycleResult<Fault> {
        match &link.closed {
            Some(closed) if closed.load(Ordering::Relaxed) => {
                return Err(RecycleError::message("the server closed it"));
            }
            Some(_) if metrics.last_used() < FRESH => return Ok(()),
            _ => {}
        }
        let recycled = link.manager.recycle(&mut link.connection, metrics);
        match timeout(self.config.timeout / 2, recycled).await {
            Ok(Ok(())) => Ok(()),
            // It answers, and may only not be asked this.
            Ok(Err(RecycleError::Backend(error))) if is_useful_after(&error) => Ok(()),
            Ok(Err(_)) => Err(RecycleError::message("it is broken")),
            Err(_) => Err(RecycleError::message("it does not answer")),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Links({})", self.address)
    }
}

/// Connects and logs in, within `redis.timeout`. Reads the TLS files anew.
pub(super) async fn connect(config: &Config, address: &Address, peer: Peer) -> Result<Link, Fault> {
    let limit = config.timeout;
    let connecting = async {
        match attempt(config, address, peer, ProtocolVersion::RESP3).await {
            Err(error) if lacks_resp3(&error) => {
                attempt(config, address, peer, ProtocolVersion::RESP2).await
            }
            done => done,
        }
    };
    match timeout(limit, connecting).await {
        Ok(link) => link.map_err(|error| {
            let keys = match peer {
                Peer::Server => "redis",
                Peer::Sentinel => "redis.sentinel",
            };
            let login = Fault::of_login(address, &error, keys);
            login.unwrap_or_else(|| Fault::read(address, &error, limit))
        }),
        Err(_) => Err(Fault::silent(address, limit)),
    }
}

fn is_useful_after(error: &RedisError) -> bool {
    error.code().is_some() && !is_useless(error)
}

/// Some proxies, and servers whose HELLO was renamed, speak only the older protocol.
fn lacks_resp3(error: &RedisError) -> bool {
    let unknown = || {
        let detail = error.detail().unwrap_or_default();
        error.code() == Some("ERR") && detail.to_ascii_lowercase().contains("unknown command")
    };
    error.kind() == ErrorKind::RESP3NotSupported || error.code() == Some("NOPROTO") || unknown()
}

async fn attempt(
    config: &Config,
    address: &Address,
    peer: Peer,
    protocol: ProtocolVersion,
) -> RedisResult<Link> {
    let info = connection_info(config, address, peer, protocol)?;
    let mut settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.timeout))
        .set_response_timeout(Some(config.timeout));
    let closed = (protocol == ProtocolVersion::RESP3).then(Arc::<AtomicBool>::default);
    if let Some(closed) = closed.clone() {
        settings = settings.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                closed.store(true, Ordering::Relaxed);
            }
            Ok::<_, RedisError>(())
        });
    }
    let manager = Manager::new_with_config(info, settings)?;
    Ok(Link {
        connection: manager.create().await?,
        manager,
        closed,
    })
}

/// deadpool-redis takes certificates only as a part of this.
fn connection_info(
    config: &Config,
    address: &Address,
    peer: Peer,
    protocol: ProtocolVersion,
) -> RedisResult<ConnectionInfo> {
    let host = address.host.clone();
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(protocol)
        .set_skip_set_lib_name();
    let login = match peer {
        Peer::Server => {
            settings = settings.set_db(config.database.into());
            &config.login
        }
        Peer::Sentinel => &config.sentinel_login,
    };
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password.expose());
    }
    let Some(files) = &config.tls else {
        let plain = ConnectionAddr::Tcp(host, address.port).into_connection_info()?;
        return Ok(plain.set_redis_settings(settings));
    };
    let encrypted = ConnectionAddr::TcpTls {
        host,
        port: address.port,
        insecure: false,
        tls_params: None,
    };
    let info = encrypted
        .into_connection_info()?
        .set_redis_settings(settings);
    let client = Client::build_with_tls(info, certificates(files)?)?;
    Ok(client.get_connection_info().clone())
}

/// The redis crate takes the files' content.
fn certificates(files: &ClientFiles) -> RedisResult<TlsCertificates> {
    let pem = files.pem().map_err(|error| {
        let kind = ErrorKind::InvalidClientConfig;
        RedisError::from((kind, "redis.tls", error.to_string()))
    })?;
    let identity = pem
        .identity
        .map(|[client_cert, client_key]| ClientTlsConfig {
            client_cert,
            client_key,
        });
    Ok(TlsCertificates {
        client_tls: identity,
        root_cert: pem.authorities,
    })
}
