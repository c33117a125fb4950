//! Admission: from a request to a session's handle, in the contract's order of checks.
//!
//! Nothing before the redeeming of the ticket consumes it; after it the ticket
//! is used up whatever follows.

use std::{
    net::IpAddr,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use warp::http::HeaderMap;

use super::{
    address::{AddressPermit, PermitsByAddress},
    centrifuge::Connect,
    credentials::{Credentials, Granted, OriginMark},
    join::Joins,
    refusal::Refusal,
    refusal_log::RefusalLog,
    refusal_rate::RefusalRate,
    request::{Request, Shown, host, origin},
    transport::Kind,
};
use crate::{
    client_address::TrustedProxies,
    durable::Opening,
    frame::Protocol,
    grants::Grants,
    metrics::Metrics,
    origin::AllowedOrigins,
    position::Since,
    registry::SessionHandle,
    telemetry::{Operation, Span, Tracer},
    trace::Caller,
};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Who may come in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Pages that may open a session.
    pub allowed_origins: AllowedOrigins,
    /// Sessions of this gateway at most.
    pub max_sessions: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// 400, 401 and 403 to one address in a second; 0 for any number.
    pub refusals_per_second: u32,
    /// Connections of one address that are not admitted yet; 0 for any number.
    pub max_pending_per_address: usize,
    /// Records admissions.
    pub tracer: Tracer,
}

/// Admits sessions, until it is closed.
#[derive(Debug)]
pub struct Admissions {
    allowed_origins: AllowedOrigins,
    permits: Arc<Semaphore>,
    max_sessions: usize,
    trusted_proxies: TrustedProxies,
    warned_of_proxies: Once,
    refusals: Option<RefusalRate>,
    refusal_log: RefusalLog,
    pending: Option<Arc<PermitsByAddress>>,
    draining: AtomicBool,
    restarting: AtomicBool,
    credentials: Arc<Credentials>,
    joins: Joins,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

/// A session that may begin.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) handle: SessionHandle,
    /// Where it begins. `None` if a service has ended the session on its way in.
    pub(super) opening: Option<Opening>,
    /// One of `max_sessions`.
    pub(super) permit: OwnedSemaphorePermit,
    /// When the ticket or token says that the session ends.
    pub(super) expires_at: Option<SystemTime>,
    /// What the session keeps of its origin, where it may be refreshed.
    pub(super) origin: Option<OriginMark>,
    /// The command that opened it, over the Centrifuge protocol.
    pub(super) connect: Option<Box<Connect>>,
    /// What the session may do; most have none.
    pub(super) grants: Option<Box<Grants>>,
}

