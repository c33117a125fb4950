/** A frame with an event, as the gateway sent it. */
export interface EventFrame<Data = any> {
  event: string;
  /** The payload, if it is JSON or text. */
  data: Data;
  /** The payload in base64, if it is neither. Then there is no `data`. */
  base64?: string;
  /** The event went to all sessions. */
  broadcast?: true;
  /** The event went to the followers of this topic. */
  topic?: string;
  /** Durable mode: the event's sequence in the stream. */
  seq?: number;
  /** Durable mode: the sequence of the channel's previous event. */
  prev?: number;
  /** Durable mode: when the stream stored the event, in milliseconds since 1970. */
  at?: number;
}

export type State = "connecting" | "open" | "waiting" | "closed";

/** What `state` handlers get. */
export interface StateChange {
  state: State;
  /** With `waiting` and `closed`: the close code, or the HTTP status of a refusal. */
  code?: number;
  /** With `waiting` and `closed`: why. */
  reason?: string;
  /** With `waiting`: the next attempt comes after so many milliseconds. */
  retryInMs?: number;
}

/** Messages may be missing: load again what you show. */
export interface Gap {
  /** The gateway's reason, or `missing`, or `reconnected`. */
  reason: string;
}

/** Where the position is kept: localStorage, sessionStorage or your own. */
export interface Store {
  getItem(key: string): string | null | undefined | Promise<string | null | undefined>;
  setItem(key: string, value: string): unknown;
  removeItem(key: string): unknown;
}

/** What the client uses of a WebSocket class. */
export type WebSocketClass = new (url: string, protocols: string[]) => {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
};

interface Common {
  /** The WebSocket's address, absolute or relative to the page. `/events` replaces its last segment. */
  url: string | URL;
  /** A position to begin at. It goes before the one in `store`. */
  since?: string;
  /** Keeps the position with its user, so that a page that loads anew goes on from there. */
  store?: Store;
  /** Topics to follow from the beginning. */
  topics?: Iterable<string>;
  /** `auto` is the WebSocket, and server-sent events where a WebSocket does not open. */
  transport?: "auto" | "websocket" | "sse";
  /** For Node 20, which has none of its own: the class of npm's `ws`. */
  WebSocket?: WebSocketClass;
}

/**
 * Asked before every connection, since a ticket opens one. An error with `final: true` (nobody is
 * logged in) ends the client; after any other error it tries again.
 */
interface WithTicket {
  getTicket: () => string | Promise<string>;
  getToken?: undefined;
}

/** A JWT in place of a ticket, for gateways with `tickets.jwt.connect`. */
interface WithToken {
  getToken: () => string | Promise<string>;
  getTicket?: undefined;
}

export type Options = Common & (WithTicket | WithToken);

/** Why a call failed. */
export interface CallError extends Error {
  /** The gateway's code, the service's own, or `not_connected`. */
  code: string;
}

export interface Client extends AsyncIterable<EventFrame> {
  /** Registers a handler. The function that it returns removes it. */
  on(what: "gap", handler: (gap: Gap) => void): () => void;
  on(what: "state", handler: (change: StateChange) => void): () => void;
  on(what: "position", handler: (position: string | undefined) => void): () => void;
  /** An event by its name, or every event with `*`. */
  on<Data = any>(event: string, handler: (frame: EventFrame<Data>) => void): () => void;
  /** Calls a service and resolves to what it answers. Rejects with a `CallError`. */
  call<Data = any>(name: string, data?: unknown): Promise<Data>;
  follow(topic: string): void;
  unfollow(topic: string): void;
  /** Durable mode: what this client has. */
  readonly position: string | undefined;
  /** Closes the connection for good. */
  close(): void;
}
