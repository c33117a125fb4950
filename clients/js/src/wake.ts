const EVENTS = ["online", "visibilitychange", "resume", "pageshow"];

/** Calls `wake` when this tab wakes, comes online or becomes visible. Returns what ends that. */
export function onWake(wake: () => void): () => void {
  const stop = new AbortController();
  const listener = ({ type, persisted }: any) => {
    // Each page that loads is shown once; only one out of the cache has slept.
    if (type === "pageshow" ? persisted : type !== "visibilitychange" || !document.hidden) wake();
  };
  // A window has all of them but "resume". A worker has no document, and Node neither.
  for (const target of [globalThis as unknown as EventTarget, globalThis.document]) {
    for (const event of EVENTS) target?.addEventListener?.(event, listener, { signal: stop.signal });
  }
  return () => stop.abort();
}
