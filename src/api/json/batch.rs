//! `POST /v1/push/batch`: many pushes in one request, answered in their order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use warp::{Rejection, reply::Response};

use super::{
    call::{Call, Counted},
    position::Position,
    reading::{Few, read, read_raw, text},
    refusal::{self, Refusal, json},
    shape::{self, Pushed},
};
use crate::{
    api::{Failure, Operations, PushOrder},
    bus::{PublishError, UnderWay},
    metrics::Metrics,
};

/// Pushes of one batch that wait for NATS at the same time.
const WINDOW: usize = 250;

/// `{"pushes":[…]}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    /// Each still as it stands in the body: what is wrong with one concerns no other.
    #[serde(borrow)]
    pushes: Few<&'a RawValue>,
}

/// `{"results":[…]}`.
#[derive(Serialize)]
struct Results {
    results: Vec<Outcome>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Pushed(Pushed),
    Refused(refusal::Body),
}

/// Publishes what can be published. Dropping the future begins no further push.
pub(super) async fn push(
    call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
    metrics: Arc<Metrics>,
) -> Result<Response, Rejection> {
    let orders = orders(&body)?;
    call.count_one_by_one();
    let caller = call.caller.clone();
    let stopped = Arc::new(AtomicBool::new(false));
    let stops = stopped.clone();
    // One is handed over after the other, so pushes to one user keep their order.
    let begun = stream::iter(orders).then(move |order| {
        let counted = Counted::push(metrics.clone());
        let (operations, stopped) = (operations.clone(), stopped.clone());
        let caller = caller.clone();
        async move {
            let begun = match order {
                Ok(_) if stopped.load(Ordering::Relaxed) => Err(Refusal::NotSent),
                Ok(order) => begin(&operations, PushOrder { caller, ..order }, &stopped).await,
                Err(refusal) => Err(refusal),
            };
            (counted, begun)
        }
    });
    let outcomes = begun.map(move |(mut counted, begun)| {
        let stopped = stops.clone();
        async move {
            let outcome = match begun {
                Ok(under_way) => end(under_way, &stopped).await,
                Err(refusal) => Err(refusal),
            };
            counted.ends(outcome.as_ref().err().map_or("OK", Refusal::code));
            match outcome {
                Ok(pushed) => Outcome::Pushed(pushed),
                Err(refusal) => Outcome::Refused(refusal.body()),
            }
        }
    });
    let results = outcomes.buffered(WINDOW).collect().await;
    Ok(json(StatusCode::OK, &Results { results }))
}

/// Hands a push over. Where NATS is away, what comes after it would wait for it as long, one
/// after the other.
async fn begin(
    operations: &Operations,
    order: PushOrder,
    stopped: &AtomicBool,
) -> Result<UnderWay, Refusal> {
    let begun = operations.begin_push(order).await;
    if matches!(begun, Err(Failure::Unavailable(_))) {
        stopped.store(true, Ordering::Relaxed);
    }
    begun.map_err(Refusal::of_publish)
}

/// Waits for what becomes of it. Where NATS does not answer, it would not answer those after it.
async fn end(under_way: UnderWay, stopped: &AtomicBool) -> Result<Pushed, Refusal> {
    let published = under_way.outcome().await;
    if matches!(
        published,
        Err(PublishError::Unavailable | PublishError::Unconfirmed)
    ) {
        stopped.store(true, Ordering::Relaxed);
    }
    let published = published.map_err(|error| Refusal::of_publish(error.into()));
    published.map(Pushed::from)
}

/// What the batch asks for; each entry by itself may be none.
pub(super) fn orders(body: &Bytes) -> Result<Vec<Result<PushOrder, Refusal>>, Refusal> {
    let text = text(body)?;
    let Batch {
        pushes: Few(pushes),
    } = read_raw(text, Position::START)?;
    let (mut at, mut position) = (0, Position::START);
    let orders = pushes.into_iter().map(|push| {
        // Where in the body it stands: it is a part of it.
        let start = push.get().as_ptr() as usize - text.as_ptr() as usize;
        position = position.after(&text.as_bytes()[at..start]);
        at = start;
        let push: shape::Push<'_> = read(push.get(), position)?;
        push.order(body, None)
    });
    Ok(orders.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        match orders(&Bytes::copy_from_slice(body.as_bytes())) {
            Err(Refusal::Bad(why)) => why,
            _ => panic!("not refused: {body}"),
        }
    }

    #[test]
    fn a_batch_has_one_push_to_a_thousand() {
        let batch = |count: usize| {
            let push = "{\"user_id\":\"42\"}";
            format!("{{\"pushes\":[{}]}}", vec![push; count].join(","))
        };
        let orders = |count| orders(&batch(count).into()).map(|orders| orders.len());
        assert_eq!(orders(1), Ok(1));
        assert_eq!(orders(1000), Ok(1000));
        assert!(refused(&batch(0)).contains("1–1000"));
        assert!(refused(&batch(1001)).contains("at most 1000"));
    }

    #[test]
    fn what_is_wrong_with_one_push_is_found_in_the_whole_body() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let body = format!(
            "{{\"pushes\": [\n  {{\"user_id\": \"1\"}},\n  {{\"usr\": \"2\"}},\n  7, \
             {{\"user_id\"\n:3}},\n{{\"user_id\": \"4\", \"data\": {deep}}}]}}"
        );
        let orders = orders(&Bytes::from(body)).expect("a batch");
        let why = |index: usize| match &orders[index] {
            Err(Refusal::Bad(why)) => why.clone(),
            other => panic!("{other:?}"),
        };
        assert!(orders[0].is_ok());
        assert!(
            why(1).starts_with("line 3, column 8: unknown field `usr`"),
            "{}",
            why(1)
        );
        assert!(
            why(2).starts_with("line 4, column 3: send a JSON object"),
            "{}",
            why(2)
        );
        assert!(
            why(3).starts_with("line 5, column 2: invalid type: integer"),
            "{}",
            why(3)
        );
        assert!(
            why(4).starts_with("line 6, column 153: arrays and objects nest deeper"),
            "{}",
            why(4)
        );
    }
}
