// How the client connects, comes back and stays away.

import assert from "node:assert/strict";
import test from "node:test";
import { connect } from "../dist/index.js";
import { becomes, fixChance, withServer } from "./support/client.mjs";
import { until } from "./support/wait.mjs";

test("each connection has a ticket of its own, and no URL has one", withServer(async (server, follow) => {
  const at = follow();
  const first = await server.sessions.next();
  assert.equal(first.secret, "usher.ticket.a-ticket-of-this-test-1");
  assert.equal(first.url, "/push/ws");
  first.welcome();
  await becomes(at, "open");
  first.end(1001);
  const second = await server.sessions.next();
  assert.equal(second.secret, "usher.ticket.a-ticket-of-this-test-2");
  assert.equal(second.url, "/push/ws");
}));

test("a token goes as a sub-protocol too", withServer(async (server, follow) => {
  follow({ getToken: () => "ey.JWT.sig" });
  const session = await server.sessions.next();
  assert.equal(session.secret, "usher.token.ey.JWT.sig");
  assert.equal(session.url, "/push/ws");
}));

test("an address by http is the WebSocket's, and its parameters stay", withServer(async (server, follow) => {
  follow({ url: `${server.url.replace("ws:", "http:")}?tenant=a` });
  assert.equal((await server.sessions.next()).url, "/push/ws?tenant=a");
}));

test("events go to the handlers of their name and to those of all", withServer(async (server, follow) => {
  const at = follow();
  const named = [];
  const off = at.client.on("order.completed", (frame) => named.push(frame));
  for (const ours of ["state", "gap", "position"]) at.client.on(ours, (value) => assert.notEqual(value.data, 1));
  const session = await server.sessions.next();
  session.welcome();
  const frames = [
    { event: "order.completed", data: { order: 123 } },
    { event: "photo", base64: "AAE=", broadcast: true },
    { event: "state", data: 1 },
    { event: "gap", data: 1 },
    { event: "position", data: 1 },
  ];
  session.send({ somethingNew: { later: true } }, ...frames, { ping: {} });
  for (const frame of frames) assert.deepEqual(await at.events.next(), frame);
  assert.deepEqual(named, [frames[0]]);
  off();
  session.send(frames[0]);
  await at.events.next();
  assert.equal(named.length, 1);
  assert.deepEqual(at.gaps.rest(), []);
}));

test("a handler that fails hinders nobody", withServer(async (server, follow, context) => {
  const failed = [];
  const before = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException").on("uncaughtException", (error) => failed.push(error.message));
  context.after(() => {
    process.removeAllListeners("uncaughtException");
    for (const listener of before) process.on("uncaughtException", listener);
  });
  const at = follow();
  at.client.on("e", () => {
    throw new Error("a mistake of the page");
  });
  const session = await server.sessions.next();
  session.durable(120);
  session.event(121, 0);
  assert.equal((await at.events.next()).data, 121);
  await until("the mistake shows", () => failed.length > 0);
  assert.equal(failed[0], "a mistake of the page");
  assert.equal(at.client.position, "k3f9.120.121.1121.u121");
}));

test("some codes say: stay away", withServer(async (server, follow) => {
  for (const code of [1000, 1002, 1007, 1008, 1009, 4100, 4101, 4102, 4150, 4199]) {
    const at = follow();
    (await server.sessions.next()).welcome().end(code, "why");
    assert.deepEqual(await becomes(at, "closed"), { state: "closed", code, reason: "why" });
  }
  const at = follow();
  (await server.sessions.next()).welcome().end(undefined);
  assert.equal((await becomes(at, "closed")).code, 1005);
}));

test("all others say: come back", withServer(async (server, follow) => {
  const codes = [1001, 1003, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4004, 4099, 4200];
  const all = [];
  for (const code of codes) {
    const at = follow();
    (await server.sessions.next()).welcome().end(code, "why");
    const { retryInMs } = await becomes(at, "waiting");
    assert.ok(retryInMs >= 1000 && retryInMs <= 2000, `${code}: ${retryInMs}`);
    all.push(at);
  }
  for (const _ of codes) (await server.sessions.next()).welcome();
  for (const at of all) await becomes(at, "open");
}));

