type Handler = (value: any) => void;

/** Names that stand for something else than the event of that name. */
const OURS = ["gap", "state", "position"];

/** The handlers that a page registered. */
export interface Handlers {
  on: (what: string, handler: Handler) => () => void;
  tell: (what: string, value: unknown) => void;
  /** Tells of an event: the handlers of its name, and those of every event. */
  event: (name: string, frame: unknown) => void;
  /** Tells nobody any more. */
  clear: () => void;
}

export function keepHandlers(): Handlers {
  const all = new Set<[what: string, handler: Handler]>();

  const tell = (what: string, value: unknown) => {
    for (const [name, handler] of all) {
      if (name !== what) continue;
      try {
        handler(value);
      } catch (error) {
        // The page's mistake shows up as such, and hinders nobody else.
        setTimeout(() => {
          throw error;
        });
      }
    }
  };

  return {
    on(what, handler) {
      const own: [string, Handler] = [what, handler]; // the same function may be registered twice
      all.add(own);
      return () => void all.delete(own);
    },
    tell,
    clear: () => all.clear(),
    event(name, frame) {
      if (!OURS.includes(name)) tell(name, frame);
      tell("*", frame);
    },
  };
}
