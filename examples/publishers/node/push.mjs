// Pushes to a user by NATS, and says what became of it.
//
//   push.mjs USER JSON [MESSAGE_ID]
//
// Needs @nats-io/transport-node. NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom.
// Prints one line; exits 0 where it is published, 1 where it certainly is not, 2 where that is
// unknown.
import { connect, errors, headers } from "@nats-io/transport-node";

const subject = (user) =>
  "usher.user." +
  [...new TextEncoder().encode(user)]
    .map((byte) => [byte, String.fromCharCode(byte)])
    .map(([byte, letter]) =>
      /[\w-]/.test(letter) ? letter : "%" + byte.toString(16).toUpperCase().padStart(2, "0"))
    .join("");

// The exit code, and what to say.
async function push(nats, user, data, messageId) {
  const all = headers();
  all.set("Event", "order.completed");
  // Unique across users; the APIs of Usher write the same.
  if (messageId) all.set("Nats-Msg-Id", `${subject(user).slice("usher.user.".length)}:${messageId}`);
  let found;
  try {
    const answer = await nats.request(subject(user), data, { timeout: 2000, headers: all });
    found = answer.json();
  } catch (error) {
    // Live mode: no session of the user, the message is gone.
    // Durable mode: the stream is missing or has no leader, the message is not stored.
    if (error instanceof errors.RequestError && error.isNoResponders())
      return [1, "not published: nobody listens (live mode: the user is offline)"];
    if (error.cause instanceof errors.PermissionViolationError) return [1, `not published: ${error.message}`];
    // Durable mode: push again with the same MESSAGE_ID; it is stored once.
    // Live mode, or without a MESSAGE_ID: a repetition may be delivered twice.
    return [2, `unknown: ${error.message}`];
  }
  // The stream says why it did not store the message.
  if (found.error) return [1, `not published: ${found.error.description}`];
  if (found.stream) return [0, `stored seq=${found.seq}${found.duplicate ? " duplicate" : ""}`];
  // A gateway's receipt: there is no stream, so the message is queued and not stored.
  return [0, `queued sessions=${found.sessions}`];
}

const { NATS_URL = "nats://127.0.0.1:4222", NATS_USER, NATS_PASSWORD } = process.env;
const nats = await connect({ servers: NATS_URL, user: NATS_USER, pass: NATS_PASSWORD });
const [code, line] = await push(nats, ...process.argv.slice(2));
await nats.close();
console.log(line);
process.exitCode = code;
