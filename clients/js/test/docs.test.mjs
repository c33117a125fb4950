// The snippets of docs/frontend.md, as they stand there; and the example of docs/clients.md.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { suite } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { WebSocket } from "ws";
import { connect } from "../dist/index.js";
import { keepPosition } from "../dist/position.js";
import { becomes } from "./support/client.mjs";
import { folder, freePort, modules, Program, root } from "./support/process.mjs";
import { DURABLE, Site, TOKENS } from "./support/site.mjs";
import { document, fragments, snippets } from "./support/snippets.mjs";
import { Queue, until } from "./support/wait.mjs";

const here = fileURLToPath(new URL("..", import.meta.url));
const of = await snippets();

async function write(to, files) {
  await mkdir(to, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(to, name), text);
}

/** A gateway, and the ticket endpoint that `run` starts in a folder, at a port. */
async function endpoint(context, run) {
  const site = await Site.start(context);
  const port = await freePort();
  const env = { ...process.env, PORT: `${port}`, USHER_API: site.api };
  const program = await run(folder(context), { env }, `${port}`);
  const ask = (cookie) =>
    fetch(`http://127.0.0.1:${port}/api/ticket`, { method: "POST", headers: { cookie } }).catch(() => undefined);
  await until("the endpoint answers", async () => {
    if (program.hasEnded()) throw new Error(program.output);
    return (await ask("session=ann")) !== undefined;
  });
  assert.equal((await ask("")).status, 401);
  const answer = await ask("session=ann");
  assert.equal(answer.status, 200, program.output);
  assert.equal(answer.headers.get("cache-control"), "no-store");
  const { ticket, expires_in } = await answer.json();
  assert.equal(expires_in, 60);
  const at = site.follow({ getTicket: () => ticket });
  await site.sessions(1);
  await site.push(1, { user_id: "ann" });
  assert.equal((await at.events.next()).data, 1);
  await site.gateway.kill();
  assert.equal((await ask("session=ann")).status, 503);
}

suite("the ticket endpoint", { concurrency: 2 }, () => {
  test("Express", (context) =>
    endpoint(context, async (to, options) => {
      const login = 'export const currentUser = async ({ headers }) => headers.cookie === "session=ann" && { id: "ann" };';
      await write(to, { "ticket.mjs": of["ticket.mjs"], "login.mjs": login });
      await symlink(join(root, ".servers/node/node_modules"), join(to, "node_modules"));
      return new Program(context, process.execPath, [join(to, "ticket.mjs")], options);
    }));

  test("FastAPI", (context) =>
    endpoint(context, async (to, { env }, port) => {
      const login = `
class User:
    id = "ann"

async def current_user(request):
    return User() if request.cookies.get("session") == "ann" else None
`;
      await write(to, { "ticket.py": of["ticket.py"], "login.py": login });
      const path = { PYTHONPATH: join(root, ".servers/python"), PYTHONDONTWRITEBYTECODE: "1" };
      const args = ["-m", "uvicorn", "ticket:app", "--port", port];
      return new Program(context, "python3", args, { cwd: to, env: { ...env, ...path } });
    }));

  const go = (context) =>
    endpoint(context, async (to, options) => {
      const login = `
package main

import "net/http"

func currentUser(r *http.Request) string {
	if cookie, err := r.Cookie("session"); err == nil {
		return cookie.Value
	}
	return ""
}
`;
      await write(to, { "ticket.go": of["ticket.go"], "login.go": login, "go.mod": "module ticket\n\ngo 1.22\n" });
      assert.equal((await promisify(execFile)("gofmt", ["-l", "ticket.go"], { cwd: to })).stdout, "");
      for (const args of [["vet", "."], ["build", "-o", "ticket", "."]]) await promisify(execFile)("go", args, { cwd: to });
      return new Program(context, join(to, "ticket"), [], options);
    });
  // Not everybody has Go: `make docs-go` asks for it.
  if (process.env.USHER_DOCS_GO) test("Go", go);
});

