// Clients of usher-client/tabs that share a session, in one process: which topics they follow.

import assert from "node:assert/strict";
import test from "node:test";
import { connect } from "../dist/tabs.js";
import { becomes, withServer } from "./support/client.mjs";
import { until } from "./support/wait.mjs";

/** Web Locks as far as tabs use them; Node 20 has none. */
class Locks {
  #queue = Promise.resolve();

  request(name, { signal }, action) {
    // As in a browser, the next tab gets it after the last message of the one before.
    const ran = this.#queue.then(hears).then(() => (signal?.aborted ? undefined : action()));
    this.#queue = ran;
    return ran;
  }
}

/** A test with a server, and tabs that share a session of it. */
const withTabs = (run) => async (context) => {
  const own = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { locks: new Locks() } });
  context.after(() => (own ? Object.defineProperty(globalThis, "navigator", own) : delete globalThis.navigator));
  await withServer((server, follow) => run(server, (topics) => follow({ topics }, connect), context))(context);
};

/** Long enough for a message between tabs. */
const hears = () => new Promise((resolve) => setTimeout(resolve, 100));

test("a tab that names a topic of the ticket and closes leaves it to the others", withTabs(async (server, open) => {
  const one = open([]);
  const session = await server.sessions.next();
  session.welcome({ topics: ["ticket"] });
  await becomes(one, "open");
  const two = open(["ticket", "own"]);
  const { id, follow } = await session.frames.next();
  assert.deepEqual(follow, ["own"]);
  session.send({ following: { id, topics: ["own", "ticket"] } });
  await becomes(two, "open");
  await hears();
  two.client.close();
  assert.deepEqual((await session.frames.next()).unfollow, ["own"]);
  session.send({ following: { id: "2", topics: ["ticket"] } }, { event: "e", topic: "ticket", data: 1 });
  assert.equal((await one.events.next()).data, 1);
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.deepEqual(session.frames.rest(), []);
}));

test("topics of a tab that held the session and closed are not those of the next", withTabs(async (server, open) => {
  const one = open(["a", "b"]);
  const first = await server.sessions.next();
  first.welcome({ topics: ["a", "b", "ticket"] });
  await becomes(one, "open");
  const two = open(["b"]);
  await becomes(two, "open");
  await hears();
  one.client.close();
  const second = await server.sessions.next();
  assert.deepEqual(second.follow.toSorted(), ["b", "ticket"]);
}));

test("where a BroadcastChannel can't be made, each tab connects", withTabs(async (server, open, context) => {
  const { BroadcastChannel: own } = globalThis;
  context.after(() => (globalThis.BroadcastChannel = own));
  globalThis.BroadcastChannel = function denied() {
    throw new DOMException("denied", "SecurityError");
  };
  for (const tab of [open(["a"]), open(["b"])]) {
    (await server.sessions.next()).welcome();
    await becomes(tab, "open");
  }
}));

test("a name that no topic can have does not reach the other tabs", withTabs(async (server, open, context) => {
  const warned = context.mock.method(console, "warn", () => {});
  const one = open(["{bad", "a"]);
  const session = await server.sessions.next();
  assert.deepEqual(session.follow, ["a"]);
  session.welcome({ topics: ["a"] });
  await becomes(one, "open");
  one.client.follow("bad ");
  await until("two warnings", () => warned.mock.callCount() === 2);
}));
