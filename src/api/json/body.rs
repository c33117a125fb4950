//! Reads the body of a request: JSON, whole, within the bounds that gRPC's messages have.

use std::{pin::pin, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use tokio::time::timeout;
use warp::{Filter, Rejection};

use super::{call::Call, refusal::Refusal};
use crate::api::bodies::ARRIVAL;

/// A body of JSON of at most `most` bytes, and the call that keeps their room until the
/// answer.
pub(super) fn json(
    most: usize,
) -> impl Filter<Extract = (Arc<Call>, Bytes), Error = Rejection> + Clone {
    warp::header::headers_cloned()
        .and(warp::ext::get::<Arc<Call>>())
        .and(warp::body::stream())
        .and_then(move |headers, call: Arc<Call>, body| async move {
            let body = receive(&headers, &call, body, most).await?;
            Ok::<_, Rejection>((call, body))
        })
        .untuple_one()
}

async fn receive(
    headers: &HeaderMap,
    call: &Call,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    most: usize,
) -> Result<Bytes, Refusal> {
    if !is_json(headers) {
        return Err(Refusal::MediaType);
    }
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let busy = || Refusal::Busy {
        publishes: call.publishes(),
    };
    // What says its length is refused before it is read.
    if let Some(length) = length {
        if length > most {
            return Err(Refusal::TooLarge { most });
        }
        if !call.held.take(length) {
            return Err(busy());
        }
    }
    let reading = async {
        let mut body = pin!(body);
        let mut whole = BytesMut::with_capacity(length.unwrap_or(0));
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| Refusal::NotWhole)?;
            if piece.remaining() > most - whole.len() {
                return Err(Refusal::TooLarge { most });
            }
            if length.is_none() && !call.held.take(piece.remaining()) {
                return Err(busy());
            }
            bytes::BufMut::put(&mut whole, piece);
        }
        Ok(whole.freeze())
    };
    timeout(ARRIVAL, reading)
        .await
        .unwrap_or(Err(Refusal::TooSlow))
}

/// Whether the body is JSON, in UTF-8 and not compressed. Pages of other origins can't send
/// such a type unless they are asked to (CORS).
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (types.next(), types.next()) else {
        return false;
    };
    let Ok(kind) = kind.to_str() else {
        return false;
    };
    let mut parts = kind.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let is_utf8 = |part: &str| {
        part.split_once('=').is_some_and(|(name, value)| {
            let value = value.trim_matches('"');
            name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
        })
    };
    let is_plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    is_json
        && parts.all(|part| part.is_empty() || is_utf8(part))
        && headers.get_all(CONTENT_ENCODING).iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(headers: &[(http::HeaderName, &'static str)]) -> bool {
        let pairs = headers.iter().cloned();
        let pairs = pairs.map(|(name, value)| (name, http::HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        is_json(&headers)
    }

    #[test]
    fn only_json_in_utf_8_is_read() {
        for kind in [
            "application/json",
            "Application/JSON ; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json;",
        ] {
            assert!(json(&[(CONTENT_TYPE, kind)]), "{kind}");
        }
        for kind in [
            "",
            "text/plain",
            "application/jsonp",
            "application/grpc+json",
            "application/json; charset=latin1",
            "application/json; boundary=x",
            "text/plain; application/json",
            "text/plain, application/json",
        ] {
            assert!(!json(&[(CONTENT_TYPE, kind)]), "{kind}");
        }
        let good = (CONTENT_TYPE, "application/json");
        assert!(!json(&[]));
        assert!(!json(&[good.clone(), (CONTENT_TYPE, "text/plain")]));
        assert!(!json(&[good.clone(), (CONTENT_ENCODING, "gzip")]));
        assert!(json(&[good, (CONTENT_ENCODING, "identity")]));
    }
}
