// The real thing: nats-server, redis-server and the gateway, as `make build` leaves it.

import { existsSync } from "node:fs";
import { connect as dial } from "node:net";
import { join } from "node:path";
import { follow } from "./client.mjs";
import { folder, freePort, Program, root, server } from "./process.mjs";
import { until } from "./wait.mjs";

const USHER = process.env.USHER ?? join(root, "target/debug/usher");

/** Whether something listens there. */
export const answers = (port) =>
  new Promise((resolve) => {
    const socket = dial(port, "127.0.0.1", () => resolve(true) || socket.destroy()).on("error", () => resolve(false));
  });

export class World {
  static async start(context, settings = {}) {
    if (!existsSync(USHER)) throw new Error(`there is no ${USHER} yet: run cargo build`);
    const world = new this();
    Object.assign(world, { context, settings });
    [world.natsPort, world.redisPort, world.port] = await Promise.all([freePort(), freePort(), freePort()]);
    world.natsFolder = folder(context);
    const redis = ["--bind", "127.0.0.1", "--port", `${world.redisPort}`, "--save", "", "--dir", folder(context)];
    world.redis = new Program(context, server("redis-server"), redis);
    await world.startNats();
    await until("redis-server listens", () => answers(world.redisPort));
    await world.startGateway();
    return world;
  }

  async startNats() {
    const args = ["-a", "127.0.0.1", "-p", `${this.natsPort}`, "-js", "-sd", this.natsFolder];
    this.nats = new Program(this.context, server("nats-server"), args);
    await until("nats-server listens", () => answers(this.natsPort));
  }

  /** Starts it, always at the same public address. */
  async startGateway() {
    const settings = {
      "public.listen": `127.0.0.1:${this.port}`,
      "grpc.listen": "127.0.0.1:0",
      "ops.listen": "127.0.0.1:0",
      "nats.url": `nats://127.0.0.1:${this.natsPort}`,
      "redis.url": `redis://127.0.0.1:${this.redisPort}`,
      "redis.timeout": "5s",
      "log.format": "json",
      ...this.settings,
    };
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("USHER")));
    for (const [key, value] of Object.entries(settings)) env[`USHER_${key.replaceAll(".", "__").toUpperCase()}`] = value;
    this.gateway = new Program(this.context, USHER, ["serve"], { env, cwd: folder(this.context) });
    const listener = (name) => (log) =>
      log.split("\n").find((line) => line.includes(`"${name}"`) && /127\.0\.0\.1:\d+/.test(line))?.match(/127\.0\.0\.1:\d+/)[0];
    this.api = `http://${await this.gateway.prints("the API's address", listener("grpc"))}`;
    this.ops = `http://${await this.gateway.prints("the operators' address", listener("ops"))}`;
    await until("it is ready", () => {
      if (this.gateway.hasEnded()) throw new Error(`the gateway ended:\n${this.gateway.output}`);
      return fetch(`${this.ops}/readyz`).then(({ ok }) => ok, () => false);
    });
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  /** Calls the API for services. */
  async post(path, body) {
    const answer = await fetch(`${this.api}/v1/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`);
    return JSON.parse(text);
  }

  push(data, more = {}) {
    return this.post("push", { user_id: "42", data, ...more });
  }

  /** A ticket, with the grants in `more`. */
  async ticket(user_id = "42", more = {}) {
    return (await this.post("tickets", { user_id, ...more })).ticket;
  }

  /** A client of this gateway; it ends with the test. */
  follow(options = {}, ...rest) {
    const one = follow({ url: this.url, getTicket: () => this.ticket(), ...options }, ...rest);
    this.context.after(() => one.client.close());
    return one;
  }

  /** Waits until a metric has this value. */
  metric(name, value) {
    return until(`${name} is ${value}`, async () => (await (await fetch(`${this.ops}/metrics`)).text()).includes(`${name} ${value}\n`));
  }
}
