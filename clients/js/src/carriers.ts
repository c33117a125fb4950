import type { WebSocketClass } from "./types.js";

/** Why a connection ended. */
export interface Ending {
  /** None where no connection was tried. */
  code?: number;
  reason?: string;
  /** The gateway asks to wait so many milliseconds at least. */
  after?: number;
}

/** One connection, over which a secret opens a session. */
export type Open = (
  url: URL,
  secret: string,
  opened: () => void,
  received: (text: string) => void,
  ended: (ending: Ending) => void,
  Socket: WebSocketClass,
) => Connection;

export interface Connection {
  send?: (text: string) => void;
  close: () => void;
}

/** The ticket travels as a sub-protocol, since a URL ends in the logs of proxies. */
export const openSocket: Open = (url, secret, opened, received, ended, Socket) => {
  const socket = new Socket(url.href, ["usher.v1", secret]);
  socket.onopen = opened;
  socket.onmessage = ({ data }) => received(data);
  socket.onerror = () => {}; // `onclose` follows
  socket.onclose = ended;
  return {
    send: (text) => socket.send(text),
    close: () => socket.close(1000),
  };
};

/** Server-sent events by `fetch`, which can send a header and sees the status. */
export const openEvents: Open = (url, authorization, opened, received, ended) => {
  const abort = new AbortController();

  const read = async (): Promise<Ending> => {
    // Without "no-store" two tabs may wait for each other, since both ask for one address.
    const answer = await fetch(url, { headers: { authorization }, signal: abort.signal, cache: "no-store" });
    if (!answer.ok) {
      const { error } = await answer.json().catch(() => 0);
      const after = 1000 * +answer.headers.get("retry-after")! || 0;
      return { code: answer.status, reason: error?.code, after };
    }
    opened();
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    let data = "";
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { code: 1006 };
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop()!;
      for (const line of lines) {
        if (line.startsWith("data:")) data += line.slice(5); // in JSON, a line break is only white space
        if (!line && data) {
          received(data);
          data = "";
        }
      }
    }
  };

  void read()
    .catch((error): Ending => ({ code: 1006, reason: error.message }))
    .then(ended);
  return { close: () => abort.abort() };
};
