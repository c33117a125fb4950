//! Whose tokens are good, from `tickets.jwt`.

use super::SettingError;
use crate::{
    config::{Config, HttpsUrl, IssuerUrl, TicketsJwt},
    tls::ClientFiles,
    tokens::{self, GrantClaims, Location, PublicKey, Remote, Source},
};

/// Whether tokens are judged at all.
pub(super) fn are_judged(config: &Config) -> bool {
    let jwt = &config.tickets_jwt;
    let keys = [
        jwt.secret.is_some(),
        jwt.public_key_file.is_some(),
        jwt.jwks_url.is_some(),
        jwt.oidc_issuer.is_some(),
    ];
    keys.contains(&true)
}

/// How tokens are judged; `None` if they are not.
pub(crate) fn tokens(config: &Config) -> Result<Option<tokens::Config>, SettingError> {
    let jwt = &config.tickets_jwt;
    let Some(source) = source(config)? else {
        return Ok(None);
    };
    let issuer = jwt.oidc_issuer.as_ref().map(|IssuerUrl(issuer)| issuer);
    let audience = jwt.audience.clone();
    Ok(Some(tokens::Config {
        source,
        issuer: issuer.or(jwt.issuer.as_ref()).cloned(),
        audience: audience.map(|audience| (jwt.audience_claim.clone(), audience)),
        user_claim: jwt.user_claim.clone(),
        grant_claims: GrantClaims {
            topics: jwt.topics_claim.clone(),
            may_follow: jwt.may_follow_claim.clone(),
            may_follow_prefix: jwt.may_follow_prefix_claim.clone(),
            calls: jwt.calls_claim.clone(),
        },
        algorithms: jwt.algorithms.clone(),
        leeway: jwt.leeway,
    }))
}

fn source(config: &Config) -> Result<Option<Source>, SettingError> {
    let jwt = &config.tickets_jwt;
    if let Some(secret) = &jwt.secret {
        return Ok(Some(Source::Secret(secret.clone())));
    }
    if let Some(path) = &jwt.public_key_file {
        let wrong = |complaint| SettingError {
            key: "tickets.jwt.public_key_file".to_owned(),
            path: path.clone(),
            complaint,
        };
        let key = PublicKey::read(path).map_err(wrong)?;
        if !key.speaks(&jwt.algorithms) {
            let complaint = "goes with none of tickets.jwt.algorithms; leave them out";
            return Err(wrong(complaint.to_owned()));
        }
        return Ok(Some(Source::PublicKey(key)));
    }
    let Some(location) = location(jwt) else {
        return Ok(None);
    };
    let tls = ClientFiles::new(config.tickets_jwt_tls.ca_file.clone(), None);
    // They are read again at each fetch; a wrong path shows at the start.
    if tls.are_given() {
        let loaded = tls.config().map(drop);
        loaded.map_err(|error| SettingError::of("tickets.jwt.tls", error))?;
    }
    Ok(Some(Source::Remote(Remote {
        location,
        max_age: jwt.jwks_max_age,
        tls,
    })))
}

fn location(jwt: &TicketsJwt) -> Option<Location> {
    match (&jwt.jwks_url, &jwt.oidc_issuer) {
        (Some(HttpsUrl(url)), _) => Some(Location::Jwks(url.clone())),
        (None, Some(IssuerUrl(issuer))) => Some(Location::Oidc(issuer.clone())),
        (None, None) => None,
    }
}
