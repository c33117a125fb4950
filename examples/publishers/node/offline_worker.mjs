// Sends a mobile push for each message that no session was given (offline.events).
//
//   offline_worker.mjs [COUNT]
//
// Ends after COUNT messages; without COUNT at SIGINT or SIGTERM. Needs @nats-io/transport-node
// and @nats-io/jetstream. NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom.
//
// Gateways publish on usher.offline.USER once. A plain subscriber misses it while it restarts,
// so a stream of our own captures it. That stream also drops repetitions with the same
// Nats-Msg-Id.
import { AckPolicy, jetstream, jetstreamManager, RetentionPolicy } from "@nats-io/jetstream";
import { connect, nanos } from "@nats-io/transport-node";

// Here you call APNs or FCM. `key` is the same in a repetition: use it to send once.
function sendMobilePush(user, event, data, key) {
  console.log("mobile push", user, event, data, `key=${key}`);
}

const { NATS_URL = "nats://127.0.0.1:4222", NATS_USER, NATS_PASSWORD } = process.env;
const count = Number(process.argv[2] ?? 0);
const nats = await connect({ servers: NATS_URL, user: NATS_USER, pass: NATS_PASSWORD });
const manager = await jetstreamManager(nats);
await manager.streams.add({ // does nothing where it is there with these settings
  name: "USHER_OFFLINE",
  subjects: ["usher.offline.*"],
  retention: RetentionPolicy.Workqueue, // a message goes once it is acknowledged
  max_age: nanos(24 * 3600 * 1000),
});
// All workers share this consumer. What is not acknowledged within 30 s comes again.
await manager.consumers.add("USHER_OFFLINE", {
  durable_name: "mobile",
  filter_subject: "usher.offline.*",
  ack_policy: AckPolicy.Explicit,
});
const consumer = await jetstream(nats).consumers.get("USHER_OFFLINE", "mobile");
const messages = await consumer.consume({ max_messages: 1 });
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => messages.close());
console.log("listening");
let done = 0;
for await (const message of messages) {
  const user = decodeURIComponent(message.subject.slice("usher.offline.".length));
  const event = message.headers?.get("Event") || "message";
  const key = message.headers?.get("Nats-Msg-Id") || message.headers?.get("Usher-Seq");
  sendMobilePush(user, event, message.string(), key);
  await message.ackAck(); // after the work: a worker that dies here has it come again
  if (++done === count) break;
}
await nats.close();