impl Admissions {
    /// Admits newcomers.
    pub fn new(
        config: Config,
        credentials: Arc<Credentials>,
        joins: Joins,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            allowed_origins: config.allowed_origins,
            permits: Arc::new(Semaphore::new(config.max_sessions)),
            max_sessions: config.max_sessions,
            trusted_proxies: config.trusted_proxies,
            warned_of_proxies: Once::new(),
            refusals: RefusalRate::new(config.refusals_per_second),
            refusal_log: RefusalLog::default(),
            pending: PermitsByAddress::new(config.max_pending_per_address),
            draining: AtomicBool::new(false),
            restarting: AtomicBool::new(false),
            credentials,
            joins,
            metrics,
            tracer: config.tracer,
        }
    }

    /// From now on newcomers are answered 503 `draining`.
    pub fn close(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// From now on newcomers are answered 503 `draining`, until [`Admissions::end_restart`]. False
    /// where that is so already.
    pub(super) fn begin_restart(&self) -> bool {
        !self.restarting.swap(true, Ordering::Relaxed)
    }

    /// Newcomers are admitted again, unless the gateway drains.
    pub(super) fn end_restart(&self) {
        self.restarting.store(false, Ordering::Relaxed);
    }

    fn refuses(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.restarting.load(Ordering::Relaxed)
    }

    /// Sessions that are open, or on their way in.
    pub fn held(&self) -> usize {
        self.max_sessions - self.permits.available_permits()
    }

    /// Where requests are counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Who sent a request, whatever stands in between.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            // What cannot be read is no address.
            .map(|value| value.to_str().unwrap_or("?"))
            .collect();
        if !forwarded.is_empty() && !self.trusted_proxies.contains(peer.to_canonical()) {
            self.warned_of_proxies.call_once(|| {
                tracing::warn!(
                    "somebody who is not in public.trusted_proxies sends X-Forwarded-For; it is \
                     ignored: if that is your proxy, list it there (said once)"
                );
            });
        }
        self.trusted_proxies.client(peer, forwarded.into_iter())
    }

    /// What a new connection of `peer` holds until it is admitted. A trusted proxy holds
    /// nothing: it speaks for many.
    ///
    /// # Errors
    ///
    /// 503 [`Refusal::FullForAddress`]: the address has `public.max_pending_per_ip` of them.
    pub(super) fn pending_peer(&self, peer: IpAddr) -> Result<Option<AddressPermit>, Refusal> {
        match &self.pending {
            Some(pending) if !self.trusted_proxies.contains(peer.to_canonical()) => {
                pending.take(peer).map(Some).ok_or(Refusal::FullForAddress)
            }
            _ => Ok(None),
        }
    }

    /// What the connection holds in addition once its request is there, if `peer` is a
    /// trusted proxy: a permit of the client that the proxy names.
    ///
    /// # Errors
    ///
    /// 503 [`Refusal::FullForAddress`], as [`Admissions::pending_peer`].
    pub(super) fn pending_client(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Option<AddressPermit>, Refusal> {
        if self.pending.is_none() || !self.trusted_proxies.contains(peer.to_canonical()) {
            return Ok(None);
        }
        self.pending_peer(self.client(peer, headers))
    }

    /// Counts what became of a client that was judged after its upgrade.
    pub(super) fn count(&self, result: &str) {
        self.metrics.admissions.with_label_values(&[result]).inc();
    }

    /// Counts a connection that `public.max_pending` or `public.max_pending_per_ip` has
    /// no room for.
    pub(super) fn count_full(&self, refusal: Refusal, reason: &str) {
        let full = [refusal.code()];
        self.metrics.admissions.with_label_values(&full).inc();
        self.metrics.connections_cut(reason);
        self.refusal_log.tell(refusal, None);
    }

    /// Begins to record a request for a session, where its trace is recorded.
    pub(super) fn record(&self, request: &mut Request, transport: Kind) -> Option<Span> {
        if !self.tracer.is_on() {
            return None;
        }
        let caller = Caller::of(&request.headers);
        let trace = self.tracer.follow(caller.parent);
        let mut span = self.tracer.span(Operation::Admission, trace)?;
        span.set("usher.transport", transport.name());
        span.set("usher.result", "client_gone");
        span.set_state(caller.state.as_deref());
        request.trace = span.inside();
        Some(span)
    }

    /// Refuses an address that was refused too often.
    ///
    /// # Errors
    ///
    /// 429 [`Refusal::TooMany`]
    pub(super) fn check_rate(&self, client: IpAddr) -> Result<(), Refusal> {
        match &self.refusals {
            Some(rate) if rate.is_over(client) => Err(Refusal::TooMany),
            _ => Ok(()),
        }
    }

    /// Refuses pages of an origin that is not in `public.allowed_origins`.
    ///
    /// # Errors
    ///
    /// 403 [`Refusal::OriginDenied`]
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.allowed_origins.allow(origin(headers), host(headers)) {
            Ok(())
        } else {
            Err(Refusal::OriginDenied)
        }
    }

    /// Admits a session: all checks after those of the request's own form, in the contract's
    /// order. `shown` is what the request shows to be let in; it is judged only in its turn.
    ///
    /// Dropping the future, or the result, leaves no session behind; a ticket may be used up.
    ///
    /// # Errors
    ///
    /// The first of these refusals. The first seven use no ticket up:
    ///
    /// 1. 400 [`Refusal::BadRequest`]: a topic of `follow` is none.
    /// 2. 503 [`Refusal::Draining`]: the gateway ends, or the demo's restart is under way.
    /// 3. 503 [`Refusal::Full`]: there are `public.max_sessions` sessions.
    /// 4. 503 [`Refusal::Unavailable`]: NATS is away, or in durable mode the stream: see
    ///    [`Joins::check`].
    /// 5. 429 [`Refusal::TooMany`]: the address was refused too often.
    /// 6. 403 [`Refusal::OriginDenied`]: the page's origin is not allowed.
    /// 7. The request shows no credential, several, or a malformed ticket: see
    ///    [`Credentials::read`].
    /// 8. The ticket or token is not good, or can't be judged now: see [`Credentials::redeem`].
    /// 9. 403 [`Refusal::TicketBinding`]: the ticket was issued for another origin.
    /// 10. 503 [`Refusal::Unavailable`]: NATS or the stream did not answer: see [`Joins::join`].
    pub(super) async fn admit(
        &self,
        request: &Request,
        client: IpAddr,
        shown: Vec<Shown>,
        protocol: Protocol,
        since: Option<&Since>,
    ) -> Result<Admitted, Refusal> {
        let asked = request.follow()?;
        if self.refuses() {
            return Err(Refusal::Draining);
        }
        let permit = self
            .permits
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::Full)?;
        self.joins.check(since)?;
        self.check_rate(client)?;
        self.check_origin(&request.headers)?;
        let credential = self.credentials.read(shown)?;

        // From here on the session is on its way in, though nobody knows whose it is.
        let began = Instant::now();
        let granted = self.credentials.redeem(credential).await?;
        granted.check_binding(origin(&request.headers))?;
        let Granted {
            user,
            expires_at,
            grants,
            ..
        } = granted;
        let topics = self.joins.topics(grants.as_deref(), asked, protocol);
        let joining = self.joins.join(
            &user,
            (protocol, &topics),
            since,
            began,
            (request.handshake.as_ref(), request.trace),
        );
        let (handle, opening) = joining.await?;
        Ok(Admitted {
            handle,
            opening,
            permit,
            expires_at,
            origin: match protocol {
                Protocol::UsherV1 => self.credentials.mark(origin(&request.headers)),
                // Is not refreshed by a ticket.
                _ => None,
            },
            connect: None,
            grants,
        })
    }

    /// The answer to a client that is refused, which the log has too: a client that was
    /// refused too often is told that instead.
    pub(super) fn refuse(&self, client: IpAddr, headers: &HeaderMap, refusal: Refusal) -> Refusal {
        let refusal = match &self.refusals {
            Some(rate) if refusal.is_the_clients_fault() => {
                if rate.is_over(client) {
                    Refusal::TooMany
                } else {
                    rate.count(client);
                    self.metrics.refused_addresses.set(rate.len() as i64);
                    refusal
                }
            }
            _ => refusal,
        };
        self.refusal_log.tell(refusal, Some(headers));
        refusal
    }
}

/// What became of a request whose admission is recorded.
pub(super) fn conclude<T>(span: Option<Span>, outcome: &Result<T, Refusal>) {
    let Some(mut span) = span else {
        return;
    };
    match outcome {
        Ok(_) => span.set("usher.result", "admitted"),
        Err(refusal) => {
            span.set("usher.result", refusal.code());
            // Any other is the client's affair.
            if let Refusal::Unavailable(why) = refusal {
                span.fail(why);
            }
        }
    }
}
