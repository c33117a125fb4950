//! URLs of NATS, of pages and of collectors, and what all URLs have in common: they may hold credentials.

use std::fmt;

use url::{Position, Url};

use super::value::{Complaint, Shown, Value, quoted};

/// Where NATS is: `nats://` or `tls://` URLs with a host, and nothing behind it; the port and
/// credentials are optional. `Debug` hides the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsServers(pub Vec<Url>);

/// A page that is fetched: an `https://` URL without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl(pub Url);

/// An issuer of OpenID Connect: an `https://` URL without credentials and with nothing behind
/// its path. As it was written, since tokens and the issuer name it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUrl(pub String);

/// Where traces go: an `http://` or `https://` URL with a host, and nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpUrl(pub Url);

impl Value for Option<OtlpUrl> {
    const KIND: &'static str = "an http or https URL";
    const EXAMPLE: &'static str = r#""http://collector:4317""#;
    // Somebody may put a password into it, which the complaint must not show.
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Complaint> {
        if !["http", "https"].contains(&scheme(text)) {
            let complaint = "is no address of a collector; write http://HOST:4317, or \
                             https://HOST:4317";
            return Err(wrong(text, complaint));
        }
        let url = parse(text)?;
        if has_credentials(&url) || hides_credentials(&url) {
            let complaint = "has credentials in it, which are not sent; write http://HOST:4317";
            return Err(wrong(text, complaint));
        }
        match url.path() {
            "" | "/" => Ok(Some(OtlpUrl(url))),
            _ => {
                let complaint = "has a path, as OTLP over HTTP has; this is OTLP over gRPC: \
                                 write http://HOST:4317";
                Err(wrong(text, complaint))
            }
        }
    }

    fn show(&self) -> Shown {
        match self {
            Some(OtlpUrl(url)) => Shown::plain(quoted(url.as_str())),
            None => Shown::unset(Self::EXAMPLE),
        }
    }
}

impl Value for Option<HttpsUrl> {
    const KIND: &'static str = "an https URL";
    const EXAMPLE: &'static str = r#""https://…""#;
    // Somebody may put a password into it, which the complaint must not show.
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Complaint> {
        let good = |url: &Url| {
            let open = !has_credentials(url) && !hides_credentials(url);
            url.scheme() == "https" && url.has_host() && open
        };
        let url = Url::parse(text).ok().filter(good);
        url.map(|url| Some(HttpsUrl(url))).ok_or_else(|| {
            wrong(
                text,
                "is not a URL that can be trusted with keys; write https://HOST/PATH, without \
                 credentials",
            )
        })
    }

    fn show(&self) -> Shown {
        match self {
            // A query may hold a key.
            Some(HttpsUrl(url)) if url.query().is_some() => Shown::hidden(Self::EXAMPLE),
            Some(HttpsUrl(url)) => Shown::plain(quoted(url.as_str())),
            None => Shown::unset(Self::EXAMPLE),
        }
    }
}

impl Value for Option<IssuerUrl> {
    const KIND: &'static str = "an https URL";
    const EXAMPLE: &'static str = r#""https://login.example.com""#;
    // Somebody may put a password into it, which the complaint must not show.
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Complaint> {
        let good = scheme(text) == "https"
            && parse(text).is_ok_and(|url| !has_credentials(&url) && !hides_credentials(&url));
        good.then(|| Some(IssuerUrl(text.to_owned())))
            .ok_or_else(|| {
                wrong(
                    text,
                    "is not an issuer; write https://HOST/PATH as your login writes it, without \
                     credentials, ? and #",
                )
            })
    }

    fn show(&self) -> Shown {
        match self {
            Some(IssuerUrl(url)) => Shown::plain(quoted(url)),
            None => Shown::unset(Self::EXAMPLE),
        }
    }
}