/** Compiles the components of Vue and Svelte, as their plugins for Vite do. */
const components = {
  name: "components",
  setup({ onLoad }) {
    onLoad({ filter: /\.vue$/ }, async ({ path }) => {
      const { compileScript, parse } = modules("vue/compiler-sfc");
      const { descriptor } = parse(await readFile(path, "utf8"), { filename: path });
      return { contents: compileScript(descriptor, { id: "orders", inlineTemplate: true }).content, loader: "js" };
    });
    onLoad({ filter: /\.svelte$/ }, async ({ path }) => {
      const { compile } = modules("svelte/compiler");
      return { contents: compile(await readFile(path, "utf8"), { filename: path }).js.code, loader: "js" };
    });
  },
};

/** What shows each snippet on a page, and where its framework is. */
const PAGES = {
  "plain.js": { main: 'import "./plain.js";' },
  "copied.js": { main: 'import "./copied.js";' },
  "Orders.jsx": {
    main: `import { createElement, StrictMode } from "react";
           import { createRoot } from "react-dom/client";
           import { Orders } from "./Orders.jsx";
           createRoot(document.querySelector("main")).render(createElement(StrictMode, null, createElement(Orders)));`,
    packages: join(here, "node_modules"),
  },
  "Orders.vue": { main: 'import { createApp } from "vue"; import Orders from "./Orders.vue"; createApp(Orders).mount("main");' },
  "Orders.svelte": {
    main: 'import { mount } from "svelte"; import Orders from "./Orders.svelte"; mount(Orders, { target: document.querySelector("main") });',
  },
};

