//! What the keys of `tickets.jwt` must be together.

use crate::{
    config::{
        keys::{TicketsJwt, TicketsJwtTls},
        value::{Complaint, quoted},
    },
    tokens,
};

const SECRET: &str = "tickets.jwt.secret";
const FILE: &str = "tickets.jwt.public_key_file";
const URL: &str = "tickets.jwt.jwks_url";
const OIDC: &str = "tickets.jwt.oidc_issuer";
const ISSUER: &str = "tickets.jwt.issuer";
const AUDIENCE: &str = "tickets.jwt.audience";

type Verdict = Result<(), (&'static str, Complaint)>;

/// An error names the key to mend.
pub(super) fn jwt_together(jwt: &TicketsJwt, tls: &TicketsJwtTls) -> Verdict {
    let given: Vec<_> = [
        (SECRET, jwt.secret.is_some()),
        (FILE, jwt.public_key_file.is_some()),
        (URL, jwt.jwks_url.is_some()),
        (OIDC, jwt.oidc_issuer.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    let source = match given[..] {
        [] => return nothing_without_a_source(jwt, tls),
        [source] => source,
        [one, other, ..] => return Err((other, format!("{one} is set too; keep one of the two"))),
    };
    remote(source, jwt)?;
    if tls.ca_file.is_some() && ![URL, OIDC].contains(&source) {
        let complaint = format!("is for {URL} and {OIDC}; set one of them, or leave it out");
        return Err(("tickets.jwt.tls.ca_file", complaint));
    }
    if jwt.audience_claim != "aud" && jwt.audience.is_none() {
        let complaint = format!("goes with {AUDIENCE}; set that too, or leave it out");
        return Err(("tickets.jwt.audience_claim", complaint));
    }
    let wrong = |name: &&String| tokens::is_symmetric(name) != Some(source == SECRET);
    if let Some(name) = jwt.algorithms.iter().find(wrong) {
        let complaint = format!(
            "{} does not go with {source}; write one that does, or leave it out",
            quoted(name)
        );
        return Err(("tickets.jwt.algorithms", complaint));
    }
    Ok(())
}

fn nothing_without_a_source(jwt: &TicketsJwt, tls: &TicketsJwtTls) -> Verdict {
    let useless = [
        ("tickets.jwt.connect", jwt.connect),
        (ISSUER, jwt.issuer.is_some()),
        (AUDIENCE, jwt.audience.is_some()),
        ("tickets.jwt.audience_claim", jwt.audience_claim != "aud"),
        ("tickets.jwt.algorithms", !jwt.algorithms.is_empty()),
        ("tickets.jwt.topics_claim", jwt.topics_claim.is_some()),
        (
            "tickets.jwt.may_follow_claim",
            jwt.may_follow_claim.is_some(),
        ),
        (
            "tickets.jwt.may_follow_prefix_claim",
            jwt.may_follow_prefix_claim.is_some(),
        ),
        ("tickets.jwt.calls_claim", jwt.calls_claim.is_some()),
        ("tickets.jwt.tls.ca_file", tls.ca_file.is_some()),
    ];
    match useless.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((key, _)) => {
            let complaint = format!("goes with a key; set {SECRET}, {FILE}, {URL} or {OIDC} too");
            Err((key, complaint))
        }
    }
}

/// Keys that others publish sign tokens for others, too.
fn remote(source: &'static str, jwt: &TicketsJwt) -> Verdict {
    if source == OIDC && jwt.issuer.is_some() {
        let complaint = format!("{OIDC} is set, which is the issuer too; leave this one out");
        return Err((ISSUER, complaint));
    }
    if source == OIDC && jwt.audience.is_none() {
        let complaint = format!("needs {AUDIENCE}, or tokens for others would do; set it");
        return Err((OIDC, complaint));
    }
    if source == URL {
        let missing = [
            (ISSUER, jwt.issuer.is_none()),
            (AUDIENCE, jwt.audience.is_none()),
        ];
        if let Some((key, _)) = missing.into_iter().find(|(_, missing)| *missing) {
            let complaint =
                format!("needs {ISSUER} and {AUDIENCE}, or tokens for others would do; set {key}");
            return Err((URL, complaint));
        }
    }
    Ok(())
}
