// Real browsers, driven by playwright-core. tests/servers.sh brings them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kill } from "node:process";
import { family, modules, Program, server } from "./process.mjs";
import { PATIENCE } from "./wait.mjs";

const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];

/** A browser whose pages are all visible, and never slowed down. */
export const launch = () =>
  modules("playwright-core").chromium.launch({ executablePath: server("chromium"), args: ARGUMENTS });

/**
 * The windows of a person. Of the tabs of one, all but the one in front are hidden, and the browser
 * may freeze those. It ends with the test.
 */
export async function tabsOfAWindow(context, ...more) {
  const profile = mkdtempSync(join(tmpdir(), "usher-browser-"));
  const args = ["--headless", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"];
  const program = new Program(context, server("chromium"), [...ARGUMENTS, ...more, ...args]);
  const [address] = await program.prints("its address", (log) => log.match(/ws:\/\/\S+/));
  const browser = await modules("playwright-core").chromium.connectOverCDP(address, { noDefaults: true, timeout: PATIENCE });
  // After its end, since its own processes write until the last of them has noticed.
  context.after(() => rmSync(profile, { recursive: true, force: true, maxRetries: 20 }));
  const [tabs] = browser.contexts();
  tabs.setDefaultTimeout(PATIENCE);
  const devtools = await browser.newBrowserCDPSession();
  return {
    newPage: () => tabs.newPage(),
    async newWindow() {
      const opened = tabs.waitForEvent("page");
      await devtools.send("Target.createTarget", { url: "about:blank", newWindow: true });
      return opened;
    },
    /** While the machine sleeps, nothing of the browser runs, and it hears of nothing. */
    async asleep(action) {
      const all = family(program.child.pid);
      try {
        for (const process of all) kill(process, "SIGSTOP");
        await action();
      } finally {
        for (const process of all) kill(process, "SIGCONT");
      }
    },
  };
}

/** The same, where one process runs all pages of a site: cheaper, but they crash together. */
export const manyWindows = (context) => tabsOfAWindow(context, "--process-per-site");

/** The tabs of a Firefox. It ends with the test. */
export async function tabsOfFirefox(context) {
  const { firefox } = modules("playwright-core");
  const browser = await firefox.launch({ channel: "moz-firefox", executablePath: server("firefox-esr") });
  context.after(() => browser.close());
  const tabs = await browser.newContext();
  tabs.setDefaultTimeout(PATIENCE);
  return { newPage: () => tabs.newPage(), newWindow: () => tabs.newPage() };
}
