//! `usher check` tells the faults of NATS apart, and names the rights that are missing.

use tonic::Code;

use crate::support::{
    Builder, Client, Gateway, Nats, Redis, eventually,
    grpc::{push, push_with_receipt},
    nats::Role,
    network::silence,
};

/// It fails, and one line about NATS names the address and why.
async fn fails(builder: Builder, address: &str, why: &str) -> String {
    let (code, said) = builder.check().await;
    assert_eq!(code, Some(69), "{said}");
    let tells = |line: &str| line.contains(address) && line.contains(why);
    assert!(said.lines().any(tells), "{address}: {why}: {said}");
    for other in ["refused", "no answer", "wrong password", "too old"] {
        if other != why {
            let of_address = said.lines().filter(|line| line.contains(address));
            for line in of_address {
                assert!(!line.contains(other), "{why}, not {other}: {said}");
            }
        }
    }
    said
}

fn address(nats: &Nats) -> String {
    format!("127.0.0.1:{}", nats.port())
}

#[tokio::test]
async fn a_server_that_is_down_has_refused() {
    let (mut nats, redis) = tokio::join!(Nats::start(), Redis::start());
    nats.kill();
    let builder = Gateway::builder(&nats, &redis);
    fails(builder, &address(&nats), "refused").await;
}

#[tokio::test]
async fn a_listener_that_never_speaks_gives_no_answer() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let silent = silence(None).await;
    let builder = Gateway::builder(&nats, &redis).set("nats.url", format!("nats://{silent}"));
    fails(builder, &silent, "no answer").await;
}

#[tokio::test]
async fn a_wrong_password_is_called_that() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let builder = Gateway::builder(&nats, &redis).set("nats.password", "xyzzy-xyzzy");
    let said = fails(builder, &address(&nats), "wrong password").await;
    assert!(!said.contains("xyzzy"), "{said}");
}

/// Each of several addresses is named with what became of it; one that works is enough.
#[tokio::test]
async fn every_address_that_was_tried_is_named() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let mut dead = Nats::start().await;
    dead.kill();
    let silent = silence(None).await;
    let urls = |last: String| format!("{},nats://{silent}{last}", dead.url());
    let builder = Gateway::builder(&nats, &redis).set("nats.url", urls(String::new()));
    let said = fails(builder, &address(&dead), "refused").await;
    let tells = |line: &str| line.contains(&silent) && line.contains("no answer");
    assert!(said.lines().any(tells), "{said}");

    let all = urls(format!(",{}", nats.url()));
    let builder = Gateway::builder(&nats, &redis).set("nats.url", all);
    let (code, said) = builder.check().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&address(&nats)), "{said}");
}

/// A gateway whose user may do all but this.
async fn without(denied: &str) -> (Nats, Redis) {
    let (gateway, password) = Role::Gateway.login();
    let config = format!(
        "jetstream: enabled\nauthorization {{ users: [\n  \
         {{ user: {gateway}, password: {password}, permissions: {{ {denied} \
         allow_responses: {{ max: -1, expires: \"10s\" }} }} }}\n  \
         {{ user: any, password: any }}\n] }}\n"
    );
    let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    (nats.log_in_as("any", "any"), redis)
}

fn as_gateway(builder: Builder) -> Builder {
    let (user, password) = Role::Gateway.login();
    builder
        .set("nats.user", user)
        .set("nats.password", password)
}

