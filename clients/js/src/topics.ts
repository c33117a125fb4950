import type { Frame } from "./frames.js";

const APART = 600; // ms between two changes: the gateway takes two a second
const LATER = 5000; // ms until a change that was refused for now is asked for again

const WRONG = /^[\s{]|^$|\s$|\p{Cc}/u;

/** ms, by a clock that nobody sets. */
export const now = () => performance.now();

/**
 * Whether a topic may have this name; if not, the console says so. The gateway refuses a whole
 * connection (400) for one name that breaks the rule.
 */
export const isTopic = (name: string) => !WRONG.test(name) || console.warn(name, "bad_request");

/**
 * What a page wants to follow. Changes are gathered.
 *
 * `followed` is what the gateway last said. `change` asks for a change, or ends the session, so
 * that the next one asks.
 */
export function keepTopics(
  initial: Iterable<string> = [],
  followed: () => string[],
  isOpen: () => boolean,
  change: (wanted: { follow: string[] } | { unfollow: string[] }) => Promise<unknown> | undefined,
) {
  /** By topic, whether it is wanted; a topic that is not in here is as the ticket says. */
  const wanted = new Map<string, boolean>();
  const untold = new Set<string>();
  /** Topics are asked for one by one after one of several was refused. */
  let single = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let next = 0;

  const plan = (ms = 0) => {
    timer ??= setTimeout(flush, Math.max(ms, next - now()));
  };

  const flush = () => {
    timer = undefined;
    const [first] = untold;
    if (!first || !isOpen()) return;
    next = now() + APART;
    const want = wanted.get(first);
    const names = single ? [first] : [...untold].filter((one) => wanted.get(one) === want);
    for (const name of names) untold.delete(name);
    change(want ? { follow: names } : { unfollow: names })?.catch(({ code, message }) => {
      const isRefused = code === "forbidden" || code === "bad_request";
      if (isRefused && !names[1]) return console.warn(first, message);
      for (const name of names) untold.add(name);
      single = isRefused;
      plan(isRefused ? 0 : LATER);
    });
    if (untold.size) plan();
    else single = false;
  };

  const set = (topic: string, want: boolean) => {
    if (!isTopic(topic)) return;
    const before = wanted.get(topic);
    wanted.set(topic, want);
    if (before !== !want && followed().includes(topic) === want) return;
    untold.add(topic);
    plan();
  };

  for (const topic of initial) set(topic, true);

  return {
    set,

    /** What to ask for with a new connection. */
    connecting() {
      untold.clear();
      const topics = new Set(followed());
      for (const [topic, want] of wanted) topics[want ? "add" : "delete"](topic);
      return topics;
    },

    /** A frame, before what is followed changes by it. Only a WebSocket can unfollow. */
    received({ welcome, following }: Frame, isSocket: boolean) {
      if (following) {
        for (const topic of followed()) {
          if (!following.topics.includes(topic) && wanted.get(topic) && !untold.has(topic)) wanted.delete(topic);
        }
      }
      if (!welcome) return;
      for (const [topic, want] of wanted) {
        if (want) continue;
        if (!welcome.topics?.includes(topic)) wanted.delete(topic);
        else if (isSocket) untold.add(topic);
      }
      plan();
    },
  };
}
