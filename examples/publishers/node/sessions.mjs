// Asks who is online, and ends a user's sessions, by NATS's service API.
//
//   sessions.mjs presence USER...
//   sessions.mjs disconnect USER [REASON]
//
// Needs @nats-io/transport-node. NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom.
// Prints the answer; exits 0 where every gateway has answered, 1 where nothing was done, 2 where
// that is unknown.
import { connect, errors } from "@nats-io/transport-node";

// The exit code, and what to print.
async function call(nats, endpoint, body) {
  let answer;
  try {
    answer = await nats.request(`usher.api.${endpoint}`, JSON.stringify(body), { timeout: 2000 });
  } catch (error) {
    if (error instanceof errors.RequestError && error.isNoResponders())
      return [1, "no gateway is there"];
    // A disconnect may have happened: it is safe to ask again.
    return [2, error.message];
  }
  const code = answer.headers?.get("Nats-Service-Error-Code");
  // 504: no gateway has answered, and a disconnect may have happened.
  if (code) return [code === "504" ? 2 : 1, `${code}: ${answer.headers.get("Nats-Service-Error")}`];
  const found = answer.json();
  // Not complete: a gateway did not answer. Users may be online there; ask again.
  return [found.complete ? 0 : 2, JSON.stringify(found)];
}

const { NATS_URL = "nats://127.0.0.1:4222", NATS_USER, NATS_PASSWORD } = process.env;
const nats = await connect({ servers: NATS_URL, user: NATS_USER, pass: NATS_PASSWORD });
const [endpoint, ...users] = process.argv.slice(2);
const body =
  endpoint === "presence" ? { user_ids: users } : { user_id: users[0], reason: users[1] ?? "" };
const [code, line] = await call(nats, endpoint, body);
await nats.close();
console.log(line);
process.exitCode = code;