/// `check` names the subject; `serve` warns, lets sessions in, and refuses pushes before
/// it publishes them.
async fn pushes_are_forbidden(denied: &str, subject: &str) {
    let (nats, redis) = without(denied).await;
    let builder = || as_gateway(Gateway::builder(&nats, &redis));
    let (code, said) = builder().check().await;
    assert_eq!(code, Some(69), "{said}");
    let tells = |line: &str| line.contains("FAIL") && line.contains(subject);
    assert!(said.lines().any(tells), "{subject}: {said}");

    let gateway = builder().start().await;
    gateway.readyz_lists("warnings", "push_forbidden").await;
    assert_eq!(gateway.readyz().await, 200);
    eventually("the health of pushes is NOT_SERVING", || async {
        !gateway.serves("usher.v1.Notification").await
    })
    .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut caller = gateway.grpc().await;
    for request in [
        push("42", "\"pushed\""),
        push_with_receipt("42", "\"pushed\""),
    ] {
        let refused = caller.push_notification(request).await;
        let status = refused.expect_err("NATS forbids it");
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
    // Nothing was published, and what others publish arrives.
    nats.publish("usher.user.42", "\"published\"").await;
    assert_eq!(client.next_data().await, "published");
}

#[tokio::test]
async fn the_right_to_publish_to_users_is_missing() {
    let denied = "publish: { allow: \">\", deny: \"usher.user.*\" },";
    pushes_are_forbidden(denied, "usher.user.").await;
}

#[tokio::test]
async fn the_right_to_publish_the_echo_is_missing() {
    let denied = "publish: { allow: \">\", deny: \"usher.live.user.*\" },";
    pushes_are_forbidden(denied, "usher.live.user.").await;
}

#[tokio::test]
async fn the_right_to_hear_the_echo_is_missing() {
    let denied = "publish: \">\", subscribe: { allow: \">\", deny: \"usher.live.user.*\" },";
    pushes_are_forbidden(denied, "usher.live.user.").await;
}

/// With all rights that the example file gives there is nothing to say.
#[tokio::test]
async fn the_example_permissions_are_enough() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    for builder in [
        Gateway::builder(&nats, &redis),
        Gateway::durable(&nats, &redis),
    ] {
        let gateway = builder.start().await;
        let answer = gateway.ops_get("/readyz").await.json();
        assert_eq!(answer["warnings"], serde_json::json!([]), "{answer}");
    }
    for builder in [
        Gateway::builder(&nats, &redis),
        Gateway::durable(&nats, &redis),
    ] {
        let (code, said) = builder.check().await;
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("FAIL"), "{said}");
        assert!(!said.contains("examples/nats-permissions.conf"), "{said}");
    }
}

/// `check` says that it cannot look for streams that are left over.
#[tokio::test]
async fn the_rights_to_look_for_leftovers_are_missing() {
    let rights = [
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.INFO.USHER_BROADCASTS",
    ];
    let denied = format!("publish: {{ allow: \">\", deny: {rights:?} }},");
    let (nats, redis) = without(&denied).await;
    let modes = [
        Gateway::builder(&nats, &redis),
        Gateway::durable(&nats, &redis),
    ];
    for (builder, right) in modes.into_iter().zip(rights) {
        let (code, said) = as_gateway(builder).check().await;
        assert_eq!(code, Some(0), "{said}");
        let tells = |line: &str| line.starts_with("warn") && line.contains(right);
        assert!(said.lines().any(tells), "{right}: {said}");
    }
}

/// A publisher that does not write a user's id as a token is answered by the stream, and
/// nobody gets what it publishes.
#[tokio::test]
async fn subjects_that_are_nobodys_are_named() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    gateway.becomes_ready().await;
    let publisher = nats.client().await;
    let check = async || Gateway::durable(&nats, &redis).check().await;
    let (code, said) = check().await;
    assert!(code == Some(0) && !said.contains("for no user"), "{said}");
    for subject in ["usher.user.bob@localhost", "usher.user.alice"] {
        let stored = publisher.request(subject, "1".into()).await;
        stored.expect("the stream acknowledges it");
    }
    let (code, said) = check().await;
    assert_eq!(code, Some(0), "{said}");
    let named = "usher.user.bob@localhost (meant: usher.user.bob%40localhost?)";
    assert!(
        said.contains(named) && said.contains("1 of the stream's subjects"),
        "{said}"
    );
}
