// A real browser: Chromium, driven by playwright-core. tests/servers.sh brings both.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const servers = new URL("../../../../.servers/", import.meta.url);

export async function launch() {
  const executablePath = fileURLToPath(new URL("bin/chromium", servers));
  const packages = fileURLToPath(new URL("node/", servers));
  if (!existsSync(executablePath) || !existsSync(`${packages}node_modules/playwright-core`)) {
    throw new Error("there is no Chromium, or no playwright-core: run tests/servers.sh browser");
  }
  const { chromium } = createRequire(packages)("playwright-core");
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  return chromium.launch({ executablePath, args });
}
