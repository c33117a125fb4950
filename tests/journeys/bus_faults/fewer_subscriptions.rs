//! NATS takes fewer subscriptions than a gateway holds: its limit was lowered. Only the
//! sessions beyond the limit end, and not all at once.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::support::{Builder, Client, Frame, Gateway, Nats, Redis, eventually};

const USERS: usize = 30;
/// Subscriptions of one connection.
const LIMIT: usize = 15;
/// An account that is not the default one.
const ACCOUNT: &str = "A";
/// Those that a gateway may need for itself: the broadcast, and a few more.
const OWN: usize = 4;

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// Reads until the session is closed, and returns when; or until the last message, and
/// returns the session.
async fn fate(mut client: Client) -> Result<Client, Instant> {
    loop {
        match client.next_frame().await {
            Frame::Closed(code, reason) => {
                assert_eq!((code, &*reason), (1011, "internal"));
                return Err(Instant::now());
            }
            Frame::Text(text) if text.contains("\"last\"") => return Ok(client),
            _ => {}
        }
    }
}

/// Subscriptions to users.
async fn held(nats: &Nats) -> usize {
    let mut held = 0;
    for account in ["$G", ACCOUNT] {
        let path = format!("/subsz?subs=1&limit=1000&acc={account}");
        let found = nats.monitoring(&path).await;
        let list = found["subscriptions_list"].as_array();
        let subjects = list
            .into_iter()
            .flatten()
            .map(|one| one["subject"].as_str());
        let users = subjects.filter(|subject| subject.is_some_and(|s| s.contains(".user.user-")));
        held += users.count();
    }
    held
}

async fn publish_to_all(nats: &Nats, payload: &'static str) {
    let client = nats.client().await;
    for number in 0..USERS {
        let subject = format!("usher.user.{}", user(number));
        client
            .publish(subject, payload.into())
            .await
            .expect("published");
    }
    client.flush().await.expect("flushed");
}

/// How a server comes to have a lower limit.
enum How {
    /// It is started anew.
    Restart,
    /// It reads its configuration anew, and closes connections that hold more.
    Reload,
}

async fn only_the_excess_ends(
    nats: &mut Nats,
    redis: &Redis,
    builder: Builder,
    how: How,
    lower: &str,
) {
    let gateway = builder.set("drain.window", "2s").start().await;
    let mut fates = Vec::new();
    for number in 0..USERS {
        let ticket = redis.ticket(&user(number)).await;
        fates.push(tokio::spawn(fate(Client::open(&gateway, &ticket).await)));
    }
    assert_eq!(held(nats).await, USERS);
    nats.write_config(lower);
    match how {
        How::Restart => nats.restart().await,
        How::Reload => nats.reload().await,
    }
    eventually("the excess is closed", || async {
        let closed = gateway
            .metric(r#"usher_session_closes_total{reason="internal"}"#)
            .await;
        let open = gateway.metric("usher_sessions").await;
        closed + open == USERS as f64 && open <= LIMIT as f64
    })
    .await;
    eventually("those that are left are subscribed to", || async {
        gateway.metric("usher_sessions").await == held(nats).await as f64
    })
    .await;

    // Those that stay get their messages.
    publish_to_all(nats, "\"last\"").await;
    let (mut stayed, mut closed) = (Vec::new(), Vec::new());
    for (number, fate) in join_all(fates).await.into_iter().enumerate() {
        match fate.expect("no panic") {
            Ok(client) => stayed.push((number, client)),
            Err(at) => closed.push(at),
        }
    }
    assert!(
        (LIMIT - OWN..=LIMIT).contains(&stayed.len()),
        "{} stayed, where {LIMIT} subscriptions are taken",
        stayed.len()
    );
    // Over two seconds, at random or evenly.
    let (first, last) = (closed.iter().min(), closed.iter().max());
    let spread = last.expect("some").duration_since(*first.expect("some"));
    assert!(spread > Duration::from_millis(300), "all within {spread:?}");

    // A newcomer of theirs needs no other subscription.
    let (held, _) = stayed[0];
    Client::open(&gateway, &redis.ticket(&user(held)).await).await;
    let mut newcomers = Vec::new();
    let refusal = loop {
        let ticket = redis.ticket(&format!("new-{}", newcomers.len())).await;
        match Client::try_open(&gateway, &ticket).await {
            Ok(client) => newcomers.push(client),
            Err(refusal) => break refusal,
        }
        assert!(newcomers.len() <= OWN, "there is no room for so many");
    };
    refusal.assert_refused(503, "unavailable");
    publish_to_all(nats, "\"still here\"").await;
    for (number, client) in &mut stayed {
        assert_eq!(client.next_data().await, "still here", "{number}");
    }
    assert_eq!(gateway.readyz().await, 200);
}

/// With so many subscriptions of one connection at most.
fn server(limit: usize) -> String {
    format!("jetstream: enabled\nmax_subscriptions: {limit}\n")
}

#[tokio::test]
async fn a_server_with_a_lower_limit_keeps_what_it_takes() {
    let config = server(1000);
    let (mut nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let builder = Gateway::builder(&nats, &redis);
    only_the_excess_ends(&mut nats, &redis, builder, How::Restart, &server(LIMIT)).await;
}

#[tokio::test]
async fn a_durable_gateway_keeps_what_a_server_takes() {
    let config = server(1000);
    let (mut nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let builder = Gateway::durable(&nats, &redis);
    only_the_excess_ends(&mut nats, &redis, builder, How::Restart, &server(LIMIT)).await;
}

/// The limit of the gateway's account, where the server itself has none.
fn account(limit: usize) -> String {
    format!(
        "accounts {{ {ACCOUNT} {{ users: [{{ user: any, password: any }}], \
         limits {{ max_subscriptions: {limit} }} }} }}\nno_auth_user: any\n"
    )
}

async fn account_is_lowered(how: How) {
    let config = account(1000);
    let (mut nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let builder = Gateway::builder(&nats, &redis);
    only_the_excess_ends(&mut nats, &redis, builder, how, &account(LIMIT)).await;
}

#[tokio::test]
async fn an_account_with_a_lower_limit_keeps_what_it_takes() {
    account_is_lowered(How::Restart).await;
}

#[tokio::test]
async fn an_account_whose_limit_is_lowered_by_a_reload_keeps_what_it_takes() {
    account_is_lowered(How::Reload).await;
}
