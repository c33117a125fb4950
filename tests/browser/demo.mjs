// A journey through the demo page in a real browser. Run by tests/journeys/browser.rs:
//
//   node demo.mjs PAGE_URL CHROMIUM SCREENSHOT [durable]
//
// With `durable` it is a shorter one, for a gateway in durable mode.
//
// Prints `please kill` and `please start` where it wants the gateway to be killed and
// started anew, and `ticket T` for each ticket that the page got, so that the gateway's
// log can be searched for them. Ends with 0 where all is well; otherwise it says what is
// not, and leaves a screenshot.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.servers/node/", import.meta.url));
const { chromium } = require("playwright-core");
const [base, executablePath, screenshot, mode] = process.argv.slice(2);

const STEP = 20_000; // ms for anything to show
const ALL = 120_000; // ms for the whole journey

setTimeout(() => {
  console.error(`not done within ${ALL} ms`);
  process.exit(1); // the browser ends with the pipe to it
}, ALL).unref();

/** One of the two users, found as a person or a screen reader finds things. */
class User {
  constructor(page, id) {
    this.region = page.getByRole("region", { name: `User ${id}`, exact: true });
    this.id = this.region.getByLabel("User id");
    this.event = this.region.getByLabel("Event");
    this.data = this.region.getByLabel("Data");
    this.state = this.region.locator(".state");
    this.answer = this.region.locator(".answer");
    this.line = this.region.getByLabel("Room", { exact: true });
    this.typing = this.region.locator(".typing");
    this.told = this.region.locator(".told");
    this.topics = this.region.locator(".follows");
    this.position = this.region.locator(".position");
    this.subject = this.region.locator(".subject");
    this.session = this.region.locator(".session");
    this.frames = this.region.getByRole("log").locator(".frame");
    this.log = this.region.getByRole("log");
  }

  button(name) {
    return this.region.getByRole("button", { name });
  }

  async is(state) {
    await this.state.filter({ hasText: state }).waitFor();
  }

  /** Pushes, and waits for what the page says of it. */
  async push(event, data, answer = "queued to 1 session") {
    await this.event.fill(event);
    await this.data.fill(data);
    await this.button("Push").click();
    await this.answer.filter({ hasText: answer }).waitFor();
  }

  /** Waits for the newest frame to be of an event, and returns what it shows. */
  async newest(event) {
    const newest = this.frames.first();
    await newest.locator(".name").getByText(event, { exact: true }).waitFor();
    return newest.locator("pre").textContent();
  }

  /** Says something in the room, and waits until `hearers` have it on the screen. */
  async say(text, ...hearers) {
    await this.line.fill(text);
    await this.line.press("Enter");
    for (const hearer of hearers) await hearer.frames.first().getByText(`"text": "${text}"`).waitFor();
    await this.region.page().waitForFunction((line) => line.value === "", await this.line.elementHandle());
  }

  async events() {
    return this.frames.locator(".name").allTextContents();
  }
}

/** The topic that both follow, and a call. */
async function room(page, alice, bob) {
  await bob.topics.getByText("demo-room").waitFor();
  await alice.line.pressSequentially("He");
  await bob.typing.getByText("alice is typing…").waitFor();
  assert.equal(await alice.typing.textContent(), "", "nobody is told of oneself");
  await alice.say("Hello", alice, bob);
  assert.equal(await bob.typing.textContent(), "", "she has sent it");
  await bob.region.getByLabel("Follow the room").uncheck();
  await bob.topics.filter({ hasText: "–" }).waitFor();
  await alice.say("Without bob", alice);
  await bob.region.getByLabel("Follow the room").check();
  await bob.topics.getByText("demo-room").waitFor();
  await alice.say("With bob", alice, bob);
  assert.equal(await bob.region.getByText("Without bob").count(), 0);

  await alice.event.fill("news");
  await alice.button("Broadcast").click();
  await alice.answer.getByText("sent to everybody").waitFor();
  for (const user of [alice, bob]) await user.frames.first().getByText("broadcast").waitFor();
  await alice.button("Call demo.echo").click();
  await alice.told.getByText(/^answered \{"from":"alice"\} in \d+ ms$/).waitFor();
}

