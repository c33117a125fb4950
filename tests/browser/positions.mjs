// How clients/usher.js keeps its position, against the contract's five rules. Run by
// tests/journeys/browser.rs; resume.mjs runs the same client against a real gateway.

import assert from "node:assert/strict";
import test from "node:test";

import { page } from "./page.mjs";

/** `welcome` of durable mode; the time of a sequence is 1000 above it. */
function durable(at, seq, resume, more = {}) {
  at.welcome({ epoch: "k3f9", seq, at: seq && 1000 + seq, resume, ...more });
}

test("rule 1: welcome begins a position, and only complete keeps one", async () => {
  const at = await page();
  durable(at, 120, "none");
  assert.equal(at.stream.position, "k3f9.120.120.1120");
  at.event(127, 90);
  await at.again();
  assert.equal(at.since, "k3f9.120.127.1127.u127");
  durable(at, 130, "complete");
  assert.equal(at.stream.position, "k3f9.120.130.1130.u127");
  await at.again();
  durable(at, 140, "gap");
  assert.equal(at.stream.position, "k3f9.0.140.1140");
  await at.again();
  assert.equal(at.since, "k3f9.0.140.1140");
  durable(at, 0, "gap", { epoch: "new1" });
  assert.equal(at.stream.position, "new1.0.0.0");
  await at.again();
  durable(at, 7, "none");
  assert.equal(at.stream.position, "k3f9.7.7.1007");
  await at.again();
  at.welcome({ resume: "gap" }); // a gateway in live mode
  assert.equal(at.stream.position, undefined);
});

test("rule 2: each channel has a mark", async () => {
  const at = await page();
  durable(at, 120, "none");
  at.event(121, 0);
  at.event(122, 0, { broadcast: true });
  at.event(123, 0, { topic: "news" });
  at.event(124, 121);
  assert.equal(at.stream.position, "k3f9.120.124.1124.u124.b122.tnews=123");
  assert.deepEqual(at.data, [121, 122, 123, 124]);
  assert.deepEqual(at.gaps, []);
});

test("rule 2: a topic's name is escaped as in a subject", async () => {
  const at = await page();
  durable(at, 1, "none");
  at.event(2, 0, { topic: "room.7 (ü)!*'~_-" });
  const mark = "troom%2E7%20%28%C3%BC%29%21%2A%27%7E_-=2";
  assert.equal(at.stream.position, `k3f9.1.2.1002.${mark}`);
  await at.again();
  assert.equal(at.since, `k3f9.1.2.1002.${mark}`);
});

test("rule 2: a gap with a sequence stands for an event", async () => {
  const at = await page();
  durable(at, 120, "none");
  const tooLarge = (seq, prev, more) =>
    at.frame({ gap: { reason: "too_large", seq, prev, at: 1000 + seq, ...more } });
  tooLarge(121, 0);
  tooLarge(122, 0, { broadcast: true });
  tooLarge(123, 0, { topic: "news" });
  assert.equal(at.stream.position, "k3f9.120.123.1123.u121.b122.tnews=123");
  tooLarge(121, 0); // it was here before
  assert.deepEqual(at.gaps, ["too_large", "too_large", "too_large"]);
  at.event(124, 121); // no hole
  assert.equal(at.gaps.length, 3);
  assert.deepEqual(at.data, [124]);
  tooLarge(130, 129);
  assert.deepEqual(at.gaps.slice(3), ["missing", "too_large"]);
});

test("rule 2: other gaps move no mark", async () => {
  const at = await page();
  durable(at, 120, "none");
  const before = at.stream.position;
  for (const reason of ["bus_lost", "retention", "replay", "a_later_one"]) {
    at.frame({ gap: { reason } });
  }
  assert.equal(at.stream.position, before);
  assert.deepEqual(at.gaps, ["bus_lost", "retention", "replay", "a_later_one"]);
});

test("rule 3: a topic has a mark from when it is followed until it is left", async () => {
  const at = await page();
  durable(at, 120, "none", { topics: ["news"] });
  const following = (seq, ...topics) => at.frame({ following: { topics, seq, at: 1000 + seq } });
  following(130, "news", "room-7");
  assert.equal(at.stream.position, "k3f9.120.130.1130.troom-7=130");
  at.event(129, 0, { topic: "room-7" }); // it owes nothing from before
  at.event(131, 0, { topic: "news" });
  assert.deepEqual(at.data, [131]);
  following(132, "news", "room-7"); // neither is new
  assert.equal(at.stream.position, "k3f9.120.132.1132.troom-7=130.tnews=131");
  following(133, "room-7");
  assert.equal(at.stream.position, "k3f9.120.133.1133.troom-7=130");
  at.frame({ ping: { seq: 134, at: 1134 } });
  following(134, "room-7", "more"); // a mark lies above what is proven
  assert.equal(at.stream.position, "k3f9.134.134.1134");
});

