//! A file and an environment → a configuration, or a line for each thing that is
//! wrong.
//!
//! The input's lines up to `---` are the environment, `NAME=VALUE` each; the rest
//! is the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use url::Url;
use usher::{
    client_address::TrustedProxies,
    config::{Config, HttpsUrl, NatsServers},
    origin::AllowedOrigins,
    secret::Secret,
};
use usher_fuzz::config::{load, names_a_device};

fuzz_target!(|input: &str| {
    if names_a_device(input) {
        return;
    }
    let (environment, toml) = input.split_once("---\n").unwrap_or(("", input));
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let environment: Vec<_> = variables.map(owned).collect();
    match load(toml, &environment) {
        Ok(config) => check(config),
        Err(errors) => {
            for error in errors.iter() {
                let line = error.to_string();
                assert!(!line.contains(char::is_control), "not one line: {line:?}");
            }
        }
    }
});

/// A good one can be started with, and be printed and loaded again.
fn check(mut config: Config) {
    assert!(AllowedOrigins::parse(&config.public.allowed_origins).is_ok());
    assert!(TrustedProxies::parse(&config.public.trusted_proxies).is_ok());
    let secrets = replace_secrets(&mut config);
    let printed = config.to_toml();
    match load(&printed, &secrets) {
        Ok(again) => assert_eq!(again, config, "{printed}"),
        Err(error) => panic!("{error}\n{printed}"),
    }
}

/// Puts other secrets in place of those that are set, and returns them as an
/// environment: they are not printed.
fn replace_secrets(config: &mut Config) -> Vec<(String, String)> {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const NATS: &str = "nats://u:p@n";
    const JWKS: &str = "https://l/?k=1";
    let mut secrets = Vec::new();
    let mut set = |name: &str, value: &str| secrets.push((name.to_owned(), value.to_owned()));
    if !config.grpc.tokens.is_empty() {
        config.grpc.tokens = vec![Secret::new(TOKEN)];
        set("USHER_GRPC__TOKENS", TOKEN);
    }
    for (name, secret) in [
        ("USHER_NATS__TOKEN", &mut config.nats.token),
        ("USHER_NATS__PASSWORD", &mut config.nats.password),
        ("USHER_REDIS__PASSWORD", &mut config.redis.password),
        (
            "USHER_REDIS__SENTINEL__PASSWORD",
            &mut config.redis_sentinel.password,
        ),
        ("USHER_TICKETS__JWT__SECRET", &mut config.tickets_jwt.secret),
    ] {
        if secret.is_some() {
            *secret = Some(Secret::new(TOKEN));
            set(name, TOKEN);
        }
    }
    let has_credentials = |url: &Url| !url.username().is_empty() || url.password().is_some();
    let url = |text| Url::parse(text).expect("a URL");
    if config.nats.url.0.iter().any(has_credentials) {
        config.nats.url = NatsServers(vec![url(NATS)]);
        set("USHER_NATS__URL", NATS);
    }
    if let Some(redis) = &mut config.redis.url
        && (redis.user.is_some() || redis.password.is_some())
    {
        redis.user = Some("u".to_owned());
        redis.password = Some(Secret::new("p"));
        let shown = format!("{redis:?}");
        set(
            "USHER_REDIS__URL",
            &shown.trim_matches('"').replace('…', "u:p"),
        );
    }
    // A query may hold a key.
    let jwks = &mut config.tickets_jwt.jwks_url;
    if jwks
        .as_ref()
        .is_some_and(|HttpsUrl(url)| url.query().is_some())
    {
        *jwks = Some(HttpsUrl(url(JWKS)));
        set("USHER_TICKETS__JWT__JWKS_URL", JWKS);
    }
    secrets
}
