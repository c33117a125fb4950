// npm's `centrifuge`, unchanged, in a page of a real browser. Run by tests/journeys/centrifuge.rs:
//
//   node centrifuge.mjs '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42",…}'
//
// "chromium" is the browser, and "page" an address whose origin the page has. The page takes a
// ticket of the API, with "grants", for each attempt to connect, or a JWT that lives for "life"
// seconds and is signed with "secret", where "token" is not the first one. With "protobuf" it
// speaks Protobuf, with "call" it makes these calls once connected, with "follow" it subscribes to
// that topic by itself, and keeps its position in sessionStorage. A publication whose data is
// "reload" loads the page anew. Prints `ticket T` for each ticket, and everything that happens as
// one JSON object a line, until its input ends.

import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const options = JSON.parse(process.argv[2]);
const { chromium } = require("playwright-core");

async function ticket() {
  const answer = await fetch(options.tickets, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user_id: options.user, ...options.grants }),
  });
  if (!answer.ok) throw new Error(`tickets: ${answer.status}`);
  const { ticket } = await answer.json();
  console.log(`ticket ${ticket}`);
  return ticket;
}

function token() {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: options.user, exp: Math.floor(Date.now() / 1000) + options.life };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ ...claims, ...options.grants })}`;
  const signature = createHmac("sha256", options.secret).update(signed).digest("base64url");
  console.log(`ticket ${signed}.${signature}`);
  return `${signed}.${signature}`;
}

/** Runs in the page, each time that it is loaded. */
function app({ url, protobuf, byToken, first, follow, calls }) {
  const say = (on, rest) => window.report(JSON.stringify({ on, ...rest }));
  const encode = (value) => (protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
  const decode = (data) => (protobuf ? String.fromCharCode(...(data ?? [])) : data);

  const client = new Centrifuge(url, {
    minReconnectDelay: 50,
    maxReconnectDelay: 300,
    ...(byToken
      ? {
          token: first,
          getToken: async () => {
            say("token", {});
            return window.token();
          },
        }
      : { getData: async () => encode({ ticket: await window.ticket() }) }),
  });
  const subscribed = ({ channel, recovered, wasRecovering, recoverable, streamPosition }) =>
    say("subscribed", { channel, recovered, wasRecovering, recoverable, streamPosition });
  const publication = ({ channel, data, offset, tags }) => {
    say("publication", { channel, data: decode(data), offset, tags });
    if (["reload", '"reload"'].includes(decode(data))) location.reload();
  };
  for (const state of ["connecting", "connected", "disconnected"]) {
    client.on(state, ({ code, reason }) => say(state, { code, reason }));
  }
  client.on("error", ({ type, error }) => say("error", { type, error }));
  client.on("subscribed", subscribed);
  client.on("publication", publication);
  if (follow) {
    const stored = JSON.parse(sessionStorage.getItem(follow));
    const subscription = client.newSubscription(follow, stored ? { since: stored } : {});
    let epoch;
    const keep = (offset) => sessionStorage.setItem(follow, JSON.stringify({ epoch, offset }));
    subscription.on("subscribed", (context) => {
      subscribed(context);
      ({ epoch } = context.streamPosition);
      keep(context.streamPosition.offset);
    });
    subscription.on("publication", (context) => {
      keep(context.offset);
      publication(context);
    });
    subscription.subscribe();
  }
  client.on("connected", async () => {
    for (const [name, data] of calls) {
      const { code, message, data: answer } = await client
        .rpc(name, encode(data))
        .catch((error) => error);
      say("answer", { name, code, message, data: answer && decode(answer) });
    }
  });
  client.connect();
}

const name = options.protobuf ? "centrifuge.protobuf.js" : "centrifuge.js";
const dist = new URL("../../.servers/node/node_modules/centrifuge/dist/", import.meta.url);
const sdk = await readFile(new URL(name, dist), "utf8");
const settings = {
  url: options.url,
  protobuf: options.protobuf,
  byToken: options.secret !== undefined,
  first: options.token ?? "",
  follow: options.follow,
  calls: options.call ?? [],
};

const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath: options.chromium, args });
const page = await browser.newPage();
page.on("pageerror", (error) => console.log(JSON.stringify({ on: "pageerror", error: String(error) })));
await page.exposeFunction("report", (line) => console.log(line));
await page.exposeFunction("ticket", ticket);
await page.exposeFunction("token", token);
await page.addInitScript(`${sdk}; (${app})(${JSON.stringify(settings)});`);
await page.goto(options.page);
// Who ends its input wants it to leave nothing behind.
process.stdin.on("end", async () => {
  await browser.close();
  process.exit(0);
});
process.stdin.resume();
