import { type Connection, type Ending, openEvents, openSocket } from "./carriers.js";
import type { Actions } from "./client.js";
import type { Frame } from "./frames.js";
import { EVENTS, LONG, PATIENCE, REFRESH, SOCKETS } from "./limits.js";
import { failure, keepRequests } from "./requests.js";
import { keepTopics, now } from "./topics.js";
import type { Options, StateChange, WebSocketClass } from "./types.js";
import { onWake } from "./wake.js";

/** Whose session a link keeps. */
export interface Owner {
  /** The position to come back with. */
  text: () => string;
  /** The topics that are followed now. */
  topics: () => string[];
  tellState: (change: StateChange) => void;
  /** A frame of the session that was opened with the position `sent`. */
  receive: (frame: Frame, sent: string) => void;
}

export type Link = ReturnType<typeof keepLink>;

/** Close codes and HTTP statuses that say: stay away. */
const FINAL: { test: (code: any) => boolean } = /^(100[025789]|41..|40[0345]|426)$/;
/** Server-sent events have no close code: their last frame says that they end for good. */
const CODES: Record<string, number> = { disconnected: 4100, replaced: 4101 };

/** The address of one attempt; `/events` stands beside the WebSocket's path. */
export function addressOf({ url }: Options, events?: boolean) {
  const address = new URL(url, globalThis.location?.href);
  if (events) address.pathname = address.pathname.replace(/[^/]*$/, "events");
  address.protocol = address.protocol.replace(/ws|http/, events ? "http" : "ws");
  return address;
}

