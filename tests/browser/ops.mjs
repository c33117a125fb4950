// A journey through the operators' page in a real browser. Run by tests/journeys/ops_page.rs:
//
//   node ops.mjs PAGE_URL CHROMIUM SCREENSHOT
//
// Prints `please push`, `please close` and `please kill` where it wants a broadcast to be
// published, the session of the user `alice <b>` to be closed, and the gateway to be killed. Ends
// with 0 where all is well; otherwise it says what is not, and leaves a screenshot.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const { chromium } = require("playwright-core");
const [base, executablePath, screenshot] = process.argv.slice(2);

const STEP = 20_000; // ms for anything to show
const ALL = 120_000; // ms for the whole journey
const USER = "alice <b>";

setTimeout(() => {
  console.error(`not done within ${ALL} ms`);
  process.exit(1); // the browser ends with the pipe to it
}, ALL).unref();

async function journey(page, complaints, outage) {
  await page.goto(base);
  const shows = (id, text) => page.locator(`#${id}`).filter({ hasText: text }).waitFor();
  await shows("word", /^Ready$/);
  await shows("sessions", /^1$/);
  await shows("users", /^1$/);
  await page.getByRole("row", { name: /^NATS: messages to sessions connected/ }).waitFor();
  await page.getByRole("row", { name: /^Redis connected/ }).waitFor();
  await page.getByRole("row", { name: /^JetStream not in use/ }).waitFor();

  // The user is found with the keyboard alone, and shown as text.
  await page.getByLabel("User id").focus();
  await page.keyboard.type(USER);
  await page.keyboard.press("Enter");
  await shows("answer", `${USER} is online: 1 session at `);
  await page.getByRole("region", { name: "Sessions at this gateway" }).getByText("websocket").waitFor();
  assert.equal(await page.locator("#answer b").count(), 0, "an id is no HTML");
  await page.getByLabel("User id").fill("nobody");
  await page.getByRole("button", { name: "Find" }).click();
  await shows("answer", "nobody is offline.");
  outage.now = true; // A bad id is 400, of which the console has a line.
  await page.getByLabel("User id").fill("{");
  await page.getByRole("button", { name: "Find" }).click();
  await shows("answer", "does not begin with {");
  outage.now = false;

  // The numbers move.
  await page.locator("#deliveries + .more").filter({ hasText: /^0 since/ }).waitFor();
  const line = page.locator("#sessions ~ svg .line");
  const before = await line.getAttribute("d");
  console.log("please push");
  await page.locator("#deliveries + .more").filter({ hasText: /^1 since/ }).waitFor();
  await shows("latency", /(µs|ms|s)$/);
  await page.waitForFunction(([element, before]) => element.getAttribute("d") !== before, [await line.elementHandle(), before]);
  console.log("please close");
  await shows("sessions", /^0$/);
  await page.locator("#closed").getByRole("row", { name: "client_left 1 1" }).waitFor();
  await page.getByLabel("User id").fill(USER);
  await page.getByRole("button", { name: "Find" }).click();
  await shows("answer", `${USER} is offline.`);
  const closes = page.getByRole("region", { name: "Closed among this gateway's last 1,000" });
  await closes.getByText("client_left").waitFor();

  // A phone has no sideways scrolling.
  await page.setViewportSize({ width: 360, height: 800 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 360, `the page is ${width} px wide`);

  outage.now = true;
  console.log("please kill");
  await shows("word", /^No answer$/);
  assert.deepEqual(complaints, []);
}

const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
page.setDefaultTimeout(STEP);

// Nothing may go wrong unseen, except that connections fail while the gateway is away.
const complaints = [];
const outage = { now: false };
page.on("console", (message) => {
  const expected = outage.now && /Failed to load resource/.test(message.text());
  if (["error", "warning"].includes(message.type()) && !expected) complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("request", (request) => {
  if (!request.url().startsWith(base) && !request.url().startsWith("data:")) {
    complaints.push(`a request to ${request.url()}`);
  }
});

let failed = false;
try {
  await journey(page, complaints, outage);
} catch (error) {
  failed = true;
  console.error(error);
  console.error(complaints);
  await page.screenshot({ path: screenshot, fullPage: true }).catch(() => {});
}
await browser.close();
process.exit(failed ? 1 : 0);
