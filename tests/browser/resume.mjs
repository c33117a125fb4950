// clients/usher.js, and the plain means of docs/frontend.md, in a real browser, against a gateway in
// durable mode with --demo. Run by tests/journeys/durable/browser.rs, which publishes:
//
//   node resume.mjs BASE_URL CHROMIUM usher|usherSocket|usherEvents [SINCE]
//
// Prints a line for all that happens: `ticket T`, `since P` for each connection, `frame JSON`
// for each frame before the client has it, `event DATA` and `gap REASON` as the page is told.
// An event with the data "leave" breaks the connection; one with "end" prints `position P` and
// ends the script with 0.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { plainMeans } from "./snippets.mjs";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const { chromium } = require("playwright-core");
const [base, executablePath, client, since] = process.argv.slice(2);

const ALL = 120_000; // ms for everything

setTimeout(() => {
  console.error(`not done within ${ALL} ms`);
  process.exit(1); // the browser ends with the pipe to it
}, ALL).unref();

/** Runs in the page: follows user 42 until the end. */
async function follow({ client, since }) {
  let leave;
  const watch = (connection, address) => {
    report(`since ${address.searchParams.get("since")}`);
    connection.addEventListener("message", ({ data }) => report(`frame ${data}`));
  };
  globalThis.WebSocket = class extends WebSocket {
    constructor(address, protocol) {
      super(address, protocol);
      watch(this, address);
      leave = () => this.close(4000);
    }
  };
  globalThis.EventSource = class extends EventSource {
    constructor(address) {
      super(address);
      watch(this, address);
      leave = () => this.onerror(); // as where the network ends it
    }
  };
  const getTicket = async () => {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ user_id: "42" });
    const answer = await fetch("/demo/tickets", { method: "POST", headers, body });
    const { ticket } = await answer.json();
    report(`ticket ${ticket}`);
    return ticket;
  };
  await new Promise((end) => {
    const connect = { usher, usherSocket, usherEvents }[client];
    const stream = connect({
      url: client === "usherEvents" ? "/events" : "/ws",
      since,
      getTicket,
      onState() {},
      onEvent({ data }) {
        report(`event ${JSON.stringify(data)}`);
        if (data === "leave") leave();
        if (data !== "end") return;
        stream.close();
        report(`position ${stream.position}`).then(end);
      },
      onGap: (reason) => report(`gap ${reason}`),
    });
  });
}

const source = await readFile(new URL("../../clients/usher.js", import.meta.url), "utf8");
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage();
const errors = [];
page.on("pageerror", (error) => errors.push(error));
await page.goto(`${base}/healthz`);
await page.exposeFunction("report", (line) => console.log(line));
await page.addScriptTag({ type: "module", content: `${source}; globalThis.usher = usher;` });
await page.addScriptTag({ content: await plainMeans() });
await page.waitForFunction(() => "usher" in globalThis);
await page.evaluate(follow, { client, since });
await browser.close();
assert.deepEqual(errors, []);
