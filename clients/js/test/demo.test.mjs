// The demo page serves this package.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { bundle, COMMITTED } from "../scripts/demo.mjs";

test("the demo page's client is this one", async () => {
  const committed = await readFile(COMMITTED, "utf8");
  assert.ok(committed === (await bundle()), 'src/http/demo/client.js is stale: run "npm run demo" in clients/js');
});
