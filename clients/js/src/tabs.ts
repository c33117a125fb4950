import { clientOf } from "./client.js";
import { openInbox } from "./inbox.js";
import { connect as connectAlone } from "./index.js";
import { addressOf } from "./link.js";
import { shareSession } from "./share.js";
import type { Client, Options } from "./types.js";

export type * from "./types.js";

/**
 * The same `connect`, with one connection for all tabs of this browser that connect to one address.
 * Without Web Locks (plain http off localhost, a sandboxed frame) or a BroadcastChannel each tab has its own.
 */
export function connect(options: Options): Client {
  const locks = globalThis.navigator?.locks;
  if (!locks) return connectAlone(options);
  const key = `usher:${addressOf(options)}`;
  let channel;
  try {
    channel = new BroadcastChannel(key);
  } catch {
    return connectAlone(options);
  }
  const inbox = openInbox(options, key);
  const { actions, isMine, start } = shareSession(options, inbox, locks, channel, key);
  void inbox.load().then(start);
  const client = clientOf(inbox, actions);
  return {
    ...client,
    get position() {
      return client.position;
    },
    on: (what: string, handler: (value: any) => void) =>
      client.on(what, (value) => {
        if (isMine(value)) handler(value);
      }),
    async *[Symbol.asyncIterator]() {
      for await (const frame of client) if (isMine(frame)) yield frame;
    },
  };
}
