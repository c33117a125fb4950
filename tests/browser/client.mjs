// How clients/usher.js connects, comes back and tells its page, against the contract's rule
// for any client. Run by tests/journeys/browser.rs.

import assert from "node:assert/strict";
import test from "node:test";

import { page, source } from "./page.mjs";

test("each connection has a ticket of its own, and no address has one", async () => {
  const at = await page();
  assert.equal(String(at.socket.address), "wss://app.example.com/ws");
  assert.deepEqual(at.socket.protocols, ["usher.v1", "usher.ticket.ticket-1"]);
  await at.again();
  assert.equal(String(at.socket.address), "wss://app.example.com/ws");
  assert.deepEqual(at.socket.protocols, ["usher.v1", "usher.ticket.ticket-2"]);
});

test("the address is relative to the page", async () => {
  const at = await page({ href: "http://127.0.0.1:8080/push/#x", url: "ws" });
  assert.equal(String(at.socket.address), "ws://127.0.0.1:8080/push/ws");
});

test("the page hears of states and events", async () => {
  const at = await page();
  at.welcome();
  at.frame({ event: "order.completed", data: { order: 123 } });
  at.frame({ event: "photo", base64: "AAE=", broadcast: true });
  at.frame({ ping: {} });
  at.frame({ somethingNew: { later: true } });
  at.close(1012, "drain");
  assert.deepEqual(
    at.said.map(([what]) => what),
    ["connecting", "open", "event", "event", "waiting"],
  );
  assert.equal(at.said[1][1].session, "s");
  assert.deepEqual(at.said[3][1], { event: "photo", base64: "AAE=", broadcast: true });
  assert.deepEqual(at.state[1], { ms: 1000, code: 1012, reason: "drain" });
});

test("some codes say: stay away", async () => {
  for (const code of [1000, 1002, 1005, 1007, 1008, 1009, 4100, 4101, 4102, 4150, 4199]) {
    const at = await page();
    at.welcome();
    at.close(code, "why");
    assert.deepEqual(at.state, ["closed", { code, reason: "why" }]);
    await at.pass(3_600_000);
    assert.equal(at.sockets.length, 1, `${code}`);
  }
});

test("all others say: come back", async () => {
  for (const code of [1001, 1003, 1006, 1010, 1011, 1012, 1013, 1015, 4000, 4001, 4002, 4003, 4099, 4200]) {
    const at = await page();
    await at.again(code);
  }
});

test("waiting is by chance, between 1 s and a bound that doubles up to 30 s", async () => {
  for (const [chance, expected] of [
    [0, [1000, 1000, 1000, 1000, 1000, 1000, 1000]],
    [0.5, [1500, 2500, 4500, 8500, 15_500, 15_500, 15_500]],
    [1, [2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]],
  ]) {
    const at = await page();
    at.chance = chance;
    for (const ms of expected) {
      at.close(1006);
      assert.equal(at.state[1].ms, ms);
      const before = at.sockets.length;
      await at.pass(ms - 1);
      assert.equal(at.sockets.length, before);
      await at.pass(1);
      assert.equal(at.sockets.length, before + 1);
    }
  }
});

test("only 30 s of session let the waiting begin anew", async () => {
  const at = await page();
  at.chance = 1;
  const lose = async (expected) => {
    at.close(1006);
    assert.equal(at.state[1].ms, expected);
    await at.pass(expected);
  };
  at.welcome();
  await at.pass(29_999);
  await lose(2000);
  at.welcome();
  await at.pass(29_999);
  await lose(4000);
  at.welcome();
  await at.pass(30_000);
  await lose(2000);
  // A session of long ago does not count for a connection that never opened.
  await lose(4000);
  await lose(8000);
});

test("a goodbye says when to come back, once", async () => {
  const at = await page();
  at.welcome();
  at.frame({ goodbye: { reason: "drain", reconnect_after_ms: 4210 } });
  at.close(1012, "drain");
  assert.equal(at.state[1].ms, 4210);
  await at.pass(4210);
  assert.equal(at.sockets.length, 2);
  at.close(1006);
  assert.equal(at.state[1].ms, 1000);
});

