// The gateway that a team would write in a day: `ws` and `nats`, one NATS subscription a user,
// a ping each 25 s. It checks no ticket, keeps no backlog within bounds, and drains nothing.
//
//   node gateway.mjs PORT NATS

import { createServer } from "node:http";
import { connect } from "nats";
import { WebSocketServer } from "ws";

const [port, servers] = process.argv.slice(2);
const nats = await connect({ servers });
const users = new Map();
const everybody = new Set();

// The payload is JSON already: it goes into the frame as it came.
const frame = (message, broadcast) =>
  `{"event":"message",${broadcast ? '"broadcast":true,' : ""}"data":${message.string()}}`;

nats.subscribe("usher.broadcast", {
  callback: (error, message) => {
    if (error) throw error;
    const text = frame(message, true);
    for (const socket of everybody) socket.send(text);
  },
});

const join = async (socket, user) => {
  let sessions = users.get(user);
  if (!sessions) {
    sessions = new Set();
    users.set(user, sessions);
    sessions.subscription = nats.subscribe(`usher.user.${user}`, {
      callback: (error, message) => {
        if (error) throw error;
        const text = frame(message, false);
        for (const each of sessions) each.send(text);
      },
    });
    sessions.confirmed = nats.flush();
  }
  sessions.add(socket);
  everybody.add(socket);
  socket.on("close", () => {
    everybody.delete(socket);
    sessions.delete(socket);
    if (sessions.size === 0 && users.get(user) === sessions) {
      users.delete(user);
      sessions.subscription.unsubscribe();
    }
  });
  await sessions.confirmed;
  socket.send('{"welcome":{"gateway":"node","ping":25}}');
};

const server = createServer((request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: false });
sockets.on("connection", (socket, request) => {
  socket.alive = true;
  socket.on("pong", () => (socket.alive = true));
  socket.on("error", () => socket.terminate());
  const user = new URL(request.url, "http://localhost").searchParams.get("ticket");
  join(socket, user).catch(() => socket.terminate());
});
setInterval(() => {
  for (const socket of everybody) {
    if (!socket.alive) socket.terminate();
    socket.alive = false;
    socket.ping();
  }
}, 25_000);
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
