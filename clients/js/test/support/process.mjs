// Programs that a test runs. Each ends with its test.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./wait.mjs";

export const root = fileURLToPath(new URL("../../../../", import.meta.url));

/** A server of `.servers/bin`. */
export function server(name) {
  const program = join(root, ".servers/bin", name);
  if (!existsSync(program)) throw new Error(`there is no ${name} yet: run tests/servers.sh`);
  return program;
}

/** A package of `.servers/node`. */
export function modules(name) {
  if (!existsSync(join(root, ".servers/node/node_modules", name))) {
    throw new Error(`there is no ${name} yet: run tests/servers.sh browser`);
  }
  return createRequire(join(root, ".servers/node/"))(name);
}

/** A new folder, which is gone with the test. */
export function folder(context) {
  const path = mkdtempSync(join(tmpdir(), "usher-client-"));
  context.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A port that was free a moment ago, and that the kernel gives nobody by chance. */
export async function freePort() {
  for (;;) {
    const port = 15_000 + Math.floor(17_000 * Math.random());
    const probe = createServer();
    const isFree = await new Promise((resolve) => {
      probe.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }
}

/** A process, and all that come of it. */
export function family(first) {
  const all = [first];
  const lines = execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  const processes = lines.map((line) => line.trim().split(/ +/).map(Number));
  // Whoever is added here is looked at too.
  for (const parent of all) all.push(...processes.filter(([, of]) => of === parent).map(([id]) => id));
  return all;
}

/** A running program, and all that it prints. */
export class Program {
  output = "";

  constructor(context, command, args, options) {
    this.child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
    this.ended = new Promise((resolve) => this.child.on("close", resolve));
    this.child.on("error", (error) => (this.output += error.message));
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on("data", (data) => (this.output += data));
    context.after(() => this.kill());
  }

  hasEnded() {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  signal(name) {
    this.child.kill(name);
  }

  async kill() {
    this.signal("SIGKILL");
    await this.ended;
  }

  /** Waits until `look` finds something in what it printed. */
  prints(what, look) {
    return until(what, () => {
      const found = look(this.output);
      if (!found && this.hasEnded()) throw new Error(`it ended before ${what}:\n${this.output}`);
      return found;
    });
  }
}
