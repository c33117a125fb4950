// A page with clients/usher.js on it, with a clock, chance and sockets that a test controls.
// For client.mjs and positions.mjs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export const source = readFileSync(new URL("../../clients/usher.js", import.meta.url), "utf8");
// As a function's body, so that each page has a world of its own.
const body = source.replace(/^export /m, "");

/** A page with the client on it: what it did, and what can be done to it. */
class Page {
  now = 0;
  slept = 0; // by so much the clock is ahead of the timers
  chance = 0;
  timers = new Map();
  sockets = [];
  tickets = 0;
  said = [];

  constructor({ href = "https://app.example.com/shop/", url = "/ws", getTicket, since, store, topics } = {}) {
    const page = this;
    class WebSocket {
      constructor(address, protocols) {
        Object.assign(this, { address: new URL(address), protocols, closed: false, sent: [] });
        page.sockets.push(this);
      }
      send(text) {
        this.sent.push(text);
      }
      close() {
        this.closed = true;
      }
    }
    this.window = new EventTarget();
    this.document = { hidden: false };
    const world = {
      window: this.window,
      document: this.document,
      WebSocket,
      setTimeout: (action, ms, ...rest) => {
        const id = Symbol("timer");
        this.timers.set(id, { at: this.now + ms, action: () => action(...rest) });
        return id;
      },
      clearTimeout: (id) => this.timers.delete(id),
      setInterval: (action, ms) => {
        const id = Symbol("interval");
        const plan = () => this.timers.set(id, { at: this.now + ms, action: () => plan() && action() });
        plan();
        return id;
      },
      clearInterval: (id) => this.timers.delete(id),
      performance: { now: () => this.now },
      Date: { now: () => this.now + this.slept },
      location: { href },
      Math: Object.assign(Object.create(Math), {
        min: Math.min,
        max: Math.max,
        random: () => this.chance,
      }),
    };
    const usher = new Function(...Object.keys(world), `${body}; return usher;`)(
      ...Object.values(world),
    );
    this.stream = usher({
      url,
      since,
      store,
      topics,
      getTicket: getTicket ?? (async () => `ticket-${(this.tickets += 1)}`),
      onState: (state, details) => this.said.push([state, details]),
      onEvent: (frame) => this.said.push(["event", frame]),
      onGap: (reason) => this.said.push(["gap", reason]),
    });
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** What the client said on this connection. */
  get sent() {
    return this.socket.sent.map((text) => JSON.parse(text));
  }

  get since() {
    return this.socket.address.searchParams.get("since");
  }

  get state() {
    return this.said.filter(([what]) => !["event", "gap"].includes(what)).at(-1);
  }

  /** The data of each event that the page was given. */
  get data() {
    return this.said.filter(([what]) => what === "event").map(([, { data }]) => data);
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

  /** The page wakes, comes online or becomes visible. The window captures the document's events. */
  wake(type, more) {
    this.window.dispatchEvent(Object.assign(new Event(type), more));
  }

  frame(frame) {
    this.socket.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** An event of durable mode. */
  event(seq, prev, more = {}) {
    this.frame({ event: "e", seq, prev, at: 1000 + seq, data: seq, ...more });
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

export async function page(options) {
  const made = new Page(options);
  await made.settle();
  return made;
}
