// Pages in a real browser, against a real gateway: what happens to people. Each thing happens to a page
// of each client at once: of this package, of clients/usher.js, and of the plain means in
// docs/frontend.md.

import assert from "node:assert/strict";
import test, { suite } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { build } from "esbuild";
import { manyWindows } from "./support/browser.mjs";
import { DURABLE, Site, TOKENS } from "./support/site.mjs";
import { CLIENTS, isOverSse, LONG } from "./support/tab.mjs";
import { until } from "./support/wait.mjs";

const OVER_SSE = Object.fromEntries(Object.entries(CLIENTS).filter(([, client]) => isOverSse(client)));
const EVENTS = Object.keys(OVER_SSE).length;
const SOCKETS = Object.keys(CLIENTS).length - EVENTS;
/** Those with a tab of its own for each session. */
const { "usher-client/tabs": _, ...ALONE } = CLIENTS;

/** Waits until the gateway has a session of each client, or of none. */
async function sessions(site, has = true) {
  await site.sessions(has ? SOCKETS : 0);
  await site.sessions(has ? EVENTS : 0, "sse");
}

const start = (context, settings) => Site.start(context, settings, manyWindows);

/** They did not wait as after an outage. On a busy machine an attempt may fail. */
const cameBackAtOnce = (tabs) => tabs.each(async (tab) => {
  for (const { retryInMs = 0 } of (await tab.told()).states) assert.ok(retryInMs <= 2500, `${retryInMs}`);
});

const APP = `
  import { createElement, StrictMode, useEffect } from "react";
  import { createRoot } from "react-dom/client";
  import { useUsher } from "./dist/react.js";

  const told = { events: [], gaps: [] };
  const { url } = Object.fromEntries(new URLSearchParams(location.search));
  const options = { url, store: sessionStorage, getTicket: async () => (await fetch("/login/getTicket")).text() };
  function Orders() {
    const { state, client } = useUsher(options);
    useEffect(() => client?.on("*", ({ data }) => told.events.push(data)), [client]);
    useEffect(() => client?.on("gap", ({ reason }) => told.gaps.push(reason)), [client]);
    return createElement("output", null, state);
  }
  const root = createRoot(document.body.appendChild(document.createElement("main")));
  const show = (isShown) => root.render(createElement(StrictMode, null, isShown && createElement(Orders)));
  Object.assign(globalThis, { told, show });
`;

