// A client of dist, and all that it tells.

import { WebSocket } from "ws";
import { connect } from "../../dist/index.js";
import { Server } from "./server.mjs";
import { Queue } from "./wait.mjs";

/** Connects, and keeps all that is told. */
export function follow(options, connectWith = connect) {
  const told = { states: new Queue(), events: new Queue(), gaps: new Queue(), positions: [], tickets: 0 };
  const getTicket = async () => `a-ticket-of-this-test-${(told.tickets += 1)}`;
  const client = connectWith({ WebSocket, ...(options.getToken ? {} : { getTicket }), ...options });
  client.on("state", (change) => told.states.push(change));
  client.on("gap", (gap) => told.gaps.push(gap));
  client.on("position", (position) => told.positions.push(position));
  client.on("*", (frame) => told.events.push(frame));
  return Object.assign(told, { client });
}

/** Waits until this state is told, and returns what is told of it. */
export async function becomes({ states }, state) {
  for (;;) {
    const change = await states.next(`the state ${state}`);
    if (change.state === state) return change;
  }
}

/** A test with a server, and clients that end with it. */
export const withServer = (run) => async (context) => {
  const server = await Server.start();
  const clients = [];
  context.after(async () => {
    for (const { client } of clients) client.close();
    await server.stop();
  });
  await run(server, (options = {}, ...rest) => {
    const one = follow({ url: server.url, ...options }, ...rest);
    clients.push(one);
    return one;
  }, context);
};

/** Lets chance be the same for as long as a test runs. */
export function fixChance(context, value) {
  context.mock.method(Math, "random", () => value);
}
