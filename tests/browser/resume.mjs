// clients/usher.js, and the client of events in docs/frontend.md, in a real browser, against a
// gateway in durable mode with --demo. Run by tests/journeys/durable/browser.rs, which publishes:
//
//   node resume.mjs BASE_URL CHROMIUM ws|events [SINCE]
//
// Prints a line for all that happens: `ticket T`, `since P` for each connection, `frame JSON`
// for each frame before the client has it, `event DATA` and `gap REASON` as the page is told.
// An event with the data "leave" breaks the connection; one with "end" prints `position P` and
// ends the script with 0.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const { chromium } = require("playwright-core");
const [base, executablePath, path, since] = process.argv.slice(2);

const ALL = 120_000; // ms for everything

setTimeout(() => {
  console.error(`not done within ${ALL} ms`);
  process.exit(1); // the browser ends with the pipe to it
}, ALL).unref();

/** Runs in the page: follows user 42 until the end. */
async function follow({ path, since }) {
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
    const connect = path === "ws" ? usher : usherEvents;
    const stream = connect({
      url: `/${path}`,
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

const file = (name) => readFile(new URL(`../../${name}`, import.meta.url), "utf8");
const client = await file("clients/usher.js");
const [example] = (await file("docs/frontend.md")).match(/(?<=```js\n)function usherEvents[^]*?(?=```)/);
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage();
const errors = [];
page.on("pageerror", (error) => errors.push(error));
await page.goto(`${base}/healthz`);
await page.exposeFunction("report", (line) => console.log(line));
await page.addScriptTag({ type: "module", content: `${client}; globalThis.usher = usher;` });
await page.addScriptTag({ content: example });
await page.waitForFunction(() => "usher" in globalThis);
await page.evaluate(follow, { path, since });
await browser.close();
assert.deepEqual(errors, []);