/** A network that is cut, and a gateway that restarts; what the page says of it. */
async function troubles(page, alice, bob, outage) {
  await bob.button("Cut the network").click();
  await bob.is(/waiting \d+ s/);
  await bob.log.getByText("connection lost: the network is cut").first().waitFor();
  await bob.button("Call demo.echo").click();
  await bob.told.getByText("not_connected").waitFor();
  await alice.say("While bob is away", alice);
  await bob.button("Mend the network").click();
  await bob.is("open");

  const before = await Promise.all([alice, bob].map((user) => user.session.textContent()));
  outage.now = true;
  await page.getByRole("button", { name: "Restart the gateway" }).press("Enter");
  for (const user of [alice, bob]) await user.log.getByText("connection lost: 1012 drain").first().waitFor();
  for (const user of [alice, bob]) await user.is("open");
  outage.now = false;
  const after = await Promise.all([alice, bob].map((user) => user.session.textContent()));
  assert.ok(after.every((session) => !before.includes(session)));
  await alice.say("Again", alice, bob);
}

/** On a phone, a tablet and a desk, by day and by night: `DEMO_PICTURES` names a folder for pictures. */
async function looks(page) {
  const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(axe);
  for (const width of [360, 768, 1280]) {
    await page.setViewportSize({ width, height: 800 });
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wider <= 0, `at ${width} px the page is ${wider} px too wide`);
    for (const colorScheme of ["light", "dark"]) {
      // Without motion, so that no colour is on its way.
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      const { violations, passes } = await page.evaluate(() => axe.run());
      assert.ok(passes.length > 20, "axe looks at the page");
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
      assert.deepEqual(found, [], `at ${width} px, ${colorScheme}`);
      if (!process.env.DEMO_PICTURES) continue;
      await page.screenshot({ path: `${process.env.DEMO_PICTURES}/${width}-${colorScheme}.png`, fullPage: true });
    }
  }
}

