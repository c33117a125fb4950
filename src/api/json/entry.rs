//! Filters that judge a request by its head: who may come at all, by which method, and with
//! which key.
//!
//! Web pages stay out. A page of another origin sends `Origin`. One whose name was made to
//! point at this machine (DNS rebinding) asks for a foreign host.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
};

use http::{HeaderMap, header::ORIGIN};
use warp::{Filter, Rejection, host::Authority, path::FullPath, reject};

use super::{
    call::{self, Call},
    refusal::Refusal,
};
use crate::api::guard::Guard;

/// The header that stands for `message_id`.
const KEY: &str = "idempotency-key";
/// The names of this machine.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Something that a handler needs.
pub(super) fn given<T: Send + Sync + 'static>(
    thing: &Arc<T>,
) -> impl Filter<Extract = (Arc<T>,), Error = Infallible> + Clone + use<T> {
    let thing = thing.clone();
    warp::any().map(move || thing.clone())
}

/// Exactly this path.
pub(super) fn at(path: &'static str) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    let check = move |full: FullPath| {
        let is_it = full.as_str() == path;
        ready(is_it.then_some(()).ok_or_else(reject::not_found))
    };
    warp::path::full().and_then(check).untuple_one()
}

/// A path with one part between these, which is a name, percent-encoded.
pub(super) fn named(
    before: &'static str,
    after: &'static str,
) -> impl Filter<Extract = (String,), Error = Rejection> + Copy {
    let name = move |full: FullPath| {
        let name = call::named(full.as_str(), before, after);
        let Some(name) = name else {
            return ready(Err(reject::not_found()));
        };
        match percent_encoding::percent_decode_str(name).decode_utf8() {
            Ok(_) if !is_encoded(name) => refuse(Refusal::bad(
                "the name in the path has a % without two hexadecimal digits behind it; write %25",
            )),
            Ok(name) => ready(Ok(name.into_owned())),
            Err(_) => refuse(Refusal::bad(
                "the name in the path is not UTF-8, percent-encoded",
            )),
        }
    };
    warp::path::full().and_then(name)
}

/// Whether each `%` has two hexadecimal digits behind it.
fn is_encoded(name: &str) -> bool {
    let mut parts = name.split('%').skip(1);
    parts.all(|part| {
        let digits = part.bytes().take(2);
        digits.filter(u8::is_ascii_hexdigit).count() == 2
    })
}

/// A filter of methods; warp's own rejection does not say which are `allowed`.
pub(super) fn only<F>(
    allowed: &'static str,
    methods: F,
) -> impl Filter<Extract = (), Error = Rejection> + Copy
where
    F: Filter<Extract = (), Error = Rejection> + Copy + Send,
{
    methods.or_else(move |_| refuse(Refusal::Method(allowed)))
}

/// Passes calls of services that bear a token, where tokens are asked for.
pub(super) fn let_in(
    guard: &Guard,
    loopback: bool,
) -> impl Filter<Extract = (), Error = Rejection> + Clone + use<> {
    let guard = guard.clone();
    let check = move |call: Arc<Call>, headers: HeaderMap, host: Option<Authority>| {
        if headers.contains_key(ORIGIN) {
            return refuse(Refusal::Origin);
        }
        let own = || host.is_some_and(|host| is_own(&host));
        if loopback && !own() {
            return refuse(Refusal::Host);
        }
        if !guard.knows(&headers) {
            return refuse(Refusal::Token);
        }
        call.peer.called();
        ready(Ok(()))
    };
    // A Host that can't be read is a foreign one.
    let host = warp::host::optional().or_else(|_| ready(Ok::<_, Rejection>((None,))));
    warp::ext::get::<Arc<Call>>()
        .and(warp::header::headers_cloned())
        .and(host)
        .and_then(check)
        .untuple_one()
}

fn is_own(host: &Authority) -> bool {
    let name = host.host();
    // `user@localhost` is no Host (RFC 9110 §7.2).
    !host.as_str().contains('@') && OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// The message id that the header brings, if it does.
pub(super) fn key() -> impl Filter<Extract = (Option<String>,), Error = Rejection> + Copy {
    warp::header::headers_cloned().and_then(|headers: HeaderMap| {
        let mut values = headers.get_all(KEY).iter();
        match (values.next(), values.next()) {
            (None, _) => ready(Ok(None)),
            (Some(value), None) => match value.to_str() {
                Ok(key) if !key.is_empty() => ready(Ok(Some(key.to_owned()))),
                _ => refuse(Refusal::bad(
                    "Idempotency-Key is not 1–128 printable ASCII characters without spaces",
                )),
            },
            (Some(_), Some(_)) => refuse(Refusal::bad("send Idempotency-Key once")),
        }
    })
}

/// Passes requests without such a header.
pub(super) fn no_key() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    let check = |headers: HeaderMap| match headers.contains_key(KEY) {
        false => ready(Ok(())),
        true => refuse(Refusal::bad(
            "Idempotency-Key stands for one message; give each push of a batch a message_id",
        )),
    };
    warp::header::headers_cloned().and_then(check).untuple_one()
}

fn refuse<T>(refusal: Refusal) -> Ready<Result<T, Rejection>> {
    ready(Err(refusal.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let own = |host: &str| is_own(&host.parse().expect("an authority"));
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:9090",
        ] {
            assert!(own(host), "{host}");
        }
        for host in [
            "localhost.",
            "localhost.evil.example",
            "evil.example:9090",
            "127.0.0.1.nip.io",
            "127.0.0.2",
            "[::2]:9090",
            "user@localhost",
        ] {
            assert!(!own(host), "{host}");
        }
    }
}
