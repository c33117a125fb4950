// Tabs of a real browser that share one session of a real gateway, in durable mode: whatever
// happens to the tab that holds it, each of the others gets each message once.

import assert from "node:assert/strict";
import test, { suite } from "node:test";
import { setInterval, setTimeout as pause } from "node:timers/promises";
import { DURABLE, Site } from "./support/site.mjs";
import { LONG } from "./support/tab.mjs";
import { until } from "./support/wait.mjs";

/** Some tabs that share a session; the first holds it. */
async function shared(context, count, { settings = DURABLE, cut = false } = {}) {
  const site = await Site.start(context, settings);
  const cable = cut && (await site.cable());
  const tabs = [];
  for (let index = 0; index < count; index += 1) {
    tabs.push(await site.open({ module: "/dist/tabs.js", ...(cable && { url: cable.url }) }));
    await tabs.at(-1).is("open");
  }
  await site.sessions(1);
  await holds(tabs[0]);
  return { site, tabs, cable };
}

/** Which tab holds the session shows by who asked for a ticket. */
const holds = (tab, tickets = 1) => until("it holds the session", async () => (await tab.told()).secrets === tickets);

/** Pushes numbers, one after the other, while something happens. Returns all of them. */
async function whilePushing(site, numbers, action) {
  const over = new AbortController();
  const pushing = (async () => {
    // About fifty a second.
    for await (const _ of setInterval(20, undefined, over)) await site.push(numbers.push(numbers.length));
  })().catch((error) => assert.equal(error.name, "AbortError"));
  await action().finally(() => over.abort());
  await pushing;
}

async function gotAll(tabs, numbers) {
  for (const tab of tabs) {
    await tab.got(...numbers.map((number) => number + 1));
    await tab.noGaps();
  }
}

/** How the tab that holds the session goes away, and whether it comes back. */
const ENDS = {
  "is closed": (tab) => tab.page.close(),
  "is closed by its page": (tab) => tab.page.evaluate(() => client.close()),
  "loads anew": (tab) => tab.load(),
  "crashes": (tab) => tab.crash(),
  "is frozen": (tab) => tab.freeze(),
};

suite("tabs that share a session", { concurrency: 3 }, () => {
  for (const count of [2, 5]) {
    for (const [what, end] of Object.entries(ENDS)) {
      test(`${count} tabs: the one that holds it ${what}`, async (context) => {
        const { site, tabs } = await shared(context, count);
        const [holder, ...others] = tabs;
        const numbers = [];
        await whilePushing(site, numbers, async () => {
          await gotSome(others);
          await end(holder);
          await until("another holds it", async () => (await tickets(others)) === 1);
          await gotSome(others);
          if (what === "is frozen" && count === 2) await pause(LONG);
        });
        await gotAll(others, numbers);
        if (what === "loads anew") await holder.is("open");
        if (what === "is frozen") {
          await holder.thaw();
          await gotAll([holder], numbers);
          assert.equal(await tickets(others), 1);
        }
        await site.sessions(1);
      });
    }
  }

  test("a machine that slept: the tab in front has the one that holds the session look after it", async (context) => {
    const settings = { ...DURABLE, "session.ping_interval": "5m", "session.idle_timeout": "11m" };
    const { site, tabs, cable } = await shared(context, 2, { settings, cut: true });
    await site.push(1);
    for (const tab of tabs) await tab.got(1);
    await site.window.asleep(async () => {
      cable.cut();
      await site.post("disconnect", { user_id: "42", reconnect: true });
      await site.push(2);
      await pause(LONG);
      cable.renew();
    });
    await gotAll(tabs, [0, 1]);
    await site.sessions(1);
  });
});

/** How many tickets these have asked for. */
async function tickets(tabs) {
  const told = await Promise.all(tabs.map((tab) => tab.told()));
  return told.reduce((sum, { secrets }) => sum + secrets, 0);
}

/** Waits until each of these has one message more. */
async function gotSome(tabs) {
  for (const tab of tabs) {
    const before = (await tab.told()).events.length;
    await until("a message", async () => (await tab.told()).events.length > before);
  }
}