test("rule 4: live and ping prove, and marks that are not above go", async () => {
  const at = await page();
  durable(at, 120, "none");
  at.event(125, 0);
  at.event(131, 0, { broadcast: true });
  at.frame({ live: { seq: 124, at: 1124 } });
  assert.equal(at.stream.position, "k3f9.124.131.1131.u125.b131");
  at.frame({ ping: { seq: 125, at: 1125 } });
  assert.equal(at.stream.position, "k3f9.125.131.1131.b131");
  at.frame({ ping: {} });
  at.frame({ ping: { seq: 123, at: 1123 } }); // proofs only go up
  assert.equal(at.stream.position, "k3f9.125.131.1131.b131");
  at.frame({ live: { seq: 140, at: 1140 } });
  assert.equal(at.stream.position, "k3f9.140.140.1140");
});

test("rule 5: TOP and AT are those of the largest sequence of any frame", async () => {
  const at = await page();
  durable(at, 0, "none");
  assert.equal(at.stream.position, "k3f9.0.0.0");
  at.event(9, 0);
  at.event(8, 0, { broadcast: true });
  at.frame({ ping: { seq: 7, at: 1007 } });
  assert.equal(at.stream.position, "k3f9.7.9.1009.u9.b8");
  at.event(9, 0, { at: 5 }); // a duplicate changes nothing
  assert.equal(at.stream.position, "k3f9.7.9.1009.u9.b8");
  await at.again();
  durable(at, 20, "complete");
  assert.equal(at.stream.position, "k3f9.7.20.1020.u9.b8");
  await at.again();
  durable(at, 3, "gap"); // forgotten, though it was larger
  assert.equal(at.stream.position, "k3f9.0.3.1003");
});

test("two chains: what one channel has hides nothing of another", async () => {
  const at = await page();
  durable(at, 120, "none");
  at.event(121, 0);
  // 122, the user's, is lost on its way; then a broadcast comes.
  at.event(123, 0, { broadcast: true });
  await at.again();
  assert.equal(at.since, "k3f9.120.123.1123.u121.b123");
  durable(at, 123, "complete");
  at.event(122, 0);
  at.frame({ live: { seq: 123, at: 1123 } });
  assert.deepEqual(at.data, [121, 123, 122]);
  assert.deepEqual(at.gaps, []);
  assert.equal(at.stream.position, "k3f9.123.123.1123");
});

test("a duplicate is not above what is proven or the channel's mark", async () => {
  const at = await page();
  durable(at, 120, "none");
  at.event(121, 0);
  at.event(121, 0);
  at.event(120, 0, { broadcast: true }); // proven by welcome
  at.event(122, 0, { broadcast: true });
  at.event(122, 0, { broadcast: true });
  at.frame({ live: { seq: 130, at: 1130 } });
  at.event(130, 0);
  at.event(125, 0, { broadcast: true });
  at.event(131, 0);
  assert.deepEqual(at.data, [121, 122, 131]);
  assert.deepEqual(at.gaps, []);
});

test("complete keeps the marks, so what came before is a duplicate", async () => {
  const at = await page();
  durable(at, 120, "none");
  at.event(125, 0);
  at.event(126, 0, { broadcast: true });
  await at.again();
  durable(at, 130, "complete");
  at.event(125, 0);
  at.event(126, 0, { broadcast: true });
  at.event(127, 0);
  await at.again(); // before live
  assert.equal(at.since, "k3f9.120.130.1130.u127.b126");
  assert.deepEqual(at.data, [125, 126, 127]);
});

test("after a gap everything counts anew, whatever came before", async () => {
  const at = await page();
  durable(at, 120, "none");
  at.event(150, 0);
  await at.again();
  durable(at, 130, "gap", { epoch: "new1" });
  at.event(100, 0);
  at.event(125, 100);
  at.frame({ live: { seq: 130, at: 1130 } });
  assert.deepEqual(at.data, [150, 100, 125]);
  assert.deepEqual(at.gaps, ["reconnected"]);
  assert.equal(at.stream.position, "new1.130.130.1130");
});

test("an event whose prev this client does not have comes after a hole", async () => {
  const at = await page();
  durable(at, 120, "none");
  at.event(125, 120); // proven by welcome
  at.event(130, 125);
  at.event(131, 0, { broadcast: true });
  assert.deepEqual(at.gaps, []);
  at.event(140, 135);
  assert.deepEqual(at.said.slice(-2), [
    ["gap", "missing"],
    ["event", { event: "e", seq: 140, prev: 135, at: 1140, data: 140 }],
  ]);
  at.event(141, 139, { broadcast: true });
  assert.deepEqual(at.gaps, ["missing", "missing"]);
  at.event(142, 140); // told once
  assert.equal(at.gaps.length, 2);
});

