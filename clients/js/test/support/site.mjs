// A site: a gateway, what it needs, and a browser that shows the site's pages. The site has an
// address of its own, as where the gateway is push.example.com.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { connect as dial, createServer as createTcpServer } from "node:net";
import { tabsOfAWindow } from "./browser.mjs";
import { answers, World } from "./gateway.mjs";
import { freePort, folder, modules, Program, server } from "./process.mjs";
import { until } from "./wait.mjs";

const dist = new URL("../../dist/", import.meta.url);

const JWT_SECRET = "a secret of at least thirty-two bytes";

/** Settings of a gateway in durable mode, and of one that takes this site's tokens. */
export const DURABLE = { "durable.enabled": "true", "durable.max_bytes": "64MiB" };
export const TOKENS = { "tickets.jwt.secret": JWT_SECRET, "tickets.jwt.connect": "true" };

const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function sign(claims) {
  const content = `${base64({ alg: "HS256", typ: "JWT" })}.${base64(claims)}`;
  return `${content}.${createHmac("sha256", JWT_SECRET).update(content).digest("base64url")}`;
}

/** Runs in a page: connects, and keeps all that is told. */
async function begin({ module = "index", store, secret = "getTicket", ...options }) {
  const { connect } = await import(`/dist/${module}.js`);
  const told = { states: [], events: [], gaps: [], secrets: 0, isFrozen: false };
  document.addEventListener("freeze", () => (told.isFrozen = true));
  const ask = async () => {
    told.secrets += 1;
    const answer = await fetch(`/login/${secret}`);
    if (answer.status === 401) throw Object.assign(new Error("logged out"), { final: true });
    return answer.text();
  };
  const client = connect({ ...options, [secret]: ask, store: globalThis[store] });
  client.on("state", (change) => told.states.push(change));
  client.on("gap", ({ reason }) => told.gaps.push(reason));
  client.on("*", ({ data }) => told.events.push(data));
  Object.assign(globalThis, { told, client });
}

/** One page of the site. */
class Tab {
  constructor(site, page, options) {
    Object.assign(this, { site, page, options });
  }

  async load() {
    await this.page.goto(this.site.origin);
    await this.page.evaluate(begin, this.options);
    return this;
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
    await until("it is frozen", () => this.page.evaluate(() => told.isFrozen));
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

  /** What was told of this state last, once it is the state. */
  is(state) {
    return until(state, () => this.page.evaluate((want) => {
      const last = told.states.at(-1);
      return last?.state === want && last;
    }, state));
  }

  /** Waits until the page was told of these events, and of no other. */
  async got(...data) {
    const wanted = JSON.stringify(data);
    let events;
    await until(`events ${wanted}`, async () => {
      ({ events } = await this.told());
      return JSON.stringify(events) === wanted;
    }).catch((error) => {
      throw new Error(`${error.message}; there are ${JSON.stringify(events)}`);
    });
  }
}

export class Site extends World {
  /** Nobody is logged in any more. */
  isLoggedOut = false;
  /** What its tickets grant besides. */
  grants = {};
  /** s for which a session lasts by the next ticket or token; the last is for all after it too. */
  lives = [];
  /** Bodies of its pages, by path; the others are empty. */
  files = {};

