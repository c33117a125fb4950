//! Sessions that come and go in every way there is, while messages flow. When the
//! last is gone nothing of them is left.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    is_full,
    process::{descriptors, in_memory, mib, resident},
    size,
    support::{Gateway, Nats, eventually, login::in_seconds, servers, wait::PATIENCE},
    thin::Thin,
    tickets::Tickets,
};

const SIZE: &str = "CHURN_SESSIONS";
/// Sessions at once.
const TOGETHER: usize = 400;
const USERS: usize = 3000;
/// Sessions of a user; one more replaces the oldest.
const OF_A_USER: usize = 2;
/// By then jemalloc has given back what is unused, however it is configured.
const DECAY: Duration = Duration::from_secs(12);

/// What a gateway holds.
#[derive(Debug, PartialEq)]
struct Held {
    sessions: f64,
    users: f64,
    subscriptions: f64,
    queued: f64,
    pending: f64,
    tasks: f64,
    descriptors: usize,
}

async fn held(gateway: &Gateway) -> Held {
    Held {
        sessions: gateway.metric("usher_sessions").await,
        users: gateway.metric("usher_users").await,
        subscriptions: gateway.metric("usher_subscriptions").await,
        queued: gateway.metric("usher_queued_bytes").await,
        pending: gateway.metric("usher_pending_connections").await,
        tasks: gateway.metric("usher_tasks").await,
        descriptors: descriptors(gateway.id()),
    }
}

/// The same at rest: a look is a connection and a task too, and the one before
/// may not be gone yet.
async fn at_rest(gateway: &Gateway) -> Held {
    gateway.metric_becomes("usher_sessions", 0.0).await;
    let mut least = held(gateway).await;
    for _ in 0..50 {
        sleep(Duration::from_millis(20)).await;
        let now = held(gateway).await;
        least.tasks = least.tasks.min(now.tasks);
        least.descriptors = least.descriptors.min(now.descriptors);
    }
    least
}

struct Churn {
    gateway: String,
    tickets: Tickets,
    publisher: async_nats::Client,
    ends: Mutex<BTreeMap<&'static str, usize>>,
}

impl Churn {
    fn count(&self, end: &'static str) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry(end).or_default() += 1;
    }

    async fn open(&self, value: &str) -> Thin {
        let opened = self.try_open(value).await;
        opened.unwrap_or_else(|refused| panic!("not let in: {refused}"))
    }

    /// Tries again where NATS or Redis was away: a machine may stall for long.
    async fn try_open(&self, value: &str) -> Result<Thin, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ticket = self.tickets.mint(value).await;
            match timeout(PATIENCE, Thin::open(&self.gateway, &ticket)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(refused)) if refused.to_string() == "503" && Instant::now() < deadline => {
                    self.count("tried again");
                    sleep(Duration::from_millis(500)).await;
                }
                Ok(Err(refused)) => return Err(refused.to_string()),
                Err(_) => return Err("no answer".to_owned()),
            }
        }
    }

    /// Reads until the end, which has to be this one.
    async fn ends_with(&self, mut session: Thin, end: &'static str, code: u16) {
        let found = timeout(PATIENCE, session.closed()).await;
        assert_eq!(found.ok(), Some(code), "{end}");
        self.count(end);
    }

    /// One session, or several where one end takes more; of each thousand all
    /// ends have their part.
    async fn session(&self, number: usize) {
        let user = format!("churn-{}", number % USERS);
        match number % 1000 {
            0 => {
                let user = format!("slow-{number}");
                let session = self.open(&user).await;
                let message = vec![b'1'; 16 * 1024];
                for _ in 0..400 {
                    let subject = format!("usher.user.{user}");
                    let published = self.publisher.publish(subject, message.clone().into());
                    published.await.expect("published");
                }
                self.publisher.flush().await.expect("flushed");
                self.ends_with_slow(session).await;
            }
            // It answers no ping, and not the close frame either.
            1..=10 => {
                let session = self.open(&format!("gone-{number}")).await;
                sleep(Duration::from_secs(6)).await;
                session.reset();
                self.count("half-open");
            }
            11..=40 => {
                let user = format!("expired-{number}");
                let ends = in_seconds(2);
                let value = format!(r#"{{"user_id":"{user}","expires_at":{ends}}}"#);
                match self.try_open(&value).await {
                    Ok(session) => self.ends_with(session, "expired", 4001).await,
                    // A machine that stalls lets it expire on its way.
                    Err(refused) => assert_eq!(refused, "401"),
                }
            }
            41..=60 => {
                let user = format!("replaced-{number}");
                let oldest = self.open(&user).await;
                let mut later = Vec::new();
                for _ in 0..OF_A_USER {
                    later.push(self.open(&user).await);
                }
                self.ends_with(oldest, "replaced", 4101).await;
                for session in later {
                    session.close().await;
                }
            }
            61..=160 => {
                let ticket = "a-ticket-that-nobody-ever-minted";
                let refused = Thin::open(&self.gateway, ticket).await;
                let status = refused.err().map(|error| error.to_string());
                assert!(
                    matches!(status.as_deref(), Some("401" | "503")),
                    "{status:?}"
                );
                self.count("refused");
            }
            161..=460 => {
                let session = self.open(&format!("reset-{user}-{number}")).await;
                session.reset();
                self.count("reset");
            }
            _ => {
                // Its place may be taken by another of the same user meanwhile,
                // which the close does not mind.
                let session = self.open(&user).await;
                session.close().await;
                self.count("closed by the client");
            }
        }
    }

    /// Two kinds of 'slow': told so, where the rest of a frame and the close went
    /// through, else cut off.
    async fn ends_with_slow(&self, mut session: Thin) {
        sleep(Duration::from_secs(1)).await;
        let found = timeout(PATIENCE, session.closed()).await;
        assert!(matches!(found, Ok(4000 | 1006)), "slow: {found:?}");
        self.count("slow");
    }

    async fn run(&self, sessions: std::ops::Range<usize>) {
        let all = stream::iter(sessions);
        all.for_each_concurrent(TOGETHER, |number| self.session(number))
            .await;
    }
}

