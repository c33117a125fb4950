// The client against a real gateway, with a real nats-server and a real Redis.

import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import test from "node:test";
import { becomes } from "./support/client.mjs";
import { World } from "./support/gateway.mjs";
import { until } from "./support/wait.mjs";

const DURABLE = { "durable.enabled": "true", "durable.max_bytes": "64MiB" };
const transports = ["websocket", "sse"];

for (const transport of transports) {
  test(`${transport}: it opens, and gets pushes and broadcasts`, async (context) => {
    const world = await World.start(context);
    const at = world.follow({ transport });
    await becomes(at, "open");
    await world.metric(`usher_sessions{transport="${transport}"}`, 1);
    await world.push({ order: 123 }, { event: "order.completed" });
    assert.deepEqual(await at.events.next(), { event: "order.completed", data: { order: 123 } });
    await world.post("push", { user_id: "42", base64: "AAH/" });
    assert.deepEqual(await at.events.next(), { event: "message", base64: "AAH/" });
    await world.post("broadcast", { data: "line\nbreaks" });
    assert.deepEqual(await at.events.next(), { event: "message", data: "line\nbreaks", broadcast: true });
    assert.equal(at.client.position, undefined);
    at.client.close();
    await world.metric(`usher_sessions{transport="${transport}"}`, 0);
    assert.ok(!world.gateway.output.includes("ticket="));
  });

  test(`${transport}: a service ends its session for good, or for a new one`, async (context) => {
    const world = await World.start(context);
    const at = world.follow({ transport });
    await becomes(at, "open");
    await world.post("disconnect", { user_id: "42", reconnect: true });
    const { code, reason, retryInMs } = await becomes(at, "waiting");
    assert.deepEqual([code, reason], [transport === "sse" ? 1006 : 4004, "reconnect"]);
    assert.ok(retryInMs <= 2000);
    await becomes(at, "open");
    await world.post("disconnect", { user_id: "42" });
    assert.deepEqual(await becomes(at, "closed"), { state: "closed", code: 4100, reason: "disconnected" });
  });

  test(`${transport}: one session too many replaces the oldest`, async (context) => {
    const world = await World.start(context, { "public.max_sessions_per_user": "1" });
    const first = world.follow({ transport });
    await becomes(first, "open");
    const second = world.follow({ transport });
    await becomes(second, "open");
    assert.deepEqual(await becomes(first, "closed"), { state: "closed", code: 4101, reason: "replaced" });
    await world.push(1);
    assert.equal((await second.events.next()).data, 1);
  });

  test(`${transport}: it survives a gateway that is killed, and one that drains`, async (context) => {
    const world = await World.start(context, { "drain.delay": "0s", "drain.window": "1s" });
    const at = world.follow({ transport });
    await becomes(at, "open");
    await world.gateway.kill();
    assert.equal((await becomes(at, "waiting")).code, 1006);
    await world.startGateway();
    await becomes(at, "open");
    assert.deepEqual(await at.gaps.next(), { reason: "reconnected" });
    await world.push(1);
    assert.equal((await at.events.next()).data, 1);

    world.gateway.signal("SIGTERM");
    const { reason, retryInMs } = await becomes(at, "waiting");
    assert.equal(reason, "drain");
    assert.ok(retryInMs >= 0 && retryInMs < 10_000, `${retryInMs}`);
    await world.gateway.ended;
    await world.startGateway();
    await becomes(at, "open");
    await world.push(2);
    assert.equal((await at.events.next()).data, 2);
  });

  test(`${transport}: durable mode, nothing is missed and nothing comes twice`, async (context) => {
    const world = await World.start(context, DURABLE);
    const at = world.follow({ transport });
    await becomes(at, "open");
    await world.push(1);
    assert.equal((await at.events.next()).data, 1);
    await world.gateway.kill();
    await becomes(at, "waiting");
    await world.startGateway();
    for (const data of [2, 3]) await world.push(data);
    await world.post("broadcast", { data: 4 });
    for (const data of [2, 3, 4]) assert.equal((await at.events.next()).data, data);
    assert.deepEqual(at.gaps.rest(), []);

    // A page that loads anew goes on from its store.
    const items = new Map();
    const store = {
      getItem: (key) => items.get(key) ?? null,
      setItem: (key, value) => items.set(key, value),
      removeItem: (key) => items.delete(key),
    };
    const page = world.follow({ transport, store });
    await becomes(page, "open");
    await world.push(5);
    assert.equal((await page.events.next()).data, 5);
    page.client.close();
    await world.push(6);
    const again = world.follow({ transport, store });
    assert.equal((await again.events.next()).data, 6);
    assert.deepEqual(again.gaps.rest(), []);
    again.client.close();

    // And not where another user has logged in.
    const other = world.follow({ transport, store, getTicket: () => world.ticket("43") });
    assert.deepEqual(await other.gaps.next(), { reason: "reconnected" });
    await world.push("for 43", { user_id: "43" });
    assert.equal((await other.events.next()).data, "for 43");
  });

  test(`${transport}: durable mode, a position of a ticket begins there`, async (context) => {
    const world = await World.start(context, DURABLE);
    await world.push(1);
    const { ticket, position } = await world.post("tickets", { user_id: "42" });
    await world.push(2);
    const tickets = [ticket];
    const at = world.follow({ transport, since: position, getTicket: () => tickets.pop() ?? world.ticket() });
    assert.equal((await at.events.next()).data, 2);
    assert.deepEqual(at.gaps.rest(), []);
  });

  test(`${transport}: durable mode, what retention took is a gap`, async (context) => {
    const world = await World.start(context, { ...DURABLE, "durable.max_messages_per_channel": "2" });
    const at = world.follow({ transport });
    await becomes(at, "open");
    await world.push(1);
    assert.equal((await at.events.next()).data, 1);
    await world.gateway.kill();
    await becomes(at, "waiting");
    await world.startGateway();
    for (const data of [2, 3, 4, 5]) await world.push(data);
    await becomes(at, "open");
    // It may have come back between two of them; then there is no gap, and nothing is missing.
    const got = [];
    while (got.at(-1) !== 5) got.push((await at.events.next()).data);
    if (got.length < 4) assert.deepEqual([got, at.gaps.rest()], [[4, 5], [{ reason: "reconnected" }]]);
  });
}

