// Positions that are sent, stored and forgotten, and gaps that are told.

import assert from "node:assert/strict";
import test from "node:test";
import { becomes, withServer } from "./support/client.mjs";
import { until } from "./support/wait.mjs";

/** What localStorage and sessionStorage are. */
class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, `${value}`);
  removeItem = (key) => void this.items.delete(key);

  get only() {
    const [text, ...rest] = this.items.values();
    assert.deepEqual(rest, []);
    return text && JSON.parse(text);
  }
}

test("live mode knows no position, and each reconnect is a gap", withServer(async (server, follow) => {
  const store = new Storage();
  const at = follow({ store });
  const first = (await server.sessions.next()).welcome();
  first.send({ event: "message", data: 1 }, { ping: {} }, { gap: { reason: "bus_lost" } });
  assert.deepEqual(await at.gaps.next(), { reason: "bus_lost" });
  assert.equal(at.client.position, undefined);
  first.end(1006);
  const second = await server.sessions.next();
  assert.equal(second.since, null);
  second.welcome();
  assert.deepEqual(await at.gaps.next(), { reason: "reconnected" });
  assert.deepEqual(at.positions, []);
  assert.equal(store.only, undefined);
}));

test("a client comes back with its position, and only complete is no gap", withServer(async (server, follow) => {
  const at = follow();
  const first = (await server.sessions.next()).durable(120);
  first.event(121, 0);
  await at.events.next();
  assert.equal(at.client.position, "k3f9.120.121.1121.u121");
  first.end(1006);
  const second = await server.sessions.next();
  assert.equal(second.since, "k3f9.120.121.1121.u121");
  second.durable(130, "complete");
  second.event(121, 0);
  second.event(130, 121);
  assert.equal((await at.events.next()).seq, 130);
  assert.deepEqual(at.gaps.rest(), []);
  second.end(1006);
  (await server.sessions.next()).durable(140, "gap");
  assert.deepEqual(await at.gaps.next(), { reason: "reconnected" });
  assert.equal(at.client.position, "k3f9.0.140.1140");
  assert.deepEqual(at.positions, [
    "k3f9.120.120.1120",
    "k3f9.120.121.1121.u121",
    "k3f9.120.130.1130.u121",
    "k3f9.120.130.1130.u130",
    "k3f9.0.140.1140",
  ]);
}));

test("holes and messages that are too large are told", withServer(async (server, follow) => {
  const at = follow();
  const session = (await server.sessions.next()).durable(120);
  session.event(130, 125);
  assert.deepEqual(await at.gaps.next(), { reason: "missing" });
  session.send({ gap: { reason: "too_large", seq: 131, prev: 130, at: 1131 } });
  assert.deepEqual(await at.gaps.next(), { reason: "too_large" });
  session.send({ gap: { reason: "too_large", seq: 131, prev: 130, at: 1131 } });
  session.event(132, 131);
  for (const seq of [130, 132]) assert.equal((await at.events.next()).seq, seq);
  assert.deepEqual(at.gaps.rest(), []);
}));

for (const [kind, wrap] of [
  ["a store", (store) => store],
  ["a store that answers later", (store) => ({
    getItem: async (key) => store.getItem(key),
    setItem: async (key, value) => store.setItem(key, value),
    removeItem: async (key) => store.removeItem(key),
  })],
]) {
  test(`${kind} keeps user and position over a reload`, withServer(async (server, follow) => {
    const store = new Storage();
    const before = follow({ store: wrap(store) });
    const first = (await server.sessions.next()).durable(120);
    first.event(121, 0);
    await before.events.next();
    before.client.close();
    await until("it is stored", () => store.only?.position === "k3f9.120.121.1121.u121");
    assert.equal(store.only.user, "42");

    const after = follow({ store: wrap(store) });
    const second = await server.sessions.next();
    assert.equal(second.since, "k3f9.120.121.1121.u121");
    assert.equal(after.client.position, second.since);
    second.durable(121, "complete");
    second.event(121, 0);
    second.event(122, 121);
    assert.equal((await after.events.next()).seq, 122);
    assert.deepEqual(after.gaps.rest(), []);
  }));
}

test("another user forgets the position, and is told a gap", withServer(async (server, follow) => {
  const store = new Storage();
  const before = follow({ store });
  (await server.sessions.next()).durable(120).event(121, 0);
  await before.events.next();
  before.client.close();

  const after = follow({ store });
  const session = await server.sessions.next();
  assert.equal(session.since, "k3f9.120.121.1121.u121");
  session.durable(130, "complete", { user: "43" });
  assert.deepEqual(await after.gaps.next(), { reason: "reconnected" });
  assert.deepEqual(store.only, { user: "43", position: "k3f9.0.130.1130" });
  session.event(121, 0); // another message than the other user's
  assert.equal((await after.events.next()).seq, 121);
  // The same within one page.
  session.end(1006);
  (await server.sessions.next()).durable(140, "complete", { user: "44" });
  assert.deepEqual(await after.gaps.next(), { reason: "reconnected" });
  assert.equal(after.client.position, "k3f9.0.140.1140");
}));

test("a gateway in live mode empties the store", withServer(async (server, follow) => {
  const store = new Storage();
  const at = follow({ store });
  (await server.sessions.next()).durable(120).end(1006);
  await until("it is stored", () => store.only);
  (await server.sessions.next()).welcome({ resume: "gap" });
  assert.deepEqual(await at.gaps.next(), { reason: "reconnected" });
  await until("it is forgotten", () => !store.only);
  assert.equal(at.positions.at(-1), undefined);
}));

test("a position of the page goes before a stored one, and is a gap where it is not complete", withServer(async (server, follow) => {
  const store = new Storage();
  const one = follow({ store });
  (await server.sessions.next()).durable(120);
  await becomes(one, "open");
  one.client.close();
  const at = follow({ store, since: "k3f9.100" });
  const session = await server.sessions.next();
  assert.equal(session.since, "k3f9.100");
  session.durable(130, "gap");
  assert.deepEqual(await at.gaps.next(), { reason: "reconnected" });
}));

test("a store that is broken, or holds nonsense, hinders nothing", withServer(async (server, follow) => {
  const fails = () => {
    throw new Error("forbidden here");
  };
  const broken = { getItem: fails, setItem: fails, removeItem: fails };
  const rejects = { getItem: async () => fails(), setItem: async () => fails(), removeItem: async () => fails() };
  const holding = (text) => ({ getItem: () => text, setItem() {}, removeItem() {} });
  const nonsense = ["no JSON", "null", "{}", "[]", '{"position":1e400}', '{"position":"a b?"}', '{"position":["x y"]}'];
  for (const store of [broken, rejects, ...nonsense.map(holding)]) {
    const at = follow({ store });
    const session = await server.sessions.next();
    assert.equal(session.since, null);
    session.durable(120);
    session.event(121, 120);
    assert.equal((await at.events.next()).seq, 121);
    at.client.close();
  }
}));
