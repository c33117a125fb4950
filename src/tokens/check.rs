//! What `usher check` says of the keys that tokens are signed with.

use super::{Config, Location, Source, fetch, ring};
use crate::finding::{Finding, Verdict};

/// Fetches the keys, where they are elsewhere, and says what it found.
pub async fn check(config: &Config) -> Vec<Finding> {
    ring::install();
    let remote = match &config.source {
        Source::Secret(_) => return good("tickets.jwt.secret"),
        Source::PublicKey(_) => return good("tickets.jwt.public_key_file"),
        Source::Remote(remote) => remote,
    };
    let (key, location) = match &remote.location {
        // A query may hold a secret.
        Location::Jwks(url) => ("tickets.jwt.jwks_url", &url[..url::Position::AfterPath]),
        Location::Oidc(issuer) => ("tickets.jwt.oidc_issuer", &issuer[..]),
    };
    let finding = match fetch::keys(remote).await {
        Ok(keys) if keys.len() == 0 => Finding::new(
            Verdict::Bad,
            format!("tokens: {key} ({location}) has no key that signs, of a kind that Usher reads"),
        ),
        Ok(keys) => {
            let keys = match keys.len() {
                1 => "1 key".to_owned(),
                count => format!("{count} keys"),
            };
            Finding::new(
                Verdict::Good,
                format!("tokens: {key} ({location}) has {keys}"),
            )
        }
        Err(error) => Finding::new(
            Verdict::Bad,
            format!("tokens: the keys of {key} ({location}) can't be had: {error}"),
        ),
    };
    vec![finding]
}

fn good(key: &str) -> Vec<Finding> {
    let text = format!("tokens: judged by {key}");
    vec![Finding::new(Verdict::Good, text)]
}
