//! Where NATS is, and how to log in there.

use std::borrow::Cow;

use url::Url;

use crate::{
    bus::{self, Auth},
    config::{Config, Storage},
    last_good::LastGood,
    secret::Secret,
    telemetry::Tracer,
};

/// Where NATS is.
pub(crate) fn bus(config: &Config, name: &str, tracer: Tracer) -> bus::Config {
    let nats = &config.nats;
    bus::Config {
        servers: nats.url.0.iter().map(without_credentials).collect(),
        auth: auth(config),
        tls: super::nats_tls(config),
        name: name.to_owned(),
        prefix: nats.prefix.clone(),
        settle: super::settle(config),
        reply_prefix: nats.reply_prefix.clone(),
        calls: super::calls(config),
        presence_events: config.presence.events,
        stream: config.durable.enabled.then(|| stream(config)),
        tracer,
    }
}

/// The configuration allows one of these, and URLs with the same credentials.
pub(in crate::app) fn auth(config: &Config) -> Auth {
    let nats = &config.nats;
    if let Some(auth) = nats.url.0.iter().find_map(of_url) {
        return auth;
    }
    match (&nats.credentials_file, &nats.nkey_seed_file, &nats.token) {
        (Some(path), ..) => Auth::CredentialsFile(path.clone(), LastGood::default()),
        (_, Some(path), _) => Auth::SeedFile(path.clone(), LastGood::default()),
        (_, _, Some(token)) => Auth::Token(token.clone()),
        _ => match (&nats.user, &nats.password) {
            (Some(user), Some(password)) => Auth::Password(user.clone(), password.clone()),
            _ => Auth::Anonymous,
        },
    }
}

fn without_credentials(server: &Url) -> Url {
    let mut server = server.clone();
    // A URL with a host takes both.
    let _ = server.set_username("");
    let _ = server.set_password(None);
    server
}

fn stream(config: &Config) -> bus::stream::Config {
    let durable = &config.durable;
    bus::stream::Config {
        name: durable.stream.clone(),
        manage: durable.manage_stream,
        max_age: Some(durable.max_age).filter(|age| !age.is_zero()),
        max_messages_per_channel: durable.max_messages_per_channel,
        max_bytes: durable.max_bytes.0,
        replicas: durable.replicas,
        on_disk: durable.storage == Storage::File,
        duplicate_window: durable.duplicate_window,
        replay_bytes: durable.replay_bytes.0,
        offline_events: config.offline.events,
    }
}

/// The credentials in a server's URL, as other NATS clients read them: a user alone is
/// a token.
fn of_url(server: &Url) -> Option<Auth> {
    let decoded =
        |text| -> Cow<'_, str> { percent_encoding::percent_decode_str(text).decode_utf8_lossy() };
    match (server.username(), server.password()) {
        ("", _) => None,
        (token, None) => Some(Auth::Token(Secret::new(decoded(token)))),
        (user, Some(password)) => {
            let password = Secret::new(decoded(password));
            Some(Auth::Password(decoded(user).into_owned(), password))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(url: &str) -> Option<Auth> {
        of_url(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn credentials_of_a_url_are_decoded() {
        let Some(Auth::Password(user, password)) = login("nats://u%40x:p%40ss^@h") else {
            panic!("no password");
        };
        assert_eq!(
            (user.as_str(), password.expose().as_str()),
            ("u@x", "p@ss^")
        );
        let Some(Auth::Token(token)) = login("nats://t%2Fk@h") else {
            panic!("no token");
        };
        assert_eq!(token.expose(), "t/k");
        assert!(login("nats://h").is_none());
    }

    #[test]
    fn a_login_is_renewed_by_the_same_users_alone() {
        let held = login("nats://u:old@h").expect("credentials");
        let clone = held.clone();
        for (url, renews) in [
            ("nats://u:new@h", true),
            ("nats://v:bad@h", false),
            ("nats://u@h", false),
        ] {
            let other = login(url).expect("credentials");
            assert_eq!(held.renew(&other), renews, "{url}");
        }
        let Auth::Password(_, renewed) = clone else {
            panic!("no password");
        };
        assert_eq!(renewed.expose(), "new");
    }
}