// Most of what these do is to wait, so some run side by side.
suite("a page of each client", { concurrency: 4 }, () => {
  test("a tab that was frozen goes on when it runs again", async (context) => {
    const site = await start(context, DURABLE);
    const tabs = await site.openAll();
    await tabs.is("open");
    await tabs.freeze();
    await site.push(1);
    await pause(LONG);
    await site.push(2);
    await tabs.thaw();
    await tabs.got(1, 2);
    await tabs.is("open");
    await tabs.noGaps();
    await cameBackAtOnce(tabs);
  });

  test("a tab that was frozen while its gateway and its network went comes back at once", async (context) => {
    const site = await start(context, DURABLE);
    const tabs = await site.openAll();
    await tabs.is("open");
    await tabs.freeze();
    await site.gateway.kill();
    await site.startGateway();
    await site.push(1);
    await tabs.thaw();
    await tabs.got(1);
    await tabs.is("open");
    await cameBackAtOnce(tabs);
    await tabs.freeze();
    await tabs.network({ offline: true });
    await site.push(2);
    await site.post("disconnect", { user_id: "42", reconnect: true });
    await sessions(site, false);
    await site.push(3);
    await tabs.network();
    await tabs.thaw();
    await tabs.got(1, 2, 3);
    await tabs.noGaps();
  });

  test("a machine that slept has dead connections, and nothing tells it so", async (context) => {
    // By the gateway's pings the clients would notice in ten minutes.
    const site = await start(context, { ...DURABLE, "session.ping_interval": "5m", "session.idle_timeout": "11m" });
    const cable = await site.cable();
    const tabs = await site.openAll({ url: cable.url });
    await tabs.is("open");
    await site.push(1);
    await tabs.got(1);
    await site.window.asleep(async () => {
      cable.cut();
      await site.post("disconnect", { user_id: "42", reconnect: true });
      await site.push(2);
      await pause(LONG);
      cable.renew();
    });
    await tabs.got(1, 2);
    await tabs.is("open");
    await tabs.noGaps();
  });

  test("a page that loads anew goes on from where it was", async (context) => {
    const site = await start(context, DURABLE);
    const tabs = await site.openAll({ store: "sessionStorage" });
    await tabs.is("open");
    await site.push(1);
    await tabs.got(1);
    await tabs.leave();
    await site.push(2);
    await tabs.load();
    await tabs.got(2);
    await tabs.noGaps();
    // Here nothing waits for the session to end.
    await Promise.all([tabs.load(), site.push(3)]);
    await tabs.is("open");
    await site.push(4);
    await tabs.each(async (tab) => {
      await tab.until("the last one", () => told.events.at(-1) === 4);
      // The page before may have had the third.
      assert.match(JSON.stringify((await tab.told()).events), /^\[(3,)?4\]$/);
    });
    await tabs.noGaps();
  });

  test("a page that the browser kept aside goes on", async (context) => {
    const site = await start(context, DURABLE);
    const tabs = await site.openAll();
    await tabs.is("open");
    await site.push(1);
    await tabs.got(1);
    await tabs.leave();
    await site.push(2);
    await tabs.comeBack();
    await tabs.got(1, 2);
    await tabs.noGaps();
  });

  test("durable mode: a network that was cut costs nothing", async (context) => {
    const site = await start(context, { ...DURABLE, "session.ping_interval": "2s" });
    const cable = await site.cable();
    const tabs = await site.openAll({ url: cable.url });
    await tabs.is("open");
    await site.push(1);
    await tabs.got(1);
    cable.cut();
    await tabs.network({ offline: true });
    await site.push(2);
    for (const { state } of await tabs.was("silent")) assert.equal(state, "waiting");
    await site.push(3);
    // There is no ticket to be had, so they wait again, and longer.
    await tabs.each((tab) => tab.until("attempts without a ticket", () => told.secrets > 2));
    cable.mend();
    await tabs.network();
    await tabs.got(1, 2, 3);
    await tabs.noGaps();
  });

  test("durable mode: a gateway that is killed, and one that drains, cost nothing", async (context) => {
    const site = await start(context, { ...DURABLE, "drain.delay": "0s", "drain.window": "1s" });
    const tabs = await site.openAll();
    await tabs.is("open");
    await site.push(1);
    await tabs.got(1);
    await site.gateway.kill();
    await tabs.is("waiting");
    await site.startGateway();
    await site.push(2);
    await tabs.got(1, 2);

    site.gateway.signal("SIGTERM");
    await tabs.each(async (tab) => {
      const { state, code, retryInMs } = await tab.was("drain");
      assert.equal(state, "waiting");
      if (!isOverSse(tab.options)) assert.equal(code, 1012);
      assert.ok(retryInMs >= 0);
    });
    await site.gateway.ended;
    await site.startGateway();
    await site.push(3);
    await tabs.got(1, 2, 3);
    await tabs.noGaps();
  });

  test("live mode: the page is told that it may lack something", async (context) => {
    const site = await start(context);
    const tabs = await site.openAll();
    await tabs.is("open");
    await site.gateway.kill();
    await tabs.is("waiting");
    await site.startGateway();
    await tabs.is("open");
    await tabs.each(async (tab) => assert.deepEqual((await tab.told()).gaps, ["reconnected"]));
    await site.push(1);
    await tabs.got(1);
  });

  test("a session that another replaced stays away", async (context) => {
    const site = await start(context, { "public.max_sessions_per_user": "1" });
    site.userOf = (name) => name; // each client has a user of its own
    const first = await site.openAll({}, ALONE);
    await first.is("open");
    const second = await site.openAll({}, ALONE);
    await second.is("open");
    await first.each(async (tab) => {
      const { code, reason } = await tab.is("closed");
      assert.equal(reason, "replaced");
      if (!isOverSse(tab.options)) assert.equal(code, 4101);
      await tab.page.bringToFront(); // that wakes a client
    });
    await second.each((tab) => site.push(1, { user_id: tab.name }));
    await second.got(1);
    for (const tabs of [first, second]) await tabs.each(async (tab) => assert.equal((await tab.told()).secrets, 1));
  });

  test("when nobody is logged in any more, it ends", async (context) => {
    const site = await start(context);
    const tabs = await site.openAll();
    await tabs.is("open");
    site.isLoggedOut = true;
    await site.post("disconnect", { user_id: "42", reconnect: true });
    for (const { reason } of await tabs.is("closed")) assert.equal(reason, "logged out");
    await tabs.each(async (tab) => assert.equal((await tab.told()).secrets, 2));
  });

  test("10,000 messages come in order", async (context) => {
    const all = { "durable.max_messages_per_channel": "20000", "durable.max_replay": "20000" };
    for (const settings of [{ ...DURABLE, ...all }, {}]) {
      const site = await start(context, settings);
      const tabs = await site.openAll();
      await tabs.is("open");
      await site.publish("usher.user.42", 10_000);
      for (let some = 1000; some <= 10_000; some += 1000) {
        await tabs.each((tab) => tab.until(`${some} messages`, (want) => told.events.length >= want, some));
      }
      await tabs.each(async (tab) => {
        assert.equal(await tab.page.evaluate(() => told.events.length), 10_000);
        assert.ok(await tab.page.evaluate(() => told.events.every((data, index) => data === index)));
        assert.deepEqual(await tab.states(), ["connecting", "open"]);
      });
      await tabs.noGaps();
    }
  });

  test("a slow network makes it late, and nothing else", async (context) => {
    const site = await start(context);
    const tabs = await site.openAll();
    await tabs.is("open");
    await tabs.network({ latency: 500, throughput: 20_000 });
    const large = "x".repeat(4000);
    for (let index = 0; index < 20; index += 1) await site.push([index, large]);
    await tabs.each(async (tab) => {
      await tab.until("all", () => told.events.length === 20);
      assert.deepEqual((await tab.told()).events.map(([index]) => index), [...Array(20).keys()]);
      assert.deepEqual(await tab.states(), ["connecting", "open"]);
    });
  });

  test("a ticket's session ends, and the page goes on", async (context) => {
    const site = await start(context, DURABLE);
    site.lives = [8, 600];
    const tabs = await site.openAll();
    const end = Date.now() + 9000;
    await tabs.is("open");
    await tabs.each((tab) => tab.until("a fresh one", () => told.secrets === 2));
    await site.push(1);
    await until("the end of the first", () => Date.now() > end);
    await site.push(2);
    await tabs.got(1, 2);
    await tabs.noGaps();
    const once = ["connecting", "open"];
    await tabs.each(async (tab) => {
      // Those that can prolong a session over a WebSocket need no other.
      const waits = isOverSse(tab.options) ? "waiting" : "waiting 4001";
      const isOne = !tab.options.make && !isOverSse(tab.options);
      const states = (await tab.states()).map((state) => state.replace(" 1006", ""));
      assert.deepEqual(states, isOne ? once : [...once, waits, ...once]);
    });
  });
});

