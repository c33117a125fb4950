// A session as a page has it, in a terminal. A page needs none of this: it writes
//
//   import { usher } from "./usher.js";
//
// and takes its tickets from its own backend. Here they come from the demo of `make up`, which
// lets anybody be any user, follow topics that begin with demo-, and call demo.>. USHER_URL names
// the gateway. Node 20 needs --experimental-websocket.
import { readFileSync } from "node:fs";

const gateway = process.env.USHER_URL ?? "http://127.0.0.1:8080";
// What clients/usher.js finds in a browser.
globalThis.location = new URL(gateway);
globalThis.window = globalThis.document = new EventTarget();
const source = readFileSync(new URL("../../clients/usher.js", import.meta.url), "utf8");
const { usher } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

let open;
const opened = new Promise((resolve) => (open = resolve));

export function session(user, options) {
  return usher({
    url: "/ws",
    getTicket: async () => {
      const answer = await fetch(new URL("/demo/tickets", gateway), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ user_id: user }),
      });
      if (!answer.ok) throw new Error(`no ticket: HTTP ${answer.status}`);
      return (await answer.json()).ticket;
    },
    onGap() {},
    ...options,
    onState(state, details) {
      options.onState?.(state, details);
      if (state === "open") open();
    },
  });
}

/** The lines of the terminal, from when a session stands. */
export async function* lines() {
  await opened;
  let rest = "";
  process.stdin.setEncoding("utf8");
  for await (const chunk of process.stdin) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}
