// Tabs of a real browser that share one connection.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { launch } from "./support/browser.mjs";
import { Server } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** Runs in a page: connects, and keeps all that is told. */
async function begin({ url, topics, store, since }) {
  const { connect } = await import("/dist/tabs.js");
  const told = { states: [], events: [], gaps: [], tickets: 0 };
  const getTicket = () => `a-ticket-of-a-tab-${(told.tickets += 1)}`;
  const client = connect({ url, getTicket, topics, since, store: store ? localStorage : undefined });
  client.on("state", ({ state, code }) => told.states.push(code ? `${state} ${code}` : state));
  client.on("gap", ({ reason }) => told.gaps.push(reason));
  client.on("*", ({ data }) => told.events.push(data));
  (async () => {
    told.iterated = [];
    for await (const { data } of client) told.iterated.push(data);
  })();
  Object.assign(globalThis, { told, client });
}

/** Some tabs of one browser. */
async function tabs(context, count, options = {}) {
  const server = await Server.start();
  const tabsOf = await browser.newContext();
  const { locks, ...common } = options;
  if (locks === "missing") await tabsOf.addInitScript(() => delete Navigator.prototype.locks);
  if (locks === "forbidden") {
    await tabsOf.addInitScript(() => {
      LockManager.prototype.request = async () => {
        // With a delay, so that a page that asks again and again still answers this test.
        await new Promise((resolve) => setTimeout(resolve, 100));
        throw new DOMException("Access to the Locks API is denied in this context.", "SecurityError");
      };
    });
  }
  const errors = [];
  const open = async (more = {}) => {
    const page = await tabsOf.newPage();
    page.on("pageerror", (error) => errors.push(error));
    await page.goto(`${server.origin}/`);
    await page.evaluate(begin, { url: "/push/ws", ...common, ...more });
    return {
      page,
      told: () => page.evaluate(() => told),
      position: () => page.evaluate(() => client.position),
      is: async (state) => until(state, () => page.evaluate((want) => told.states.at(-1) === want, state)),
      got: async (...data) =>
        until(`events ${data}`, () => page.evaluate((want) => JSON.stringify(told.events) === want, JSON.stringify(data))),
    };
  };
  context.after(async () => {
    await tabsOf.close();
    await server.stop();
    assert.deepEqual(errors, []);
  });
  const all = [];
  for (let index = 0; index < count; index += 1) all.push(await open());
  return { server, all, open };
}

/** How many tickets each tab has asked for. */
const tickets = (all) => Promise.all(all.map(async (tab) => (await tab.told()).tickets));

test("one connection serves all tabs, and its events reach each once", async (context) => {
  const { server, all, open } = await tabs(context, 2);
  const session = await server.sessions.next();
  session.durable(120);
  for (const tab of all) await tab.is("open");
  session.event(121, 0);
  for (const tab of all) await tab.got(121);
  const late = await open(); // a tab that is new begins where the session is
  await late.is("open");
  session.event(122, 121);
  await late.got(122);
  for (const tab of all) await tab.got(121, 122);
  for (const tab of [...all, late]) {
    assert.equal(await tab.position(), "k3f9.120.122.1122.u122");
    const { gaps, iterated, events, states } = await tab.told();
    assert.deepEqual([gaps, iterated, states], [[], events, ["connecting", "open"]]);
  }
  assert.deepEqual(server.requests, ["ws"]);
});

test("when the tab that holds it is closed, another goes on, and nobody misses anything", async (context) => {
  const { server, all } = await tabs(context, 3);
  const first = await server.sessions.next();
  first.durable(120);
  for (const tab of all) await tab.is("open");
  first.event(121, 0);
  for (const tab of all) await tab.got(121);
  await all[0].page.close();
  const second = await server.sessions.next();
  assert.equal(second.since, "k3f9.120.121.1121.u121");
  second.durable(122, "complete");
  second.event(122, 121);
  for (const tab of all.slice(1)) {
    await tab.got(121, 122);
    assert.deepEqual((await tab.told()).gaps, []);
  }
  // By close() too.
  await all[1].page.evaluate(() => client.close());
  await all[1].is("closed 1000");
  const third = await server.sessions.next();
  third.durable(122, "complete");
  third.event(123, 122);
  await all[2].got(121, 122, 123);
  await until("the others are closed", () => first.isClosed && second.isClosed);
  assert.deepEqual((await all[1].told()).events, [121, 122]);
});

