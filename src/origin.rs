//! Which web pages may open a session (RFC 6454 origins).

use std::fmt;

use url::Url;

/// Where a page comes from: scheme, host and port. Those of the web are in their normal
/// form (lower case, punycode, default port removed); any other, such as
/// `capacitor://localhost`, stands as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// The text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an origin; write it as https://app.example.com")]
pub struct OriginError;

impl Origin {
    /// Reads `scheme://host[:port]`, nothing before or after it.
    ///
    /// # Errors
    ///
    /// [`OriginError`] for anything else, `null` included.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (scheme, place) = text.split_once("://").ok_or(OriginError)?;
        // The parser drops some of these in silence. Without them, all that it
        // finds is a host and a port.
        let other = |c: char| "/\\?#@%".contains(c) || c.is_whitespace() || c.is_control();
        let bare = scheme.bytes().all(|byte| byte.is_ascii_alphabetic())
            && !place.contains(other)
            && !place.ends_with(':');
        let url = Url::parse(text).map_err(|_| OriginError)?;
        match (url.scheme(), url.host_str()) {
            // An asterisk is one in any other spelling too.
            ("http" | "https", Some(host)) if bare && !host.contains('*') => Ok(Self {
                scheme: url.scheme().to_owned(),
                host: host.to_owned(),
                port: url.port(),
            }),
            _ => Self::literal(scheme, place).ok_or(OriginError),
        }
    }

    /// An origin of an app or an extension. Those have rules of their own, so nothing of it
    /// is changed.
    fn literal(scheme: &str, place: &str) -> Option<Self> {
        let name = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let graphic = |byte: u8| byte.is_ascii_graphic() && !b"/\\?#@%*,".contains(&byte);
        // No page has the schemes of the connection itself.
        let web = ["http", "https", "ws", "wss"];
        let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(name)
            && !web.contains(&&*scheme.to_ascii_lowercase())
            && !place.is_empty()
            && place.bytes().all(graphic);
        good.then(|| Self {
            scheme: scheme.to_owned(),
            host: place.to_owned(),
            port: None,
        })
    }

    fn is_of_the_web(&self) -> bool {
        ["http", "https"].contains(&&*self.scheme)
    }

    /// Whether this is where a request with such a `Host` header went.
    fn is_host(&self, host: &str) -> bool {
        let own = format!("{}://{host}", self.scheme);
        self.is_of_the_web() && Self::parse(&own).is_ok_and(|own| own == *self)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// `public.allowed_origins`.
#[derive(Debug, Clone)]
pub enum AllowedOrigins {
    /// The request's own host.
    OwnHost,
    /// Every origin, `null` included.
    Any,
    /// Those listed.
    Listed(Vec<Pattern>),
}

/// One entry of the list.
#[derive(Debug, Clone)]
pub struct Pattern {
    origin: Origin,
    /// The host may have one label or more in front of `origin`'s.
    subdomains: bool,
}

impl AllowedOrigins {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// [`OriginError`] where an entry is none.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, OriginError> {
        match entries {
            [] => Ok(Self::OwnHost),
            [any] if any.as_ref() == "*" => Ok(Self::Any),
            _ => {
                let patterns = entries.iter().map(|entry| Pattern::parse(entry.as_ref()));
                Ok(Self::Listed(patterns.collect::<Result<_, _>>()?))
            }
        }
    }

    /// Whether a request with this `Origin` header may go on. `host` is its
    /// `Host` header. A request without an origin does not come from a page.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match (self, Origin::parse(origin)) {
            (Self::Any, _) => true,
            (_, Err(OriginError)) => false,
            (Self::OwnHost, Ok(origin)) => host.is_some_and(|host| origin.is_host(host)),
            (Self::Listed(patterns), Ok(origin)) => patterns.iter().any(|p| p.matches(&origin)),
        }
    }
}

impl Pattern {
    fn parse(entry: &str) -> Result<Self, OriginError> {
        let (origin, subdomains) = match entry.split_once("://*.") {
            Some((scheme, rest)) => {
                let apex = Origin::parse(&format!("{scheme}://{rest}"))?;
                (
                    Some(apex)
                        .filter(Origin::is_of_the_web)
                        .ok_or(OriginError)?,
                    true,
                )
            }
            None => (Origin::parse(entry)?, false),
        };
        Ok(Self { origin, subdomains })
    }

