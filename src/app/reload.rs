//! Files that are read again while the gateway runs: listeners' certificates whenever they
//! change, and with SIGHUP those and the files of secrets.

use std::{fmt, sync::Arc};

use tokio::sync::Notify;

use super::settings::{self, SettingError};
use crate::{
    bus::Auth,
    config::Config,
    metrics::Metrics,
    secret::Secrets,
    tickets::Login,
    tls::{FileError, Reloads},
    tokens::Tokens,
};

/// Everything that takes over what the files say.
pub(super) struct Reload {
    pub(super) config: Config,
    pub(super) public: Option<Reloads>,
    pub(super) grpc: Option<Reloads>,
    /// Of the push API.
    pub(super) tokens: Secrets,
    /// Whose tokens get tickets.
    pub(super) judge: Option<Tokens>,
    /// How the gateway logs in to its servers; `None` if it has none.
    pub(super) logins: Option<Logins>,
    pub(super) metrics: Arc<Metrics>,
}

/// What is shown to servers at the next connect.
pub(super) struct Logins {
    pub(super) nats: Auth,
    /// Those of Redis and of its Sentinels.
    pub(super) redis: Option<[Login; 2]>,
}

impl Reload {
    /// Takes up what changes, for as long as the process lives.
    pub(super) async fn run(mut self, hung_up: Arc<Notify>) {
        loop {
            tokio::select! {
                change = next(&mut self.public) => self.tell("public", change),
                change = next(&mut self.grpc) => self.tell("grpc", change),
                () = hung_up.notified() => self.hung_up().await,
            }
        }
    }

    /// The files of a listener have changed.
    fn tell(&self, listener: &'static str, change: Result<(), FileError>) {
        self.metrics.tls.read(listener, change.is_ok());
        match change {
            Ok(()) => tracing::info!(listener, "the new TLS files are taken up"),
            Err(error) => {
                let error = SettingError::of(&format!("{listener}.tls"), error);
                tracing::error!(
                    listener,
                    %error,
                    "the TLS files have changed and are not good; those before stay in use"
                );
            }
        }
    }

    /// SIGHUP: reads all files. One that is not good leaves in use what was read before.
    async fn hung_up(&mut self) {
        let mut wrong = Vec::new();
        for (listener, reloads) in [("public", &mut self.public), ("grpc", &mut self.grpc)] {
            let Some(reloads) = reloads else { continue };
            let read = reloads.now().await;
            self.metrics.tls.read(listener, read.is_ok());
            if let Err(error) = read {
                wrong.push(SettingError::of(&format!("{listener}.tls"), error).to_string());
            }
        }
        let config = self.config.clone();
        // A file may be on a disk that is slow.
        match tokio::task::spawn_blocking(move || config.reread()).await {
            Ok((config, errors)) => {
                wrong.extend(errors.iter().map(ToString::to_string));
                wrong.extend(self.take_over(&config));
                self.config = config;
            }
            Err(error) => wrong.push(error.to_string()),
        }
        let result = if wrong.is_empty() { "ok" } else { "failed" };
        self.metrics.file_reloads(result);
        match &wrong[..] {
            [] => tracing::info!("SIGHUP: the files are read anew"),
            wrong => wrong.iter().for_each(|error| {
                tracing::error!(error, "SIGHUP: what was read before stays in use");
            }),
        }
    }

    /// Hands new secrets to whoever uses them; returns what cannot be used.
    fn take_over(&self, config: &Config) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut note = |error: &dyn fmt::Display| wrong.push(error.to_string());
        self.tokens.replace(config.grpc.tokens.clone());
        if let Some(judge) = &self.judge {
            match settings::tokens(config) {
                Ok(Some(tokens)) => judge.renew(tokens.source),
                Ok(None) => {}
                Err(error) => note(&error),
            }
        }
        if let Some(logins) = &self.logins {
            if let Err(error) = settings::check_client_files(config) {
                note(&error);
            }
            if !logins.nats.renew(&settings::nats_auth(config)) {
                note(&"nats.url_file names another user; that takes a restart");
            }
            let new = settings::tickets(config).map(|new| [new.login, new.sentinel_login]);
            for (held, new) in logins.redis.iter().flatten().zip(new.iter().flatten()) {
                match (&held.password, &new.password) {
                    (Some(held_password), Some(password)) if held.user == new.user => {
                        held_password.replace(password);
                    }
                    (None, None) if held.user == new.user => {}
                    _ => note(&"redis.url_file names another user; that takes a restart"),
                }
            }
        }
        wrong
    }
}

/// The next change of a listener's files; never, where it has none.
async fn next(reloads: &mut Option<Reloads>) -> Result<(), FileError> {
    match reloads {
        Some(reloads) => reloads.next().await,
        None => std::future::pending().await,
    }
}
