// A client made of npm's `centrifuge`, unchanged. Run by tests/journeys/centrifuge.rs:
//
//   node client.mjs '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42"}'
//
// Takes a ticket of the API, with "grants", for each attempt to connect, or with "secret" signs itself a JWT
// that lives for "life" seconds, where "token" is not the first one. With "protobuf" it speaks
// Protobuf, with "ask" it sends commands once connected, with "call" it makes these calls, with
// "follow" it subscribes to that topic, or these, by itself. Prints `ticket T` for each ticket, and
// everything that happens as one JSON object a line, until it is killed.

import { createHmac } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const options = JSON.parse(process.argv[2]);
const { Centrifuge } = require(options.protobuf ? "centrifuge/build/protobuf" : "centrifuge");
const websocket = require("ws");

const say = (on, rest) => console.log(JSON.stringify({ on, ...rest }));
const bytes = (text) => new TextEncoder().encode(text);
const encode = (value) => (options.protobuf ? bytes(JSON.stringify(value)) : value);
const decode = (data) => (options.protobuf ? Buffer.from(data ?? []).toString("latin1") : data);

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
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  const signature = createHmac("sha256", options.secret).update(signed).digest("base64url");
  say("token", {});
  console.log(`ticket ${signed}.${signature}`);
  return `${signed}.${signature}`;
}

const client = new Centrifuge(options.url, {
  websocket,
  minReconnectDelay: 50,
  maxReconnectDelay: 300,
  ...(options.secret
    ? { token: options.token ?? "", getToken: async () => token() }
    : { getData: async () => encode({ ticket: await ticket() }) }),
});

for (const state of ["connecting", "connected", "disconnected"]) {
  client.on(state, ({ code, reason }) => say(state, { code, reason }));
}
client.on("error", ({ type, error }) => say("error", { type, error }));
const subscribed = ({ channel, recovered, wasRecovering, recoverable, streamPosition }) =>
  say("subscribed", { channel, recovered, wasRecovering, recoverable, streamPosition });
const publication = ({ channel, data, offset, tags }) =>
  say("publication", { channel, data: decode(data), offset, tags });
client.on("subscribed", subscribed);
client.on("unsubscribed", ({ channel }) => say("unsubscribed", { channel }));
client.on("publication", publication);
for (const topic of [options.follow ?? []].flat()) {
  const subscription = client.newSubscription(topic);
  subscription.on("subscribed", subscribed);
  subscription.on("publication", publication);
  subscription.subscribe();
}

const answers = {
  publish: () => client.publish("broadcast", encode({})),
  history: () => client.history("broadcast"),
  presence: () => client.presence("broadcast"),
  presenceStats: () => client.presenceStats("broadcast"),
  rpc: () => client.rpc("orders.cancel", encode({})),
};
if (options.ask) {
  client.on("connected", async () => {
    await client.send(encode({ any: 1 }));
    for (const [name, ask] of Object.entries(answers)) {
      const { code } = await ask().catch((error) => error);
      say("answer", { name, code });
    }
    const subscription = client.newSubscription(options.ask);
    subscription.on("unsubscribed", ({ code }) => say("answer", { name: "subscribe", code }));
    subscription.subscribe();
  });
}
if (options.call) {
  client.on("connected", async () => {
    for (const [name, data] of options.call) {
      const { code, message, data: answer } = await client
        .rpc(name, encode(data))
        .catch((error) => error);
      say("answer", { name, code, message, data: answer && decode(answer) });
    }
  });
}
client.connect();