test("waiting is by chance, from 1 s to a bound that doubles", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    server.refusals.ws = 503;
    const at = follow({ transport: "websocket" });
    // By chance it could be long: of each wait only the least is waited here.
    assert.equal((await becomes(at, "waiting")).retryInMs, 1000);
    Math.random.mock.mockImplementation(() => 0.25);
    const { retryInMs, code } = await becomes(at, "waiting");
    assert.equal(retryInMs, 1750); // a quarter of the way from 1 s to 4 s
    assert.equal(code, 1006);
    Math.random.mock.mockImplementation(() => 1);
    assert.equal((await becomes(at, "waiting")).retryInMs, 8000);
  })(context);
});

for (const [seconds, expected] of [[29.9, 4000], [30, 2000]]) {
  test(`after ${seconds} s of session the next wait is at most ${expected} ms`, async (context) => {
    fixChance(context, 1);
    const now = performance.now.bind(performance);
    let later = 0;
    context.mock.method(performance, "now", () => now() + later);
    await withServer(async (server, follow) => {
      const at = follow();
      const first = (await server.sessions.next()).welcome();
      first.send({ goodbye: { reason: "drain", reconnect_after_ms: 0 } });
      first.end(1012);
      const second = (await server.sessions.next()).welcome();
      second.send({ event: "e", data: 1 });
      await at.events.next();
      later = 1000 * seconds;
      second.end(1006);
      await becomes(at, "waiting"); // after the first
      assert.equal((await becomes(at, "waiting")).retryInMs, expected);
    })(context);
  });
}

test("a ticket that does not come is given up", async (context) => {
  const real = setTimeout;
  // 30 s are a hundredth of that here, until the ticket is given up.
  let isGivenUp = false;
  const cut = (ms) => (ms === 30_000 && !isGivenUp ? 300 : ms);
  context.mock.method(globalThis, "setTimeout", (action, ms, ...rest) => real(action, cut(ms), ...rest));
  await withServer(async (server, follow) => {
    let asked = 0;
    const at = follow({ getTicket: () => ((asked += 1) === 1 ? new Promise(() => {}) : "a-ticket-of-this-test") });
    assert.equal((await becomes(at, "waiting")).reason, "silent");
    isGivenUp = true;
    (await server.sessions.next()).welcome();
    await becomes(at, "open");
  })(context);
});

test("a goodbye says when to come back, once", async (context) => {
  fixChance(context, 0.5);
  await withServer(async (server, follow) => {
    const at = follow();
    const first = (await server.sessions.next()).welcome();
    first.send({ goodbye: { reason: "drain", reconnect_after_ms: 210 } });
    first.end(1012, "drain");
    assert.deepEqual(await becomes(at, "waiting"), { state: "waiting", code: 1012, reason: "drain", retryInMs: 210 });
    const second = await server.sessions.next();
    second.welcome().end(1011);
    assert.equal((await becomes(at, "waiting")).retryInMs, 2500);
  })(context);
});

test("a hint of 0 is a hint, and a goodbye without one is none", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    const at = follow();
    const first = (await server.sessions.next()).welcome();
    first.send({ goodbye: { reason: "drain", reconnect_after_ms: 0 } });
    first.end(1012);
    assert.equal((await becomes(at, "waiting")).retryInMs, 0);
    const second = (await server.sessions.next()).welcome();
    second.send({ goodbye: { reason: "session_expired" } });
    second.end(4001);
    assert.equal((await becomes(at, "waiting")).retryInMs, 1000);
  })(context);
});

test("a connection that is silent for two pings is given up", withServer(async (server, follow) => {
  const at = follow();
  const session = await server.sessions.next();
  const since = performance.now();
  session.welcome({ ping: 0.2 });
  await becomes(at, "open");
  const { code, reason } = await becomes(at, "waiting");
  assert.ok(performance.now() - since >= 390);
  assert.deepEqual([code, reason], [1006, "silent"]);
  await until("its socket is closed", () => session.isClosed);
  await server.sessions.next();
}));

test("without a ticket it asks again, and a final refusal ends it", withServer(async (server, follow) => {
  let asked = 0;
  const at = follow({
    getTicket: async () => {
      asked += 1;
      if (asked < 2) throw new Error("the login service is away");
      if (asked < 3) throw Object.assign(new Error("nobody is logged in"), { final: true });
    },
  });
  assert.equal((await becomes(at, "waiting")).reason, "the login service is away");
  assert.deepEqual(await becomes(at, "closed"), { state: "closed", code: undefined, reason: "nobody is logged in" });
  assert.deepEqual(server.requests, []);
  assert.equal(asked, 2);
}));

