// Usher's client for browsers: one ES module. Copy it beside your page: it needs nothing else.
//
//   import { usher } from "./usher.js";
//   const stream = usher({
//     url: "/ws",
//     getTicket: async () => …,        // from your login service, anew at every call; one that
//                                      // rejects with { final: true } ends the client
//     onState: (state, details) => …,  // "connecting", "open", "waiting" or "closed"
//     onEvent: ({ event, data }) => …, // base64 instead of data where it is not text
//     onGap: (reason) => …,            // messages may be missing: refetch what you show
//     since: …,                        // optional: a position that you stored, of this user
//     store: sessionStorage,           // optional: keeps the position over a reload
//     topics: ["news"],                // optional: what to follow, as far as the ticket grants it
//   });
//   stream.follow("room-7");           // and unfollow; events of a topic have its name in topic
//   await stream.call("echo", data);   // a service's answer; else an error with a code. Never sent twice
//   stream.position;                   // durable mode: what this client has
//   stream.close();
export function usher({ url, getTicket, onState, onEvent, onGap, since, store, topics }) {
  const isFinal = (code) =>
    [1000, 1002, 1005, 1007, 1008, 1009].includes(code) || (code >= 4100 && code <= 4199);
  const address = new URL(url, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const key = `usher:${address}`;
  let user; // whose position it is
  if (!since) ({ user, position: since } = load() ?? {});
  const position = keepPosition(since);
  const malformed = new Set(); // names of which the console was told
  let socket, timer, probe, turn = 0, attempts = 0, sessions = 0, waits = false, closed = false;
  let notBefore = 0; // when the gateway wants to see this client again
  let beganAt, openedAt, silence, hint, sent; // of one connection
  const wanted = new Set([...topics ?? []].filter(isTopic)); // what this page follows
  let told, changing; // what the gateway was told of that
  let asked = 0;
  const waiting = new Map(); // by id, what the gateway has not answered

  async function connect() {
    const mine = ++turn;
    [beganAt, openedAt, silence] = [performance.now(), Infinity, 30_000];
    [hint, sent] = [undefined, position.text];
    socket = undefined;
    waits = false;
    watch();
    onState("connecting", {});
    try {
      const ticket = await getTicket(); // a ticket opens one connection, once
      if (turn !== mine) return; // it came too late
      address.searchParams.delete("since");
      address.searchParams.delete("follow");
      told = new Set(wanted);
      for (const topic of told) address.searchParams.append("follow", topic);
      if (sent) address.searchParams.set("since", sent);
      // Not in the address, which ends in the logs of proxies.
      socket = new WebSocket(address, ["usher.v1", `usher.ticket.${ticket}`]);
      socket.onmessage = ({ data }) => receive(JSON.parse(data));
      socket.onclose = lost;
      watch();
    } catch (error) {
      if (turn === mine) lost({ code: 1006, reason: error?.message, final: error?.final });
    }
  }

  function receive(frame) {
    const { welcome, gap, goodbye, reply, error, following } = frame;
    clearTimeout(probe);
    probe = undefined;
    if (welcome) {
      [openedAt, silence] = [performance.now(), 2000 * welcome.ping];
      // Another user's position says nothing here.
      if ((user ?? welcome.user) !== welcome.user) welcome.resume = "gap";
      user = welcome.user;
    }
    watch();
    const seen = position.take(frame);
    if (seen === "duplicate") return;
    if (welcome) onState("open", welcome);
    // After a reconnect, only "complete" means that nothing is lost.
    if (welcome && (sessions++ || sent) && welcome.resume !== "complete") onGap("reconnected");
    if (seen === "hole") onGap("missing");
    if (frame.event) onEvent(frame);
    if (gap) onGap(gap.reason);
    if (goodbye) hint = goodbye.reconnect_after_ms;
    const answer = reply ?? error ?? following;
    const asker = waiting.get(answer?.id);
    waiting.delete(answer?.id);
    if (error) asker?.reject(failure(error));
    else asker?.resolve(reply?.base64 ?? reply?.data);
    if (welcome) tell();
    save();
  }

  // Where the store fails (full, forbidden), the position is in memory alone.
  function load() {
    try {
      const stored = JSON.parse(store.getItem(key));
      // A gateway refuses what is no position, each time.
      if (/^[\w-]+\.[\w.%=-]+$/.test(stored.position)) return stored;
    } catch {}
  }

  function save() {
    try {
      store?.setItem(key, JSON.stringify({ user, position: position.text }));
    } catch {}
  }

  // For one malformed name the gateway refuses the whole connection, each time.
  function isTopic(name) {
    // Half of a surrogate pair fits neither into JSON nor into a URL.
    const isWrong = name.trim() !== name || /^(\{|$)|[\p{Cc}\p{Cs}]/u.test(name);
    if (!isWrong && new TextEncoder().encode(name).length <= 128) return true;
    if (!malformed.has(name)) console.warn(name, "is no topic");
    malformed.add(name);
  }

  function failure({ code, message = code }) {
    return Object.assign(new Error(message), { code });
  }

  function ask(command) {
    return new Promise((resolve, reject) => {
      if (openedAt === Infinity) return reject(failure({ code: "not_connected" }));
      const id = String(++asked);
      waiting.set(id, { resolve, reject });
      socket.send(JSON.stringify({ id, ...command }));
    });
  }

  function tell() { // the gateway takes two changes a second
    if (openedAt === Infinity || changing) return;
    const follow = [...wanted].filter((topic) => !told.has(topic));
    const unfollow = [...told].filter((topic) => !wanted.has(topic));
    if (!follow[0] && !unfollow[0]) return;
    const [names, change, undo] = follow[0] ? [follow, "follow", "delete"] : [unfollow, "unfollow", "add"];
    const then = told; // another connection is told anew
    for (const topic of names) then[follow[0] ? "add" : "delete"](topic);
    ask({ [change]: names }).catch(({ code, message }) => {
      console.warn(message);
      if (code === "bad_request") for (const topic of names) wanted.delete(topic);
      if (code === "forbidden" || code === "bad_request") return;
      // It was refused for now.
      for (const topic of names) then[undo](topic);
      setTimeout(tell, 5000);
    });
    changing = setTimeout(() => { changing = undefined; tell(); }, 600);
  }

  function lost({ code, reason, final }, ms) {
    // A tab that woke a moment ago tries at once, also where the browser ends its connection.
    if (probe && hint === undefined) ms ??= 1000 * Math.random();
    turn += 1;
    clearTimeout(timer);
    clearTimeout(probe);
    probe = undefined;
    // Not waiting for its onclose: on a dead network that comes far too late.
    if (socket) socket.onmessage = socket.onclose = null;
    socket?.close(1000);
    const lasted = performance.now() - openedAt;
    openedAt = Infinity;
    for (const { reject } of waiting.values()) reject(failure({ code: "not_connected" }));
    waiting.clear();
    if (closed) return;
    closed = final || isFinal(code);
    if (closed) {
      clearInterval(clock);
      for (const event of wakes) window.removeEventListener(event, wake, { capture: true });
      return onState("closed", { code, reason });
    }
    if (lasted >= 30_000) attempts = 0;
    if (ms === undefined) {
      // At random, or after an outage everybody would come back at the same moment.
      const longest = Math.min(30_000, 1000 * 2 ** ++attempts);
      ms = hint ?? 1000 + Math.random() * (longest - 1000);
      notBefore = performance.now() + (hint ?? 0);
    }
    retry(ms);
    onState("waiting", { ms, code, reason });
  }

  function retry(ms) {
    clearTimeout(timer);
    waits = true;
    timer = setTimeout(connect, ms);
  }

  function watch() { // a frame comes every welcome.ping seconds, or the network is gone
    clearTimeout(timer);
    timer = setTimeout(lost, silence, { code: 1006, reason: "silent" });
  }

  // The tab wakes, comes online or becomes visible: it tries within a second.
  function wake({ type, persisted }) {
    const isHidden = document.hidden && type === "visibilitychange";
    if (type === "pageshow" ? !persisted : isHidden) return;
    const soon = 1000 * Math.random();
    if (waits) return retry(Math.max(soon, notBefore - performance.now()));
    if (openedAt === Infinity) { // it may have begun where there was no network
      if (performance.now() - beganAt > 2000) lost({ code: 1006, reason: "wake" }, soon);
    } else if (!probe) {
      socket.send('{"ping":{}}'); // what looks open need not be
      probe = setTimeout(lost, 2000, { code: 1006, reason: "silent" }, soon);
    }
  }

  const wakes = ["online", "visibilitychange", "resume", "pageshow"];
  // The window captures the document's events too.
  for (const event of wakes) window.addEventListener(event, wake, { capture: true });
  let seen = Date.now();
  const clock = setInterval(() => {
    const before = seen;
    seen = Date.now();
    // A machine that slept tells nobody. Timers of a hidden page are late by as much.
    if (seen - before > 10_000) wake({ type: "visibilitychange" });
  }, 2000);
  connect();
  return {
    get position() { return position.text || undefined; },
    get topics() { return position.topics; },
    follow: (topic) => { if (isTopic(topic)) wanted.add(topic); tell(); },
    unfollow: (topic) => { if (!wanted.delete(topic) && isTopic(topic)) told?.add(topic); tell(); },
    call: (name, data) => ask({ call: name, data }),
    close: () => lost({ code: 1000, reason: "by this page" }),
  };
}

// Keeps the position, EPOCH.PROVEN.TOP.AT and marks, by the five rules of docs/clients.md.
// In live mode the gateway names no epoch, and there is no position.
function keepPosition(since = "") {
  let epoch, topics = [];
  let [proven = 0, top = 0, at = 0] = since.split(".").slice(1, 4).map(Number);
  const marks = new Map(); // the last sequence of a channel: "u", "b" or "tTOPIC="
  const stored = since.matchAll(/\.([ub]|t[^.=]+=)(\d+)/g);
  for (const [, channel, seq] of stored) marks.set(channel, Number(seq));

  const hex = (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`;
  const ofTopic = (topic) => `t${encodeURIComponent(topic).replace(/[.!~*'()]/g, hex)}=`;

  return {
    get topics() { return topics; },
    get text() {
      if (since) return since; // until the first welcome has answered it
      if (!epoch) return "";
      let text = `${epoch}.${proven}.${top}.${at}`;
      for (const [channel, seq] of marks) {
        const mark = seq > proven ? `.${channel}${seq}` : "";
        if (text.length + mark.length <= 4096) text += mark; // what is left out comes again
      }
      return text;
    },

    // Takes a frame in. Says whether its event is a "duplicate" or comes after a "hole".
    take(frame) {
      const { event, welcome, following, live, ping, gap } = frame;
      if (welcome) {
        ({ epoch, topics = [] } = welcome);
        since = "";
      }
      if (welcome && welcome.resume !== "complete") { // rule 1
        [proven, top, at] = [welcome.resume === "none" ? welcome.seq : 0, 0, 0];
        marks.clear();
      }
      const body = event ? frame : welcome ?? following ?? live ?? ping ?? gap ?? {};
      if (body.seq > top) [top, at] = [body.seq, body.at]; // rule 5
      if (following) { // rule 3
        const { topics: now } = following;
        for (const topic of topics) if (!now.includes(topic)) marks.delete(ofTopic(topic));
        for (const topic of now) if (!topics.includes(topic)) marks.set(ofTopic(topic), body.seq);
        topics = now;
      }
      const proof = live ?? ping;
      if (proof?.seq > proven) { // rule 4
        proven = proof.seq;
        for (const [channel, seq] of marks) if (seq <= proven) marks.delete(channel);
      }
      if ((event || gap) && body.seq) { // rule 2: a gap with a sequence stands for an event
        const { topic, broadcast, seq, prev } = body;
        const channel = topic !== undefined ? ofTopic(topic) : broadcast ? "b" : "u";
        const had = Math.max(proven, marks.get(channel) ?? 0);
        if (seq <= had) return "duplicate";
        marks.set(channel, seq);
        if (prev > had) return "hole";
      }
    },
  };
}
