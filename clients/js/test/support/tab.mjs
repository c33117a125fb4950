// Pages of a site, each with a client, and all that it tells.

import assert from "node:assert/strict";
import { until } from "./wait.mjs";

/** ms for which a tab is frozen, or a machine sleeps. */
export const LONG = 20_000;

/** ms; a look into a page costs it time. */
const LOOK = 100;

/** What a page may connect with: our clients, and the plain means of docs/frontend.md. */
export const CLIENTS = {
  "usher-client": { transport: "websocket" },
  "usher-client over SSE": { transport: "sse" },
  "usher-client/tabs": { module: "/dist/tabs.js", transport: "websocket" },
  "usher.js": { module: "/usher.js", make: "usher" },
  "a plain WebSocket": { module: "/plain-socket.js", make: "usherSocket" },
  "a plain EventSource": { module: "/plain-events.js", make: "usherEvents" },
};

export const isOverSse = ({ transport, make }) => transport === "sse" || make === "usherEvents";

/** Runs in a page: connects, and keeps all that is told. */
async function begin({ module = "/dist/index.js", make = "connect", name, store, secret = "getTicket", ...options }) {
  const { [make]: connect } = await import(module);
  const told = { states: [], events: [], gaps: [], secrets: 0, isFrozen: false };
  document.addEventListener("freeze", () => (told.isFrozen = true));
  const ask = async () => {
    told.secrets += 1;
    const answer = await fetch(`/login/${secret}?${name}`);
    if (answer.status === 401) throw Object.assign(new Error("logged out"), { final: true });
    if (!answer.ok) throw new Error(`no ticket: ${answer.status}`);
    return answer.text();
  };
  const all = { ...options, [secret]: ask };
  const storage = globalThis[store];
  let client;
  if (make === "connect") {
    client = connect({ ...all, store: storage });
    client.on("state", (change) => told.states.push(change));
    client.on("gap", ({ reason }) => told.gaps.push(reason));
    client.on("*", ({ data }) => told.events.push(data));
  } else {
    client = connect({
      ...all,
      // Two ways of a page to keep its position.
      ...(make === "usher" ? { store: storage } : { since: storage?.getItem("position") ?? undefined }),
      onState: (state, { code, reason, ms: retryInMs }) => told.states.push({ state, code, reason, retryInMs }),
      onGap: (reason) => told.gaps.push(reason),
      onEvent({ data }) {
        told.events.push(data);
        storage?.setItem("position", client.position);
      },
    });
  }
  Object.assign(globalThis, { told, client });
}

/** One page of the site. */
export class Tab {
  constructor(site, page, options) {
    const url = options.make === "usherEvents" ? options.url.replace("ws", "http").replace(/ws$/, "events") : options.url;
    Object.assign(this, { site, page, options: { ...options, url } });
  }

  get name() {
    return this.options.name;
  }

  async load() {
    await this.page.goto(this.site.origin);
    await this.page.evaluate(begin, this.options);
    return this;
  }

  async leave() {
    await this.page.goto(`${this.site.origin}/elsewhere`);
  }

  /** Goes back to the page that it left, which the browser kept. */
  async comeBack() {
    await this.page.evaluate(() => void setTimeout(() => history.back()));
    await until("it is back", () => this.page.evaluate(() => "told" in globalThis).catch(() => false));
  }

  async devtools() {
    this.session ??= await this.page.context().newCDPSession(this.page);
    return this.session;
  }

  /** Cuts its network, makes it slow, or mends it. */
  async network({ offline = false, latency = 0, throughput = -1 } = {}) {
    const devtools = await this.devtools();
    await devtools.send("Network.enable");
    const conditions = { offline, latency, downloadThroughput: throughput, uploadThroughput: throughput };
    await devtools.send("Network.emulateNetworkConditions", conditions);
  }

  /** Lets nothing of it run, as browsers do to tabs in the background. */
  async freeze() {
    await this.page.evaluate(() => (told.isFrozen = false));
    await (await this.devtools()).send("Page.setWebLifecycleState", { state: "frozen" });
    await this.until("it is frozen", () => told.isFrozen);
  }

  async thaw() {
    await (await this.devtools()).send("Page.setWebLifecycleState", { state: "active" });
    await this.page.bringToFront();
  }

  async crash() {
    const crashed = this.page.waitForEvent("crash");
    void (await this.devtools()).send("Page.crash").catch(() => {}); // nobody is left to answer
    await crashed;
  }

  told() {
    return this.page.evaluate(() => told);
  }

  /** Waits until `look` returns something in the page. */
  until(what, look, value) {
    return until(what, () => this.page.evaluate(look, value), LOOK);
  }

  async noGaps() {
    assert.deepEqual((await this.told()).gaps, []);
  }

  /** What it was told of states, in their order. */
  async states() {
    return (await this.told()).states.map(({ state, code }) => (code ? `${state} ${code}` : state));
  }

  /** What was told of this state last, once it is the state. */
  is(state) {
    return this.until(state, (want) => {
      const last = told.states.at(-1);
      return last?.state === want && last;
    }, state);
  }

  /** What was told for this reason, once something was. */
  was(reason) {
    return this.until(reason, (want) => told.states.find((change) => change.reason === want), reason);
  }

  /** Waits until the page was told of these events, and of no other. */
  async got(...data) {
    const wanted = JSON.stringify(data);
    await this.until(`events ${wanted}`, (want) => JSON.stringify(told.events) === want, wanted).catch(async (error) => {
      const { events } = await this.told();
      const states = (await this.states()).slice(-5);
      throw new Error(`${error.message}; there are ${JSON.stringify(events)}, and the states ${states}`, { cause: error });
    });
  }
}

/** Several pages to which the same happens. */
export class Tabs {
  constructor(all) {
    this.all = all;
  }

  /** Does it on each page, all at once. What fails says on which. */
  each(action) {
    return Promise.all(this.all.map(async (tab) => {
      try {
        return await action(tab);
      } catch (error) {
        error.message = `${tab.name}: ${error.message}`;
        throw error;
      }
    }));
  }
}

for (const name of ["load", "leave", "comeBack", "network", "freeze", "thaw", "is", "was", "got", "noGaps"]) {
  Tabs.prototype[name] = function all(...values) {
    return this.each((tab) => tab[name](...values));
  };
}
