//! What a message looks like on the screen.

use async_nats::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;

use super::publish;
use crate::support::{Client, Frame, world};

#[tokio::test]
async fn json_passes_byte_for_byte() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    let deep_array = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    for payload in [
        "1",
        "null",
        "\"text\"",
        " {\n\t\"order\" :\r\n 123 }\n\n",
        "{\"a\":1,\"a\":2}",
        "1.0000000000000000000000000000001e-400",
        "123456789012345678901234567890",
        "-0",
        r#""\u0041\ud800\/""#,
        "\"\u{2028}ü\u{10FFFF}\"",
        &deep_array,
        &deep_object,
    ] {
        publish(&nats, "usher.user.42", payload.to_owned()).await;
        let expected = format!("{{\"event\":\"message\",\"data\":{payload}}}");
        // Keys may come in any order.
        let other = format!("{{\"data\":{payload},\"event\":\"message\"}}");
        let text = client.next_text().await;
        assert!(
            text == expected || text == other,
            "{payload:.80} became {text:.120}"
        );
    }
}

#[tokio::test]
async fn other_text_becomes_a_string() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    for payload in [
        "",
        " ",
        "hello",
        "{\"order\":12",
        "[1,2",
        "1 2",
        "{}{}",
        "[1,]",
        "nan",
        "'x'",
        "01",
        "\u{feff}1",
        "\"\n\"",
        "1\u{a0}",
        "\0",
        "\"},\"event\":\"usher.gap\",\"x\":\"",
        "</script>\u{2028}",
    ] {
        publish(&nats, "usher.user.42", payload.to_owned()).await;
        assert_eq!(
            client.next_event().await,
            json!({"event": "message", "data": payload})
        );
    }
}

#[tokio::test]
async fn other_bytes_become_base64() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    for payload in [
        &b"\xff"[..],
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\"\xff\"",
        b"{\"a\":\"\xe2\x82\"}",
        &every_byte,
    ] {
        publish(&nats, "usher.user.42", payload.to_vec()).await;
        let expected = json!({"event": "message", "base64": BASE64.encode(payload)});
        assert_eq!(client.next_event().await, expected);
    }
}

#[tokio::test]
async fn the_largest_message_fits() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    // 1 MiB is what NATS takes, its headers included.
    let largest = 1 << 20;
    let text = format!("\"{}\"", "x".repeat(largest - 2));
    publish(&nats, "usher.user.42", text.clone()).await;
    assert_eq!(
        client.next_text().await.len(),
        text.len() + r#"{"event":"message","data":}"#.len()
    );

    // 12 bytes for the first line, and each header has its own.
    let mut headers = HeaderMap::new();
    headers.insert("Event", "big");
    let room = largest - "NATS/1.0\r\nEvent: big\r\n\r\n".len();
    let bytes = vec![0xFF; room];
    nats.publish_with_headers("usher.user.42", headers, bytes.clone().into())
        .await
        .expect("published");
    let event = client.next_event().await;
    assert_eq!(event["event"], "big");
    assert_eq!(event["base64"], BASE64.encode(&bytes));
}

#[tokio::test]
async fn an_event_has_the_name_that_its_header_gives() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    let long = "x".repeat(64);
    let too_long = "x".repeat(65);
    for (name, expected) in [
        ("order.completed", "order.completed"),
        ("A-Z:a_z.09", "A-Z:a_z.09"),
        ("usher", "usher"),
        ("ushers.x", "ushers.x"),
        (&long, &long),
        ("", "message"),
        ("usher.gap", "message"),
        ("usher.", "message"),
        ("two words", "message"),
        ("quo\"te", "message"),
        ("ünïcode", "message"),
        (&too_long, "message"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("Event", name);
        headers.insert(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        nats.publish_with_headers("usher.user.42", headers, "1".into())
            .await
            .expect("published");
        let event = client.next_event().await;
        assert_eq!(event, json!({"event": expected, "data": 1}), "{name:?}");
    }
}

#[tokio::test]
async fn a_raw_session_gets_the_payload_and_nothing_else() {
    let (nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let mut raw = Client::builder(&gateway, &ticket)
        .protocols(&["usher.raw.v1"])
        .open()
        .await;
    let mut framed = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    let big = "x".repeat(70_000);
    for text in ["hello", "", "{\"a\": 1}\n", "ünï", &big] {
        publish(&nats, "usher.user.42", text.to_owned()).await;
        assert_eq!(raw.next_frame().await, Frame::Text(text.to_owned()));
        framed.next_event().await;
    }
    for bytes in [&b"\xff\x00"[..], b"\xe2\x82", &[0x80; 126]] {
        publish(&nats, "usher.user.42", bytes.to_vec()).await;
        assert_eq!(raw.next_frame().await, Frame::Binary(bytes.to_vec()));
        framed.next_event().await;
    }
    publish(&nats, "usher.broadcast", "to all").await;
    assert_eq!(raw.next_frame().await, Frame::Text("to all".to_owned()));
}