impl Value for NatsServers {
    const KIND: &'static str = "one or several NATS URLs, with commas between, in one text";
    const EXAMPLE: &'static str = r#""nats://a:4222,nats://b:4222""#;
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Complaint> {
        let servers: Vec<_> = text.split(',').collect();
        let read = |(at, server): (usize, &&str)| {
            // Either may be a part of a password with commas in it, which must
            // neither be shown nor be taken for a server.
            let begins = servers[at + 1..].concat().contains('@');
            let ends = servers.len() > 1 && server.contains('@') && !server.contains("://");
            match nats(server) {
                Ok(url) if !ends => Ok(url),
                Err(complaint) if !begins && !ends => Err(complaint),
                _ => Err(format!(
                    "URL {} of {} is not good; write nats://USER:PASSWORD@HOST:PORT, and %2C for \
                     a comma in a password",
                    at + 1,
                    servers.len()
                )),
            }
        };
        servers
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<Vec<Url>, _>>()
            .and_then(|servers| {
                // Servers that the cluster tells of are reached as the first one is.
                let alike = servers
                    .windows(2)
                    .all(|two| two[0].scheme() == two[1].scheme());
                let complaint = "has nats:// and tls:// in it; write the same before each server";
                alike.then_some(Self(servers)).ok_or(complaint.to_owned())
            })
    }

    fn show(&self) -> Shown {
        show(&self.0)
    }
}

impl fmt::Debug for NatsServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show().toml)
    }
}

fn nats(text: &str) -> Result<Url, Complaint> {
    let text = text.trim();
    let text = if text.contains("://") {
        text
    } else {
        &format!("nats://{text}")
    };
    match scheme(text) {
        "nats" | "tls" => {}
        "ws" | "wss" => {
            let complaint = "asks for WebSocket to NATS, which is not supported; write \
                             nats://HOST:PORT, or tls://HOST:PORT";
            return Err(wrong(text, complaint));
        }
        _ => return Err(wrong(text, "is not a URL of NATS; write nats://HOST:PORT")),
    }
    let url = parse(text)?;
    match url.path() {
        "" | "/" => Ok(url),
        _ => Err(wrong(text, "has a path; write nats://HOST:PORT")),
    }
}

/// Reads a URL that has a host, and nothing behind its path.
pub(super) fn parse(text: &str) -> Result<Url, Complaint> {
    let bad = |why: &str| {
        let mend = format!("write {}://HOST:PORT", scheme(text));
        let password = "and %XX for special characters in a password";
        let complaint = format!("is not a good URL ({why}); {mend}, {password}");
        wrong(text, &complaint)
    };
    // The parser would drop some of them in silence.
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(bad("it has a space in it"));
    }
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !url.has_host() {
        return Err(bad("empty host"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it has a `?` or a `#` in it"));
    }
    Ok(url)
}

pub(super) fn wrong(text: &str, complaint: &str) -> Complaint {
    format!("{} {complaint}", quoted(&redacted(text)))
}

fn show(urls: &[Url]) -> Shown {
    let texts: Vec<_> = urls.iter().map(|url| redacted(url.as_str())).collect();
    let toml = quoted(&texts.join(","));
    if urls.iter().any(has_credentials) {
        Shown::hidden(toml)
    } else {
        Shown::plain(toml)
    }
}

/// As much of a URL as anybody may see.
///
/// Where nobody can say where the credentials end, as in a text that does not
/// parse at all, only the scheme is shown.
fn redacted(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.has_host() && !hides_credentials(&url) => {
            let credentials = if has_credentials(&url) { "…@" } else { "" };
            let place = &url[Position::BeforeHost..Position::AfterPath];
            format!("{}://{credentials}{place}", url.scheme())
        }
        _ => match scheme(text) {
            "" => "…".to_owned(),
            scheme => format!("{scheme}://…"),
        },
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// A `/` or `?` in a password ends the host early, for the parser, and leaves an
/// `@` behind it.
fn hides_credentials(url: &Url) -> bool {
    url[Position::AfterPort..].contains('@')
}

/// What stands before `://`, if that is the name of a scheme.
pub(super) fn scheme(text: &str) -> &str {
    let (scheme, _) = text.split_once("://").unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if scheme.chars().all(good) { scheme } else { "" }
}