test("a hint of 0 is a hint, and a goodbye without one is none", async () => {
  const at = await page();
  at.welcome();
  at.frame({ goodbye: { reason: "drain", reconnect_after_ms: 0 } });
  at.close(1006);
  assert.equal(at.state[1].ms, 0);
  await at.pass(0);
  at.welcome();
  at.frame({ goodbye: { reason: "session_expired" } });
  at.close(4001);
  assert.equal(at.state[1].ms, 1000);
});

test("it is a module that exports the client alone", async () => {
  const exported = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  assert.deepEqual(Object.keys(exported), ["usher"]);
});

test("live mode knows no position", async () => {
  const at = await page();
  at.welcome();
  at.frame({ event: "message", data: 1 });
  at.frame({ ping: {} });
  at.frame({ gap: { reason: "bus_lost" } });
  assert.equal(at.stream.position, undefined);
  await at.again();
  assert.equal(at.since, null);
});

test("the page hears of every gap", async () => {
  const at = await page();
  at.welcome({ epoch: "k3f9", seq: 1 });
  assert.deepEqual(at.gaps, []);
  at.frame({ gap: { reason: "bus_lost" } });
  assert.deepEqual(at.gaps, ["bus_lost"]);
  await at.again();
  at.welcome({ epoch: "k3f9", seq: 1, resume: "complete" });
  assert.equal(at.gaps.length, 1);
  await at.again();
  at.welcome({ epoch: "k3f9", seq: 1, resume: "gap" });
  assert.deepEqual(at.gaps, ["bus_lost", "reconnected"]);
});

test("in live mode each reconnect is a gap", async () => {
  const at = await page();
  await at.again();
  at.welcome();
  assert.deepEqual(at.gaps, []);
  await at.again();
  at.welcome();
  assert.deepEqual(at.gaps, ["reconnected"]);
});

test("a connection that is silent for two pings is given up", async () => {
  const at = await page();
  at.welcome({ ping: 10 });
  await at.pass(19_999);
  at.frame({ ping: {} });
  await at.pass(19_999);
  assert.equal(at.state[0], "open");
  const silent = at.socket;
  const { onclose } = silent;
  await at.pass(1);
  assert.deepEqual(at.state, ["waiting", { ms: 1000, code: 1006, reason: "silent" }]);
  assert.ok(silent.closed);
  await at.pass(1000);
  assert.equal(at.sockets.length, 2);
  assert.equal(silent.onclose, null);
  assert.ok(onclose, "until then it had one");
  // The new connection has a watch of its own.
  at.welcome({ ping: 10 });
  await at.pass(20_000);
  assert.equal(at.state[0], "waiting");
});

test("a handshake that is never answered is given up too", async () => {
  const at = await page();
  await at.pass(30_000);
  assert.deepEqual(at.state, ["waiting", { ms: 1000, code: 1006, reason: "silent" }]);
  assert.ok(at.socket.closed);
});

test("without a ticket it waits and asks again", async () => {
  let asked = 0;
  const at = await page({
    getTicket: async () => {
      asked += 1;
      if (asked < 3) throw new Error("the login service is away");
      return "a-ticket";
    },
  });
  at.chance = 1;
  assert.deepEqual(at.state, ["waiting", { ms: 1000, code: 1006, reason: "the login service is away" }]);
  await at.pass(1000);
  assert.equal(at.state[1].ms, 4000);
  await at.pass(4000);
  assert.equal(at.sockets.length, 1);
});

test("a final refusal of a ticket ends it", async () => {
  const getTicket = async () => {
    throw Object.assign(new Error("logged out"), { final: true });
  };
  const at = await page({ getTicket });
  assert.deepEqual(at.state, ["closed", { code: 1006, reason: "logged out" }]);
  await at.pass(3_600_000);
  at.wake("online");
  await at.pass(3_600_000);
  assert.equal(at.said.length, 2);
});

const WAKES = [["online"], ["visibilitychange"], ["resume"], ["pageshow", { persisted: true }]];

