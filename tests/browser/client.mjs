// clients/usher.js against the contract's rule for any client, with a clock, chance
// and sockets that the test holds in its hand. Run by tests/journeys/browser.rs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const source = readFileSync(new URL("../../clients/usher.js", import.meta.url), "utf8");

/** A page with the client on it: what it did, and what can be done to it. */
class Page {
  now = 0;
  chance = 0;
  timers = new Map();
  sockets = [];
  tickets = 0;
  said = [];

  constructor({ href = "https://app.example.com/shop/", url = "/ws", getTicket } = {}) {
    const page = this;
    class WebSocket {
      constructor(address, protocol) {
        Object.assign(this, { address: new URL(address), protocol, closed: false });
        page.sockets.push(this);
      }
      close() {
        this.closed = true;
      }
    }
    const world = {
      WebSocket,
      setTimeout: (action, ms, ...rest) => {
        const id = Symbol("timer");
        this.timers.set(id, { at: this.now + ms, action: () => action(...rest) });
        return id;
      },
      clearTimeout: (id) => this.timers.delete(id),
      performance: { now: () => this.now },
      location: { href },
      Math: Object.assign(Object.create(Math), {
        min: Math.min,
        max: Math.max,
        random: () => this.chance,
      }),
    };
    const usher = new Function(...Object.keys(world), `${source}; return usher;`)(
      ...Object.values(world),
    );
    this.stream = usher({
      url,
      getTicket: getTicket ?? (async () => `ticket-${(this.tickets += 1)}`),
      onState: (state, details) => this.said.push([state, details]),
      onEvent: (frame) => this.said.push(["event", frame]),
      onGap: (reason) => this.said.push(["gap", reason]),
    });
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get since() {
    return this.socket.address.searchParams.get("since");
  }

  get state() {
    return this.said.filter(([what]) => !["event", "gap"].includes(what)).at(-1);
  }

  get gaps() {
    return this.said.filter(([what]) => what === "gap").map(([, reason]) => reason);
  }

  /** Lets what is promised come true. */
  async settle() {
    for (let turn = 0; turn < 10; turn += 1) await null;
  }

  /** Lets time pass, and runs what it is time for. */
  async pass(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end);
      if (due.length === 0) break;
      const [id, timer] = due.reduce((a, b) => (b[1].at < a[1].at ? b : a));
      this.timers.delete(id);
      this.now = timer.at;
      timer.action();
      await this.settle();
    }
    this.now = end;
  }

  frame(frame) {
    this.socket.onmessage?.({ data: JSON.stringify(frame) });
  }

  welcome(more = {}) {
    this.frame({ welcome: { session: "s", user: "42", gateway: "g", ping: 25, resume: "none", ...more } });
  }

  close(code, reason = "") {
    this.socket.onclose?.({ code, reason });
  }

  /** Loses the connection, and waits until the next one is there. */
  async again(code = 1006) {
    const before = this.sockets.length;
    this.close(code);
    await this.pass(30_000);
    assert.equal(this.sockets.length, before + 1, "one reconnect");
  }
}

async function page(options) {
  const made = new Page(options);
  await made.settle();
  return made;
}

test("each connection has a ticket of its own", async () => {
  const at = await page();
  assert.equal(String(at.socket.address), "wss://app.example.com/ws?ticket=ticket-1");
  assert.equal(at.socket.protocol, "usher.v1");
  await at.again();
  assert.equal(String(at.socket.address), "wss://app.example.com/ws?ticket=ticket-2");
});

test("the address is relative to the page", async () => {
  const at = await page({ href: "http://127.0.0.1:8080/push/#x", url: "ws" });
  assert.equal(String(at.socket.address), "ws://127.0.0.1:8080/push/ws?ticket=ticket-1");
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

test("live mode knows no position", async () => {
  const at = await page();
  at.welcome();
  at.frame({ event: "message", data: 1 });
  at.frame({ ping: {} });
  await at.again();
  assert.equal(at.since, null);
});

test("the position is the largest of the last event's seq, live's and ping's", async () => {
  const at = await page();
  const expectSince = async (expected) => {
    await at.again();
    assert.equal(at.since, expected);
  };
  const welcome = (seq, resume, epoch = "k3f9") => at.welcome({ epoch, seq, resume });
  welcome(120, "none");
  await expectSince("k3f9.120"); // welcome's, where none was sent
  welcome(200, "complete");
  await expectSince("k3f9.120"); // the one that was sent
  welcome(200, "complete");
  at.frame({ event: "a", seq: 121, prev: 0, data: 1 });
  await expectSince("k3f9.121"); // the event's
  welcome(200, "complete");
  at.frame({ event: "a", seq: 130, prev: 0, data: 1 });
  at.frame({ event: "b", seq: 125, prev: 0, data: 1, broadcast: true });
  await expectSince("k3f9.125"); // the last event's, not the largest event's
  welcome(200, "complete");
  at.frame({ event: "a", seq: 130, prev: 0, data: 1 });
  at.frame({ live: { seq: 200 } });
  await expectSince("k3f9.200"); // live's
  welcome(200, "complete");
  at.frame({ live: { seq: 200 } });
  at.frame({ ping: { seq: 240 } });
  at.frame({ ping: {} });
  at.frame({ event: "a", seq: 230, prev: 0, data: 1 });
  await expectSince("k3f9.240"); // ping's
  welcome(3, "gap", "new1");
  await expectSince("k3f9.240"); // a stream made anew, and nothing of it yet
  welcome(3, "gap", "new1");
  at.frame({ event: "a", seq: 4, prev: 0, data: 1 });
  await expectSince("new1.4");
  welcome(0, "gap", "new2");
  at.frame({ ping: { seq: 0 } });
  await expectSince("new2.0");
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

test("after close() it stays away, whenever that comes", async () => {
  const check = async (at, then = () => {}) => {
    const sockets = at.sockets.length;
    at.said.length = 0;
    at.stream.close();
    at.stream.close();
    then();
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
