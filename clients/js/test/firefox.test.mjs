// Firefox, against a real gateway.

import assert from "node:assert/strict";
import test, { suite } from "node:test";
import { tabsOfFirefox } from "./support/browser.mjs";
import { DURABLE, Site } from "./support/site.mjs";
import { until } from "./support/wait.mjs";

suite("Firefox", { concurrency: 2 }, () => {
  test("each client opens, gets pushes, and misses nothing when its gateway is killed or it loads anew", async (context) => {
    const site = await Site.start(context, DURABLE, tabsOfFirefox);
    const tabs = await site.openAll({ store: "sessionStorage" });
    await tabs.is("open");
    await site.push(1);
    await tabs.got(1);
    await site.gateway.kill();
    await tabs.is("waiting");
    await site.startGateway();
    await site.push(2);
    await tabs.got(1, 2);
    await tabs.noGaps();
    await tabs.leave();
    await site.push(3);
    await tabs.load();
    await tabs.got(3);
    await tabs.noGaps();
  });

  test("tabs share a session, and another takes over where one is closed", async (context) => {
    const site = await Site.start(context, DURABLE, tabsOfFirefox);
    const tabs = [];
    for (const _ of [1, 2, 3]) tabs.push(await site.open({ module: "/dist/tabs.js" }));
    for (const tab of tabs) await tab.is("open");
    await site.sessions(1);
    await site.push(1);
    for (const tab of tabs) await tab.got(1);
    const secrets = () => Promise.all(tabs.map(async (tab) => (await tab.told()).secrets));
    assert.deepEqual(await secrets(), [1, 0, 0]);
    await tabs.shift().page.close();
    await site.push(2);
    await until("another holds it", async () => (await secrets()).includes(1));
    await site.push(3);
    for (const tab of tabs) {
      await tab.got(1, 2, 3);
      await tab.noGaps();
    }
    await site.sessions(1);
  });
});
