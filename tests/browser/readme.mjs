// The page of the README, examples/page, in a real browser. Run by tests/journeys/readme.rs:
//
//   node readme.mjs PAGE_URL CHROMIUM GATEWAY
//
// GATEWAY is the HOST:PORT that stands in the page as 127.0.0.1:8080. Prints `ticket T` for each
// ticket that the page gets, `open` when its session stands, and each event that it shows. Ends
// with 0 after the first event.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const { chromium } = require("playwright-core");
const [url, executablePath, gateway] = process.argv.slice(2);

const ALL = 120_000; // ms for everything

setTimeout(() => {
  console.error(`not done within ${ALL} ms`);
  process.exit(1); // the browser ends with the pipe to it
}, ALL).unref();

const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage();
const errors = [];
page.on("pageerror", (error) => errors.push(error));
// Only the address is the test's.
await page.addInitScript((gateway) => {
  globalThis.WebSocket = class extends WebSocket {
    constructor(address, protocols) {
      super(String(address).replace("127.0.0.1:8080", gateway), protocols);
    }
  };
}, gateway);
page.on("response", async (answer) => {
  if (!answer.url().endsWith("/ticket")) return;
  const { ticket } = await answer.json();
  console.log(`ticket ${ticket}`);
});
await page.goto(url);
const shows = (text) =>
  page.waitForFunction((text) => document.querySelector("pre").innerText.includes(text), text, { timeout: ALL });
await shows("open");
console.log("open");
await shows("order.completed");
const lines = (await page.locator("pre").innerText()).trim().split("\n");
console.log(lines.at(-1));
await browser.close();
assert.deepEqual(errors, []);
