//! Why a gateway cannot start, or go on.

use std::net::SocketAddr;

use super::settings::SettingError;

/// A gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[error(
    "{key} = \"{address}\" cannot be bound: {source}; choose a free address, or stop what holds it"
)]
pub struct BindError {
    pub(super) key: &'static str,
    pub(super) address: SocketAddr,
    pub(super) source: std::io::Error,
}

/// A gateway cannot start as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What a key names is not what it should be.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// A gateway cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// async-nats does not take what the configuration says.
    #[error("NATS cannot be connected to: {0}")]
    Bus(Box<dyn std::error::Error + Send + Sync>),
    /// A task has ended that must not.
    #[error("{0} has failed; the gateway cannot go on without it")]
    Task(&'static str),
}
