// A site: a gateway, what it needs, and a browser that shows the site's pages. The site has an
// address of its own, as where the gateway is push.example.com.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { connect as dial, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { tabsOfAWindow } from "./browser.mjs";
import { answers, World } from "./gateway.mjs";
import { freePort, folder, modules, Program, root, server } from "./process.mjs";
import { snippets } from "./snippets.mjs";
import { CLIENTS, Tab, Tabs } from "./tab.mjs";

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

export class Site extends World {
  /** Nobody is logged in any more. */
  isLoggedOut = false;
  /** What its tickets grant besides. */
  grants = {};
  /** s for which a session lasts by a page's next ticket or token; the last is for all after it too. */
  lives = [];
  #issued = {};
  /** Who is logged in on a page. */
  userOf = () => "42";
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
    for (const [name, text] of Object.entries(await snippets())) site.files[`/${name}`] = text;
    site.files["/usher.js"] = await readFile(join(root, "clients/usher.js"), "utf8");
    site.window = await openWindow(context);
    return site;
  }

  async #answer({ url }, response) {
    const say = (status, body, type = "text/html") => response.writeHead(status, { "content-type": type }).end(body);
    try {
      const [, secret, name] = url.match(/^\/login\/(\w+)\??(.*)$/) ?? [];
      if (secret) return this.isLoggedOut ? say(401) : say(200, await this.#login(secret, decodeURIComponent(name)));
      if (url === "/api/ticket") return this.isLoggedOut ? say(401) : say(200, JSON.stringify({ ticket: await this.#login() }));
      if (url.startsWith("/dist/")) return say(200, await readFile(new URL(url.slice(6), dist)), "text/javascript");
      say(200, this.files[url.replace(/\?.*/, "?")] ?? "<!doctype html><title>A page</title>", url.endsWith(".js") ? "text/javascript" : undefined);
    } catch (error) {
      say(503, error.message);
    }
  }

  /** A ticket or a token of the user who is logged in. */
  #login(secret, name = "") {
    const count = (this.#issued[name] = (this.#issued[name] ?? 0) + 1);
    const life = this.lives[Math.min(count, this.lives.length) - 1];
    const end = life && Math.ceil(Date.now() / 1000) + life;
    const user = this.userOf(name);
    if (secret === "getToken") return this.token(user, end);
    return this.ticket(user, { ...(end && { expires_at: end }), ...this.grants });
  }

  token(sub = "42", exp = Math.ceil(Date.now() / 1000) + 600, more = {}) {
    return sign({ sub, exp, ...more });
  }

  /** A new tab, in front of the others, with a client on its page. */
  async open(options = {}, page) {
    page ??= await this.window.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error));
    this.context.after(() => assert.deepEqual(errors, []));
    return new Tab(this, page, { url: this.url, ...options }).load();
  }

  /** A window for each of these clients, so that none is hidden. */
  async openAll(options = {}, clients = CLIENTS) {
    const pages = [];
    for (const _ of Object.keys(clients)) pages.push(await this.window.newWindow());
    const open = ([name, client], index) => this.open({ name, ...client, ...options }, pages[index]);
    return new Tabs(await Promise.all(Object.entries(clients).map(open)));
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
      /** Lets new connections through. Those of before stay dead, and nobody hears of it. */
      renew() {
        isCut = false;
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

  /** The address of a site of Express that compresses what it answers, and passes requests on. */
  async behindExpress() {
    const app = modules("express")();
    app.use(modules("compression")());
    // Of a file it compresses as much as it can.
    app.get("/compressed", (_, response) => response.type("text").send("text ".repeat(1000)));
    app.use(({ method, url, headers }, response) => {
      const passed = request({ port: this.port, path: url, method, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      response.on("close", () => passed.destroy());
      passed.on("error", () => response.destroy()).end();
    });
    const http = await new Promise((resolve) => {
      const listening = app.listen(0, "127.0.0.1", () => resolve(listening));
    });
    this.context.after(() => http.closeAllConnections() ?? http.close());
    return `ws://127.0.0.1:${http.address().port}/ws`;
  }

  /** Waits until the gateway has so many sessions over this transport. */
  sessions(count, transport = "websocket") {
    return this.metric(`usher_sessions{transport="${transport}"}`, count);
  }
}
