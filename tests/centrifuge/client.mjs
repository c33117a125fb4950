// A client made of npm's `centrifuge`, unchanged. Run by tests/journeys/centrifuge.rs:
//
//   node client.mjs '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42"}'
//
// Takes a ticket of the API for each attempt to connect. With "protobuf" it speaks Protobuf,
// with "ask" it sends commands once connected. Prints `ticket T` for each ticket, and
// everything that happens as one JSON object a line, until it is killed.

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
    body: JSON.stringify({ user_id: options.user }),
  });
  if (!answer.ok) throw new Error(`tickets: ${answer.status}`);
  const { ticket } = await answer.json();
  console.log(`ticket ${ticket}`);
  return ticket;
}

const client = new Centrifuge(options.url, {
  websocket,
  minReconnectDelay: 50,
  maxReconnectDelay: 300,
  getData: options.data
    ? async () => encode(options.data)
    : async () => encode({ ticket: await ticket() }),
  ...(options.token && { token: options.token }),
});

for (const state of ["connecting", "connected", "disconnected"]) {
  client.on(state, ({ code, reason }) => say(state, { code, reason }));
}
client.on("error", ({ type, error }) => say("error", { type, error }));
client.on("subscribed", ({ channel, recovered, wasRecovering, recoverable, streamPosition }) =>
  say("subscribed", { channel, recovered, wasRecovering, recoverable, streamPosition }),
);
client.on("unsubscribed", ({ channel }) => say("unsubscribed", { channel }));
client.on("publication", ({ channel, data, offset, tags }) =>
  say("publication", { channel, data: decode(data), offset, tags }),
);

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
client.connect();
