// clients/usher.js where there is no browser: what it sends.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { WebSocket } from "ws";
import { Server } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

const text = await readFile(new URL("../../usher.js", import.meta.url), "utf8");
const { usher } = await import(`data:text/javascript,${encodeURIComponent(text)}`);
const nothing = () => {};
const window = { addEventListener: nothing, removeEventListener: nothing };
Object.assign(globalThis, { WebSocket, window, document: { hidden: false }, location: { href: "http://localhost/" } });

test("names that no topic can have are skipped, and the console says so once", async (context) => {
  const warned = context.mock.method(console, "warn", nothing);
  const server = await Server.start();
  const states = [];
  const bad = ["", " a", "a\u3000", "\uFEFFa", "a\n", "a\u0085b", "{a", "ä".repeat(65), "\uD800"];
  const good = ["ä".repeat(64), "a b{}"];
  const client = usher({
    url: server.url,
    getTicket: () => "a-ticket-of-this-test",
    onState: (state) => states.push(state),
    onEvent: nothing,
    onGap: nothing,
    topics: [...bad, ...good],
  });
  context.after(async () => {
    client.close();
    await server.stop();
  });
  const first = await server.sessions.next();
  assert.deepEqual(first.follow, good);
  first.welcome({ topics: good });
  await until("it is open", () => states.includes("open"));
  for (const topic of bad) client.follow(topic);
  for (const topic of bad) client.unfollow(topic);
  client.follow("odd");
  assert.deepEqual((await first.frames.next()).follow, ["odd"]);
  assert.deepEqual(warned.mock.calls.map((call) => call.arguments[0]), bad);
  // What the gateway calls malformed is not asked for again.
  first.send({ error: { id: "1", code: "bad_request", message: "malformed" } });
  await until("a warning", () => warned.mock.callCount() > bad.length);
  first.end(1001);
  assert.deepEqual((await server.sessions.next()).follow, good);
});
