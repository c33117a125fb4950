// Real browsers, driven by playwright-core. tests/servers.sh brings them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { modules, Program, server } from "./process.mjs";

const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];

/** A browser whose pages are all visible, and never slowed down. */
export const launch = () =>
  modules("playwright-core").chromium.launch({ executablePath: server("chromium"), args: ARGUMENTS });

/**
 * The tabs of one window, as a person has them: all but the one in front are hidden, and the
 * browser may freeze those. It ends with the test.
 */
export async function tabsOfAWindow(context) {
  const profile = mkdtempSync(join(tmpdir(), "usher-browser-"));
  const args = ["--headless", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"];
  const program = new Program(context, server("chromium"), [...ARGUMENTS, ...args]);
  const [address] = await program.prints("its address", (log) => log.match(/ws:\/\/\S+/));
  const browser = await modules("playwright-core").chromium.connectOverCDP(address, { noDefaults: true });
  // After its end, since its own processes write until the last of them has noticed.
  context.after(() => rmSync(profile, { recursive: true, force: true, maxRetries: 20 }));
  return browser.contexts()[0];
}

/** The tabs of a Firefox. It ends with the test. */
export async function tabsOfFirefox(context) {
  const { firefox } = modules("playwright-core");
  const browser = await firefox.launch({ channel: "moz-firefox", executablePath: server("firefox-esr") });
  context.after(() => browser.close());
  return browser.newContext();
}
