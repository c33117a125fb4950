// What the client sends: topics, calls and fresh tickets.

import assert from "node:assert/strict";
import test from "node:test";
import { becomes, fixChance, withServer } from "./support/client.mjs";
import { until } from "./support/wait.mjs";

const rejects = (promise, code, message) =>
  assert.rejects(promise, (error) => error instanceof Error && error.code === code && (!message || error.message === message));

test("changes of one moment are one frame, and two frames are half a second apart", withServer(async (server, follow) => {
  const at = follow({ topics: ["a", "b"] });
  const session = await server.sessions.next();
  assert.deepEqual(session.follow, ["a", "b"]);
  session.welcome({ topics: ["a", "b"] });
  await becomes(at, "open");
  const times = [];
  const next = async () => {
    const frame = await session.frames.next();
    times.push(performance.now());
    return frame;
  };
  for (const topic of ["c", "d"]) at.client.follow(topic);
  at.client.unfollow("a");
  at.client.follow("b"); // it is followed
  at.client.unfollow("z"); // it is not
  assert.deepEqual(await next(), { id: "1", follow: ["c", "d"] });
  session.send({ following: { id: "1", topics: ["a", "b", "c", "d"] } });
  assert.deepEqual(await next(), { id: "2", unfollow: ["a"] });
  at.client.follow("e");
  assert.deepEqual(await next(), { id: "3", follow: ["e"] });
  assert.ok(times[1] - times[0] > 500 && times[2] - times[1] > 500, `${times}`);
  assert.deepEqual(session.frames.rest(), []);
}));

test("a reconnect asks for what is followed, and leaves what was left", withServer(async (server, follow) => {
  const at = follow({ topics: ["a"] });
  const first = await server.sessions.next();
  at.client.follow("b"); // on the way
  first.welcome({ topics: ["a", "ticket", "ticket-2"] });
  assert.deepEqual((await first.frames.next()).follow, ["b"]);
  first.send({ following: { id: "1", topics: ["a", "b", "ticket", "ticket-2"] } });
  at.client.unfollow("ticket");
  assert.deepEqual((await first.frames.next()).unfollow, ["ticket"]);
  // A service has the session follow one topic, and leave another.
  first.send({ following: { topics: ["b", "ticket-2", "service"] } }, { event: "e", data: 1 });
  await at.events.next();
  first.end(1001);
  const second = await server.sessions.next();
  assert.deepEqual(second.follow.toSorted(), ["b", "service", "ticket-2"]);
  second.welcome({ topics: ["b", "service", "ticket", "ticket-2"] });
  assert.deepEqual((await second.frames.next()).unfollow, ["ticket"]);
}));

test("of topics that are refused together each is asked for by itself", withServer(async (server, follow, context) => {
  const warned = context.mock.method(console, "warn", () => {});
  const at = follow();
  const session = await server.sessions.next();
  session.welcome();
  await becomes(at, "open");
  for (const topic of ["good", "secret", "fine"]) at.client.follow(topic);
  const refuse = (code, id) => session.send({ error: { id, code, message: "not granted" } });
  assert.deepEqual((await session.frames.next()).follow, ["good", "secret", "fine"]);
  refuse("forbidden", "1");
  assert.deepEqual((await session.frames.next()).follow, ["good"]);
  session.send({ following: { id: "2", topics: ["good"] } });
  assert.deepEqual((await session.frames.next()).follow, ["secret"]);
  refuse("forbidden", "3");
  assert.deepEqual((await session.frames.next()).follow, ["fine"]);
  await until("a warning", () => warned.mock.callCount() > 0);
  assert.deepEqual(warned.mock.calls.map((call) => call.arguments), [["secret", "not granted"]]);
  at.client.follow("later");
  at.client.follow("later too");
  assert.deepEqual((await session.frames.next()).follow, ["later", "later too"]);
}));

test("a topic that was refused is asked for again by who follows it again", withServer(async (server, follow, context) => {
  const warned = context.mock.method(console, "warn", () => {});
  const at = follow();
  const session = await server.sessions.next();
  session.welcome();
  await becomes(at, "open");
  at.client.follow("room");
  assert.deepEqual(await session.frames.next(), { id: "1", follow: ["room"] });
  session.send({ error: { id: "1", code: "forbidden", message: "not granted" } });
  await until("a warning", () => warned.mock.callCount() > 0);
  at.client.follow("room");
  assert.deepEqual(await session.frames.next(), { id: "2", follow: ["room"] });
}));

test("a name that no topic can have is skipped, and the console says so", withServer(async (server, follow, context) => {
  const warned = context.mock.method(console, "warn", () => {});
  const bad = ["", " a", "a\u3000", "\uFEFFa", "a\n", "a\u0085b", "{a"];
  const good = ["ä".repeat(64), "a b{}", "\u{1F600}"];
  const at = follow({ topics: [...bad, ...good] });
  const first = await server.sessions.next();
  assert.deepEqual(first.follow, good);
  first.welcome({ topics: good });
  await becomes(at, "open");
  for (const topic of [...bad, "c"]) at.client.follow(topic);
  for (const topic of bad) at.client.unfollow(topic);
  assert.deepEqual(await first.frames.next(), { id: "1", follow: ["c"] });
  first.send({ following: { id: "1", topics: [...good, "c"] } }, { event: "e", data: 1 });
  await at.events.next();
  first.end(1001);
  assert.deepEqual((await server.sessions.next()).follow, [...good, "c"]);
  assert.deepEqual(warned.mock.calls.map((call) => call.arguments[0]), [...bad, ...bad, ...bad]);
}));

