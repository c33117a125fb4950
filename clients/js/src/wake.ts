const EVENTS = ["online", "visibilitychange", "resume", "pageshow"];

/** Calls `wake` when this tab wakes, comes online or becomes visible. Returns what ends that. */
export function onWake(wake: () => void): () => void {
  const listener = ({ type, persisted }: any) => {
    // Each page that loads is shown once; only one out of the cache has slept.
    if (type === "pageshow" ? persisted : type !== "visibilitychange" || !document.hidden) wake();
  };
  const targets: (EventTarget | undefined)[] = [globalThis as unknown as EventTarget, globalThis.document];
  const each = (method: "addEventListener" | "removeEventListener") => {
    for (const target of targets) for (const event of EVENTS) target?.[method]?.(event, listener);
  };
  each("addEventListener");
  return () => each("removeEventListener");
}
