// What a tab does when it wakes, comes online or becomes visible. The events are those of a
// browser's window and document, here without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { becomes, fixChance, withServer } from "./support/client.mjs";
import { until } from "./support/wait.mjs";

const window = new EventTarget();
const document = { hidden: false };
for (const method of ["addEventListener", "removeEventListener"]) globalThis[method] = window[method].bind(window);
globalThis.document = document;

/** The window captures the document's events too. */
const dispatch = (type, more) => window.dispatchEvent(Object.assign(new Event(type), more));

const WAKES = {
  online: () => dispatch("online"),
  visible: () => dispatch("visibilitychange"),
  resume: () => dispatch("resume"),
  pageshow: () => dispatch("pageshow", { persisted: true }),
};
const SLEEPS = {
  hidden() {
    document.hidden = true;
    dispatch("visibilitychange");
    document.hidden = false;
  },
  "a page that loads": () => dispatch("pageshow", { persisted: false }),
};

for (const [name, wake] of Object.entries(WAKES)) {
  test(`${name}: a client that waits tries within a second`, async (context) => {
    fixChance(context, 1);
    await withServer(async (server, follow) => {
      server.refusals.ws = 502;
      const at = follow({ transport: "websocket" });
      assert.equal((await becomes(at, "waiting")).retryInMs, 2000);
      assert.equal((await becomes(at, "waiting")).retryInMs, 4000);
      server.refusals = {};
      const since = performance.now();
      wake();
      wake();
      await server.sessions.next();
      const took = performance.now() - since;
      assert.ok(took > 900 && took < 3000, `${took} ms`);
      assert.equal(server.requests.length, 3);
    })(context);
  });

  test(`${name}: an open connection is asked, and kept where it answers`, withServer(async (server, follow) => {
    const at = follow();
    const session = (await server.sessions.next()).welcome();
    await becomes(at, "open");
    wake();
    wake();
    assert.deepEqual(await session.frames.next(), { ping: {} });
    session.send({ ping: {} }, { event: "e", data: 1 });
    await at.events.next();
    await new Promise((resolve) => setTimeout(resolve, 2100)); // longer than it would wait
    assert.ok(!session.isClosed);
    assert.deepEqual(session.frames.rest(), []);
    assert.deepEqual(at.states.rest(), []);
  }));
}

for (const [name, sleep] of Object.entries(SLEEPS)) {
  test(`${name}: that is no waking`, withServer(async (server, follow) => {
    const at = follow();
    const session = (await server.sessions.next()).welcome();
    await becomes(at, "open");
    sleep();
    session.send({ event: "e", data: 1 });
    await at.events.next();
    at.client.call("after").catch(() => {});
    assert.equal((await session.frames.next()).call, "after");
  }));
}

test("a connection that does not answer within 2 s is given up, and the next comes at once", async (context) => {
  fixChance(context, 0.1);
  await withServer(async (server, follow) => {
    const at = follow();
    const session = (await server.sessions.next()).welcome();
    await becomes(at, "open");
    const since = performance.now();
    WAKES.online();
    assert.deepEqual(await becomes(at, "waiting"), { state: "waiting", code: 1006, reason: "silent", retryInMs: 100 });
    assert.ok(performance.now() - since >= 1990);
    await server.sessions.next();
    await until("the first is closed", () => session.isClosed);
  })(context);
});

// A browser may end the connection of a tab that was frozen, when the tab runs again.
test("a connection that ends after the waking: the next comes at once", async (context) => {
  fixChance(context, 0.1);
  await withServer(async (server, follow) => {
    const at = follow();
    const session = (await server.sessions.next()).welcome();
    await becomes(at, "open");
    WAKES.resume();
    await session.frames.next();
    session.end(1006);
    assert.equal((await becomes(at, "waiting")).retryInMs, 100);
    const next = (await server.sessions.next()).welcome();
    await becomes(at, "open");
    // The gateway's own word counts before that.
    next.send({ goodbye: { reason: "drain", reconnect_after_ms: 700 } }, { event: "e", data: 1 });
    await at.events.next();
    WAKES.resume();
    await next.frames.next();
    next.end(1012);
    assert.equal((await becomes(at, "waiting")).retryInMs, 700);
  })(context);
});

test("server-sent events are opened anew", async (context) => {
  fixChance(context, 0.1);
  await withServer(async (server, follow) => {
    const at = follow({ transport: "sse" });
    (await server.sessions.next()).welcome();
    await becomes(at, "open");
    for (const wake of Object.values(WAKES)) wake(); // it is too young
    assert.deepEqual(at.states.rest(), []);
    await new Promise((resolve) => setTimeout(resolve, 2100));
    for (const wake of Object.values(WAKES)) wake();
    assert.equal((await becomes(at, "waiting")).retryInMs, 100);
    (await server.sessions.next()).welcome();
    await becomes(at, "open");
    assert.deepEqual(server.requests, ["sse", "sse"]);
  })(context);
});

test("an attempt that hangs is made anew", async (context) => {
  fixChance(context, 0.1);
  await withServer(async (server, follow) => {
    server.isDeaf = true;
    const at = follow();
    await until("it asks", () => server.requests.length === 1);
    server.isDeaf = false;
    for (const wake of Object.values(WAKES)) wake(); // it may still succeed
    await new Promise((resolve) => setTimeout(resolve, 2100));
    assert.equal(server.requests.length, 1);
    for (const wake of Object.values(WAKES)) wake();
    assert.deepEqual(await becomes(at, "waiting"), { state: "waiting", code: 1006, reason: "wake", retryInMs: 100 });
    (await server.sessions.next()).welcome();
    await becomes(at, "open");
  })(context);
});

test("a machine that slept: the clock jumps, and that is a waking, but not of a hidden page", withServer(async (server, follow, context) => {
  let slept = 0;
  const { now } = Date;
  context.mock.method(Date, "now", () => now() + slept);
  const at = follow();
  const session = (await server.sessions.next()).welcome();
  await becomes(at, "open");
  document.hidden = true;
  slept += 20_000;
  await new Promise((resolve) => setTimeout(resolve, 2500)); // it looks at the clock each 2 s
  document.hidden = false;
  assert.deepEqual(session.frames.rest(), []);
  slept += 20_000;
  assert.deepEqual(await session.frames.next(), { ping: {} });
  assert.deepEqual(at.states.rest(), []);
}));

test("who wakes waits for what the gateway asked for", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    const at = follow();
    const session = (await server.sessions.next()).welcome();
    session.send({ goodbye: { reason: "drain", reconnect_after_ms: 700 } });
    session.end(1012);
    await becomes(at, "waiting");
    const since = performance.now();
    WAKES.online();
    await server.sessions.next();
    assert.ok(performance.now() - since >= 600);
  })(context);
});

test("a client that is closed hears nothing of it", withServer(async (server, follow) => {
  const at = follow();
  (await server.sessions.next()).welcome();
  await becomes(at, "open");
  at.client.close();
  for (const wake of Object.values(WAKES)) wake();
  const probe = follow();
  (await server.sessions.next()).welcome();
  await becomes(probe, "open");
  assert.equal(at.tickets, 1);
}));
