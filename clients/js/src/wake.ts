const EVENTS = ["online", "resume", "pageshow", "visibilitychange"];
const LOOK = 2000; // ms between two looks at the clock
const SLEPT = 10_000; // ms by which the clock is ahead where the machine slept

/** Calls `wake` when this tab wakes, comes online or becomes visible. Returns what ends that. */
export function onWake(wake: () => void): () => void {
  const listener = ({ type, persisted }: any) => {
    // Each page that loads is shown once; only one out of the cache has slept.
    if (type === "pageshow" ? persisted : type !== "visibilitychange" || !globalThis.document?.hidden) wake();
  };
  let seen = Date.now();
  const clock = setInterval(() => {
    const before = seen;
    seen = Date.now();
    // A machine that slept tells nobody. Timers of a hidden page are late by as much.
    if (seen - before > SLEPT) listener({ type: "visibilitychange" });
  }, LOOK);
  // Not by a signal: Node 20 forgets those when it collects garbage.
  const each = (method: "addEventListener" | "removeEventListener") => {
    // The window captures the document's events too. A worker has none of those, and Node none at all.
    // Node 20 ignores a bare "true" when it removes.
    for (const event of EVENTS) globalThis[method]?.(event, listener, { capture: true });
  };
  each("addEventListener");
  return () => {
    clearInterval(clock);
    each("removeEventListener");
  };
}
