// Firefox, against a real gateway.

import assert from "node:assert/strict";
import test, { suite } from "node:test";
import { tabsOfFirefox } from "./support/browser.mjs";
import { DURABLE, Site } from "./support/site.mjs";
import { until } from "./support/wait.mjs";

suite("Firefox", { concurrency: 2 }, () => {
  for (const transport of ["websocket", "sse"]) {
    test(`${transport}: it opens, gets pushes, and misses nothing when its gateway is killed or it loads anew`, async (context) => {
      const site = await Site.start(context, DURABLE, tabsOfFirefox);
      const tab = await site.open({ transport, store: "sessionStorage" });
      await tab.is("open");
      await site.push(1);
      await tab.got(1);
      await site.gateway.kill();
      await tab.is("waiting");
      await site.startGateway();
      await site.push(2);
      await tab.got(1, 2);
      assert.deepEqual((await tab.told()).gaps, []);
      await tab.page.goto(`${site.origin}/elsewhere`);
      await site.push(3);
      await tab.load();
      await tab.got(3);
      assert.deepEqual((await tab.told()).gaps, []);
    });
  }

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
      assert.deepEqual((await tab.told()).gaps, []);
    }
    await site.sessions(1);
  });
});
