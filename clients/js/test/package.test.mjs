// What `npm pack` makes: its size, and that it works where it is installed, in an empty folder.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { before } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { launch } from "./support/browser.mjs";
import { folder } from "./support/process.mjs";
import { Server } from "./support/server.mjs";

const LARGEST = 4000; // bytes of usher-client, minified, gzip -9

const here = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(await readFile(join(here, "package.json")));

/** Runs a program in a folder; what it printed. */
async function run(cwd, program, ...args) {
  try {
    return (await promisify(execFile)(program, args, { cwd })).stdout;
  } catch (error) {
    throw new Error(`${program} ${args.join(" ")}: ${error.message}\n${error.stdout}`, { cause: error });
  }
}

const npm = (cwd, ...args) => {
  const npmCli = process.env.npm_execpath;
  return npmCli ? run(cwd, process.execPath, npmCli, ...args) : run(cwd, "npm", ...args);
};

const tool = (name) => join(here, "node_modules", name);

let project;
before(async (context) => {
  project = folder(context);
  // Without its own build, which would take dist away from the tests beside this one.
  await npm(here, "pack", "--silent", "--ignore-scripts", "--pack-destination", project);
  const [tarball] = (await readdir(project)).filter((name) => name.endsWith(".tgz"));
  assert.equal(tarball, `usher-client-${manifest.version}.tgz`);
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "an-app", private: true, type: "module" }));
  // Offline: it needs nothing else.
  await npm(project, "install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", `./${tarball}`);
});

test("the package has what it needs, and nothing else", async () => {
  assert.deepEqual(await readdir(join(project, "node_modules")).then((names) => names.filter((name) => name[0] !== ".")), ["usher-client"]);
  const installed = join(project, "node_modules/usher-client");
  assert.deepEqual((await readdir(installed)).toSorted(), ["LICENSE", "README.md", "dist", "package.json"]);
  assert.equal(manifest.dependencies, undefined);
  const files = await readdir(join(installed, "dist"));
  for (const name of ["index", "react", "tabs"]) assert.ok(files.includes(`${name}.js`) && files.includes(`${name}.d.ts`), name);
  assert.deepEqual(files.filter((name) => !/\.(js|d\.ts)$/.test(name)), []);
});

