// Pushes to a user by JSON over HTTP with a receipt, and says what became of it.
//
//   push_json.mjs USER JSON [MESSAGE_ID]
//
// Needs nothing but node. USHER_URL and USHER_TOKEN say where and with which of grpc.tokens.
// Prints one line; exits 0 where it is published, 1 where it certainly is not, 2 where that is
// unknown.
const { USHER_URL = "http://127.0.0.1:9090", USHER_TOKEN } = process.env;
const [user, data, messageId] = process.argv.slice(2);

// The exit code, and what to say.
async function push() {
  const headers = { "Content-Type": "application/json" };
  if (USHER_TOKEN) headers.Authorization = `Bearer ${USHER_TOKEN}`;
  if (messageId) headers["Idempotency-Key"] = messageId;
  const body = { user_id: user, event: "order.completed", data: JSON.parse(data), receipt: true };
  const options = { method: "POST", headers, body: JSON.stringify(body) };
  let response, answer;
  try {
    response = await fetch(`${USHER_URL}/v1/push`, { ...options, signal: AbortSignal.timeout(5000) });
    answer = await response.json();
  } catch (error) {
    // A refused connection carried nothing. One that broke may have carried the message.
    if (error.cause?.code === "ECONNREFUSED") return [1, "not published: no gateway is there"];
    return [2, `unknown: ${error.message}`];
  }
  if (response.ok) {
    // "dispatched": the MESSAGE_ID was stored before; nobody was asked about sessions.
    const sessions = answer.sessions === undefined ? "" : ` sessions=${answer.sessions}`;
    const stored = answer.seq ? ` seq=${answer.seq}` : ""; // durable mode
    return [0, answer.status + sessions + stored];
  }
  // Of the gateway's own answers, 503 is certain where it says "published":false, and 4xx
  // always is. 504, and a 5xx of a proxy, leave the outcome unknown.
  const { code, message, published } = answer.error ?? {};
  const certain = published === false || (code && response.status < 500);
  return [certain ? 1 : 2, `${certain ? "not published" : "unknown"}: ${code ?? response.status} ${message ?? ""}`];
}

const [code, line] = await push();
console.log(line);
process.exitCode = code;
