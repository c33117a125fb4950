// Server-sent events, and when the client takes them in place of a WebSocket.

import assert from "node:assert/strict";
import test from "node:test";
import { becomes, fixChance, withServer } from "./support/client.mjs";
import { until } from "./support/wait.mjs";

const refusal = (status, code, headers) => ({ status, headers, body: JSON.stringify({ error: { code, message: "" } }) });

test("server-sent events are the same session, with the ticket in a header", withServer(async (server, follow) => {
  const at = follow({ transport: "sse", since: "k3f9.120.120.1120" });
  const session = await server.sessions.next();
  assert.equal(session.secret, "Usher-Ticket a-ticket-of-this-test-1");
  assert.equal(session.url, "/push/events?since=k3f9.120.120.1120");
  session.durable(121, "complete");
  await becomes(at, "open");
  const text = "line\nbreaks\r\n\u2028 ü";
  session.event(121, 0, { data: { text } });
  assert.deepEqual((await at.events.next()).data, { text });
  assert.equal(at.client.position, "k3f9.120.121.1121.u121");
  at.client.close();
  await until("it is closed", () => session.isClosed);
}));

test("a token goes in the header too", withServer(async (server, follow) => {
  follow({ transport: "sse", getToken: () => "ey.JWT.sig" });
  const session = await server.sessions.next();
  assert.equal(session.secret, "Bearer ey.JWT.sig");
  assert.equal(session.url, "/push/events");
}));

test("how they end is in their last frame", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    for (const [reason, code] of [["disconnected", 4100], ["replaced", 4101]]) {
      const at = follow({ transport: "sse" });
      const session = (await server.sessions.next()).welcome();
      session.send({ goodbye: { reason } });
      session.end();
      assert.deepEqual(await becomes(at, "closed"), { state: "closed", code, reason });
    }
    const at = follow({ transport: "sse" });
    const session = (await server.sessions.next()).welcome();
    session.send({ goodbye: { reason: "drain", reconnect_after_ms: 150 } });
    session.end();
    assert.deepEqual(await becomes(at, "waiting"), { state: "waiting", code: 1006, reason: "drain", retryInMs: 150 });
    (await server.sessions.next()).welcome().end();
    assert.equal((await becomes(at, "waiting")).retryInMs, 1000);
    await server.sessions.next();
  })(context);
});

test("some statuses say: stay away", withServer(async (server, follow) => {
  for (const status of [400, 403, 404, 405, 426]) {
    server.refusals.sse = refusal(status, "some_code");
    const at = follow({ transport: "sse" });
    assert.deepEqual(await becomes(at, "closed"), { state: "closed", code: status, reason: "some_code" });
  }
  server.refusals.sse = { status: 404, body: "<html>" };
  assert.equal((await becomes(follow({ transport: "sse" }), "closed")).code, 404);
}));

test("401 is final at the third in a row, each with a fresh ticket", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    server.refusals.sse = refusal(401, "ticket_unknown");
    const at = follow({ transport: "sse" });
    for (const _ of [1, 2]) assert.equal((await becomes(at, "waiting")).code, 401);
    server.refusals.sse = refusal(500, "else");
    assert.equal((await becomes(at, "waiting")).code, 500);
    server.refusals.sse = refusal(401, "ticket_unknown");
    for (const _ of [1, 2]) assert.equal((await becomes(at, "waiting")).code, 401);
    assert.deepEqual(await becomes(at, "closed"), { state: "closed", code: 401, reason: "ticket_unknown" });
    assert.equal(at.tickets, 6);
  })(context);
});

test("429 and 503 are tried again after Retry-After at least", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    for (const status of [429, 503]) {
      server.refusals.sse = refusal(status, "full", { "retry-after": "2" });
      const at = follow({ transport: "sse" });
      const { code, reason, retryInMs } = await becomes(at, "waiting");
      assert.deepEqual([code, reason, retryInMs], [status, "full", 2000]);
      at.client.close();
    }
    server.refusals.sse = refusal(503, "full");
    assert.equal((await becomes(follow({ transport: "sse" }), "waiting")).retryInMs, 1000);
  })(context);
});

test("where three WebSockets do not open, but HTTP does, it takes that", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    server.refusals.ws = 502;
    const at = follow();
    const first = await server.sessions.next();
    assert.deepEqual(server.requests, ["ws", "ws", "ws", "sse"]);
    assert.equal(at.tickets, 4);
    first.welcome();
    await becomes(at, "open");
    assert.deepEqual(at.states.rest(), []); // one attempt, told once
    // The next may begin with what worked.
    first.end();
    const second = await server.sessions.next();
    assert.deepEqual(server.requests.splice(0), ["ws", "ws", "ws", "sse", "sse"]);
    second.welcome();
    // But not where that fails; then a WebSocket comes first again.
    server.refusals.sse = { status: 502 };
    second.end();
    await until("three requests", () => server.requests.length > 2);
    assert.deepEqual(server.requests.splice(0, 3), ["sse", "ws", "sse"]);
    // It failed directly after a WebSocket too: nothing is remembered.
    server.refusals = {};
    assert.equal((await server.sessions.next()).kind, "ws");
  })(context);
});

test("where WebSockets fail for a while and /events is not routed, it goes on trying", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    server.refusals = { ws: 502, sse: { status: 404, body: "<html>" } };
    const at = follow();
    for (const code of [1006, 1006, 404, 404]) assert.equal((await becomes(at, "waiting")).code, code);
    server.refusals = {};
    const session = await server.sessions.next();
    assert.equal(session.kind, "ws");
    session.welcome();
    await becomes(at, "open");
    // What the gateway itself refuses stays refused.
    server.refusals = { ws: 403, sse: refusal(403, "origin_denied") };
    session.end(1012);
    assert.deepEqual(await becomes(at, "closed"), { state: "closed", code: 403, reason: "origin_denied" });
  })(context);
});

test("ten minutes later a WebSocket comes first again", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    server.refusals.ws = 502;
    const at = follow();
    const first = await server.sessions.next();
    first.welcome();
    await becomes(at, "open");
    const now = performance.now.bind(performance);
    context.mock.method(performance, "now", () => now() + 601_000);
    server.requests.length = 0;
    first.end();
    const second = await server.sessions.next();
    assert.deepEqual(server.requests, ["ws", "sse"]);
    second.welcome();
    await becomes(at, "open");
    second.end();
    const third = await server.sessions.next();
    assert.deepEqual(server.requests, ["ws", "sse", "sse"]);
    // Success without a WebSocket before it prolongs nothing.
    third.welcome();
    await becomes(at, "open");
    performance.now.mock.mockImplementation(() => now() + 1_202_000);
    server.refusals = {};
    third.end();
    assert.equal((await server.sessions.next()).kind, "ws");
  })(context);
});

test("a WebSocket that opened begins the count anew", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    server.refusals.ws = 502;
    follow();
    await until("two requests", () => server.requests.length === 2);
    server.refusals = {};
    const session = await server.sessions.next();
    server.refusals.ws = 502;
    session.end(1006); // without a welcome, yet it was open
    await until("two requests more", () => server.requests.length === 5);
    assert.deepEqual(server.requests, ["ws", "ws", "ws", "ws", "ws"]);
  })(context);
});

test("a transport that was asked for is the only one", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    server.refusals.ws = 502;
    follow({ transport: "websocket" });
    await until("four requests", () => server.requests.length > 3);
    assert.deepEqual([...new Set(server.requests)], ["ws"]);
  })(context);
});
