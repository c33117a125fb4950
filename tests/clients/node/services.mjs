// A service that finds, reads and calls the service `usher` with NATS's own library for that.
//
//   services.mjs NODE_MODULES NATS_URL USER PASSWORD GATEWAYS
//
// The user 42 is online with one session. Ends with 0 where all is well.
import { createRequire } from "node:module";

const [modules, url, user, pass, gateways] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { connect } = require("@nats-io/transport-node");
const { Svcm } = require("@nats-io/services");

const check = (what, found, expected) => {
  const [a, b] = [found, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`);
};

const nats = await connect({ servers: url, user, pass, noEcho: true });
const services = new Svcm(nats).client({ strategy: "timer", maxWait: 1500 });
const all = async (found) => {
  const list = [];
  for await (const one of await found) list.push(one);
  return list;
};

const pings = await all(services.ping("usher"));
check("instances", pings.length, Number(gateways));
check("their ids differ", new Set(pings.map((ping) => ping.id)).size, pings.length);
const [{ endpoints, version, metadata }] = await all(services.info("usher", pings[0].id));
check("subjects", endpoints.map((one) => one.subject).sort(), [
  "usher.api.disconnect",
  "usher.api.presence",
  "usher.api.topics",
]);
if (!/^\d+\.\d+\.\d+/.test(version)) throw new Error(`no version: ${version}`);
if (!metadata.gateway) throw new Error("no gateway in the metadata");

const call = async (endpoint, body) => {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const answer = await nats.request(`usher.api.${endpoint}`, text, { timeout: 10_000 });
  const code = answer.headers?.get("Nats-Service-Error-Code");
  if (code) return { code, error: answer.headers.get("Nats-Service-Error") };
  return answer.json();
};

const found = await call("presence", { user_ids: ["42", "nobody"] });
check("who is online", Object.keys(found.users), ["42"]);
check("sessions", found.users["42"].sessions, 1);
check("complete", found.complete, true);
for (const [endpoint, body, says] of [
  ["presence", "{", "body"],
  ["presence", { users: ["42"] }, "users"],
  ["presence", { user_ids: [] }, "1-1000"],
  ["disconnect", { user_id: "42", reason: "x".repeat(65) }, "64"],
  ["disconnect", { user_id: "" }, "user_id"],
]) {
  const refused = await call(endpoint, body);
  check(`code of ${endpoint}`, refused.code, "400");
  if (!refused.error.includes(says)) throw new Error(`no ${says} in ${refused.error}`);
}
const ended = await call("disconnect", { user_id: "42", reconnect: false, reason: "by node" });
check("ended", ended, { sessions: 1, complete: true });

const stats = await all(services.stats("usher"));
const sum = (key) => {
  const counts = stats.flatMap((one) => one.endpoints.map((endpoint) => endpoint[key]));
  return counts.reduce((a, b) => a + b, 0);
};
if (sum("num_requests") < 7) throw new Error(`too few requests: ${sum("num_requests")}`);
if (sum("num_errors") < 5) throw new Error(`too few errors: ${sum("num_errors")}`);
await nats.close();
