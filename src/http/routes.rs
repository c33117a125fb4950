//! The paths of the public and of the operators' listener, one line a path.
//!
//! A filter refuses a request by rejecting it with a [`Refusal`]. [`answer`] turns
//! every rejection, warp's own too, into the answer that the contract names.

use std::sync::Arc;

use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{
    admit::Admissions,
    centrifuge,
    demo::{self, Demo},
    events,
    filters::{
        answer, asked, body, counted, counted_refusals, exact, given, nothing, only, preflight,
        readable, slash, under,
    },
    ops::{self, Status},
    session::Sessions,
    tickets::{self, Mint},
    websocket,
};
use crate::readiness::Readiness;

/// A path of exactly these segments.
macro_rules! at {
    ($($segment:tt)/+) => {
        warp::path!($($segment)/+).and(exact())
    };
}

/// The first of these routes that takes the request.
macro_rules! any_of {
    [$first:expr $(, $next:expr)* $(,)?] => {
        $first$(.or($next).unify())*
    };
}

/// What the public listener serves.
#[derive(Debug)]
pub struct Public {
    /// Admits sessions.
    pub admissions: Arc<Admissions>,
    /// Begins them.
    pub sessions: Arc<Sessions>,
    /// Whether new ones should come.
    pub readiness: Readiness,
    /// Who gets tickets for a login; `None` if nobody does.
    pub mint: Option<Arc<Mint>>,
    /// Whether the Centrifuge protocol is spoken.
    pub centrifuge: bool,
    /// The demo, where it is served.
    pub demo: Option<Arc<Demo>>,
}

/// The public listener's paths, under `prefix` (empty, or `/some/path`).
pub fn public(prefix: &str, public: Public) -> BoxedFilter<(Response,)> {
    let (admissions, sessions) = (&public.admissions, &public.sessions);
    let (admitted, mints) = (
        &admissions.metrics().admissions,
        &admissions.metrics().mints,
    );
    let get = only("GET", warp::get());
    let look = only("GET, HEAD", warp::get().or(warp::head()).unify());
    let post = only("OPTIONS, POST", warp::post());

    let ws = get.and(asked(admissions)).and_then(websocket::admit);
    let ws = counted(admitted, "admitted", ws);
    let ws = ws.and(given(sessions)).map(websocket::begin);

    let centrifuge = match public.centrifuge {
        false => nothing(),
        true => {
            let centrifuge = get.and(asked(admissions)).and_then(centrifuge::check);
            let centrifuge = counted_refusals(admitted, centrifuge);
            centrifuge
                .and(given(sessions))
                .map(centrifuge::begin)
                .boxed()
        }
    };

    let events = get.and(asked(admissions)).and_then(events::admit);
    let events = counted(admitted, "admitted", events);
    let events = events.and(given(admissions)).and(given(sessions));
    let events = preflight(admissions).or(events.map(events::begin)).unify();
    let events = readable(admissions, events);

    let tickets = public.mint.map_or_else(tickets::none_here, |mint| {
        let mint = post
            .and(asked(admissions))
            .and(given(&mint))
            .and_then(tickets::mint);
        counted(mints, "minted", mint).boxed()
    });
    let tickets = readable(admissions, preflight(admissions).or(tickets).unify());

    let healthz = look.map(|| ops::health(true));
    let readiness = public.readiness;
    let readyz = look.map(move || ops::health(readiness.is_ready()));
    let is_demo = public.demo.is_some();
    let demo = public.demo.map_or_else(nothing, demo_paths);

    let routes = any_of![
        at!("ws").and(ws),
        at!("connection" / "websocket").and(centrifuge),
        at!("events").and(events),
        at!("tickets").and(tickets),
        at!("healthz").and(healthz),
        at!("readyz").and(readyz),
        demo,
    ];
    let routes = under(prefix, routes);
    match is_demo {
        // A page that has made its own name point here gets nothing, on any path.
        true => demo::local().and(routes).recover(answer).unify().boxed(),
        false => routes,
    }
}

/// The demo's paths.
fn demo_paths(demo: Arc<Demo>) -> BoxedFilter<(Response,)> {
    let get = only("GET", warp::get());
    let post = only("POST", warp::post()).and(demo::from_own_page());
    let demo = given(&demo);

    let page = get.map(demo::page);
    let info = get.and(demo.clone()).map(demo::info);
    let tickets = post.and(body(demo::MAX_BODY, demo::TICKET_FORM));
    let tickets = tickets.and(demo.clone()).and_then(demo::ticket);
    let push = post.and(body(demo::MAX_BODY, demo::PUSH_FORM));
    let push = push.and(demo.clone()).and_then(demo::push);
    let topic = post.and(body(demo::MAX_BODY, demo::TOPIC_FORM));
    let topic = topic.and(demo.clone()).and_then(demo::to_topic);
    let broadcast = post.and(body(demo::MAX_BODY, demo::BROADCAST_FORM));
    let broadcast = broadcast.and(demo.clone()).and_then(demo::broadcast);
    let restart = post.and(demo).map(demo::restart);

    let routes = any_of![
        warp::path::end().and(slash()).and(page),
        at!("demo" / "info").and(info),
        at!("demo" / "tickets").and(tickets),
        at!("demo" / "push").and(push),
        at!("demo" / "topic").and(topic),
        at!("demo" / "broadcast").and(broadcast),
        at!("demo" / "restart").and(restart),
    ];
    routes.boxed()
}

/// The operators' paths. What is no GET is 405 on any path. A listener on `loopback` refuses
/// foreign hosts on all of them.
pub fn ops(status: Arc<Status>, loopback: bool) -> BoxedFilter<(Response,)> {
    let look = only("GET, HEAD", warp::get().or(warp::head()).unify());
    let status = given(&status);

    let routes = any_of![
        warp::path::end().and(slash()).map(ops::page),
        at!("healthz").map(|| ops::health(true)),
        at!("readyz").and(status.clone()).map(ops::readyz),
        at!("metrics").and(status.clone()).map(ops::metrics),
        at!("status").and(status.clone()).map(ops::status),
        at!("status" / "users" / String)
            .and(status)
            .and_then(ops::user),
    ];
    let look = ops::own_host(loopback).and(look);
    look.and(routes).recover(answer).unify().boxed()
}