/// Messages to users who may or may not be there, and some to all.
async fn messages(publisher: async_nats::Client) {
    for number in 0_usize.. {
        let subject = match number % 500 {
            0 => "usher.broadcast".to_owned(),
            _ => format!("usher.user.churn-{}", number * 7919 % USERS),
        };
        let published = publisher.publish(subject, "{\"still\":\"here\"}".into());
        published.await.expect("published");
        if number % 10 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn no_user_is_subscribed(nats: &Nats) -> bool {
    let subjects = nats.all_subjects().await;
    !subjects.iter().any(|s| s.starts_with("usher.user."))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_sessions_that_are_gone() {
    let sessions = size(SIZE, 3000);
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_sessions_per_user", OF_A_USER.to_string())
        .set("session.ping_interval", "1s")
        .set("session.idle_timeout", "3s")
        .set("session.write_timeout", "2s")
        .set("session.queue_bytes", "128KiB")
        .start()
        .await;
    let churn = Churn {
        gateway: gateway.public.clone(),
        tickets: Tickets::at(&redis).await,
        publisher: nats.client().await,
        ends: Mutex::default(),
    };
    let flowing = tokio::spawn(messages(nats.client().await));

    // Warm: whatever is made once is made.
    churn.run(0..sessions / 10).await;
    let before = at_rest(&gateway).await;
    if is_full(SIZE) {
        sleep(DECAY).await;
    }
    let memory = resident(gateway.id());
    println!("at the start: {}", in_memory(gateway.id()));

    let start = Instant::now();
    for quarter in 0..4 {
        churn
            .run(sessions * quarter / 4..sessions * (quarter + 1) / 4)
            .await;
        // A leak grows from one to the next; what is only warm does not.
        println!("quarter {}: {}", quarter + 1, in_memory(gateway.id()));
    }
    let took = start.elapsed();
    let mut after = held(&gateway).await;
    eventually("nothing is left of the sessions", || async {
        no_user_is_subscribed(&nats).await
    })
    .await;
    let deadline = Instant::now() + PATIENCE;
    while after != before && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
        after = held(&gateway).await;
    }
    assert_eq!(after, before, "something is left");
    let admitted = gateway
        .metric("usher_admissions_total{result=\"admitted\"}")
        .await;
    let closed = gateway.metric("usher_session_closes_total").await;
    assert_eq!(admitted, closed, "every session had an end");
    flowing.abort();

    let ends = churn
        .ends
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    println!(
        "{admitted} sessions, {:.0} a second: {ends:?}",
        sessions as f64 / took.as_secs_f64()
    );
    println!("before and after: {before:?}");
    if is_full(SIZE) {
        let peak = resident(gateway.id());
        sleep(DECAY).await;
        let now = resident(gateway.id());
        println!(
            "memory: {} before, {} right after, {} when it has settled",
            mib(memory),
            mib(peak),
            mib(now)
        );
        assert!(now * 10 <= memory * 11, "more than 10% is left");
    }
}
