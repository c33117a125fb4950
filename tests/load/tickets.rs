//! Tickets by the thousand, over one connection.

use deadpool_redis::redis::{self, aio::MultiplexedConnection};

use crate::support::{
    Redis,
    redis::{key, new_ticket},
};

#[derive(Clone)]
pub(crate) struct Tickets(MultiplexedConnection);

impl Tickets {
    pub(crate) async fn at(redis: &Redis) -> Self {
        Self(redis.client().await)
    }

    /// One with this value.
    pub(crate) async fn mint(&self, value: &str) -> String {
        let ticket = new_ticket();
        let mut set = redis::cmd("SET");
        set.arg(key(&ticket)).arg(value).arg("EX").arg(60);
        let () = set
            .query_async(&mut self.0.clone())
            .await
            .expect("redis-server stores a ticket");
        ticket
    }
}