  static async start(context, settings = {}, openWindow = tabsOfAWindow) {
    const http = createServer();
    await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
    context.after(() => http.closeAllConnections() ?? http.close());
    const origin = `http://127.0.0.1:${http.address().port}`;
    const all = { "public.allowed_origins": origin, ...settings };
    const site = Object.assign(await super.start(context, all), { origin });
    http.on("request", (request, response) => site.#answer(request, response));
    site.window = await openWindow(context);
    return site;
  }

  async #answer({ url }, response) {
    const say = (status, body, type = "text/html") => response.writeHead(status, { "content-type": type }).end(body);
    try {
      if (url.startsWith("/login/")) return this.isLoggedOut ? say(401) : say(200, await this.#login(url.slice(7)));
      if (url === "/api/ticket") return this.isLoggedOut ? say(401) : say(200, JSON.stringify({ ticket: await this.#login() }));
      if (url.startsWith("/dist/")) return say(200, await readFile(new URL(url.slice(6), dist)), "text/javascript");
      say(200, this.files[url.replace(/\?.*/, "?")] ?? "<!doctype html><title>A page</title>", url.endsWith(".js") ? "text/javascript" : undefined);
    } catch (error) {
      say(503, error.message);
    }
  }

  /** A ticket or a token of the user who is logged in. */
  #login(secret) {
    const life = this.lives.length > 1 ? this.lives.shift() : this.lives[0];
    const end = life && Math.ceil(Date.now() / 1000) + life;
    if (secret === "getToken") return sign({ sub: "42", exp: end ?? Math.ceil(Date.now() / 1000) + 600 });
    return this.ticket("42", { ...(end && { expires_at: end }), ...this.grants });
  }

  /** A new tab, in front of the others, with a client on its page. */
  async open(options = {}) {
    const page = await this.window.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error));
    this.context.after(() => assert.deepEqual(errors, []));
    return new Tab(this, page, { url: this.url, ...options }).load();
  }

  /** A connection to NATS, as services have it. */
  async services() {
    const { connect } = modules("@nats-io/transport-node");
    this.nc ??= await connect({ port: this.natsPort });
    this.context.after(() => this.nc.close());
    return this.nc;
  }

  /** Publishes the numbers from 0 on, and lets the server take in some before the next come. */
  async publish(subject, count) {
    const nc = await this.services();
    for (let index = 0; index < count; index += 1) {
      nc.publish(subject, `${index}`);
      if (index % 100 === 99) await nc.flush();
    }
  }

  /** A service that answers calls. */
  async answer(subject, answer) {
    const nc = await this.services();
    nc.subscribe(subject, {
      callback: (error, message) => {
        if (error) throw error;
        message.respond(JSON.stringify(answer(message.json(), message.headers.get("Usher-User"))));
      },
    });
    await nc.flush();
  }

  /** A cable to the gateway. Where it is cut, nobody hears of it: nothing comes any more. */
  async cable() {
    const all = new Set();
    let isCut = false;
    const cable = createTcpServer((near) => {
      const far = dial(this.port, "127.0.0.1");
      for (const [one, other] of [[near, far], [far, near]]) {
        all.add(one);
        one.on("error", () => {}).on("close", () => all.delete(one) && other.destroy());
        if (isCut) one.pause();
        else one.pipe(other);
      }
    });
    await new Promise((resolve) => cable.listen(0, "127.0.0.1", resolve));
    const destroy = () => all.forEach((socket) => socket.destroy());
    this.context.after(() => destroy() ?? cable.close());
    return {
      url: `ws://127.0.0.1:${cable.address().port}/ws`,
      cut() {
        isCut = true;
        for (const socket of all) socket.unpipe().pause();
      },
      mend() {
        isCut = false;
        destroy();
      },
    };
  }

  /** The address of a proxy that has never heard of WebSockets. */
  async behindNginx() {
    const port = await freePort();
    const prefix = folder(this.context);
    const config = `
      daemon off; master_process off; pid nginx.pid; error_log stderr;
      events {}
      http {
        access_log off;
        client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
        server {
          listen 127.0.0.1:${port};
          location / { proxy_pass http://127.0.0.1:${this.port}; proxy_set_header Host $http_host; }
        }
      }`;
    await writeFile(`${prefix}/nginx.conf`, config);
    const nginx = new Program(this.context, server("nginx"), ["-p", prefix, "-e", "stderr", "-c", `${prefix}/nginx.conf`]);
    await nginx.prints("its address", () => answers(port));
    return `ws://127.0.0.1:${port}/ws`;
  }

  /** Waits until the gateway has so many sessions over this transport. */
  sessions(count, transport = "websocket") {
    return this.metric(`usher_sessions{transport="${transport}"}`, count);
  }
}