suite("the page", { concurrency: 2 }, () => {
  for (const [name, { main, packages = join(root, ".servers/node/node_modules") }] of Object.entries(PAGES)) {
    test(name, async (context) => {
      const site = await Site.start(context, DURABLE);
      const to = folder(context);
      const push = of["push.js"].replace("wss://push.example.com/ws", site.url);
      const usher = await readFile(join(root, "clients/usher.js"), "utf8");
      await write(to, { "push.js": push, "usher.js": usher, "main.js": main, [name]: of[name] });
      await symlink(packages, join(to, "node_modules"));
      const { outputFiles } = await build({
        entryPoints: [join(to, "main.js")],
        alias: { "usher-client": join(here, "dist/index.js"), "usher-client/react": join(here, "dist/react.js") },
        nodePaths: [packages],
        define: { "process.env.NODE_ENV": '"production"', __VUE_OPTIONS_API__: "true", __VUE_PROD_DEVTOOLS__: "false", __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false" },
        conditions: ["browser"],
        jsx: "automatic",
        plugins: [components],
        bundle: true,
        format: "esm",
        write: false,
      });
      const isBare = ["plain.js", "copied.js"].includes(name);
      const body = isBare ? '<p id="state"></p><p id="orders"></p>' : "<main></main>";
      site.files["/"] = `<!doctype html>${body}<script type="module" src="/app.js"></script>`;
      site.files["/app.js"] = outputFiles[0].text;
      site.files["/api/orders"] = '[{"order":122}]';
      const page = await site.window.newPage();
      const errors = [];
      page.on("pageerror", (error) => errors.push(error));
      await page.goto(site.origin);
      const shows = (id, text) => page.locator(`#${id}`).getByText(text, { exact: true }).waitFor();
      await shows("state", "open");
      await shows("orders", "122");
      await site.push({ order: 123 }, { event: "order.completed" });
      await shows("orders", "122, 123");
      await site.gateway.kill();
      await shows("state", "waiting");
      await site.startGateway();
      await site.push({ order: 124 }, { event: "order.completed" });
      await shows("orders", "122, 123, 124");
      await shows("state", "open");
      site.isLoggedOut = true;
      await site.post("disconnect", { user_id: "42", reconnect: true });
      await shows("state", "closed");
      assert.deepEqual(errors, []);
    });
  }
});

/** Runs a fragment among what stands around it; returns what it names so. */
function run(fragment, around, name) {
  const AsyncFunction = (async () => {}).constructor;
  return new AsyncFunction(...Object.keys(around), `${fragment}; return ${name};`)(...Object.values(around));
}

/** What each fragment of the document does, by words that only it has. */
const FRAGMENTS = {
  async "/tickets"(site, fragment, around) {
    const at = site.follow({ getTicket: await run(fragment, around, "getTicket") });
    await becomes(at, "open");
  },

  async getToken(site, fragment, around) {
    const told = await hears(site, await run(fragment, around, "client"));
    await site.push(1);
    assert.equal((await told.next()).data, 1);
  },

  async unfollow(site, fragment, around) {
    const told = await hears(site, await run(fragment, around, "client"));
    await site.post("topics/room-7", { data: 1 });
    await site.post("topics/news", { data: 2 });
    assert.equal((await told.next()).data, 2);
  },

  async "client.call"(site, fragment, { connect, options }) {
    await site.answer("usher.call.orders.cancel", ({ order }) => ({ cancelled: order }));
    const client = connect(options);
    await hears(site, client);
    assert.deepEqual(await run(fragment, { client }, "order"), { cancelled: 123 });
  },

  async getTicketAndPosition(site, fragment, around) {
    const shown = [];
    const client = await run(fragment, {
      ...around,
      getTicketAndPosition: () => site.post("tickets", { user_id: "42" }),
      loadState: () => site.push("between").then(() => "the state"),
      show: (state) => shown.push(state),
    }, "client");
    const told = await hears(site, client);
    assert.equal((await told.next()).data, "between");
    assert.deepEqual(shown, ["the state"]);
  },

  async "stored.position"(site, fragment, around) {
    const stored = {
      saved: [],
      save: (event, data) => stored.saved.push(data),
      savePosition: (position) => (stored.position = position),
      refetch: () => stored.saved.push("a gap"),
    };
    const first = await run(fragment, { ...around, stored }, "client");
    await hears(site, first);
    await site.push(1);
    await until("it is saved", () => stored.saved.length === 1);
    first.close();
    assert.match(stored.position, /\.u\d+$/);
    await site.push(2);
    await hears(site, await run(fragment, { ...around, stored }, "client"));
    await until("the next is saved", () => stored.saved.length === 2);
    assert.deepEqual(stored.saved, [1, 2]);
  },
};

/** Waits until a client has its session; what it hears from then on. */
async function hears(site, client) {
  site.context.after(() => client.close());
  const told = new Queue();
  client.on("*", (frame) => told.push(frame));
  const states = new Queue();
  client.on("state", (change) => states.push(change));
  await becomes({ states }, "open");
  return told;
}

test("each fragment", async (context) => {
  const all = await fragments();
  for (const fragment of all) {
    const which = Object.keys(FRAGMENTS).filter((words) => fragment.includes(words));
    assert.equal(which.length, 1, `${which} of\n${fragment}`);
    const site = await Site.start(context, { ...DURABLE, ...TOKENS }, () => {});
    const grants = { may_follow: ["news", "room-7"], calls: ["orders.*"] };
    const around = {
      connect: (options) => connect({ WebSocket, ...options }),
      options: { url: site.url, getTicket: () => site.ticket("42", grants) },
      login: { token: () => site.token() },
    };
    const address = `://127.0.0.1:${site.port}`;
    const local = fragment.replace("https://push.example.com", `http${address}`).replace("wss://push.example.com", `ws${address}`);
    await FRAGMENTS[which[0]](site, local, around);
  }
  assert.equal(all.length, Object.keys(FRAGMENTS).length);
});

test("the example of a position", async () => {
  const text = await document("clients.md");
  const example = text.slice(text.indexOf("| frame | position after it |")).split("\n\n")[0];
  const rows = [...example.matchAll(/^\| `(\{.*\})` \| (?:`([^`]+)`|the same)/gm)];
  assert.equal(rows.length, 6);
  const position = keepPosition();
  let before;
  for (const [, frame, after = before] of rows) {
    position.take(JSON.parse(frame.replace("{…,", "{")));
    assert.equal(position.text(), after, frame);
    before = after;
  }
});