    fn matches(&self, origin: &Origin) -> bool {
        let host = if self.subdomains {
            origin
                .host
                .strip_suffix(&self.origin.host)
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty())
        } else {
            origin.host == self.origin.host
        };
        host && origin.scheme == self.origin.scheme && origin.port == self.origin.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str], origin: &str, host: &str) -> bool {
        AllowedOrigins::parse(entries)
            .expect("good entries")
            .allow(Some(origin), Some(host))
    }

    #[test]
    fn without_a_list_the_own_host() {
        let own = |origin, host| allowed(&[], origin, host);
        assert!(own("https://app.example.com", "app.example.com"));
        assert!(own("https://App.Example.com", "app.example.COM:443"));
        assert!(own("http://localhost:8080", "localhost:8080"));
        assert!(own("https://xn--bcher-kva.example", "bücher.example"));
        assert!(!own("http://localhost:8081", "localhost:8080"));
        assert!(!own("https://evil.example", "app.example.com"));
        assert!(!own("https://app.example.com:444", "app.example.com"));
        assert!(!own("null", "app.example.com"));
        assert!(!own("https://app.example.com", "app.example.com/x"));
        assert!(!AllowedOrigins::OwnHost.allow(Some("https://a.example"), None));
    }

    #[test]
    fn nothing_is_mended() {
        let own = |origin, host| allowed(&[], origin, host);
        for host in [
            "evil.example/",
            "evil.example\\",
            "/evil.example",
            "evil.example?",
            "evil.example#",
            "@evil.example",
            "app@evil.example",
            "%65vil.example",
            "evil\t.example",
            "evil.example ",
            "",
            ":80",
        ] {
            assert!(!own("http://evil.example", host), "{host:?}");
        }
        for origin in [
            "http:evil.example",
            "http:/evil.example",
            "http:///evil.example",
            "http://evil.example\\",
            "http://@evil.example",
            "http://:@evil.example",
            "http://evil.example#",
            "\thttp://evil.example",
            "ht\ttp://evil.example",
            "http://evil.example\n",
            "ftp://evil.example",
        ] {
            assert!(!own(origin, "evil.example"), "{origin:?}");
        }
        assert!(own("http://evil.example", "evil.example"));
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port_and_nothing_else() {
        for (text, normal) in [
            ("https://a.example", "https://a.example"),
            ("HTTP://A.Example:80", "http://a.example"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            let origin = Origin::parse(text).expect(text);
            assert_eq!(origin.to_string(), normal);
            assert_eq!(Origin::parse(normal), Ok(origin));
        }
        for text in [
            "https:a.example",
            "https:/a.example",
            "https:///a.example",
            "https:\\\\a.example",
            "https://a.example\\",
            " https://a.example",
            "https://a.example ",
            "ht\ttps://a.example",
            "https://a.\nexample",
            "https://@a.example",
            "https://a.example:",
            "https://*.example",
            "https://\u{ff0a}.example",
            "ws://a.example",
        ] {
            assert_eq!(Origin::parse(text), Err(OriginError), "{text:?}");
        }
    }

    #[test]
    fn listed_ones_are_exact() {
        let list = ["https://a.example", "http://b.example:3000"];
        assert!(allowed(&list, "https://a.example:443", "x"));
        assert!(allowed(&list, "http://b.example:3000", "x"));
        for other in [
            "http://a.example",
            "https://a.example.evil",
            "https://b.example:3000",
            "http://b.example",
            "https://a.example/",
            "https://u@a.example",
            "https://x",
            "null",
            "",
        ] {
            assert!(!allowed(&list, other, "x"), "{other}");
        }
    }

    #[test]
    fn any_other_scheme_is_compared_literally() {
        let list = [
            "capacitor://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnop",
            "app+x.y://Main:8080",
        ];
        for listed in list {
            assert!(allowed(&list, listed, "localhost"), "{listed}");
            assert_eq!(Origin::parse(listed).expect(listed).to_string(), listed);
            assert!(!allowed(&[], listed, "localhost"), "no own host: {listed}");
        }
        for other in [
            "capacitor://LOCALHOST",
            "Capacitor://localhost",
            "capacitor://localhost:80",
            "capacitor://localhost/",
            "capacitor://a.localhost",
            "ionic://localhost",
            "http://localhost",
            "chrome-extension://abcdefghijklmno",
        ] {
            assert!(!allowed(&list, other, "localhost"), "{other}");
        }
        for bad in [
            "capacitor://",
            "app://*.a",
            "app://*",
            "1a://a",
            "a b://c",
            "app://a b",
        ] {
            assert!(
                AllowedOrigins::parse(&[bad, "https://a.example"]).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_wildcard_is_one_label_or_more() {
        let list = ["https://*.example.com"];
        assert!(allowed(&list, "https://a.example.com", "x"));
        assert!(allowed(&list, "https://a.b.example.com", "x"));
        for other in [
            "https://example.com",
            "https://evilexample.com",
            "https://.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
        ] {
            assert!(!allowed(&list, other, "x"), "{other}");
        }
    }

    #[test]
    fn any_is_any_and_no_origin_is_no_page() {
        assert!(allowed(&["*"], "null", "x"));
        assert!(allowed(&["*"], "chrome-extension://abc", "x"));
        assert!(AllowedOrigins::OwnHost.allow(None, None));
    }
}
