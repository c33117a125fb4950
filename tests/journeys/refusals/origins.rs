//! Pages of other origins.

use serde_json::json;

use crate::support::{Client, Gateway, servers, world};

#[tokio::test]
async fn a_page_of_another_host_is_refused() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let (_, port) = gateway.public.rsplit_once(':').expect("a port");
    for origin in [
        "https://evil.example".to_owned(),
        "null".to_owned(),
        "http://127.0.0.1".to_owned(),
        "http://127.0.0.1:1".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://{}.evil.example", gateway.public),
        format!("http://evil.example/{}", gateway.public),
        "not a url".to_owned(),
        String::new(),
    ] {
        let answer = Client::builder(&gateway, &ticket)
            .origin(&origin)
            .refused()
            .await;
        answer.assert_refused(403, "origin_denied");
    }
    assert!(redis.exists(&ticket).await);
    let own = format!("http://{}", gateway.public);
    Client::builder(&gateway, &ticket).origin(&own).open().await;

    // Behind a proxy that ends TLS: the browser's own Host, its port the default.
    let ticket = redis.ticket("42").await;
    let builder = Client::builder(&gateway, &ticket).header("Host", "rt.example.com");
    builder.origin("https://rt.example.com:443").open().await;
}

#[tokio::test]
async fn origins_can_be_listed() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis);
    let listed = "https://app.example.com, https://*.apps.example.com,http://localhost:3000";
    let gateway = builder.set("public.allowed_origins", listed).start().await;
    for origin in [
        "https://app.example.com",
        "https://app.example.com:443",
        "https://APP.example.com",
        "https://a.apps.example.com",
        "https://b.a.apps.example.com",
        "http://localhost:3000",
    ] {
        let ticket = redis.ticket("42").await;
        Client::builder(&gateway, &ticket)
            .origin(origin)
            .open()
            .await;
    }
    let ticket = redis.ticket("42").await;
    let own = format!("http://{}", gateway.public);
    for origin in [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://apps.example.com",
        "https://xapps.example.com",
        "https://app.example.com.evil.example",
        "http://localhost:3001",
        "https://localhost:3000",
        "null",
        &own,
    ] {
        let answer = Client::builder(&gateway, &ticket)
            .origin(origin)
            .refused()
            .await;
        answer.assert_refused(403, "origin_denied");
    }
    // Not a browser.
    Client::open(&gateway, &ticket).await;
}

#[tokio::test]
async fn any_origin_can_be_allowed() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.allowed_origins", "*");
    let gateway = builder.start().await;
    for origin in ["https://anywhere.example", "null"] {
        let ticket = redis.ticket("42").await;
        Client::builder(&gateway, &ticket)
            .origin(origin)
            .open()
            .await;
    }
}

#[tokio::test]
async fn a_ticket_can_be_bound_to_one_origin() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.allowed_origins", "*");
    let gateway = builder.start().await;
    let bound = || redis.ticket_json(json!({"user_id": "42", "origin": "https://app.example.com"}));

    let ticket = bound().await;
    Client::builder(&gateway, &ticket)
        .origin("https://app.example.com")
        .open()
        .await;

    for builder in [
        Client::builder(&gateway, &bound().await).origin("https://other.example.com"),
        Client::builder(&gateway, &bound().await).origin("http://app.example.com"),
        Client::builder(&gateway, &bound().await).origin("null"),
        Client::builder(&gateway, &bound().await),
    ] {
        builder
            .refused()
            .await
            .assert_refused(403, "ticket_binding");
    }

    let ticket = bound().await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(403, "ticket_binding");
    assert!(
        !redis.exists(&ticket).await,
        "after Redis a ticket is burnt whatever follows"
    );
}
