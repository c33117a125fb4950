//! A ticket comes with a position: what is published after it is sent to the session that
//! begins there, and nothing falls between the page's state and its first frame.

use serde_json::json;
use usher::proto::IssueTicketRequest;

use super::{replayed_data, store, world, world_with};
use crate::support::{
    Client, Gateway, Nats, Redis, eventually, http,
    login::{Login, in_seconds},
    secret,
    wait::patiently,
    world as live_world,
};

const SUBJECT: &str = "usher.user.42";
const SECRET: &str = "a secret of at least thirty-two bytes";

/// How somebody gets a ticket.
#[derive(Debug, Clone, Copy)]
enum Way {
    Grpc,
    Login,
    Demo,
}

/// A ticket, and the position that came with it; none where none did.
async fn issue(gateway: &Gateway, way: Way) -> (String, Option<String>) {
    let body = match way {
        Way::Grpc => {
            let request = IssueTicketRequest {
                user_id: "42".to_owned(),
                ..IssueTicketRequest::default()
            };
            let mut grpc = gateway.grpc().await;
            let answer = patiently("a ticket", grpc.issue_ticket(request)).await;
            let answer = answer.expect("a ticket").into_inner();
            let position = Some(answer.position).filter(|position| !position.is_empty());
            return (secret(answer.ticket), position);
        }
        Way::Login => {
            let claims = json!({ "sub": "42", "exp": in_seconds(600) });
            let token = Login::start().sign_with_secret(SECRET, "HS256", &claims);
            let bearer = format!("Bearer {}", secret(token));
            let headers = [("Authorization", &*bearer), ("Content-Length", "0")];
            let response = http::request("POST", &gateway.public, "/tickets", &headers).await;
            assert_eq!(response.status, 201, "{response:?}");
            response.json()
        }
        Way::Demo => {
            let body = "{\"user_id\":\"42\"}";
            let request = format!(
                "POST /demo/tickets HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                gateway.public,
                body.len()
            );
            let response = http::raw(&gateway.public, request.as_bytes()).await;
            assert_eq!(response.status, 201, "{response:?}");
            response.json()
        }
    };
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    (secret(text("ticket").expect("a ticket")), text("position"))
}

#[tokio::test]
async fn what_is_published_after_a_ticket_is_not_missed() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis)
        .set("tickets.jwt.secret", SECRET)
        .argument("--demo")
        .start()
        .await;
    let publisher = nats.client().await;
    // A stream without a message ends somewhere too.
    for (round, way) in (0..).zip([Way::Grpc, Way::Login, Way::Demo]) {
        let (ticket, position) = issue(&gateway, way).await;
        let position = position.expect("a position");
        store(&publisher, SUBJECT, format!("[{round},\"between\"]")).await;
        let opening = Client::builder(&gateway, &ticket).since(&position).open();
        let mut client = opening.await;
        let welcome = client.welcome();
        assert_eq!(welcome["resume"], "complete", "{way:?}: {welcome}");
        assert_eq!(
            replayed_data(&mut client).await,
            [json!([round, "between"])],
            "{way:?}"
        );
        store(&publisher, SUBJECT, format!("[{round},\"live\"]")).await;
        assert_eq!(client.next_data().await, json!([round, "live"]));
    }
}

#[tokio::test]
async fn live_mode_has_no_position() {
    let (_nats, _redis, gateway) = live_world().await;
    assert_eq!(issue(&gateway, Way::Grpc).await.1, None);
}

/// A ticket whose position can't be had is issued without it.
#[tokio::test]
async fn a_ticket_does_not_wait_for_a_stream_that_does_not_answer() {
    let (mut nats, redis, gateway) = world().await;
    assert!(issue(&gateway, Way::Grpc).await.1.is_some());
    nats.pause();
    let (ticket, position) = issue(&gateway, Way::Grpc).await;
    assert_eq!(position, None);
    assert!(redis.exists(&ticket).await);
    nats.resume();
    eventually("positions come again", || async {
        issue(&gateway, Way::Grpc).await.1.is_some()
    })
    .await;
}

/// Many tickets at once are few questions to the stream's leader.
#[tokio::test]
async fn tickets_share_the_question_where_the_stream_ends() {
    const TICKETS: usize = 400;
    let (nats, _redis, gateway) = world_with(&[("durable.audit", "1h")]).await;
    let asked = async || {
        let account = nats.monitoring("/jsz").await;
        account["api"]["total"].as_u64().expect("a number")
    };
    let grpc = gateway.grpc().await;
    let before = asked().await;
    let tickets = (0..TICKETS).map(|number| {
        let mut grpc = grpc.clone();
        async move {
            let request = IssueTicketRequest {
                user_id: number.to_string(),
                ..IssueTicketRequest::default()
            };
            let answer = patiently("a ticket", grpc.issue_ticket(request)).await;
            let answer = answer.expect("a ticket").into_inner();
            secret(answer.ticket);
            !answer.position.is_empty()
        }
    });
    let positions = futures_util::future::join_all(tickets).await;
    // On a machine that stands still one may come late.
    let with = positions.iter().filter(|position| **position).count();
    assert!(with > TICKETS / 2, "{with} of {TICKETS} have a position");
    let questions = asked().await - before;
    assert!(questions < TICKETS as u64 / 2, "{questions} questions");
}
