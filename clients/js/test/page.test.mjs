// A page in a real browser, against a real gateway: what happens to people.

import assert from "node:assert/strict";
import test, { suite } from "node:test";
import { build } from "esbuild";
import { DURABLE, Site, TOKENS } from "./support/site.mjs";
import { until } from "./support/wait.mjs";

const transports = ["websocket", "sse"];

/** What a page was told of states, in their order. */
const statesOf = async (tab) => (await tab.told()).states.map(({ state, code }) => (code ? `${state} ${code}` : state));

async function noGaps(...tabs) {
  for (const tab of tabs) assert.deepEqual((await tab.told()).gaps, []);
}

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
suite("a page", { concurrency: 3 }, () => {
  for (const transport of transports) {
    test(`${transport}: a page that loads anew goes on from its store`, async (context) => {
      const site = await Site.start(context, DURABLE);
      const tab = await site.open({ transport, store: "sessionStorage" });
      await tab.is("open");
      await site.push(1);
      await tab.got(1);
      await tab.page.goto(`${site.origin}/elsewhere`);
      await site.push(2);
      await tab.load();
      await tab.got(2);
      await noGaps(tab);
      // Here nothing waits for the session to end.
      await Promise.all([tab.load(), site.push(3)]);
      await tab.is("open");
      await site.push(4);
      await until("the last one", async () => (await tab.told()).events.at(-1) === 4);
      // The page before may have had the third.
      assert.match(JSON.stringify((await tab.told()).events), /^\[(3,)?4\]$/);
      await noGaps(tab);
    });

    test(`${transport}: a page that the browser kept aside goes on`, async (context) => {
      const site = await Site.start(context, DURABLE);
      const tab = await site.open({ transport });
      await tab.is("open");
      await site.push(1);
      await tab.got(1);
      await tab.page.goto(`${site.origin}/elsewhere`);
      await site.push(2);
      await tab.page.evaluate(() => void setTimeout(() => history.back()));
      await until("it is back", () => tab.page.evaluate(() => "told" in globalThis).catch(() => false));
      await tab.got(1, 2);
      await noGaps(tab);
    });

    test(`${transport}: durable mode, a network that was cut costs nothing`, async (context) => {
      const site = await Site.start(context, { ...DURABLE, "session.ping_interval": "2s" });
      const cable = await site.cable();
      const tab = await site.open({ transport, url: cable.url });
      await tab.is("open");
      await site.push(1);
      await tab.got(1);
      cable.cut();
      await tab.network({ offline: true });
      await site.push(2);
      assert.equal((await tab.is("waiting")).reason, "silent");
      await site.push(3);
      // There is no ticket to be had, so it waits again, and longer.
      await until("attempts without a ticket", async () => (await tab.told()).secrets > 2);
      cable.mend();
      await tab.network();
      await tab.got(1, 2, 3);
      await noGaps(tab);
    });

    test(`${transport}: durable mode, a gateway that is killed, and one that drains, cost nothing`, async (context) => {
      const site = await Site.start(context, { ...DURABLE, "drain.delay": "0s", "drain.window": "1s" });
      const tab = await site.open({ transport });
      await tab.is("open");
      await site.push(1);
      await tab.got(1);
      await site.gateway.kill();
      assert.equal((await tab.is("waiting")).code, 1006);
      await site.startGateway();
      await site.push(2);
      await tab.got(1, 2);

      site.gateway.signal("SIGTERM");
      const { code, reason, retryInMs } = await tab.is("waiting");
      assert.deepEqual([code, reason], [transport === "sse" ? 1006 : 1012, "drain"]);
      assert.ok(retryInMs >= 0);
      await site.gateway.ended;
      await site.startGateway();
      await site.push(3);
      await tab.got(1, 2, 3);
      await noGaps(tab);
    });

    test(`${transport}: live mode, the page is told that it may lack something`, async (context) => {
      const site = await Site.start(context);
      const tab = await site.open({ transport });
      await tab.is("open");
      await site.gateway.kill();
      await tab.is("waiting");
      await site.startGateway();
      await tab.is("open");
      assert.deepEqual((await tab.told()).gaps, ["reconnected"]);
      await site.push(1);
      await tab.got(1);
    });

    test(`${transport}: a session that another replaced stays away`, async (context) => {
      const site = await Site.start(context, { "public.max_sessions_per_user": "1" });
      const first = await site.open({ transport });
      await first.is("open");
      const second = await site.open({ transport });
      await second.is("open");
      const { code, reason } = await first.is("closed");
      assert.deepEqual([code, reason], [4101, "replaced"]);
      await first.page.bringToFront(); // that wakes a client
      await site.push(1);
      await second.got(1);
      for (const tab of [first, second]) assert.equal((await tab.told()).secrets, 1);
    });

    test(`${transport}: when nobody is logged in any more, it ends`, async (context) => {
      const site = await Site.start(context);
      const tab = await site.open({ transport });
      await tab.is("open");
      site.isLoggedOut = true;
      await site.post("disconnect", { user_id: "42", reconnect: true });
      const { code, reason } = await tab.is("closed");
      assert.deepEqual([code, reason], [undefined, "logged out"]);
      assert.equal((await tab.told()).secrets, 2);
    });

    test(`${transport}: a tab that was frozen goes on when it runs again`, async (context) => {
      const site = await Site.start(context, DURABLE);
      const tab = await site.open({ transport });
      await tab.is("open");
      await tab.freeze();
      await site.push(1);
      await tab.thaw();
      await tab.got(1);
      await tab.is("open");
      // The gateway is another one when it wakes.
      await tab.freeze();
      await site.gateway.kill();
      await site.startGateway();
      await site.push(2);
      await tab.thaw();
      await tab.got(1, 2);
      await tab.is("open");
      // Each time it came back within a second.
      for (const { retryInMs = 0 } of (await tab.told()).states) assert.ok(retryInMs <= 1000, `${retryInMs}`);
      // A machine that sleeps has no network either, and its session is over when it wakes.
      await tab.freeze();
      await tab.network({ offline: true });
      await site.push(3);
      await site.post("disconnect", { user_id: "42", reconnect: true });
      await site.sessions(0, transport);
      await site.push(4);
      await tab.network();
      await tab.thaw();
      await tab.got(1, 2, 3, 4);
      await noGaps(tab);
    });

    test(`${transport}: 10,000 messages come in order`, async (context) => {
      const all = { "durable.max_messages_per_channel": "20000", "durable.max_replay": "20000" };
      for (const settings of [{ ...DURABLE, ...all }, {}]) {
        const site = await Site.start(context, settings);
        const tab = await site.open({ transport });
        await tab.is("open");
        await site.publish("usher.user.42", 10_000);
        for (let some = 1000; some <= 10_000; some += 1000) {
          await until(`${some} messages`, async () => (await tab.page.evaluate(() => told.events.length)) >= some);
        }
        assert.equal(await tab.page.evaluate(() => told.events.length), 10_000);
        assert.ok(await tab.page.evaluate(() => told.events.every((data, index) => data === index)));
        await noGaps(tab);
        assert.deepEqual(await statesOf(tab), ["connecting", "open"]);
      }
    });
  }

  test("a slow network makes it late, and nothing else", async (context) => {
    const site = await Site.start(context);
    const tab = await site.open();
    await tab.is("open");
    await tab.network({ latency: 500, throughput: 20_000 });
    const large = "x".repeat(4000);
    for (let index = 0; index < 20; index += 1) await site.push([index, large]);
    await until("all", async () => (await tab.told()).events.length === 20);
    assert.deepEqual((await tab.told()).events.map(([index]) => index), [...Array(20).keys()]);
    assert.deepEqual(await statesOf(tab), ["connecting", "open"]);
  });

  for (const secret of ["getTicket", "getToken"]) {
    test(`${secret}: what opened a session ends, and the session goes on`, async (context) => {
      const site = await Site.start(context, TOKENS);
      site.lives = [8, 600];
      const tab = await site.open({ secret });
      const end = Date.now() + 9000;
      await tab.is("open");
      await until("a fresh one", async () => (await tab.told()).secrets === 2);
      await until("the end of the first", () => Date.now() > end);
      await site.push(1);
      await tab.got(1);
      assert.deepEqual(await statesOf(tab), ["connecting", "open"]);
      await noGaps(tab);
    });

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
    await noGaps(tab);
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