test("a page that wakes tries within a second", async () => {
  for (const wake of WAKES) {
    const at = await page();
    at.chance = 0.5;
    for (const ms of [1500, 2500]) {
      at.close(1006);
      await at.pass(ms);
    }
    at.close(1006);
    assert.equal(at.state[1].ms, 4500);
    at.wake(...wake);
    await at.pass(499);
    assert.equal(at.sockets.length, 3);
    await at.pass(1);
    assert.equal(at.sockets.length, 4);
  }
});

test("a page that wakes still waits for what the gateway asked for", async () => {
  const at = await page();
  at.welcome();
  at.frame({ goodbye: { reason: "drain", reconnect_after_ms: 4210 } });
  at.close(1012);
  await at.pass(1000);
  at.wake("online");
  await at.pass(3209);
  assert.equal(at.sockets.length, 1);
  await at.pass(1);
  assert.equal(at.sockets.length, 2);
});

test("a page that wakes asks whether an open connection lives", async () => {
  for (const wake of WAKES) {
    const at = await page();
    at.wake(...wake); // it is on its way
    at.welcome();
    assert.deepEqual(at.socket.sent, []);
    at.wake(...wake);
    at.wake(...wake);
    assert.deepEqual(at.socket.sent, ['{"ping":{}}']);
    await at.pass(1999);
    at.frame({ ping: {} });
    await at.pass(2000);
    assert.equal(at.state[0], "open");
    at.chance = 0.1;
    at.wake(...wake);
    await at.pass(2000);
    assert.deepEqual(at.state, ["waiting", { ms: 100, code: 1006, reason: "silent" }]);
    assert.ok(at.socket.closed);
    await at.pass(100);
    assert.equal(at.sockets.length, 2);
  }
});

test("a page that wakes, and then loses its connection, tries within a second", async () => {
  const at = await page();
  at.chance = 1;
  await at.again();
  at.chance = 0.1;
  at.welcome();
  at.wake("resume");
  at.close(1006);
  assert.deepEqual(at.state, ["waiting", { ms: 100, code: 1006, reason: "" }]);
  await at.pass(100);
  at.welcome();
  at.frame({ goodbye: { reason: "drain", reconnect_after_ms: 4210 } });
  at.wake("resume");
  at.close(1012);
  assert.equal(at.state[1].ms, 4210);
});

test("a page that wakes gives up an attempt that hangs", async () => {
  for (const wake of WAKES) {
    for (const getTicket of [undefined, () => new Promise(() => {})]) {
      const at = await page({ getTicket });
      const before = at.sockets.length;
      await at.pass(2000);
      at.wake(...wake);
      assert.equal(at.said.length, 1, "so long an attempt may take");
      await at.pass(1);
      at.chance = 0.1;
      at.wake(...wake);
      assert.deepEqual(at.state, ["waiting", { ms: 100, code: 1006, reason: "wake" }]);
      await at.pass(100);
      assert.deepEqual(at.state, ["connecting", {}]);
      assert.equal(at.sockets.length, 2 * before);
    }
  }
});

test("a machine that slept is a page that wakes", async () => {
  const at = await page();
  at.welcome();
  at.slept = 7000;
  await at.pass(2000);
  assert.deepEqual(at.socket.sent, []);
  at.slept += 20_000;
  at.document.hidden = true; // of such a page the browser runs timers late
  await at.pass(2000);
  assert.deepEqual(at.socket.sent, []);
  at.document.hidden = false;
  at.slept += 20_000;
  at.chance = 0.1;
  await at.pass(2000);
  assert.deepEqual(at.socket.sent, ['{"ping":{}}']);
  await at.pass(2000);
  assert.equal(at.state[1].reason, "silent");
});

test("a ticket that does not come is given up, and opens nothing later", async () => {
  let answer;
  const at = await page({ getTicket: () => new Promise((resolve) => (answer = resolve)) });
  await at.pass(30_000);
  assert.deepEqual(at.state, ["waiting", { ms: 1000, code: 1006, reason: "silent" }]);
  const late = answer;
  await at.pass(1000);
  late("a ticket of before");
  await at.settle();
  assert.equal(at.sockets.length, 0);
  answer("a ticket of now");
  await at.settle();
  assert.deepEqual(at.socket.protocols, ["usher.v1", "usher.ticket.a ticket of now"]);
});

