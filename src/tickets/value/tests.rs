use super::*;

fn read(value: impl AsRef<[u8]>) -> Result<Grant, RedeemError> {
    super::read(value.as_ref(), true, UNIX_EPOCH + Duration::from_secs(1000))
}

#[test]
fn plain_values_are_the_user_id() {
    assert_eq!(read("42").expect("a grant").user.as_str(), "42");
    assert!(super::read(b"42", false, UNIX_EPOCH).is_err());
}

#[test]
fn json_values_say_more() {
    let grant = read(br#"{"user_id":"42","expires_at":1001,"origin":"https://a.example"}"#)
        .expect("a grant");
    assert_eq!(
        grant.expires_at,
        Some(UNIX_EPOCH + Duration::from_secs(1001))
    );
    assert_eq!(grant.origin, Origin::parse("https://a.example").ok());
    assert!(read(br#"{"user_id":"42","expires_at":99999999999}"#).is_ok());
}

/// Each says which field is wrong, and nothing of what stands there.
#[test]
fn a_value_that_cannot_be_read_says_why() {
    for (bad, why) in [
        (&b"\xff"[..], "not UTF-8"),
        (b"", "is empty"),
        (b"a\nb", "control character"),
        (&[b'x'; 129], "129 bytes"),
        (b"secret ", "white space"),
        (b"{", "not one JSON object"),
        (br#"{"user_id":"secret"} "x""#, "not one JSON object"),
        (b"{}", "user_id is missing"),
        (
            br#"{"user_id":4242}"#,
            "user_id is a number; write it as text",
        ),
        (br#"{"user_id":""}"#, "user_id is empty"),
        (br#"{"user_id":" secret"}"#, "user_id begins or ends"),
        (br#"{"user_id":"{secret"}"#, "user_id begins with {"),
        (
            br#"{"user_id":"secret","admin":true}"#,
            "admin is not a key",
        ),
        (br#"{"user_id":"secret","secret7":1}"#, "a key is not a key"),
        (
            br#"{"user_id":"42","averylongsecretofletters":1}"#,
            "a key is not a key",
        ),
        (
            br#"{"user_id":"secret","user_id":"43"}"#,
            "user_id stands there twice",
        ),
        (
            br#"{"user_id":"secret","expires_at":"2026-11-29T12:00:00Z"}"#,
            "expires_at is text; write a whole number of Unix seconds",
        ),
        (
            br#"{"user_id":"secret","expires_at":1e9}"#,
            "expires_at is a number with a",
        ),
        (
            br#"{"user_id":"secret","expires_at":-1}"#,
            "expires_at is a negative",
        ),
        (
            br#"{"user_id":"secret","expires_at":100000000000}"#,
            "expires_at is 10^11",
        ),
        (
            br#"{"user_id":"secret","expires_at":18446744073709551615}"#,
            "expires_at is 10^11",
        ),
        (br#"{"user_id":"secret","expires_at":1000}"#, "has expired"),
        (
            br#"{"user_id":"secret","origin":"a.secret"}"#,
            "origin is not an origin",
        ),
        (br#"{"user_id":"secret","origin":7}"#, "origin is a number"),
        (
            br#"{"user_id":"42","topics":"secret"}"#,
            "topics is not a list of texts",
        ),
        (
            br#"{"user_id":"42","may_follow":["a",4242]}"#,
            "may_follow has an entry (number 2) that is not a text",
        ),
        (
            br#"{"user_id":"42","may_follow_prefix":[" secret"]}"#,
            "may_follow_prefix has an entry (number 1) that begins or ends",
        ),
        (
            br#"{"user_id":"42","calls":["secret..a"]}"#,
            "calls has an entry (number 1) that names no calls",
        ),
        (
            br#"{"user_id":"42","calls":[],"calls":[]}"#,
            "calls stands there twice",
        ),
        (b" {\"user_id\":\"secret\"}", "before {"),
        (b"\xef\xbb\xbf{\"user_id\":\"secret\"}", "before {"),
        (b"\r\n\xe3\x80\x80{secret", "before {"),
    ] {
        let error = read(bad).expect_err(why).to_string();
        assert!(error.contains(why), "{why}: {error}");
        for value in ["secret", "4242", "2026", "184467"] {
            assert!(!error.contains(value), "{error}");
        }
    }
}

#[test]
fn an_order_reads_back_as_its_grant() {
    let order = Order {
        user: UserId::parse("weird{}\"id").expect("an id"),
        expires_at: Some(2000),
        origin: Origin::parse("https://a.example:8443").ok(),
        grants: Grants::parse(&Lists {
            topics: vec!["news".to_owned()],
            calls: vec!["orders.>".to_owned()],
            ..Lists::default()
        })
        .expect("good lists"),
    };
    let grant = super::read(order.to_value().as_bytes(), false, UNIX_EPOCH).expect("a grant");
    assert_eq!(grant.user, order.user);
    assert_eq!(grant.origin, order.origin);
    assert_eq!(grant.grants, order.grants);
    assert_eq!(
        grant.expires_at,
        Some(UNIX_EPOCH + Duration::from_secs(2000))
    );
    let late = Order {
        expires_at: Some(u64::MAX),
        ..order
    };
    assert!(read(late.to_value()).is_ok());
}