test("a tab that holds it and stands still is robbed, and goes on when it can", async (context) => {
  const { server, all } = await tabs(context, 2);
  const [held, other] = all;
  /** Opens a session, which is never silent: the network is well. */
  const lively = (session, resume) => {
    session.durable(120, resume, { ping: 1 });
    const timer = setInterval(() => session.isClosed || session.send({ ping: {} }), 300);
    context.after(() => clearInterval(timer));
    return session;
  };
  const first = lively(await server.sessions.next(), "none");
  for (const tab of all) await tab.is("open");
  assert.deepEqual(await tickets(all), [1, 0]);

  await other.page.bringToFront();
  await held.page.evaluate(() => {
    setTimeout(() => {
      const request = new XMLHttpRequest();
      request.open("GET", "/still", false); // until the server answers, this page does nothing
      request.send();
    });
  });
  const second = lively(await server.sessions.next(), "complete");
  assert.ok(!first.isClosed, "it stands still");
  second.event(121, 0);
  await other.got(121);

  (await server.still.next()).end();
  await until("its socket is closed", () => first.isClosed);
  await held.got(121);
  await held.is("open");
  second.event(122, 121);
  for (const tab of all) await tab.got(121, 122);
  for (const tab of all) assert.deepEqual((await tab.told()).gaps, []);
  assert.deepEqual(await tickets(all), [1, 1]);
  assert.equal(server.requests.length, 2);

  // The one that was robbed is next again.
  await other.page.close();
  lively(await server.sessions.next(), "complete").event(123, 122);
  await held.got(121, 122, 123);
});

test("what a tab that stood still reads late is told once, there and in the others", async (context) => {
  const { server, all, open } = await tabs(context, 2);
  const [held, other] = all;
  const first = await server.sessions.next();
  first.durable(120, "none", { ping: 1 });
  for (const tab of all) await tab.is("open");
  await other.page.bringToFront();
  await held.page.evaluate(() => {
    setTimeout(() => {
      const request = new XMLHttpRequest();
      request.open("GET", "/still", false);
      request.send();
    });
  });
  const second = await server.sessions.next();
  second.durable(120, "complete");
  // Both sessions get all messages; the first is not read yet.
  for (const session of [first, second]) session.event(121, 0);
  await other.got(121);
  const late = await open();
  await late.is("open");
  first.event(122, 121);
  (await server.still.next()).end();
  await until("its socket is closed", () => first.isClosed);
  second.event(122, 121);
  second.event(123, 122);
  for (const tab of all) await tab.got(121, 122, 123);
  await late.got(122, 123);
  for (const tab of [...all, late]) assert.deepEqual((await tab.told()).gaps, []);
  assert.equal(server.requests.length, 2);
});

test("each tab follows and calls by itself", async (context) => {
  const { server, all, open } = await tabs(context, 1, { topics: ["a"] });
  const session = await server.sessions.next();
  assert.deepEqual(session.follow, ["a"]);
  session.welcome({ topics: ["a", "ticket"] });
  await all[0].is("open");
  const other = await open({ topics: [] });
  await other.is("open");
  await other.page.evaluate(() => client.follow("b"));
  const { id, follow } = await session.frames.next();
  assert.deepEqual(follow, ["b"]);
  session.send({ following: { id, topics: ["a", "b", "ticket"] } });
  for (const topic of ["a", "b", "ticket"]) session.send({ event: "e", data: topic, topic });
  session.send({ event: "e", data: "mine" });
  await all[0].got("a", "ticket", "mine");
  await other.got("b", "ticket", "mine");

  const answer = other.page.evaluate(() => client.call("orders.cancel", { order: 1 }));
  const call = await session.frames.next();
  assert.deepEqual([call.call, call.data], ["orders.cancel", { order: 1 }]);
  session.send({ reply: { id: call.id, data: "done" } });
  assert.equal(await answer, "done");
  const refused = other.page.evaluate(() => client.call("no").catch(({ code, message }) => [code, message]));
  session.send({ error: { id: (await session.frames.next()).id, code: "forbidden", message: "not granted" } });
  assert.deepEqual(await refused, ["forbidden", "not granted"]);
  const lost = other.page.evaluate(() => client.call("lost").catch(({ code }) => code));
  await session.frames.next();
  session.end(1006);
  assert.equal(await lost, "not_connected");

  // What a tab alone wanted is left with it.
  const next = await server.sessions.next();
  assert.deepEqual(next.follow.toSorted(), ["a", "b", "ticket"]);
  next.welcome({ topics: ["a", "b", "ticket"] });
  await other.is("open");
  await other.page.close();
  assert.deepEqual((await next.frames.next()).unfollow, ["b"]);
});

