//! The tables of requests and their answers: each path of the HTTP listeners by
//! each method, and paths that are almost one of them.
//!
//! A line of a table is a request, then its answer:
//! `METHOD TARGET +WHAT… = STATUS CODE header: value; …`. `+WHAT` is one of the
//! parts that [`part`] knows. `Retry-After` is random, so its value stands as `*`.
//! `json` stands for [`OF_JSON`], the headers that all JSON answers share.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{Builder, Gateway, Response, gateway, http, servers, wait::patiently};

const APP: &str = "https://app.example.com";
const OF_JSON: [&str; 3] = [
    "cache-control: no-store",
    "connection: close",
    "content-type: application/json",
];

#[tokio::test]
async fn the_public_listener() {
    let (nats, redis) = servers().await;
    let gateway = complete(Gateway::builder(&nats, &redis)).start().await;
    holds(&gateway.public, include_str!("paths/public.txt")).await;
}

#[tokio::test]
async fn the_public_listener_with_a_prefix() {
    let (nats, redis) = servers().await;
    let builder = complete(Gateway::builder(&nats, &redis)).set("public.path_prefix", "/a/b");
    let gateway = builder.start().await;
    holds(&gateway.public, include_str!("paths/prefixed.txt")).await;
}

/// Without `tickets.jwt` there is no `/tickets`.
#[tokio::test]
async fn the_public_listener_without_logins() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    holds(&gateway.public, include_str!("paths/no_logins.txt")).await;
}

#[tokio::test]
async fn the_demo() {
    let gateway = demo().start().await;
    holds(&gateway.public, include_str!("paths/demo.txt")).await;
}

#[tokio::test]
async fn the_demo_with_a_prefix() {
    let gateway = demo().set("public.path_prefix", "/a").start().await;
    holds(&gateway.public, include_str!("paths/demo_prefixed.txt")).await;
}

#[tokio::test]
async fn the_operators_listener() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    holds(&gateway.ops, include_str!("paths/ops.txt")).await;
}

