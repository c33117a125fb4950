// Answers the call orders.cancel of browsers, as one of several instances.
//
//   answer_calls.mjs
//
// Ends at SIGINT or SIGTERM. Needs @nats-io/transport-node and @nats-io/services. NATS_URL,
// NATS_USER and NATS_PASSWORD say where and as whom.
import { Svcm } from "@nats-io/services";
import { connect } from "@nats-io/transport-node";

const shipped = new Set([99]);

function cancel(error, call) {
  if (error) return console.error(error);
  const user = call.headers.get("Usher-User"); // who asks: a gateway has checked that
  if (Number(call.headers.get("Usher-Deadline")) < Date.now()) return; // nobody waits any more
  const { order } = call.json();
  if (shipped.has(order)) return call.respondError(409, "the order has left the house");
  call.respond(JSON.stringify({ cancelled: order, by: user }));
}

const { NATS_URL = "nats://127.0.0.1:4222", NATS_USER, NATS_PASSWORD } = process.env;
const nats = await connect({ servers: NATS_URL, user: NATS_USER, pass: NATS_PASSWORD });
const orders = await new Svcm(nats).add({ name: "orders", version: "1.0.0" });
orders.addEndpoint("cancel", { subject: "usher.call.orders.cancel", handler: cancel });
await nats.flush();
console.log("listening");
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => nats.drain());
await nats.closed();