test("what a call sends is its data as JSON, whichever tab holds the connection", async (context) => {
  const { server, all } = await tabs(context, 2);
  const session = await server.sessions.next();
  session.welcome();
  for (const tab of all) {
    await tab.is("open");
    // A Proxy, which frameworks use for reactive data, and a value with `toJSON`.
    const answer = tab.page.evaluate(() => client.call("pay", new Proxy({ sum: { toJSON: () => "5 EUR" } }, {})));
    const { id, data } = await Promise.race([session.frames.next(), answer]);
    assert.deepEqual(data, { sum: "5 EUR" });
    session.send({ reply: { id, data: "done" } });
    assert.equal(await answer, "done");
  }
});

test("a final close ends all tabs", async (context) => {
  const { server, all } = await tabs(context, 3);
  const session = await server.sessions.next();
  session.welcome();
  for (const tab of all) await tab.is("open");
  const lost = all[1].page.evaluate(() => client.call("lost").catch(({ code }) => code));
  await session.frames.next();
  session.end(4100, "disconnected");
  for (const tab of all) await tab.is("closed 4100");
  assert.equal(await lost, "not_connected");
  // Nobody takes over.
  const locks = () => all[0].page.evaluate(() => navigator.locks.query());
  await until("nobody has the lock, or waits for it", async () => {
    const { held, pending } = await locks();
    return held.length + pending.length === 0;
  });
  await all[0].page.reload(); // which begins anew
  await all[0].page.evaluate(begin, { url: "/push/ws" });
  (await server.sessions.next()).welcome();
  await all[0].is("open");
  assert.deepEqual(server.requests, ["ws", "ws"]);
});

test("a reload goes on from the store", async (context) => {
  const { server, all } = await tabs(context, 1, { store: true });
  const first = await server.sessions.next();
  first.durable(120);
  first.event(121, 0);
  await all[0].got(121);
  await all[0].page.reload();
  await all[0].page.evaluate(begin, { url: "/push/ws", store: true });
  const second = await server.sessions.next();
  assert.equal(second.since, "k3f9.120.121.1121.u121");
  second.durable(121, "complete");
  await all[0].is("open");
  assert.deepEqual((await all[0].told()).gaps, []);
});

test("a tab with another position than the session's is told a gap, once", async (context) => {
  const { server, all, open } = await tabs(context, 1);
  const first = await server.sessions.next();
  first.durable(120, "none", { ping: 1 });
  const alive = setInterval(() => !first.isClosed && first.send({ ping: {} }), 300);
  context.after(() => clearInterval(alive));
  first.event(121, 0);
  await all[0].got(121);
  const late = await open({ since: "k3f9.100.100.1100" });
  await late.is("open");
  assert.deepEqual((await late.told()).gaps, ["reconnected"]);
  assert.equal(await late.position(), "k3f9.120.121.1121.u121");
  // It has what the session has: neither when it asks nor when it takes over is there another.
  await late.page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  first.event(122, 121);
  await late.got(122);
  await all[0].page.close();
  const second = await server.sessions.next();
  assert.equal(second.since, "k3f9.120.122.1122.u122");
  second.durable(122, "complete");
  second.event(123, 122);
  await late.got(122, 123);
  assert.deepEqual((await late.told()).gaps, ["reconnected"]);
});

for (const locks of ["missing", "forbidden"]) {
  test(`where Web Locks are ${locks} each tab connects`, async (context) => {
    const { server, all } = await tabs(context, 2, { locks });
    for (const _ of all) (await server.sessions.next()).welcome().send({ event: "e", data: 1 });
    for (const tab of all) {
      await tab.is("open");
      await tab.got(1);
      await tab.page.evaluate(() => {
        client.follow("a");
        client.close();
      });
      await tab.is("closed 1000");
    }
    assert.deepEqual(server.requests, ["ws", "ws"]);
  });
}
