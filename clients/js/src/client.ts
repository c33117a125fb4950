import type { Inbox } from "./inbox.js";
import type { Client } from "./types.js";

/** What a client does beyond reading. */
export type Actions = Pick<Client, "call" | "follow" | "unfollow" | "close">;

/** The client as its page sees it. */
export const clientOf = (inbox: Inbox, actions: Actions): Client => ({
  ...actions,
  on: inbox.on,
  get position() {
    return inbox.text() || undefined;
  },
  [Symbol.asyncIterator]: inbox.events,
});
