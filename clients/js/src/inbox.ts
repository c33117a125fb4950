import type { Frame } from "./frames.js";
import { keepHandlers } from "./handlers.js";
import { DUPLICATE, HOLE, keepPosition } from "./position.js";
import type { EventFrame, Options, StateChange, Store } from "./types.js";

/** What one page has of a session: its handlers and its position. */
export type Inbox = ReturnType<typeof openInbox>;

export function openInbox({ since, store }: Options, key: string) {
  const handlers = keepHandlers();
  const position = keepPosition();
  let user: string | undefined;
  let sessions = 0;
  let closed = false;
  let saved = "";

  /** Where the store fails (full, forbidden), the position is in memory alone. */
  const use = async <T>(action: (store: Store) => T) => {
    try {
      if (store) return await action(store);
    } catch {}
  };

  const save = () => {
    const text = position.text();
    if (text === saved) return;
    saved = text;
    void use((store) =>
      text ? store.setItem(key, JSON.stringify({ user, position: text })) : store.removeItem(key),
    );
    handlers.tell("position", text || undefined);
  };

  const tellState = (change: StateChange) => {
    closed = change.state === "closed";
    handlers.tell("state", change);
    if (closed) handlers.clear();
  };

  return {
    ...handlers,
    ...position,
    tellState,

    /** Resolves when the position of an earlier page is here. */
    async load() {
      if (since) return position.adopt(since);
      await use(async (store) => {
        const stored = JSON.parse((await store.getItem(key)) ?? "{}");
        saved = `${stored.position ?? ""}`;
        user = stored.user;
        // A gateway refuses what is no position, each time.
        if (/^[\w-]+\.[\w.%=-]+$/.test(saved)) position.adopt(saved);
      });
    },

    /** Takes in a frame of the session that was opened with the position `sent`. */
    receive(frame: Frame, sent: string) {
      const { welcome, event, gap } = frame;
      let missed: unknown;
      if (welcome) {
        // What is complete for another user, or for another position, says nothing here.
        if ((user ?? welcome.user) !== welcome.user || position.text() !== sent) welcome.resume = "gap";
        user = welcome.user;
        missed = (sessions++ || sent) && welcome.resume !== "complete";
      }
      const seen = position.take(frame);
      if (seen === DUPLICATE) return;
      if (welcome) tellState({ state: "open" });
      if (missed) handlers.tell("gap", { reason: "reconnected" });
      if (seen === HOLE) handlers.tell("gap", { reason: "missing" });
      if (event) handlers.event(event, frame);
      if (gap) handlers.tell("gap", { reason: gap.reason });
      save();
    },

    /** Every event from now on, until the client is closed. */
    async *events(): AsyncGenerator<EventFrame, void, undefined> {
      const waiting: EventFrame[] = [];
      let next = () => {};
      const off = [
        handlers.on("*", (frame) => {
          waiting.push(frame);
          next();
        }),
        handlers.on("state", () => next()),
      ];
      try {
        for (;;) {
          while (waiting[0]) yield waiting.shift()!;
          if (closed) return;
          await new Promise<void>((resolve) => (next = resolve));
        }
      } finally {
        for (const remove of off) remove();
      }
    },
  };
}
