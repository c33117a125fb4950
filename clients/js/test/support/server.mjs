// A small server that speaks the frames of docs/clients.md over real WebSockets and real
// server-sent events, and does whatever a test wants of a gateway.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { Queue } from "./wait.mjs";

/** One connection of a client, over either. */
class Session {
  /** What the client sends. */
  frames = new Queue();
  isClosed = false;
  code;

  constructor(kind, request, secret, write, end) {
    this.kind = kind;
    this.url = request.url;
    this.secret = secret;
    const query = new URL(request.url, "http://gateway").searchParams;
    this.since = query.get("since");
    this.follow = query.getAll("follow");
    this.write = write;
    this.end = end;
  }

  send(...frames) {
    for (const frame of frames) this.write(frame);
  }

  welcome(more = {}) {
    this.send({ welcome: { session: "s", user: "42", gateway: "g", ping: 25, resume: "none", ...more } });
    return this;
  }

  /** `welcome` of durable mode; the time of a sequence is 1000 above it. */
  durable(seq, resume = "none", more = {}) {
    return this.welcome({ epoch: "k3f9", seq, at: seq && 1000 + seq, resume, ...more });
  }

  event(seq, prev, more = {}) {
    this.send({ event: "e", seq, prev, at: 1000 + seq, data: seq, ...more });
  }
}

export class Server {
  /** The sessions, in their order. */
  sessions = new Queue();
  /** All requests, refused ones too: "ws" or "sse". */
  requests = [];
  /** It answers no WebSocket. */
  isDeaf = false;
  /** By kind, a status with which the next requests are refused. */
  refusals = {};
  /** Requests by which a page stands still until they are answered. */
  still = new Queue();
  /** Where its pages are; without one of its own, `/` is an empty page. */
  pages = new URL("../../", import.meta.url);
  #open = new Set();

  static async start() {
    const server = new Server();
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] });
    server.http = createServer((request, response) => server.#events(request, response));
    server.http.on("upgrade", (request, socket, head) => {
      server.requests.push("ws");
      if (server.isDeaf) return;
      const status = server.refusals.ws;
      if (status) return socket.end(`HTTP/1.1 ${status} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      sockets.handleUpgrade(request, socket, head, (ws) => server.#socket(ws, request));
    });
    server.http.on("connection", (socket) => {
      server.#open.add(socket);
      socket.on("close", () => server.#open.delete(socket));
    });
    await new Promise((resolve) => server.http.listen(0, "127.0.0.1", resolve));
    server.origin = `http://127.0.0.1:${server.http.address().port}`;
    server.url = `ws://127.0.0.1:${server.http.address().port}/push/ws`;
    return server;
  }

  #socket(ws, request) {
    const [, secret] = request.headers["sec-websocket-protocol"].split(/, */);
    const session = new Session("ws", request, secret, (frame) => ws.send(JSON.stringify(frame)), (code, reason) =>
      code === 1006 ? ws.terminate() : ws.close(code, reason),
    );
    ws.on("message", (data) => session.frames.push(JSON.parse(data)));
    ws.on("close", (code) => Object.assign(session, { isClosed: true, code }));
    this.sessions.push(session);
  }

  #events(request, response) {
    if (request.url === "/favicon.ico") return response.writeHead(404).end();
    if (request.url === "/still") return this.still.push(response);
    if (/\/$|\.js$/.test(request.url)) return this.#page(request, response);
    this.requests.push("sse");
    const { status, headers, body } = this.refusals.sse ?? {};
    if (status) return response.writeHead(status, headers).end(body);
    if (!request.url.startsWith("/push/events")) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    const write = (frame) => {
      // As a gateway passes on what was published with line breaks.
      const lines = JSON.stringify(frame, null, 1).split("\n");
      response.write(`${lines.map((line) => `data: ${line}\n`).join("")}\n: a comment\n`);
    };
    const session = new Session("sse", request, request.headers.authorization, write, () => response.end());
    request.on("close", () => (session.isClosed = true));
    response.on("close", () => (session.isClosed = true));
    this.sessions.push(session);
  }

  /** A page, and what it loads. */
  async #page({ url }, response) {
    const isPage = url.endsWith("/");
    const file = new URL(`.${url}${isPage ? "index.html" : ""}`, this.pages);
    const body = await readFile(file).catch(() => isPage && "<!doctype html>");
    response.writeHead(200, { "content-type": isPage ? "text/html" : "text/javascript" }).end(body || "");
  }

  async stop() {
    for (const socket of this.#open) socket.destroy();
    await new Promise((resolve) => this.http.close(resolve));
  }
}
