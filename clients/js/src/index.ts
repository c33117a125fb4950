import { clientOf } from "./client.js";
import { openInbox } from "./inbox.js";
import { addressOf, keepLink } from "./link.js";
import type { Client, Options } from "./types.js";

export type * from "./types.js";

/** Keeps a session of Usher open, and gives what comes to the handlers of this page. */
export function connect(options: Options): Client {
  const inbox = openInbox(options, `usher:${addressOf(options)}`);
  const { actions, start } = keepLink(options, inbox);
  void inbox.load().then(start);
  return clientOf(inbox, actions);
}
