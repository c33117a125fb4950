//! Tickets from the gRPC API.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::{Duration as ProtoDuration, Timestamp};
use usher::proto::IssueTicketRequest;

use super::ticket_for;
use crate::support::{Client, eventually, grpc::issue, secret, world};

#[tokio::test]
async fn an_issued_ticket_opens_a_session() {
    let (_nats, redis, gateway) = world().await;
    let mut grpc = gateway.grpc().await;
    let answer = grpc
        .issue_ticket(ticket_for("zoë"))
        .await
        .expect("a ticket")
        .into_inner();
    let ticket = secret(answer.ticket);
    assert_eq!(ticket.len(), 43);
    assert_eq!(
        answer.expires_in,
        Some(ProtoDuration {
            seconds: 60,
            nanos: 0
        })
    );
    assert!(redis.exists(&ticket).await);
    assert_eq!(
        Client::open(&gateway, &ticket).await.welcome()["user"],
        "zoë"
    );
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");

    // A user whose id holds a ticket's JSON is still that user.
    let id = "a{\"user_id\":\"admin\"}";
    let ticket = issue(&mut grpc, ticket_for(id)).await;
    assert_eq!(Client::open(&gateway, &ticket).await.welcome()["user"], id);
}

#[tokio::test]
async fn a_ticket_is_issued_with_bounds() {
    let (_nats, redis, gateway) = world().await;
    let mut grpc = gateway.grpc().await;

    let short = IssueTicketRequest {
        ttl: Some(ProtoDuration {
            seconds: 1,
            nanos: 0,
        }),
        ..ticket_for("42")
    };
    let ticket = issue(&mut grpc, short).await;
    eventually("the ticket expires", || async {
        !redis.exists(&ticket).await
    })
    .await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let ends = IssueTicketRequest {
        expires_at: Some(Timestamp {
            seconds: now.as_secs() as i64 + 2,
            nanos: 0,
        }),
        ..ticket_for("42")
    };
    let mut client = Client::open(&gateway, &issue(&mut grpc, ends).await).await;
    assert_eq!(
        client.expect_close().await,
        (4001, "session_expired".to_owned())
    );

    let own = format!("http://{}", gateway.public);
    let bound = IssueTicketRequest {
        origin: own.clone(),
        ..ticket_for("42")
    };
    let ticket = issue(&mut grpc, bound.clone()).await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(403, "ticket_binding");
    let ticket = issue(&mut grpc, bound).await;
    Client::builder(&gateway, &ticket).origin(&own).open().await;
}
