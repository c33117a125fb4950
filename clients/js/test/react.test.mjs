// `useUsher` in React's strict mode, which mounts, unmounts and mounts again.

import assert from "node:assert/strict";
import test from "node:test";
import { Window } from "happy-dom";
import { WebSocket } from "ws";
import { Server } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

const window = new Window();
globalThis.window = window;
globalThis.document = window.document;
// Newer versions of Node have one of their own.
Object.defineProperty(globalThis, "navigator", { value: window.navigator, configurable: true });
const { act, createElement, StrictMode, useEffect } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useUsher } = await import("../dist/react.js");

/** Lets React finish what this begins. Besides, it works as on a page. */
async function finish(action) {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  await act(action);
  globalThis.IS_REACT_ACT_ENVIRONMENT = false;
}

/** A component, in strict mode, and what its handlers heard. */
async function mount(context, props = {}) {
  const server = await Server.start();
  const root = createRoot(document.createElement("div"));
  const at = { server, heard: [], tickets: 0, rendered: undefined };
  function Shown({ url, who, more }) {
    const getTicket = () => `${who}-${(at.tickets += 1)}-of-this-test`;
    const { state, client } = useUsher({ url, getTicket, WebSocket, ...more });
    at.rendered = { state, client };
    useEffect(() => client?.on("*", ({ data }) => at.heard.push(`${who} ${data}`)), [client, who]);
    return state;
  }
  at.render = (change) => {
    Object.assign(props, change);
    return finish(() => root.render(createElement(StrictMode, null, createElement(Shown, props))));
  };
  at.unmount = () => finish(() => root.unmount());
  at.becomes = (state) => until(state, () => at.rendered.state === state);
  context.after(async () => {
    await at.unmount();
    await server.stop();
  });
  await at.render({ url: server.url, who: "ann" });
  return at;
}

test("strict mode makes one connection, with one ticket", async (context) => {
  const at = await mount(context);
  assert.equal(at.rendered.state, "connecting");
  const session = await at.server.sessions.next();
  session.welcome().send({ event: "e", data: 1 });
  await at.becomes("open");
  await until("an event", () => at.heard.length > 0);
  assert.deepEqual(at.heard, ["ann 1"]);
  assert.equal(at.tickets, 1);
  assert.deepEqual(at.server.requests, ["ws"]);
});

test("a component that is gone hears nothing, and its connection is closed", async (context) => {
  const at = await mount(context);
  const session = await at.server.sessions.next();
  session.welcome();
  await at.becomes("open");
  const { client } = at.rendered;
  const late = [];
  client.on("*", (frame) => late.push(frame));
  await at.unmount();
  session.send({ event: "e", data: 2 });
  await until("it is closed", () => session.isClosed);
  assert.deepEqual([at.heard, late], [[], []]);
  assert.equal(at.rendered.state, "open"); // it was never told of the close
});

test("a render alone changes nothing, and the next ticket is of the last render", async (context) => {
  const at = await mount(context);
  const session = await at.server.sessions.next();
  session.welcome();
  await at.becomes("open");
  const { client } = at.rendered;
  await at.render({ who: "bob" });
  assert.equal(at.rendered.client, client);
  session.end(4001);
  const next = await at.server.sessions.next();
  assert.equal(next.secret, "usher.ticket.bob-2-of-this-test");
  next.welcome().send({ event: "e", data: 3 });
  await until("an event", () => at.heard.length > 0);
  assert.deepEqual(at.heard, ["bob 3"]);
});

test("another address is another connection, and topics follow the render", async (context) => {
  const at = await mount(context, { more: { topics: ["a"] } });
  const first = await at.server.sessions.next();
  assert.deepEqual(first.follow, ["a"]);
  first.welcome({ topics: ["a"] });
  await at.becomes("open");
  await at.render({ more: { topics: ["a", "b"] } });
  const { follow } = await first.frames.next();
  assert.deepEqual(follow, ["b"]);
  first.send({ following: { id: "1", topics: ["a", "b"] } });
  await at.render({ more: { topics: ["b"] } });
  assert.deepEqual((await first.frames.next()).unfollow, ["a"]);
  await at.render({ url: `${at.server.url}?other` });
  const second = await at.server.sessions.next();
  assert.deepEqual(second.follow, ["b"]);
  await until("the first is closed", () => first.isClosed);
  assert.equal(at.rendered.state, "connecting");
  second.welcome();
  await at.becomes("open");
});