/** Keeps one session open: connects, watches and comes back, by the rules of docs/clients.md. */
export function keepLink(options: Options, owner: Owner) {
  const { getToken, transport } = options;
  const Socket = options.WebSocket ?? (globalThis.WebSocket as WebSocketClass);
  if (!Socket && transport !== "sse") throw failure("no WebSocket: pass one");

  let turn = 0; // each attempt has one, and each wait
  let idle = false; // between attempts
  let closed = false;
  let timer: ReturnType<typeof setTimeout> | undefined; // the next attempt, or the watch over this one
  let probe: typeof timer;
  let notBefore = 0; // what the gateway asked for
  let attempts = 0;
  let unopened = 0; // WebSockets in a row
  let unauthorized = 0; // statuses in a row
  let eventsUntil = 0;
  // Of one attempt, and the session that it becomes:
  let connection: Connection | undefined;
  let isEvents: boolean;
  let isOpened: boolean; // there is a connection
  let isOpen = false; // there was a welcome
  let since: number; // when the attempt began, or the session
  let silence: number;
  let sent: string;
  let goodbye: Frame["goodbye"];

  const send = (value: unknown) => {
    if (!isLive()) throw failure("not_connected");
    connection!.send!(JSON.stringify(value));
  };
  const requests = keepRequests(send);
  /** Whether frames can be sent. Server-sent events go one way. */
  const isLive = () => isOpen && !isEvents;
  const kind = getToken ? "token" : "ticket";
  /** What is no text, such as `undefined` after a refusal of the backend, is a rejection. */
  const secret = async () => {
    const text: any = await (getToken ?? options.getTicket)!();
    if (text?.trim()) return text;
    throw failure(kind);
  };

  const topics = keepTopics(
    options.topics,
    owner.topics,
    () => isOpen,
    (wanted) => (isLive() ? requests.send(wanted) : void again("follow", 0)),
  );

  const plan = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(begin, ms);
  };

  /** A connection that brings no frame for so long is given up. */
  const watch = () => {
    clearTimeout(timer);
    timer = setTimeout(again, silence, "silent");
  };

  async function begin(events = transport === "sse" || now() < eventsUntil, afterSocket?: boolean) {
    const mine = ++turn;
    idle = isOpened = false;
    connection = goodbye = undefined;
    isEvents = events;
    since = now();
    silence = LONG;
    sent = owner.text();
    watch();
    // A fall back is still the same attempt.
    if (!afterSocket) owner.tellState({ state: "connecting" });
    if (turn !== mine) return; // a handler has closed it
    const ours = <T>(action: (value: T) => void) => (value: T) => {
      if (turn === mine) action(value);
    };
    try {
      const ticket = await secret();
      if (turn !== mine) return;
      const address = addressOf(options, events);
      if (sent) address.searchParams.set("since", sent);
      for (const topic of topics.connecting()) address.searchParams.append("follow", topic);
      connection = (events ? openEvents : openSocket)(
        address,
        (events ? (getToken ? "Bearer " : "Usher-Ticket ") : `usher.${kind}.`) + ticket,
        ours(() => {
          isOpened = true;
          if (!events) unopened = eventsUntil = 0;
        }) as () => void,
        ours((text: string) => receive(text, afterSocket)),
        ours(lose),
        Socket,
      );
      watch();
    } catch (error: any) {
      if (turn === mine) lose({ reason: error?.message }, error?.final);
    }
  }

  function receive(text: string, afterSocket?: boolean) {
    let frame: Frame;
    try {
      frame = JSON.parse(text) ?? {};
    } catch {
      return;
    }
    probe = void clearTimeout(probe);
    if (frame.welcome) {
      isOpen = true;
      since = now();
      silence = 2000 * frame.welcome.ping;
      unauthorized = 0;
      if (afterSocket) eventsUntil = now() + EVENTS;
    }
    goodbye ??= frame.goodbye;
    watch();
    topics.received(frame, isLive());
    requests.received(frame);
    owner.receive(frame, sent);
    // A handler may have closed it.
    if (frame.expiring && isLive()) void refresh();
  }

  /** Prolongs the session. Where that fails for now, it tries again until the session ends. */
  async function refresh(mine = turn) {
    if (turn !== mine) return;
    try {
      const fresh = await secret();
      if (turn === mine) await requests.send({ [kind]: fresh });
    } catch (error: any) {
      if (turn !== mine) return;
      if (error?.final) lose({ reason: error.message }, true);
      else setTimeout(refresh, REFRESH, mine);
    }
  }

  /** Ends the attempt or the session. The next attempt comes after `wait` ms, if given. */
  function lose({ code, reason, after = 0 }: Ending, final?: boolean, wait?: number) {
    // A tab that woke a moment ago tries at once, also where the browser ends its connection.
    if (probe && !goodbye) wait ??= soon();
    if (isOpen && now() - since >= LONG) attempts = 0;
    turn++;
    clearTimeout(timer);
    probe = void clearTimeout(probe);
    isOpen = false;
    idle = true;
    connection?.close();
    requests.fail();
    if (goodbye && code === 1006) {
      ({ reason } = goodbye);
      code = CODES[reason] ?? code;
    }
    if (code === 401) final ||= ++unauthorized > 2;
    else if (isEvents) unauthorized = 0;
    // The gateway gives a reason with each status. A status without one may come from a proxy that routes only /ws.
    if (final || (FINAL.test(code) && (transport === "sse" || !isEvents || reason))) {
      closed = true;
      stopWaking();
      return owner.tellState({ state: "closed", code, reason });
    }
    if (isEvents) {
      if (!isOpened) eventsUntil = 0;
    } else if (connection && !isOpened && ++unopened >= SOCKETS && transport !== "websocket") return void begin(true, true);
    if (wait === undefined) {
      // At random, or after an outage all clients come back at the same moment.
      const longest = Math.min(LONG, 1000 * 2 ** ++attempts);
      const hint = goodbye?.reconnect_after_ms;
      wait = hint ?? Math.max(after, 1000 + Math.random() * (longest - 1000));
      notBefore = now() + (hint ?? after);
    }
    plan(wait);
    owner.tellState({ state: "waiting", code, reason, retryInMs: wait });
  }

  /** Within so many ms a tab that wakes tries. */
  const soon = () => 1000 * Math.random();
  const again = (reason: string, wait?: number) => lose({ code: 1006, reason }, false, wait);

  const wake = () => {
    if (idle) plan(Math.max(soon(), notBefore - now()));
    else if (!isLive()) {
      if (now() - since > PATIENCE) again("wake", soon());
    } else if (!probe) {
      send({ ping: {} });
      probe = setTimeout(again, PATIENCE, "silent", soon());
    }
  };
  const stopWaking = onWake(wake);

  const actions: Actions = {
    call: (name, data) => requests.send({ call: name, data }),
    follow: (topic) => topics.set(topic, true),
    unfollow: (topic) => topics.set(topic, false),
    close: () => void (closed || lose({ code: 1000, reason: "closed" })),
  };
  return { actions, wake, start: () => void (closed || begin()) };
}