suite("a page of this package", { concurrency: 3 }, () => {
  test("a token ends, and the session goes on", async (context) => {
    const site = await Site.start(context, TOKENS);
    site.lives = [8, 600];
    const tab = await site.open({ secret: "getToken" });
    const end = Date.now() + 9000;
    await tab.is("open");
    await tab.until("a fresh one", () => told.secrets === 2);
    await until("the end of the first", () => Date.now() > end);
    await site.push(1);
    await tab.got(1);
    assert.deepEqual(await tab.states(), ["connecting", "open"]);
    await tab.noGaps();
  });

  for (const secret of ["getTicket", "getToken"]) {
    test(`${secret}: a session ends where nobody is logged in any more`, async (context) => {
      const site = await Site.start(context, TOKENS);
      site.lives = [6];
      const tab = await site.open({ secret });
      await tab.is("open");
      site.isLoggedOut = true;
      assert.equal((await tab.is("closed")).reason, "logged out");
      await site.sessions(0);
      assert.equal((await tab.told()).secrets, 2);
    });
  }

  test("it follows topics, and calls services", async (context) => {
    const site = await Site.start(context);
    site.grants = { may_follow_prefix: ["room-"], calls: ["orders.>"] };
    await site.answer("usher.call.orders.cancel", (data, user) => ({ cancelled: data.order, by: user }));
    const tab = await site.open({ topics: ["room-1"] });
    await tab.is("open");
    await site.post("topics/room-1", { data: 1 });
    await tab.got(1);
    await tab.page.evaluate(() => client.follow("room-2"));
    await site.metric("usher_topics", 2);
    await site.post("topics/room-2", { data: 2 });
    await tab.got(1, 2);
    const call = (name, data) => tab.page.evaluate(([one, two]) => client.call(one, two).catch(({ code }) => code), [name, data]);
    assert.deepEqual(await call("orders.cancel", { order: 123 }), { cancelled: 123, by: "42" });
    assert.equal(await call("orders.unknown"), "no_responders");
    assert.equal(await call("users.delete"), "forbidden");
  });

  test("behind a proxy that passes no WebSocket on, it takes server-sent events", async (context) => {
    const site = await Site.start(context, DURABLE);
    const url = await site.behindNginx();
    const tab = await site.open({ url });
    await tab.is("open");
    await site.sessions(1, "sse");
    await site.push(1);
    await tab.got(1);
    await site.gateway.kill();
    await tab.is("waiting");
    await site.startGateway();
    await site.push(2);
    await tab.got(1, 2);
    await tab.noGaps();
  });

  test("behind a proxy that compresses, server-sent events come at once", async (context) => {
    const site = await Site.start(context, DURABLE);
    const url = await site.behindExpress();
    const { headers } = await fetch(`${url.replace("ws", "http").replace(/ws$/, "compressed")}`);
    assert.equal(headers.get("content-encoding"), "gzip");
    const tabs = await site.openAll({ url }, OVER_SSE);
    await tabs.is("open");
    await site.push(1);
    await tabs.got(1);
  });

  test("a React component that comes again goes on from its store", async (context) => {
    const site = await Site.start(context, DURABLE);
    const resolveDir = new URL("..", import.meta.url).pathname;
    const { outputFiles } = await build({ stdin: { contents: APP, resolveDir }, bundle: true, format: "esm", write: false });
    site.files["/app.js"] = outputFiles[0].text;
    site.files["/app?"] = '<!doctype html><script type="module" src="/app.js"></script>';
    const page = await site.window.newPage();
    await page.goto(`${site.origin}/app?url=${site.url}`);
    const told = () => page.evaluate(() => told);
    const got = (...data) => until(`events ${data}`, async () => `${(await told()).events}` === `${data}`);
    const show = async (isShown) => {
      await page.evaluate((is) => show(is), isShown);
      if (isShown) await page.locator("output", { hasText: "open" }).waitFor();
      // Strict mode mounts twice; of each component one session is left.
      await site.sessions(isShown ? 1 : 0);
    };
    await show(true);
    await site.push(1);
    await got(1);
    await show(false);
    await site.push(2);
    await show(true);
    await got(1, 2);
    assert.deepEqual((await told()).gaps, []);
  });
});