test("what is no ticket is asked for again, and no connection is tried with it", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    const answers = [undefined, "", " ", { ticket: "a" }, null, "a-ticket-of-this-test"];
    const at = follow({ getTicket: async () => answers.shift() });
    for (const _ of [1, 2, 3, 4, 5]) {
      const { code, reason, retryInMs } = await becomes(at, "waiting");
      assert.deepEqual([code, retryInMs], [undefined, 1000]);
      assert.match(reason, /^ticket$|trim is not a function/);
    }
    const session = await server.sessions.next();
    assert.equal(session.secret, "usher.ticket.a-ticket-of-this-test");
    assert.equal(server.requests.length, 1);
  })(context);
});

test("after close() it stays away, whenever that comes", withServer(async (server, follow) => {
  const byClient = { state: "closed", code: 1000, reason: "closed" };

  const early = follow(); // before it has begun
  early.client.close();
  early.client.close();
  assert.deepEqual(early.states.rest(), [byClient]);

  const open = follow();
  const session = await server.sessions.next();
  session.welcome();
  await becomes(open, "open");
  open.client.close();
  session.send({ event: "late", data: 1 });
  await until("it is closed", () => session.isClosed);
  assert.equal(session.code, 1000);
  assert.deepEqual(open.states.rest(), [byClient]);
  assert.deepEqual(open.events.rest(), []);

  const waiting = follow();
  (await server.sessions.next()).end(1006);
  await becomes(waiting, "waiting");
  waiting.client.close();

  let answer;
  const asking = follow({ getTicket: () => new Promise((resolve) => (answer = resolve)) });
  await until("it asks", () => answer);
  asking.client.close();
  answer("late");

  const inside = follow();
  inside.client.on("first", () => inside.client.close());
  const last = await server.sessions.next();
  last.welcome();
  last.send({ event: "first", data: 1 }, { event: "second", data: 2 });
  await becomes(inside, "closed");
  await until("it is closed", () => last.isClosed);

  const { length } = server.requests;
  const probe = follow(); // which comes later than all of those would
  (await server.sessions.next()).end(1006);
  (await server.sessions.next()).welcome();
  await becomes(probe, "open");
  assert.equal(server.requests.length, length + 2);
  assert.equal(early.tickets, 0);
  assert.deepEqual(inside.events.rest(), []);
}));

test("after close() in a handler of `connecting` it stays away", async (context) => {
  const real = setTimeout;
  // Each wait is a hundredth of itself here.
  context.mock.method(globalThis, "setTimeout", (action, ms = 0, ...rest) => real(action, ms / 100, ...rest));
  await withServer(async (server, follow) => {
    const at = follow();
    at.client.on("state", ({ state }) => state === "connecting" && at.client.close());
    await becomes(at, "closed");
    await new Promise((resolve) => real(resolve, 600)); // an attempt without an answer takes half of that
    assert.deepEqual(server.requests, []);
    assert.equal(at.tickets, 0);
  })(context);
});

test("iteration gives every event until the client is closed", withServer(async (server, follow) => {
  const { client } = follow();
  const all = (async () => {
    const data = [];
    for await (const frame of client) {
      data.push(frame.data);
      if (frame.data === 3) client.close();
    }
    return data;
  })();
  const some = (async () => {
    for await (const frame of client) return frame.data;
  })();
  const session = await server.sessions.next();
  session.welcome();
  for (const data of [1, 2, 3]) session.send({ event: "e", data });
  assert.deepEqual(await all, [1, 2, 3]);
  assert.equal(await some, 1);
  for await (const frame of client) assert.fail(`closed, and yet ${frame.event}`);
}));

test("where there is no WebSocket it says so", (context) => {
  const { WebSocket: own } = globalThis;
  context.after(() => (globalThis.WebSocket = own));
  globalThis.WebSocket = undefined;
  assert.throws(() => connect({ url: "ws://127.0.0.1:1/ws", getTicket: async () => "" }), /no WebSocket/);
});