test("a position that the page stored goes on", async () => {
  const since = "k3f9.120.152.1152.u150.troom%2E7=151.x199.b152";
  const at = await page({ since });
  assert.equal(at.since, since);
  assert.equal(at.stream.position, since);
  await at.again(); // not answered yet
  assert.equal(at.since, since);
  durable(at, 160, "complete");
  assert.equal(at.stream.position, "k3f9.120.160.1160.u150.troom%2E7=151.b152");
  at.event(150, 0);
  at.event(151, 0, { topic: "room.7" });
  at.event(152, 0, { broadcast: true });
  assert.deepEqual(at.data, []);
  at.event(155, 0);
  assert.deepEqual(at.data, [155]);
  assert.deepEqual(at.gaps, []);
});

test("a stored position that is not answered complete is a gap", async () => {
  for (const since of ["k3f9.121", "0", "k3f9.120.152.1152.u152"]) {
    const at = await page({ since });
    assert.equal(at.since, since);
    durable(at, 130, "gap");
    assert.deepEqual(at.gaps, ["reconnected"], since);
    assert.equal(at.stream.position, "k3f9.0.130.1130", since);
    at.event(121, 0);
    assert.deepEqual(at.data, [121], since);
  }
});

test("from the beginning is a position too", async () => {
  const at = await page({ since: "0" });
  durable(at, 3, "complete");
  assert.deepEqual(at.gaps, []);
  at.event(1, 0);
  await at.again(); // before live
  assert.equal(at.since, "k3f9.0.3.1003.u1");
});

test("a long position leaves marks out", async () => {
  const at = await page();
  durable(at, 1, "none");
  for (let number = 0; number < 400; number += 1) {
    at.event(2 + number, 0, { topic: `a-topic-with-a-long-name-${number}` });
  }
  const { position } = at.stream;
  assert.ok(position.length <= 4096 && position.length > 4096 - 60, `${position.length}`);
  at.frame({ live: { seq: 401, at: 1401 } });
  assert.equal(at.stream.position, "k3f9.401.401.1401");
});

/** What sessionStorage is. */
function storage(items = new Map()) {
  return { items, getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
}

test("a store keeps the position over a reload", async () => {
  const store = storage();
  const before = await page({ store });
  durable(before, 120, "none");
  before.event(121, 0);
  before.stream.close();
  const position = "k3f9.120.121.1121.u121";
  assert.deepEqual([...store.items], [["usher:wss://app.example.com/ws", JSON.stringify({ user: "42", position })]]);
  const after = await page({ store });
  assert.equal(after.since, position);
  assert.equal(after.stream.position, position);
  durable(after, 121, "complete");
  after.event(121, 0);
  after.event(122, 121);
  assert.deepEqual(after.data, [122]);
  assert.deepEqual(after.gaps, []);
});

test("another user forgets a position, and is told a gap", async () => {
  const store = storage();
  const before = await page({ store });
  durable(before, 120, "none");
  before.event(121, 0);
  before.stream.close();
  const after = await page({ store });
  durable(after, 130, "complete", { user: "43" });
  assert.deepEqual(after.gaps, ["reconnected"]);
  assert.equal(after.stream.position, "k3f9.0.130.1130");
  after.event(121, 0); // another message than the other user's
  assert.deepEqual(after.data, [121]);
  await after.again();
  durable(after, 140, "complete", { user: "44" });
  assert.deepEqual(after.gaps, ["reconnected", "reconnected"]);
  const [stored] = store.items.values();
  assert.deepEqual(JSON.parse(stored), { user: "44", position: "k3f9.0.140.1140" });
});

test("a store that fails, or holds nonsense, hinders nothing", async () => {
  const fails = () => {
    throw new Error("the store is full");
  };
  for (const getItem of [fails, () => "no JSON", () => "null", () => '{"position":"\u00fc"}', () => '{"position":7}']) {
    const at = await page({ store: { getItem, setItem: fails } });
    assert.equal(at.since, null, "the gateway would refuse it each time");
    durable(at, 120, "none");
    at.event(121, 0);
    assert.deepEqual([at.data, at.gaps, at.stream.position], [[121], [], "k3f9.120.121.1121.u121"]);
  }
});

test("a position of the page goes before a stored one, and live mode stores none", async () => {
  const store = storage();
  const before = await page({ store });
  durable(before, 120, "none");
  before.stream.close();
  const after = await page({ store, since: "k3f9.100" });
  assert.equal(after.since, "k3f9.100");
  after.welcome({ resume: "gap" }); // a gateway in live mode
  after.stream.close();
  assert.equal((await page({ store })).since, null);
});