async function journey(page, complaints, outage) {
  await page.goto(base);
  const alice = new User(page, "alice");
  const bob = new User(page, "bob");
  await alice.is("open");
  await bob.is("open");
  assert.equal(await alice.subject.textContent(), "usher.user.alice");

  // A push reaches the one it is for, and nobody else.
  await alice.push("order.completed", '{"order":123,"big":12345678901234567890}');
  assert.match(await alice.newest("order.completed"), /^\{\n  "order": 123,\n  "big": 1234567890/);
  await bob.push("chat.message", "Hello Bob");
  assert.equal(await bob.newest("chat.message"), "Hello Bob");
  assert.deepEqual(await alice.events(), ["order.completed"]);
  assert.deepEqual(await bob.events(), ["chat.message"]);

  // Whatever comes is shown as text.
  const ugly = `<img src=x onerror=alert(1)> "quotes' </script><script>alert(2)</script> &amp; ü`;
  await alice.push("ugly.text", ugly);
  assert.equal(await alice.newest("ugly.text"), ugly);
  const json = { [ugly]: [ugly, null, 1.5], pad: "<b>x</b>".repeat(12_800) };
  assert.ok(JSON.stringify(json).length > 100_000);
  await alice.push("ugly.json", JSON.stringify(json));
  assert.equal(await alice.newest("ugly.json"), JSON.stringify(json, null, 2));
  assert.equal(await page.locator("img, b, pre script").count(), 0);
  await alice.push("empty", "");
  await alice.newest("empty");

  // What is refused is said in words.
  await alice.push("usher.mine", "1", "does not begin with usher.");
  await bob.id.fill("");
  await bob.id.press("Enter");
  await bob.region.getByRole("alert").getByText("at least one character").waitFor();
  await bob.id.fill("bob");
  await bob.id.press("Enter");
  await bob.region.getByRole("alert").waitFor({ state: "hidden" });

  await commands(page);
  await room(page, alice, bob);
  await troubles(page, alice, bob, outage);
  await bob.log.getByText("gap: reconnected").first().waitFor();
  assert.equal(await bob.position.textContent(), "– (in durable mode)");
  assert.equal(await bob.region.getByText("While bob is away").count(), 0, "live mode keeps nothing");
  for (const user of [alice, bob]) await user.button("Clear").click();

  // Leaving and coming back, by hand.
  await bob.button("Disconnect").click();
  await bob.is("closed 1000");
  await bob.push("chat.message", "Anybody?", "offline");
  await bob.button("Reconnect").click();
  await bob.is("open");

  // The gateway dies, and comes back at the same address.
  const sessions = await Promise.all([alice, bob].map((user) => user.session.textContent()));
  outage.now = true;
  console.log("please kill");
  await alice.is(/waiting \d+ s/);
  await bob.is(/waiting \d+ s/);
  await alice.push("lost", "1", "the gateway does not answer");
  console.log("please start");
  await alice.is("open");
  await bob.is("open");
  outage.now = false;
  for (const [index, user] of [alice, bob].entries()) {
    assert.notEqual(await user.session.textContent(), sessions[index]);
    await user.log.getByText("gap: reconnected").first().waitFor();
  }
  await alice.push("order.shipped", '{"order":123}');
  assert.equal(await alice.newest("order.shipped"), '{\n  "order": 123\n}');
  await bob.push("chat.message", "Still there");
  assert.equal(await bob.newest("chat.message"), "Still there");
  assert.ok(!(await bob.events()).includes("order.shipped"));

  // Somebody else, with an id that needs escaping.
  await bob.id.fill("bob@example.com");
  await bob.id.press("Enter");
  const other = new User(page, "bob@example.com");
  await other.is("open");
  assert.equal(await other.subject.textContent(), "usher.user.bob%40example%2Ecom");
  assert.deepEqual(await other.events(), []);
  await other.push("hello", "true");
  assert.equal(await other.newest("hello"), "true");

  await looks(page);
  await byKeyboard(page, outage);
  // The browser itself tells of the event that was refused, and of nothing else.
  assert.deepEqual(complaints.map((text) => text.replace(/^.*status of /, "")), [
    "400 (Bad Request)",
  ]);
}

/** All that one does with the page, by keys alone; focus is seen wherever it is. */
async function byKeyboard(page, outage) {
  const carol = new User(page, "carol");
  const focus = async (locator, key = "Tab") => {
    for (let keys = 0; keys < 60; keys += 1) {
      if (await locator.evaluate((element) => element === document.activeElement).catch(() => false)) {
        const outline = await locator.evaluate((element) => getComputedStyle(element).outlineStyle);
        return assert.equal(outline, "solid", `${locator} shows no focus`);
      }
      await page.keyboard.press(key);
    }
    throw new Error(`${locator} is not reached by ${key}`);
  };
  const write = async (locator, text) => {
    await focus(locator);
    await page.keyboard.press("ControlOrMeta+A");
    await page.keyboard.type(text);
  };
  await page.evaluate(() => document.activeElement.blur());
  await write(new User(page, "alice").id, "carol");
  await page.keyboard.press("Enter");
  await carol.is("open");
  await focus(carol.button("Disconnect"));
  await page.keyboard.press("Space");
  await carol.is("closed 1000");
  await page.keyboard.press("Space"); // the focus is on "Reconnect" now
  await carol.is("open");
  for (const [name, state] of [["Cut the network", /waiting \d+ s/], ["Mend the network", "open"]]) {
    await focus(carol.button(name));
    await page.keyboard.press("Enter");
    await carol.is(state);
  }
  await write(carol.event, "by.keys");
  await write(carol.data, "[1]");
  await page.keyboard.press("ControlOrMeta+Enter");
  await carol.newest("by.keys");
  await write(carol.line, "By keys");
  await page.keyboard.press("Enter");
  await carol.frames.first().getByText("By keys").waitFor();
  await focus(carol.region.getByLabel("Follow the room"));
  await page.keyboard.press("Space");
  await carol.topics.filter({ hasText: "–" }).waitFor();
  await focus(carol.button("Call demo.echo"));
  await page.keyboard.press("Enter");
  await carol.told.getByText("answered").waitFor();
  await focus(carol.log);
  await focus(page.getByRole("button", { name: "Restart the gateway" }), "Shift+Tab");
  outage.now = true;
  await page.keyboard.press("Enter");
  for (const user of [carol, new User(page, "bob@example.com")]) {
    await user.log.getByText("connection lost: 1012 drain").first().waitFor();
    await user.is("open");
  }
  outage.now = false;
}

/** Durable mode: the page goes on from its position, and shows each message once. */
async function missesNothing(page, complaints, outage) {
  await page.goto(base);
  const bob = new User(page, "bob");
  await bob.is("open");
  await bob.push("first", "1");
  await bob.newest("first");
  for (const missed of ["second", "third"]) {
    await bob.button("Disconnect").click();
    await bob.is("closed 1000");
    await bob.push(missed, "2", "offline");
    await bob.button("Reconnect").click();
    await bob.is("open");
    await bob.newest(missed);
  }
  assert.deepEqual(await bob.events(), ["third", "second", "first"]);
  assert.equal(await bob.log.getByText("replayed: 1 message").count(), 2);
  assert.equal(await bob.log.getByText("gap").count(), 0);
  // The page is left, and comes back.
  await page.goto("about:blank");
  const body = { user_id: "bob", event: "fourth", data: 4 };
  assert.ok((await page.request.post(`${base}demo/push`, { data: body })).ok());
  await page.goto(base);
  await bob.newest("fourth");
  assert.deepEqual(await bob.events(), ["fourth"]);
  await bob.frames.first().getByText("replayed").waitFor();
  assert.equal(await bob.log.getByText("gap").count(), 0);
  const alice = new User(page, "alice");
  await bob.button("Clear").click();
  await room(page, alice, bob);
  await troubles(page, alice, bob, outage);
  const missed = bob.frames.filter({ hasText: "While bob is away" });
  await missed.getByText("replayed").waitFor();
  assert.equal(await bob.log.getByText("gap").count(), 0);
  assert.match(await bob.position.textContent(), /^[^.]+\.\d+\.\d+\.\d+/);
  // A position is one user's.
  await bob.id.fill("carol");
  await bob.id.press("Enter");
  const carol = new User(page, "carol");
  await carol.is("open");
  await carol.push("hers", "3");
  await carol.newest("hers");
  assert.deepEqual(await carol.events(), ["hers"]);
  assert.deepEqual(complaints, []);
}

/** The command lines for a terminal, as they are copied. */
async function commands(page) {
  const { grpc } = await (await page.request.get(new URL("demo/info", base).href)).json();
  const copied = async (name) => {
    const button = page.getByRole("button", { name: `Copy the ${name} command` });
    await button.click();
    await button.getByText("Copied").waitFor();
    return page.evaluate(() => navigator.clipboard.readText());
  };
  const data = `'{"order":123}'`;
  const push = (user) => `usher push --grpc ${grpc} ${user} ${data}`;
  assert.equal(await copied("usher"), push("alice"));
  const request = `{"user_id":"alice","message":"${btoa('{"order":123}')}","receipt":true}`;
  assert.equal(
    await copied("grpcurl"),
    `grpcurl -plaintext -d '${request}' ${grpc} usher.v1.Notification/PushNotification`,
  );
  await page.getByRole("radio", { name: "bob" }).check();
  assert.equal(await copied("usher"), push("bob"));
  // An embedded gateway has no NATS to publish to.
  await page.getByText(`nats pub usher.user.bob ${data}`).waitFor();
  await page.getByText("an embedded gateway has no NATS").waitFor();
  assert.ok(await page.getByRole("button", { name: "Copy the nats command" }).isDisabled());
}

const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
await context.grantPermissions(["clipboard-read", "clipboard-write"]);
const page = await context.newPage();
page.setDefaultTimeout(STEP);

// Nothing may go wrong unseen, except that connections fail while the gateway is away.
const complaints = [];
const outage = { now: false };
page.on("console", (message) => {
  const text = message.text();
  const expected = outage.now && /ERR_CONNECTION_|WebSocket connection to/.test(text);
  if (["error", "warning"].includes(message.type()) && !expected) complaints.push(text);
});
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("dialog", (dialog) => {
  complaints.push(`a dialog: ${dialog.message()}`);
  dialog.dismiss();
});
page.on("request", (request) => {
  if (!request.url().startsWith(base) && !request.url().startsWith("data:")) {
    complaints.push(`a request to ${request.url()}`);
  }
});
page.on("response", async (response) => {
  if (response.status() !== 201) return;
  const { ticket } = await response.json().catch(() => ({}));
  if (ticket) console.log(`ticket ${ticket}`);
});

try {
  await (mode === "durable" ? missesNothing : journey)(page, complaints, outage);
} catch (error) {
  console.error(error);
  console.error("the page complained of:", complaints);
  await page.screenshot({ path: screenshot, fullPage: true }).catch(() => {});
  console.error(`a screenshot: ${screenshot}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