test(`usher-client alone is smaller than ${LARGEST} bytes`, async (context) => {
  const { outputFiles } = await build({
    stdin: { contents: 'export { connect } from "usher-client";', resolveDir: project },
    bundle: true,
    minify: true,
    format: "esm",
    write: false,
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  context.diagnostic(`${bytes} bytes`);
  assert.ok(bytes < LARGEST, `${bytes} bytes`);
});

test("it works from an ES module", async (context) => {
  const server = await Server.start();
  context.after(() => server.stop());
  const script = `
    import { connect } from "usher-client";
    import { connect as connectTab } from "usher-client/tabs";
    const [, , url] = process.argv;
    for (const make of [connect, connectTab]) {
      const client = make({ url, getTicket: async () => "a-ticket-of-an-app", transport: "sse" });
      client.on("hello", ({ data }) => {
        console.log(data);
        client.close();
      });
    }
  `;
  await writeFile(join(project, "app.mjs"), script);
  const ran = run(project, process.execPath, "app.mjs", server.url);
  for (const data of ["one", "two"]) (await server.sessions.next()).welcome().send({ event: "hello", data });
  assert.deepEqual((await ran).trim().split("\n").toSorted(), ["one", "two"]);
});

const APP = `
  import { connect, type CallError, type Client, type EventFrame, type Options } from "usher-client";
  import { connect as connectTab } from "usher-client/tabs";
  import { useUsher } from "usher-client/react";

  const options: Options = {
    url: "/ws",
    getTicket: async () => "a-ticket-of-an-app",
    store: localStorage,
    topics: ["news"],
    transport: "auto",
    since: "0",
    WebSocket,
  };
  export const client: Client = connect(options);
  export const tab: Client = connectTab({ url: new URL("https://push.example.com/ws"), getToken: () => "ey.JWT.sig" });
  const off: () => void = client.on<{ order: number }>("order.completed", ({ data }) => data.order.toFixed());
  client.on("gap", ({ reason }) => reason.trim());
  client.on("state", ({ state, code, reason, retryInMs }) => [state === "open", code?.toFixed(), reason?.trim(), retryInMs?.toFixed()]);
  client.on("position", (position) => position?.trim());
  client.on("*", (frame: EventFrame) => frame.seq?.toFixed());
  export const answer: Promise<number> = client.call<number>("add", [1, 2]).catch((error: CallError) => error.code.length);
  client.follow("room-7");
  client.unfollow("room-7");
  export const position: string | undefined = client.position;
  export async function all() {
    for await (const { event, topic } of client) [event.trim(), topic?.trim()];
  }
  export function Badge() {
    const { state, client } = useUsher(options);
    const { state: inTab } = useUsher(options, connectTab);
    return [state, inTab, client?.position];
  }
  off();
`;

const WRONG = {
  "neither ticket nor token": 'import { connect } from "usher-client"; connect({ url: "/ws" });',
  "both": 'import { connect } from "usher-client"; connect({ url: "/ws", getTicket: () => "", getToken: () => "" });',
  "an unknown transport": 'import { connect } from "usher-client"; connect({ url: "/ws", getTicket: () => "", transport: "pigeon" });',
  "a gap without a reason": 'import { connect } from "usher-client"; connect({ url: "/ws", getTicket: () => "" }).on("gap", ({ why }) => why);',
};

/** Types of React come with the app; here they are those that this package is built with. */
async function withReact() {
  await mkdir(join(project, "node_modules/@types"), { recursive: true });
  for (const name of ["react", "@types/react", "csstype"]) {
    await symlink(tool(name), join(project, "node_modules", name)).catch((error) => assert.equal(error.code, "EEXIST"));
  }
}

for (const [module, moduleResolution] of [["nodenext", "nodenext"], ["esnext", "bundler"]]) {
  test(`it works from strict TypeScript with ${moduleResolution}`, async () => {
    await withReact();
    const compilerOptions = {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
      module,
      moduleResolution,
      target: "es2022",
      lib: ["es2022", "dom"],
      types: [],
      noEmit: true,
    };
    const check = async (code) => {
      await writeFile(join(project, "app.ts"), code);
      await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["app.ts"] }));
      return run(project, process.execPath, tool("typescript/bin/tsc"), "-p", ".");
    };
    assert.equal(await check(APP), "");
    for (const [what, code] of Object.entries(WRONG)) await assert.rejects(check(code), /error TS/, what);
  });
}

test("it works from a build by Vite", async (context) => {
  await withReact();
  const { build: buildWithVite } = await import("vite");
  await writeFile(join(project, "index.html"), '<script type="module" src="./main.js"></script>');
  await writeFile(
    join(project, "main.js"),
    `import { connect } from "usher-client";
     import { connect as connectTab } from "usher-client/tabs";
     globalThis.begin = (options) => (options.tabs ? connectTab : connect)(options);`,
  );
  await buildWithVite({ root: project, logLevel: "warn" });
  const server = await Server.start();
  server.pages = pathToFileURL(join(project, "dist/"));
  const browser = await launch();
  context.after(() => browser.close());
  context.after(() => server.stop());
  const page = await browser.newPage();
  await page.goto(`${server.origin}/`);
  for (const tabs of [false, true]) {
    const got = page.evaluate(async (options) => {
      const client = begin({ url: "/push/ws", getTicket: async () => "a-ticket-of-an-app", ...options });
      for await (const { data } of client) return data;
    }, { tabs });
    (await server.sessions.next()).welcome().send({ event: "hello", data: "built" });
    assert.equal(await got, "built");
  }
});
