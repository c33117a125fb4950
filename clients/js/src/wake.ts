const EVENTS = ["online", "visibilitychange", "resume", "pageshow"];

/** Calls `wake` when this tab wakes, comes online or becomes visible. Returns what ends that. */
export function onWake(wake: () => void): () => void {
  const listener = ({ type, persisted }: any) => {
    // Each page that loads is shown once; only one out of the cache has slept.
    if (type === "pageshow" ? persisted : type !== "visibilitychange" || !document.hidden) wake();
  };
  // Not by a signal: Node 20 forgets those when it collects garbage.
  const each = (method: "addEventListener" | "removeEventListener") => {
    for (const event of EVENTS) {
      // A window has all but "resume". A worker has no document, and Node neither.
      globalThis[method]?.(event, listener);
      globalThis.document?.[method](event, listener);
    }
  };
  each("addEventListener");
  return () => each("removeEventListener");
}
