//! What a server says never moves somebody's cursor.

use crate::support::{Gateway, Nats, Redis};

/// Words of two real servers that hold escape sequences.
#[tokio::test]
async fn check_spells_out_what_servers_say() {
    let config = r#"server_name: "red\x1b[31m""#;
    let config = format!("{config}\ncluster {{ name: \"clu\\x9b2J\\x07ster\", port: -1 }}\n");
    let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let (_, said) = Gateway::builder(&nats, &redis).check().await;
    assert!(said.contains("red"), "{said}");
    let odd = |c: &char| c.is_control() && *c != '\n';
    assert_eq!(said.chars().find(odd), None, "{said:?}");
    assert!(said.contains("\\u001b[31m"), "{said}");
}
