// Server-sent events in a real browser, and in npm's `eventsource`. Run by
// tests/journeys/browser.rs against a gateway of --embedded --demo whose sessions end
// after some seconds:
//
//   node events.mjs BASE_URL CHROMIUM
//
// Prints `ticket T` for each ticket, so that the gateway's log can be searched for them.
// Ends with 0 where all is well; otherwise it says what is not.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { plainMeans } from "./snippets.mjs";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const { chromium } = require("playwright-core");
const { EventSource } = require("eventsource");
const [base, executablePath] = process.argv.slice(2);

const ALL = 120_000; // ms for the whole journey

setTimeout(() => {
  console.error(`not done within ${ALL} ms`);
  process.exit(1); // the browser ends with the pipe to it
}, ALL).unref();

/**
 * What an EventSource sees: the user's message, the end of its session, and that the
 * ticket opens no second one. Runs in the page, and in node.
 */
async function once({ address, ask, user }) {
  const post = async (path, body) => {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(ask + path, { method: "POST", headers, body });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  };
  const { ticket } = await post("/demo/tickets", JSON.stringify({ user_id: user }));
  const seen = { ticket, frames: [], opens: 0, errors: 0 };
  const source = new EventSource(`${address}?ticket=${ticket}`);
  await new Promise((over) => {
    source.onopen = () => seen.opens++;
    source.onmessage = async ({ data, lastEventId }) => {
      seen.frames.push(JSON.parse(data));
      seen.id = lastEventId;
      if (seen.frames.length === 1) {
        // Passed on as it stands here, line breaks too.
        await post("/demo/push", `{"user_id":"${user}","event":"a.b","data":{\n"a":\r\n"ü"}}`);
      }
    };
    source.onerror = () => {
      seen.errors++;
      if (source.readyState === source.CLOSED) over();
    };
  });
  return seen;
}

function isOneSession(seen) {
  console.log(`ticket ${seen.ticket}`);
  const [welcome, message, ...rest] = seen.frames;
  assert.equal(welcome.welcome.user, "alice");
  assert.deepEqual(message, { event: "a.b", data: { a: "ü" } });
  assert.deepEqual(rest.at(-1), { goodbye: { reason: "session_expired" } });
  assert.equal(seen.id, "");
  assert.equal(seen.opens, 1, "the ticket opens one stream");
  assert.equal(seen.errors, 2, "the end of it, and the refusal of its own reconnect");
}

/** The client of the document: it comes back with fresh tickets, and gets messages again. */
async function comesBack(page) {
  await page.addScriptTag({ content: await plainMeans() });
  const seen = await page.evaluate(async () => {
    const post = async (path, body) => {
      const headers = { "content-type": "application/json" };
      return (await fetch(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
    };
    const seen = { tickets: [], events: [], gaps: 0 };
    const getTicket = async () => {
      const { ticket } = await post("/demo/tickets", { user_id: "bob" });
      seen.tickets.push(ticket);
      return ticket;
    };
    // What is pushed while nobody listens is lost, so it is pushed again and again.
    const push = () => post("/demo/push", { user_id: "bob", data: [1] });
    const steady = setInterval(push, 200);
    await new Promise((enough) => {
      const client = usherEvents({
        url: "/events",
        getTicket,
        onEvent: ({ event, data }) => {
          seen.events.push([event, data]);
          if (seen.tickets.length < 3) return;
          client.close();
          enough();
        },
        onGap: () => seen.gaps++,
      });
    });
    clearInterval(steady);
    return seen;
  });
  seen.tickets.forEach((ticket) => console.log(`ticket ${ticket}`));
  assert.equal(new Set(seen.tickets).size, seen.tickets.length);
  assert.equal(seen.gaps, seen.tickets.length - 1, "each time it came back");
  seen.events.forEach((event) => assert.deepEqual(event, ["message", [1]]));
}

isOneSession(await once({ address: `${base}/events`, ask: base, user: "alice" }));

const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage();
await page.goto(base);
isOneSession(await page.evaluate(once, { address: "/events", ask: "", user: "alice" }));
await comesBack(page);
await browser.close();