test("what is refused for now is asked for again", withServer(async (server, follow) => {
  const at = follow();
  const session = await server.sessions.next();
  session.welcome();
  await becomes(at, "open");
  at.client.follow("a");
  await session.frames.next();
  session.send({ error: { id: "1", code: "unavailable", message: "NATS is away" } });
  assert.deepEqual(await session.frames.next(), { id: "2", follow: ["a"] });
}));

test("over server-sent events a change opens a new session at once", withServer(async (server, follow) => {
  const at = follow({ transport: "sse" });
  const first = await server.sessions.next();
  first.durable(120, "none", { topics: ["ticket"] });
  await becomes(at, "open");
  at.client.follow("a");
  at.client.follow("b");
  const second = await server.sessions.next();
  assert.deepEqual(second.follow.toSorted(), ["a", "b", "ticket"]);
  assert.equal(second.since, "k3f9.120.120.1120");
  assert.equal((await becomes(at, "waiting")).retryInMs, 0);
  second.durable(121, "complete", { topics: ["a", "ticket"] }); // "b" is not granted
  await becomes(at, "open");
  at.client.unfollow("ticket"); // which only a WebSocket can
  const third = await server.sessions.next();
  assert.deepEqual(third.follow.toSorted(), ["a", "b"]);
  third.durable(121, "complete", { topics: ["a", "ticket"] });
  third.event(122, 0);
  await at.events.next();
  assert.equal(server.requests.length, 3);
  await until("the others are closed", () => first.isClosed && second.isClosed);
}));

test("calls are answered by their id", withServer(async (server, follow) => {
  const at = follow();
  await rejects(at.client.call("early"), "not_connected");
  const session = await server.sessions.next();
  session.welcome();
  await becomes(at, "open");
  const [one, two, three, four] = ["a.b", "c", "d", "e"].map((name, index) => at.client.call(name, index ? { index } : undefined));
  assert.deepEqual(await session.frames.next(), { id: "1", call: "a.b" });
  assert.deepEqual(await session.frames.next(), { id: "2", call: "c", data: { index: 1 } });
  session.send(
    { error: { id: "2", code: "no_responders", message: "nobody listens" } },
    { reply: { id: "4", base64: "AAE=" } },
    { reply: { id: "99", data: 1 } },
    { reply: { id: "3", data: null } },
    { reply: { id: "1", data: { done: true } } },
  );
  await rejects(two, "no_responders", "nobody listens");
  assert.deepEqual(await Promise.all([one, three, four]), [{ done: true }, null, "AAE="]);
  await assert.rejects(at.client.call("big", 1n), TypeError);
  assert.deepEqual(at.events.rest(), []);
}));

test("a call ends with its session, and is never sent again", withServer(async (server, follow) => {
  const at = follow();
  const first = await server.sessions.next();
  first.welcome();
  await becomes(at, "open");
  const call = at.client.call("pay", 1);
  await first.frames.next();
  first.end(1006);
  await rejects(call, "not_connected");
  await rejects(at.client.call("pay", 2), "not_connected");
  const second = await server.sessions.next();
  second.welcome();
  await becomes(at, "open");
  at.client.call("next").catch(() => {});
  assert.equal((await second.frames.next()).call, "next");
  at.client.close();
  await rejects(at.client.call("late"), "not_connected");
}));

test("over server-sent events there are no calls", withServer(async (server, follow) => {
  const at = follow({ transport: "sse" });
  (await server.sessions.next()).welcome();
  await becomes(at, "open");
  await rejects(at.client.call("a"), "not_connected");
}));

test("a session that is about to end gets a fresh ticket, or token", withServer(async (server, follow) => {
  const at = follow();
  const session = await server.sessions.next();
  session.welcome();
  session.send({ expiring: { in: 60 } });
  assert.deepEqual(await session.frames.next(), { id: "1", ticket: "a-ticket-of-this-test-2" });
  session.send({ refreshed: { id: "1", in: 3600 } });
  const call = at.client.call("a");
  assert.equal((await session.frames.next()).call, "a");
  session.send({ reply: { id: "2", data: 1 } });
  await call;

  follow({ getToken: async () => "ey.JWT.sig" });
  const other = await server.sessions.next();
  other.welcome();
  other.send({ expiring: { in: 60 } });
  assert.deepEqual(await other.frames.next(), { id: "1", token: "ey.JWT.sig" });
}));

test("what is no ticket refreshes nothing, and is asked for again", withServer(async (server, follow) => {
  const answers = ["a-ticket-of-this-test", undefined, "", "a-fresh-ticket-of-this-test"];
  follow({ getTicket: async () => answers.shift() });
  const session = await server.sessions.next();
  session.welcome();
  session.send({ expiring: { in: 60 } });
  assert.deepEqual(await session.frames.next(), { id: "1", ticket: "a-fresh-ticket-of-this-test" });
}));

test("a refresh that fails is tried again, and a final refusal ends the client", async (context) => {
  fixChance(context, 0);
  await withServer(async (server, follow) => {
    const at = follow({
      getTicket: async () => {
        if ((at.tickets += 1) === 4) throw Object.assign(new Error("logged out"), { final: true });
        return `another-ticket-of-this-test-${at.tickets}`;
      },
    });
    const session = await server.sessions.next();
    session.welcome();
    session.send({ expiring: { in: 60 } });
    assert.equal((await session.frames.next()).ticket, "another-ticket-of-this-test-2");
    session.send({ error: { id: "1", code: "unavailable", message: "Redis is away" } });
    const asked = performance.now();
    assert.equal((await session.frames.next()).ticket, "another-ticket-of-this-test-3");
    assert.ok(performance.now() - asked > 5000); // the gateway takes one in 5 s
    session.send({ refreshed: { id: "2", in: 10 } }, { expiring: { in: 5 } });
    assert.equal((await becomes(at, "closed")).reason, "logged out");
    await until("it is closed", () => session.isClosed);
  })(context);
});
