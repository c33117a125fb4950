//! Where a request says that it goes. What says so twice, or not at all, could go
//! to one place for a proxy and to another here (RFC 9112, 3.2). The check comes before
//! the routes, which are the same for every host: warp's filters of paths do not look at
//! a target's host, and take for granted that it has a path.

use warp::http::{
    Request, Version,
    header::{HOST, HeaderValue},
    uri::Authority,
};

use super::refusal::Refusal;

/// Looks at a request before any route does.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    let uri = request.uri();
    // Such a request names a host alone, as one for a tunnel does. Routes take for
    // granted that there is a path.
    if uri.path_and_query().is_none() {
        return Err(Refusal::BadRequest("a request has a path"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => authority(host)?,
        (None, None) if request.version() < Version::HTTP_11 => return Ok(()),
        _ => return Err(Refusal::BadRequest("a request has one Host header")),
    };
    match uri.authority() {
        Some(target) if host.as_ref() != Some(target) => Err(Refusal::BadRequest(
            "a request's target and its Host are the same host",
        )),
        _ => Ok(()),
    }
}

/// `None` if a request is for no host in particular, which is legal.
fn authority(host: &HeaderValue) -> Result<Option<Authority>, Refusal> {
    if host.is_empty() {
        return Ok(None);
    }
    Authority::try_from(host.as_bytes())
        .ok()
        .filter(|host| !host.as_str().contains('@'))
        .map(Some)
        .ok_or(Refusal::BadRequest("Host is HOST or HOST:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(target: &str, version: Version, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).expect("a request")).is_ok()
    }

    #[test]
    fn a_request_names_one_host() {
        let names = |hosts: &[&str]| passes("/ws", Version::HTTP_11, hosts);
        for host in ["a.example", "A.example:80", "127.0.0.1:1", "[::1]:8080", ""] {
            assert!(names(&[host]), "{host}");
        }
        for hosts in [
            &[][..],
            &["a.example", "a.example"],
            &["", "a.example"],
            &["u@a.example"],
            &["a.example/"],
            &["a.example?"],
            &["http://a.example"],
            &["a.example\\"],
            &["a example"],
            &["a.example:80:80"],
        ] {
            assert!(!names(hosts), "{hosts:?}");
        }
        assert!(
            passes("/healthz", Version::HTTP_10, &[]),
            "as old probes ask"
        );
        assert!(!passes("/healthz", Version::HTTP_10, &["a", "b"]));
    }

    #[test]
    fn a_target_is_a_path_or_agrees_with_the_host() {
        let goes = |target, host| passes(target, Version::HTTP_11, &[host]);
        assert!(goes("http://a.example/ws", "A.EXAMPLE"));
        assert!(!goes("http://a.example/ws", "b.example"));
        assert!(!goes("http://a.example/ws", ""));
        assert!(!goes("http://a.example:81/ws", "a.example"));
        assert!(!goes("a.example:80", "a.example:80"));
        assert!(!goes("a.example", "a.example"));
    }
}
