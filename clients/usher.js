// Usher's client for browsers. Copy it into your page: it needs nothing else.
//
//   const stream = usher({
//     url: "/ws",
//     getTicket: async () => …,        // from your login service, anew at every call
//     onState: (state, details) => …,  // "connecting", "open", "waiting" or "closed"
//     onEvent: ({ event, data }) => …, // base64 instead of data where it is not text
//     onGap: (reason) => …,            // messages may be missing: refetch what you show
//   });
//   stream.close();
function usher({ url, getTicket, onState, onEvent, onGap }) {
  const isFinal = (code) =>
    [1000, 1002, 1005, 1007, 1008, 1009].includes(code) || (code >= 4100 && code <= 4199);
  let socket, timer, position, attempts = 0, sessions = 0, closed = false;
  let openedAt, silence, hint, begin, lastEvent, lastProof; // of one connection
  let epoch, last = {}; // in durable mode: the stream, and its last event of each kind

  async function connect() {
    [openedAt, silence, hint] = [Infinity, 30_000, undefined];
    lastEvent = lastProof = -1;
    onState("connecting", {});
    try {
      const ticket = await getTicket(); // a ticket opens one connection, once
      if (closed) return;
      const address = new URL(url, location.href);
      address.protocol = address.protocol.replace("http", "ws");
      address.searchParams.set("ticket", ticket);
      if (position) address.searchParams.set("since", position);
      socket = new WebSocket(address, "usher.v1");
      socket.onmessage = ({ data }) => receive(JSON.parse(data));
      socket.onclose = lost;
      watch();
    } catch (error) {
      lost({ code: 1006, reason: error.message });
    }
  }

  function receive(frame) {
    const { welcome, live, ping, gap, goodbye } = frame;
    if (welcome) {
      openedAt = performance.now();
      silence = 2000 * welcome.ping;
      begin = welcome.seq; // epoch and seq: in durable mode only
      if (welcome.epoch !== epoch || begin < Math.max(last.user, last.all)) last = { user: 0, all: 0 };
      epoch = welcome.epoch;
      position ??= epoch && `${epoch}.${begin}`;
    }
    watch();
    if (frame.event && frame.seq) {
      const kind = frame.broadcast ? "all" : "user";
      if (frame.seq <= last[kind]) return; // it was here before
      if (frame.prev > last[kind] && frame.prev > begin) onGap("missing");
      last[kind] = frame.seq;
    }
    // Where to resume: after the last event, or what live or ping has proved since.
    lastEvent = frame.seq ?? lastEvent;
    lastProof = Math.max(lastProof, live?.seq ?? -1, ping?.seq ?? -1);
    const seq = Math.max(lastEvent, lastProof);
    if (seq >= 0) position = `${epoch}.${seq}`;

    if (welcome) onState("open", welcome);
    // After a reconnect, only "complete" means that nothing was missed.
    if (welcome && sessions++ && welcome.resume !== "complete") onGap("reconnected");
    if (frame.event) onEvent(frame);
    if (gap) onGap(gap.reason);
    if (goodbye) hint = goodbye.reconnect_after_ms;
  }

  function lost({ code, reason }) {
    clearTimeout(timer);
    // Not waiting for its onclose: on a dead network that comes far too late.
    if (socket) socket.onmessage = socket.onclose = null;
    socket?.close(1000);
    if (closed) return;
    closed = isFinal(code);
    if (closed) return onState("closed", { code, reason });
    if (performance.now() - openedAt >= 30_000) attempts = 0;
    // At random, or after an outage everybody would come back at the same moment.
    const longest = Math.min(30_000, 1000 * 2 ** ++attempts);
    const ms = hint ?? 1000 + Math.random() * (longest - 1000);
    timer = setTimeout(connect, ms);
    onState("waiting", { ms, code, reason });
  }

  function watch() { // a frame comes every welcome.ping seconds, or the network is gone
    clearTimeout(timer);
    timer = setTimeout(lost, silence, { code: 1006, reason: "silent" });
  }

  connect();
  return { close: () => lost({ code: 1000, reason: "by this page" }) };
}
