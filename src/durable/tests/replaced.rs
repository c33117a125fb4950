use super::away;

/// Two tasks waited for a leader query each. The one with the older answer has its turn last.
#[tokio::test]
async fn an_older_leader_query_does_not_bring_the_former_stream_back() {
    let durable = away::durable(8).await;
    let former = away::leader(7);
    let before = away::open(&durable, &[], &former);
    let mut anew = away::leader(3);
    (anew.epoch, anew.replacements) = ("l".into(), 1);
    let (epoch, closed) = durable.learn(&anew).expect("another stream");
    assert_eq!((&*epoch, closed.len()), ("k", 1));
    assert!(before.track().is_disowned());
    let after = away::open(&durable, &[], &anew);
    assert!(durable.learn(&former).is_none(), "nothing new");
    assert!(durable.is_at(&anew) && !after.track().is_disowned());
}