test("NATS away is a gap in live mode, over the same session", async (context) => {
  const world = await World.start(context);
  const at = world.follow();
  await becomes(at, "open");
  await world.nats.kill();
  await world.startNats();
  assert.deepEqual(await at.gaps.next(), { reason: "bus_lost" });
  // Pushes go by a connection of their own, which may come back later.
  await until("NATS is there for pushes", () => world.push(1).then(() => true, ({ message }) => !/"published":false/.test(message)));
  assert.equal((await at.events.next()).data, 1);
  assert.deepEqual(at.states.rest(), []);
});

test("where something in between lets no WebSocket through, it takes server-sent events", async (context) => {
  const world = await World.start(context);
  const asked = [];
  const proxy = createServer((incoming, outgoing) => {
    asked.push(incoming.url.split("?")[0]);
    const { method, headers, url: path } = incoming;
    const onwards = request({ host: "127.0.0.1", port: world.port, method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers).flushHeaders();
      answer.pipe(outgoing);
    });
    outgoing.on("close", () => onwards.destroy());
    onwards.on("error", () => outgoing.destroy()).end();
  });
  proxy.on("upgrade", (incoming, socket) => {
    asked.push(incoming.url.split("?")[0]);
    socket.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  context.after(() => proxy.closeAllConnections() ?? proxy.close());
  const at = world.follow({ url: `ws://127.0.0.1:${proxy.address().port}/ws` });
  await becomes(at, "open");
  await world.push(1);
  assert.equal((await at.events.next()).data, 1);
  assert.deepEqual(asked, ["/ws", "/ws", "/ws", "/events"]);
  await world.metric('usher_sessions{transport="sse"}', 1);
});

test("a ticket that opens nothing is asked for anew, and given up at the third", async (context) => {
  const world = await World.start(context);
  const at = world.follow({ transport: "sse", getTicket: () => "a-ticket-that-nobody-minted" });
  assert.deepEqual(await becomes(at, "closed"), { state: "closed", code: 401, reason: "ticket_unknown" });
  const malformed = world.follow({ transport: "sse", getTicket: () => "short" });
  assert.deepEqual(await becomes(malformed, "closed"), { state: "closed", code: 400, reason: "ticket_malformed" });
  await world.metric('usher_sessions{transport="sse"}', 0);
});