test("hiding, and the first showing, are no waking", async () => {
  const at = await page();
  at.welcome();
  at.wake("pageshow", { persisted: false });
  at.document.hidden = true;
  at.wake("visibilitychange");
  assert.deepEqual(at.socket.sent, []);
});

test("after close() it stays away, whenever that comes", async () => {
  const check = async (at, then = () => {}) => {
    const sockets = at.sockets.length;
    at.said.length = 0;
    at.stream.close();
    at.stream.close();
    then();
    await at.pass(3_600_000);
    at.wake("online");
    await at.pass(3_600_000);
    assert.deepEqual(at.said, [["closed", { code: 1000, reason: "by this page" }]]);
    assert.equal(at.sockets.length, sockets);
    assert.ok(at.sockets.every((socket) => socket.closed));
  };
  const open = await page();
  open.welcome();
  await check(open, () => {
    open.frame({ event: "late", data: 1 });
    open.close(1006);
  });

  await check(await page()); // connecting

  const waiting = await page();
  waiting.close(1006);
  await check(waiting);

  let answer;
  const getTicket = () => new Promise((...both) => (answer = both));
  await check(await page({ getTicket }), () => answer[0]("late"));
  await check(await page({ getTicket }), () => answer[1](new Error("late")));

  const refused = await page();
  refused.close(4101, "replaced");
  refused.said.length = 0;
  refused.stream.close();
  assert.deepEqual(refused.said, []);
});

test("topics are asked for with each connection", async () => {
  const at = await page({ topics: ["news", "room 7"] });
  const follow = () => at.socket.address.searchParams.getAll("follow");
  assert.deepEqual(follow(), ["news", "room 7"]);
  at.stream.follow("late"); // before it is open
  at.stream.unfollow("news");
  assert.deepEqual(at.sent, []);
  at.welcome({ topics: ["news", "room 7"] });
  assert.deepEqual(at.sent, [{ id: "1", follow: ["late"] }]);
  await at.pass(600);
  assert.deepEqual(at.sent.slice(1), [{ id: "2", unfollow: ["news"] }]);
  at.frame({ following: { id: "2", topics: ["room 7", "late"] } });
  assert.deepEqual(at.stream.topics, ["room 7", "late"]);
  await at.again();
  assert.deepEqual(follow(), ["room 7", "late"]);
  at.welcome({ topics: ["room 7", "late"] });
  await at.pass(600);
  assert.deepEqual(at.sent, [], "there is nothing to change");
});

test("topics change at most twice a second", async () => {
  const at = await page();
  at.welcome({ topics: ["ticket's"] });
  for (const topic of ["a", "b", "c"]) at.stream.follow(topic);
  at.stream.unfollow("ticket's");
  at.stream.unfollow("b");
  assert.deepEqual(at.sent, [{ id: "1", follow: ["a"] }]);
  await at.pass(600);
  assert.deepEqual(at.sent.slice(1), [{ id: "2", follow: ["c"] }]);
  await at.pass(600);
  assert.deepEqual(at.sent.slice(2), [{ id: "3", unfollow: ["ticket's"] }]);
});

test("a call has its answer, or an error with a code", async () => {
  const at = await page();
  await assert.rejects(at.stream.call("early"), { code: "not_connected" });
  at.welcome();
  const calls = ["a", "b", "c", "d"].map((name) => at.stream.call(name, { name }));
  assert.deepEqual(at.sent[0], { id: "1", call: "a", data: { name: "a" } });
  at.frame({ error: { id: "2", code: "forbidden", message: "no" } });
  at.frame({ error: { code: "unknown_command", message: "nobody asked" } });
  at.frame({ reply: { id: "3", base64: "AAE=" } });
  at.frame({ reply: { id: "1", data: null } });
  assert.equal(await calls[0], null);
  await assert.rejects(calls[1], { code: "forbidden", message: "no" });
  assert.equal(await calls[2], "AAE=");
  at.close(1006);
  await assert.rejects(calls[3], { code: "not_connected" });
  await at.pass(30_000);
  at.welcome();
  assert.deepEqual(at.sent, [], "no call is sent twice");
});
