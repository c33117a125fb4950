import type { Frame } from "./frames.js";
import type { CallError } from "./types.js";

/** Requests that wait for the frame that repeats their id. */
export type Requests = ReturnType<typeof keepRequests>;

export const failure = (code: string, message = code): CallError => Object.assign(new Error(message), { code });

export function keepRequests(send: (value: unknown) => void) {
  let last = 0;
  const waiting = new Map<string | undefined, [resolve: (value: any) => void, reject: (error: CallError) => void]>();

  return {
    send: (value: object) =>
      new Promise<any>((resolve, reject) => {
        const id = `${++last}`;
        send({ id, ...value });
        waiting.set(id, [resolve, reject]);
      }),

    received({ reply, error, following, refreshed }: Frame) {
      const id = (reply ?? error ?? following ?? refreshed)?.id;
      const [resolve, reject] = waiting.get(id) ?? [];
      waiting.delete(id);
      if (error) reject?.(failure(error.code, error.message));
      else resolve?.(reply?.base64 ?? reply?.data);
    },

    /** The session has ended: nothing is answered any more. */
    fail() {
      for (const [, reject] of waiting.values()) reject(failure("not_connected"));
      waiting.clear();
    },
  };
}