/// What is counted of the requests of one table.
#[tokio::test]
async fn refused_requests_are_counted_by_their_code() {
    let (nats, redis) = servers().await;
    let gateway = complete(Gateway::builder(&nats, &redis)).start().await;
    for line in [
        "PUT /ws",
        "GET /ws",
        "GET /ws +ws",
        "PUT /events",
        "GET /events",
        "OPTIONS /events",
        // A preflight asks for no session.
        "OPTIONS /events +app +ask",
        "OPTIONS /events +evil +ask",
        "GET /tickets",
        "POST /tickets",
        "POST /tickets +evil",
        "OPTIONS /tickets +evil +ask",
        "GET /nowhere",
        "PUT /healthz",
    ] {
        answer(&gateway.public, line).await;
    }
    for (sample, count) in [
        (
            r#"usher_admissions_total{result="method_not_allowed"}"#,
            3.0,
        ),
        (r#"usher_admissions_total{result="upgrade_required"}"#, 1.0),
        (r#"usher_admissions_total{result="ticket_missing"}"#, 2.0),
        ("usher_admissions_total", 6.0),
        (r#"usher_mints_total{result="method_not_allowed"}"#, 1.0),
        (r#"usher_mints_total{result="token_missing"}"#, 1.0),
        (r#"usher_mints_total{result="origin_denied"}"#, 1.0),
        ("usher_mints_total", 3.0),
    ] {
        assert_eq!(gateway.metric(sample).await, count, "{sample}");
    }
}

/// One that serves every path there is, to the pages of one origin.
fn complete(builder: gateway::Builder) -> gateway::Builder {
    builder.set("public.allowed_origins", APP).set(
        "tickets.jwt.secret",
        "a secret of at least thirty-two bytes",
    )
}

fn demo() -> Builder {
    Builder::new().argument("--embedded").argument("--demo")
}

/// Sends each request of a table, and compares the answers with it.
async fn holds(address: &str, table: &str) {
    let mut seen = String::new();
    for line in table.lines() {
        match line.split(" = ").next() {
            Some(request) if !request.is_empty() && !request.starts_with('#') => {
                let answer = answer(address, request).await;
                let answer = shown(&answer).replace(address, "{host}");
                seen += &format!("{request} = {answer}\n");
            }
            _ => seen += &format!("{line}\n"),
        }
    }
    let wrong: Vec<_> = seen
        .lines()
        .zip(table.lines())
        .filter(|(seen, wanted)| seen != wanted)
        .map(|(seen, wanted)| format!("is:        {seen}\nshould be: {wanted}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sends one request, and reads the answer as far as its method has one.
async fn answer(address: &str, request: &str) -> Response {
    let mut words = request.split(' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default().replace("{host}", address);
    let (mut headers, mut body) = (Vec::new(), "");
    for word in words {
        let part = part(word);
        headers.extend_from_slice(part.0);
        body = if part.1.is_empty() { body } else { part.1 };
    }
    let own = format!("http://{address}");
    let mut lines: Vec<(&str, &str)> = headers;
    for (_, value) in &mut lines {
        if *value == "{own}" {
            *value = &own;
        }
    }
    let bytes = http::head(method, address, &target, &lines) + body;
    patiently(request, async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(bytes.as_bytes()).await.expect("taken");
        let mut buffer = Vec::new();
        let mut answer = http::read_head(&mut stream, &mut buffer).await;
        if method != "HEAD" {
            http::read_body(&mut answer, &mut stream, &mut buffer).await;
        }
        answer
    })
    .await
}

/// The headers that a word of a table stands for, and the body.
fn part(word: &str) -> (&'static [(&'static str, &'static str)], &'static str) {
    match word {
        "+ws" => (
            &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
            "",
        ),
        "+app" => (&[("Origin", APP)], ""),
        "+evil" => (&[("Origin", "https://evil.example")], ""),
        "+own" => (&[("Origin", "{own}")], ""),
        "+ask" => (&[("Access-Control-Request-Method", "GET")], ""),
        "+foreign" => (&[("Host", "evil.example")], ""),
        "+token" => (&[("Authorization", "Bearer x.y.z")], ""),
        "+json" => (&[("Content-Type", "application/json; charset=utf-8")], ""),
        "+text" => (&[("Content-Type", "text/plain")], ""),
        "+empty" => (&[("Content-Length", "0")], ""),
        "+braces" => (&[("Content-Length", "2")], "{}"),
        "+user" => (&[("Content-Length", "16")], r#"{"user_id":"42"}"#),
        "+push" => (&[("Content-Length", "25")], r#"{"user_id":"42","data":1}"#),
        "+topic" => (&[("Content-Length", "22")], r#"{"topic":"a","data":1}"#),
        "+data" => (&[("Content-Length", "10")], r#"{"data":1}"#),
        "+chunks" => (
            &[("Transfer-Encoding", "chunked")],
            "10\r\n{\"user_id\":\"42\"}\r\n0\r\n\r\n",
        ),
        "+huge" => (&[("Content-Length", "2097152")], ""),
        _ => panic!("no part of a request: {word}"),
    }
}

/// An answer as a table has it.
fn shown(answer: &Response) -> String {
    let mut words = vec![answer.status.to_string()];
    let error = serde_json::from_slice::<serde_json::Value>(&answer.body)
        .ok()
        .and_then(|body| Some(body.get("error")?["code"].as_str()?.to_owned()));
    words.extend(error);
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "content-length"].contains(&&*name.to_ascii_lowercase()))
        .map(|(name, value)| match &*name.to_ascii_lowercase() {
            "retry-after" => "retry-after: *".to_owned(),
            name => format!("{name}: {value}"),
        })
        .collect();
    if OF_JSON
        .iter()
        .all(|header| headers.iter().any(|h| h == header))
    {
        headers.retain(|header| !OF_JSON.contains(&&**header));
        words.push("json".to_owned());
    }
    headers.sort();
    if !headers.is_empty() {
        words.push(headers.join("; "));
    }
    words.join(" ")
}
