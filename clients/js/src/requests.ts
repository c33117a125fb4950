import type { Frame } from "./frames.js";
import type { CallError } from "./types.js";

/** Requests that wait for the frame that repeats their id. */
export type Requests = ReturnType<typeof keepRequests>;

export const failure = (code: string, message = code): CallError => Object.assign(new Error(message), { code });

export function keepRequests(send: (value: unknown) => void) {
  let last = 0;
  const waiting = new Map<string | undefined, (answer: Pick<Frame, "reply" | "error">) => void>();

  return {
    send: (value: object) =>
      new Promise<any>((resolve, reject) => {
        const id = `${last + 1}`;
        send({ id, ...value });
        last++;
        waiting.set(id, ({ reply, error }) =>
          error ? reject(failure(error.code, error.message)) : resolve(reply?.base64 ?? reply?.data),
        );
      }),

    received(frame: Frame) {
      const id = (frame.reply ?? frame.error ?? frame.following ?? frame.refreshed)?.id;
      waiting.get(id)?.(frame);
      waiting.delete(id);
    },

    /** The session has ended: nothing is answered any more. */
    fail() {
      for (const end of waiting.values()) end({ error: { code: "not_connected" } });
      waiting.clear();
    },
  };
}
