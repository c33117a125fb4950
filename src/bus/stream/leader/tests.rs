use super::{info::epoch, *};
use crate::bus::stream::info::StreamInfo;

/// `None` without a leader.
fn leader(json: serde_json::Value) -> Option<LeaderState> {
    let answer: StreamInfo = serde_json::from_value(json).expect("an answer");
    let has_leader = answer.has_leader();
    has_leader.then(|| answer.leader().expect("a state"))
}

fn info(created: &str, cluster: serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "config": {"name": "USHER", "max_msgs_per_subject": 5, "num_replicas": 3},
        "created": created,
        "state": {"first_seq": 4, "last_seq": 8, "messages": 5, "bytes": 9, "last_ts": created},
        "cluster": cluster,
    })
}

#[test]
fn a_leaders_answer_counts_and_an_orphans_does_not() {
    let led = info(
        "2026-11-24T18:19:55.646780212Z",
        serde_json::json!({"leader": "a"}),
    );
    let led = leader(led).expect("a leader");
    assert_eq!((led.first, led.last, led.per_subject), (4, 8, Some(5)));
    assert!(led.replicated);
    for orphan in [serde_json::json!({}), serde_json::json!({"leader": ""})] {
        assert_eq!(leader(info("2026-11-24T18:19:55Z", orphan)), None);
    }
}

/// A stream whose sequences begin elsewhere, before its first message.
#[test]
fn a_stream_without_a_last_time_is_one() {
    let mut begun = info("2026-11-24T18:19:55Z", serde_json::Value::Null);
    begun["state"]["last_ts"] = "0001-01-01T00:00:00Z".into();
    let leader = leader(begun).expect("a leader");
    assert_eq!((leader.last, leader.last_at), (8, 0));
}

#[test]
fn an_epoch_is_a_position_s_and_tells_streams_apart() {
    let epoch = |created| epoch(created).expect("a time").to_string();
    let (one, other) = (
        epoch("2026-11-24T18:19:55.646780212Z"),
        epoch("2026-11-24T18:19:55.646780213Z"),
    );
    assert_ne!(one, other);
    let position = format!("{one}.7.7.1");
    assert!(
        crate::position::Since::parse(&position).is_ok(),
        "{position}"
    );
}

#[test]
fn each_replacement_of_the_stream_is_counted() {
    let queries = LeaderQueries::default();
    assert!(queries.remember_epoch(&"k".into()) && queries.remember_epoch(&"k".into()));
    assert_eq!(queries.count(Compared::Same), (0, 0));
    assert_eq!(queries.count(Compared::Other), (1, 0), "it was set back");
    assert_eq!(queries.count(Compared::Gone), (1, 1), "nobody can say");
    assert!(!queries.remember_epoch(&"l".into()));
    assert_eq!(queries.count(Compared::Same), (2, 1), "it was made anew");
}

#[test]
fn no_stream_is_said_so() {
    let none = StreamError::Api {
        code: 404,
        description: "stream not found".to_owned(),
    };
    let there_is_none = StreamError::NotThere("USHER".to_owned());
    assert_eq!(none.of_stream("USHER"), there_is_none);
}
