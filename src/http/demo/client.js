// usher-client. Built from clients/js: run "npm run demo" there, and do not edit this.
"use strict";
var usherClient = (() => {
  var __defProp = Object.defineProperty;
  var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
  var __getOwnPropNames = Object.getOwnPropertyNames;
  var __hasOwnProp = Object.prototype.hasOwnProperty;
  var __export = (target, all) => {
    for (var name in all)
      __defProp(target, name, { get: all[name], enumerable: true });
  };
  var __copyProps = (to, from, except, desc) => {
    if (from && typeof from === "object" || typeof from === "function") {
      for (let key of __getOwnPropNames(from))
        if (!__hasOwnProp.call(to, key) && key !== except)
          __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
    }
    return to;
  };
  var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

  // src/index.ts
  var index_exports = {};
  __export(index_exports, {
    connect: () => connect
  });

  // src/client.ts
  var clientOf = (inbox, actions) => ({
    ...actions,
    on: inbox.on,
    get position() {
      return inbox.text() || void 0;
    },
    [Symbol.asyncIterator]: inbox.events
  });

  // src/handlers.ts
  var OURS = ["gap", "state", "position"];
  function keepHandlers() {
    const all = /* @__PURE__ */ new Set();
    const tell = (what, value) => {
      for (const [name, handler] of all) {
        if (name !== what) continue;
        try {
          handler(value);
        } catch (error) {
          setTimeout(() => {
            throw error;
          });
        }
      }
    };
    return {
      on(what, handler) {
        const own = [what, handler];
        all.add(own);
        return () => void all.delete(own);
      },
      tell,
      clear: () => all.clear(),
      event(name, frame) {
        if (!OURS.includes(name)) tell(name, frame);
        tell("*", frame);
      }
    };
  }

  // src/position.ts
  var DUPLICATE = 1;
  var HOLE = 2;
  var LONGEST = 4096;
  var hex = (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`;
  var ofTopic = (topic) => `t${encodeURIComponent(topic).replace(/[.!~*'()]/g, hex)}=`;
  function keepPosition() {
    let stored = "";
    let epoch;
    let topics = [];
    let proven = 0;
    let top = 0;
    let at = 0;
    const marks = /* @__PURE__ */ new Map();
    return {
      text() {
        if (stored || !epoch) return stored;
        let text = `${epoch}.${proven}.${top}.${at}`;
        for (const [channel, seq] of marks) {
          const mark = seq > proven ? `.${channel}${seq}` : "";
          if ((text + mark).length <= LONGEST) text += mark;
        }
        return text;
      },
      topics: () => topics,
      adopt(text) {
        stored = text;
        [proven = 0, top = 0, at = 0] = text.split(".").slice(1, 4).map(Number);
        marks.clear();
        for (const [, channel, seq] of text.matchAll(/\.([ub]|t[^.=]+=)(\d+)/g)) marks.set(channel, +seq);
      },
      take(frame) {
        const { event, welcome, following, live, ping, gap } = frame;
        const body = event ? frame : welcome ?? following ?? live ?? ping ?? gap ?? {};
        const seq = body.seq ?? 0;
        if (welcome) {
          stored = "";
          ({ epoch, topics = [] } = welcome);
          if (welcome.resume !== "complete") {
            proven = welcome.resume === "none" ? seq : 0;
            top = at = 0;
            marks.clear();
          }
        }
        if (seq > top) [top, at] = [seq, body.at];
        if (following) {
          const now2 = following.topics;
          for (const topic of topics) if (!now2.includes(topic)) marks.delete(ofTopic(topic));
          for (const topic of now2) if (seq && !topics.includes(topic)) marks.set(ofTopic(topic), seq);
          topics = now2;
        }
        if ((live ?? ping) && seq > proven) {
          proven = seq;
          for (const [channel, mark] of marks) if (mark <= proven) marks.delete(channel);
        }
        if ((event || gap) && seq) {
          const { topic, broadcast, prev } = body;
          const channel = topic !== void 0 ? ofTopic(topic) : broadcast ? "b" : "u";
          const had = Math.max(proven, marks.get(channel) ?? 0);
          if (seq <= had) return DUPLICATE;
          marks.set(channel, seq);
          if (prev > had) return HOLE;
        }
      }
    };
  }

  // src/inbox.ts
  function openInbox({ since, store }, key) {
    const handlers = keepHandlers();
    const position = keepPosition();
    let user;
    let sessions = 0;
    let closed = false;
    let saved = "";
    const use = async (action) => {
      try {
        if (store) return await action(store);
      } catch {
      }
    };
    const save = () => {
      const text = position.text();
      if (text === saved) return;
      saved = text;
      void use(
        (store2) => text ? store2.setItem(key, JSON.stringify({ user, position: text })) : store2.removeItem(key)
      );
      handlers.tell("position", text || void 0);
    };
    const tellState = (change) => {
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
        await use(async (store2) => {
          const stored = JSON.parse(await store2.getItem(key) ?? "{}");
          saved = `${stored.position ?? ""}`;
          user = stored.user;
          if (/^[\w-]+\.[\w.%=-]+$/.test(saved)) position.adopt(saved);
        });
      },
      /** Takes in a frame of the session that was opened with the position `sent`. */
      receive(frame, sent) {
        const { welcome, event, gap } = frame;
        let missed;
        if (welcome) {
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
      async *events() {
        const waiting = [];
        let next = () => {
        };
        const off = [
          handlers.on("*", (frame) => {
            waiting.push(frame);
            next();
          }),
          handlers.on("state", () => next())
        ];
        try {
          for (; ; ) {
            while (waiting[0]) yield waiting.shift();
            if (closed) return;
            await new Promise((resolve) => next = resolve);
          }
        } finally {
          for (const remove of off) remove();
        }
      }
    };
  }

  // src/carriers.ts
  var openSocket = (url, secret, opened, received, ended, Socket) => {
    const socket = new Socket(url.href, ["usher.v1", secret]);
    socket.onopen = opened;
    socket.onmessage = ({ data }) => received(data);
    socket.onerror = () => {
    };
    socket.onclose = ended;
    return {
      send: (text) => socket.send(text),
      close: () => socket.close(1e3)
    };
  };
  var openEvents = (url, authorization, opened, received, ended) => {
    const abort = new AbortController();
    const read = async () => {
      const answer = await fetch(url, { headers: { authorization }, signal: abort.signal, cache: "no-store" });
      if (!answer.ok) {
        const { error } = await answer.json().catch(() => 0);
        const after = 1e3 * +answer.headers.get("retry-after") || 0;
        return { code: answer.status, reason: error?.code, after };
      }
      opened();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let data = "";
      let rest = "";
      for (; ; ) {
        const { done, value } = await reader.read();
        if (done) return { code: 1006 };
        const lines = (rest + value).split(/\r?\n/);
        rest = lines.pop();
        for (const line of lines) {
          if (line.startsWith("data:")) data += line.slice(5);
          if (!line && data) {
            received(data);
            data = "";
          }
        }
      }
    };
    void read().catch((error) => ({ code: 1006, reason: error.message })).then(ended);
    return { close: () => abort.abort() };
  };

  // src/limits.ts
  var LONG = 3e4;
  var PATIENCE = 2e3;
  var SOCKETS = 3;
  var EVENTS = 6e5;
  var REFRESH = 6e3;

  // src/requests.ts
  var failure = (code, message = code) => Object.assign(new Error(message), { code });
  function keepRequests(send) {
    let last = 0;
    const waiting = /* @__PURE__ */ new Map();
    return {
      send: (value) => new Promise((resolve, reject) => {
        const id = `${last + 1}`;
        send({ id, ...value });
        last++;
        waiting.set(
          id,
          ({ reply, error }) => error ? reject(failure(error.code, error.message)) : resolve(reply?.base64 ?? reply?.data)
        );
      }),
      received(frame) {
        const id = (frame.reply ?? frame.error ?? frame.following ?? frame.refreshed)?.id;
        waiting.get(id)?.(frame);
        waiting.delete(id);
      },
      /** The session has ended: nothing is answered any more. */
      fail() {
        for (const end of waiting.values()) end({ error: { code: "not_connected" } });
        waiting.clear();
      }
    };
  }

  // src/topics.ts
  var APART = 600;
  var LATER = 5e3;
  var WRONG = /^[\s{]|^$|\s$|\p{Cc}/u;
  var now = () => performance.now();
  var isTopic = (name) => !WRONG.test(name) || console.warn(name, "bad_request");
  function keepTopics(initial = [], followed, isOpen, change) {
    const wanted = /* @__PURE__ */ new Map();
    const untold = /* @__PURE__ */ new Set();
    let single = false;
    let timer;
    let next = 0;
    const plan = (ms = 0) => {
      timer ??= setTimeout(flush, Math.max(ms, next - now()));
    };
    const flush = () => {
      timer = void 0;
      const [first] = untold;
      if (!first || !isOpen()) return;
      next = now() + APART;
      const want = wanted.get(first);
      const names = single ? [first] : [...untold].filter((one) => wanted.get(one) === want);
      for (const name of names) untold.delete(name);
      change(want ? { follow: names } : { unfollow: names })?.catch(({ code, message }) => {
        const isRefused = code === "forbidden" || code === "bad_request";
        if (isRefused && !names[1]) return console.warn(first, message);
        for (const name of names) untold.add(name);
        single = isRefused;
        plan(isRefused ? 0 : LATER);
      });
      if (untold.size) plan();
      else single = false;
    };
    const set = (topic, want) => {
      if (!isTopic(topic)) return;
      const before = wanted.get(topic);
      wanted.set(topic, want);
      if (before !== !want && followed().includes(topic) === want) return;
      untold.add(topic);
      plan();
    };
    for (const topic of initial) set(topic, true);
    return {
      set,
      /** What to ask for with a new connection. */
      connecting() {
        untold.clear();
        const topics = new Set(followed());
        for (const [topic, want] of wanted) topics[want ? "add" : "delete"](topic);
        return topics;
      },
      /** A frame, before what is followed changes by it. Only a WebSocket can unfollow. */
      received({ welcome, following }, isSocket) {
        if (following) {
          for (const topic of followed()) {
            if (!following.topics.includes(topic) && wanted.get(topic) && !untold.has(topic)) wanted.delete(topic);
          }
        }
        if (!welcome) return;
        for (const [topic, want] of wanted) {
          if (want) continue;
          if (!welcome.topics?.includes(topic)) wanted.delete(topic);
          else if (isSocket) untold.add(topic);
        }
        plan();
      }
    };
  }

  // src/wake.ts
  var EVENTS2 = ["online", "resume", "pageshow", "visibilitychange"];
  var LOOK = 2e3;
  var SLEPT = 1e4;
  function onWake(wake) {
    const listener = ({ type, persisted }) => {
      if (type === "pageshow" ? persisted : type !== "visibilitychange" || !globalThis.document?.hidden) wake();
    };
    let seen = Date.now();
    const clock = setInterval(() => {
      const before = seen;
      seen = Date.now();
      if (seen - before > SLEPT) listener({ type: "visibilitychange" });
    }, LOOK);
    const each = (method) => {
      for (const event of EVENTS2) globalThis[method]?.(event, listener, { capture: true });
    };
    each("addEventListener");
    return () => {
      clearInterval(clock);
      each("removeEventListener");
    };
  }

  // src/link.ts
  var FINAL = /^(100[025789]|41..|40[0345]|426)$/;
  var CODES = { disconnected: 4100, replaced: 4101 };
  function addressOf({ url }, events) {
    const address = new URL(url, globalThis.location?.href);
    if (events) address.pathname = address.pathname.replace(/[^/]*$/, "events");
    address.protocol = address.protocol.replace(/ws|http/, events ? "http" : "ws");
    return address;
  }
  function keepLink(options, owner) {
    const { getToken, transport } = options;
    const Socket = options.WebSocket ?? globalThis.WebSocket;
    if (!Socket && transport !== "sse") throw failure("no WebSocket: pass one");
    let turn = 0;
    let idle = false;
    let closed = false;
    let timer;
    let probe;
    let notBefore = 0;
    let attempts = 0;
    let unopened = 0;
    let unauthorized = 0;
    let eventsUntil = 0;
    let connection;
    let isEvents;
    let isOpened;
    let isOpen = false;
    let since;
    let silence;
    let sent;
    let goodbye;
    const send = (value) => {
      if (!isLive()) throw failure("not_connected");
      connection.send(JSON.stringify(value));
    };
    const requests = keepRequests(send);
    const isLive = () => isOpen && !isEvents;
    const kind = getToken ? "token" : "ticket";
    const secret = async () => {
      const text = await (getToken ?? options.getTicket)();
      if (text?.trim()) return text;
      throw failure(kind);
    };
    const topics = keepTopics(
      options.topics,
      owner.topics,
      () => isOpen,
      (wanted) => isLive() ? requests.send(wanted) : void again("follow", 0)
    );
    const plan = (ms) => {
      clearTimeout(timer);
      timer = setTimeout(begin, ms);
    };
    const watch = () => {
      clearTimeout(timer);
      timer = setTimeout(again, silence, "silent");
    };
    async function begin(events = transport === "sse" || now() < eventsUntil, afterSocket) {
      const mine = ++turn;
      idle = isOpened = false;
      connection = goodbye = void 0;
      isEvents = events;
      since = now();
      silence = LONG;
      sent = owner.text();
      watch();
      if (!afterSocket) owner.tellState({ state: "connecting" });
      if (turn !== mine) return;
      const ours = (action) => (value) => {
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
          (events ? getToken ? "Bearer " : "Usher-Ticket " : `usher.${kind}.`) + ticket,
          ours(() => {
            isOpened = true;
            if (!events) unopened = eventsUntil = 0;
          }),
          ours((text) => receive(text, afterSocket)),
          ours(lose),
          Socket
        );
        watch();
      } catch (error) {
        if (turn === mine) lose({ reason: error?.message }, error?.final);
      }
    }
    function receive(text, afterSocket) {
      let frame;
      try {
        frame = JSON.parse(text) ?? {};
      } catch {
        return;
      }
      probe = void clearTimeout(probe);
      if (frame.welcome) {
        isOpen = true;
        since = now();
        silence = 2e3 * frame.welcome.ping;
        unauthorized = 0;
        if (afterSocket) eventsUntil = now() + EVENTS;
      }
      goodbye ??= frame.goodbye;
      watch();
      topics.received(frame, isLive());
      requests.received(frame);
      owner.receive(frame, sent);
      if (frame.expiring && isLive()) void refresh();
    }
    async function refresh(mine = turn) {
      if (turn !== mine) return;
      try {
        const fresh = await secret();
        if (turn === mine) await requests.send({ [kind]: fresh });
      } catch (error) {
        if (turn !== mine) return;
        if (error?.final) lose({ reason: error.message }, true);
        else setTimeout(refresh, REFRESH, mine);
      }
    }
    function lose({ code, reason, after = 0 }, final, wait) {
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
      if (final || FINAL.test(code) && (transport === "sse" || !isEvents || reason)) {
        closed = true;
        stopWaking();
        return owner.tellState({ state: "closed", code, reason });
      }
      if (isEvents) {
        if (!isOpened) eventsUntil = 0;
      } else if (connection && !isOpened && ++unopened >= SOCKETS && transport !== "websocket") return void begin(true, true);
      if (wait === void 0) {
        const longest = Math.min(LONG, 1e3 * 2 ** ++attempts);
        const hint = goodbye?.reconnect_after_ms;
        wait = hint ?? Math.max(after, 1e3 + Math.random() * (longest - 1e3));
        notBefore = now() + (hint ?? after);
      }
      plan(wait);
      owner.tellState({ state: "waiting", code, reason, retryInMs: wait });
    }
    const soon = () => 1e3 * Math.random();
    const again = (reason, wait) => lose({ code: 1006, reason }, false, wait);
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
    const actions = {
      call: (name, data) => requests.send({ call: name, data }),
      follow: (topic) => topics.set(topic, true),
      unfollow: (topic) => topics.set(topic, false),
      close: () => void (closed || lose({ code: 1e3, reason: "closed" }))
    };
    return { actions, wake, start: () => void (closed || begin()) };
  }

  // src/index.ts
  function connect(options) {
    const inbox = openInbox(options, `usher:${addressOf(options)}`);
    const { actions, start } = keepLink(options, inbox);
    void inbox.load().then(start);
    return clientOf(inbox, actions);
  }
  return __toCommonJS(index_exports);
})();
