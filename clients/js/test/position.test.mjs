// The five rules of a position, by frames alone.

import assert from "node:assert/strict";
import test from "node:test";
import { DUPLICATE, HOLE, keepPosition } from "../dist/position.js";

/** A position, and what to say to it. The time of a sequence is 1000 above it. */
function at() {
  const position = keepPosition();
  const time = (seq) => seq && 1000 + seq;
  return {
    ...position,
    welcome: (seq, resume, more) =>
      position.take({ welcome: { user: "42", epoch: "k3f9", seq, at: time(seq), resume, ...more } }),
    event: (seq, prev, more) => position.take({ event: "e", seq, prev, at: time(seq), ...more }),
    gap: (seq, prev, more) => position.take({ gap: { reason: "too_large", seq, prev, at: time(seq), ...more } }),
    following: (seq, ...topics) => position.take({ following: { topics, seq, at: time(seq) } }),
    live: (seq) => position.take({ live: { seq, at: time(seq) } }),
    ping: (seq) => position.take({ ping: seq ? { seq, at: time(seq) } : {} }),
    is: (text) => assert.equal(position.text(), text),
  };
}

test("rule 1: a welcome begins a position, and only complete keeps one", () => {
  const one = at();
  one.is("");
  one.welcome(120, "none");
  one.is("k3f9.120.120.1120");
  one.event(127, 90);
  one.is("k3f9.120.127.1127.u127");
  one.welcome(130, "complete");
  one.is("k3f9.120.130.1130.u127");
  one.welcome(140, "gap");
  one.is("k3f9.0.140.1140");
  one.welcome(0, "gap", { epoch: "new1" });
  one.is("new1.0.0.0");
  one.welcome(7, "none");
  one.is("k3f9.7.7.1007");
  one.take({ welcome: { user: "42", resume: "gap" } }); // a gateway in live mode
  one.is("");
});

test("rule 2: each channel has a mark", () => {
  const one = at();
  one.welcome(120, "none");
  for (const seen of [one.event(121, 0), one.event(122, 0, { broadcast: true }), one.event(123, 0, { topic: "news" }), one.event(124, 121)]) {
    assert.equal(seen, undefined);
  }
  one.is("k3f9.120.124.1124.u124.b122.tnews=123");
});

test("rule 2: a topic's name is escaped as in a subject", () => {
  const one = at();
  one.welcome(1, "none");
  one.event(2, 0, { topic: "room.7 (ü)!*'~_-" });
  one.is("k3f9.1.2.1002.troom%2E7%20%28%C3%BC%29%21%2A%27%7E_-=2");
});

test("rule 2: a gap with a sequence stands for an event, and others move no mark", () => {
  const one = at();
  one.welcome(120, "none");
  one.gap(121, 0);
  one.gap(122, 0, { broadcast: true });
  one.gap(123, 0, { topic: "news" });
  one.is("k3f9.120.123.1123.u121.b122.tnews=123");
  assert.equal(one.gap(121, 0), DUPLICATE);
  assert.equal(one.event(124, 121), undefined);
  assert.equal(one.gap(130, 129), HOLE);
  const before = one.text();
  for (const reason of ["bus_lost", "retention", "replay", "a_later_one"]) one.take({ gap: { reason } });
  one.is(before);
});

test("rule 3: a topic has a mark from when it is followed until it is left", () => {
  const one = at();
  one.welcome(120, "none", { topics: ["news"] });
  one.following(130, "news", "room-7");
  one.is("k3f9.120.130.1130.troom-7=130");
  assert.equal(one.event(129, 0, { topic: "room-7" }), DUPLICATE); // nothing is owed from before
  assert.equal(one.event(131, 0, { topic: "news" }), undefined);
  one.following(132, "news", "room-7"); // neither is new
  one.is("k3f9.120.132.1132.troom-7=130.tnews=131");
  one.following(133, "room-7");
  one.is("k3f9.120.133.1133.troom-7=130");
  assert.deepEqual(one.topics(), ["room-7"]);
  one.ping(134);
  one.following(134, "room-7", "more"); // a mark lies above what is proven
  one.is("k3f9.134.134.1134");
});

test("rule 4: live and ping prove, and marks that are not above go", () => {
  const one = at();
  one.welcome(120, "none");
  one.event(125, 0);
  one.event(131, 0, { broadcast: true });
  one.live(124);
  one.is("k3f9.124.131.1131.u125.b131");
  one.ping(125);
  one.is("k3f9.125.131.1131.b131");
  one.ping();
  one.ping(123); // proofs only go up
  one.is("k3f9.125.131.1131.b131");
  one.live(140);
  one.is("k3f9.140.140.1140");
});

test("rule 5: TOP and AT are those of the largest sequence of any frame", () => {
  const one = at();
  one.welcome(0, "none");
  one.is("k3f9.0.0.0");
  one.event(9, 0);
  one.event(8, 0, { broadcast: true });
  one.ping(7);
  one.is("k3f9.7.9.1009.u9.b8");
  assert.equal(one.event(9, 0, { at: 5 }), DUPLICATE); // changes nothing
  one.is("k3f9.7.9.1009.u9.b8");
  one.welcome(20, "complete");
  one.is("k3f9.7.20.1020.u9.b8");
  one.welcome(3, "gap"); // forgotten, though it was larger
  one.is("k3f9.0.3.1003");
});

test("what one channel has hides nothing of another", () => {
  const one = at();
  one.welcome(120, "none");
  one.event(121, 0);
  // 122, the user's, is lost on its way; then a broadcast comes.
  one.event(123, 0, { broadcast: true });
  one.is("k3f9.120.123.1123.u121.b123");
  one.welcome(123, "complete");
  assert.equal(one.event(122, 0), undefined);
  assert.equal(one.event(121, 0), DUPLICATE);
  assert.equal(one.event(123, 0, { broadcast: true }), DUPLICATE);
  one.live(123);
  one.is("k3f9.123.123.1123");
});

test("after a gap everything counts anew, whatever came before", () => {
  const one = at();
  one.welcome(120, "none");
  one.event(150, 0);
  one.welcome(130, "gap", { epoch: "new1" });
  assert.equal(one.event(100, 0), undefined);
  assert.equal(one.event(125, 100), undefined);
  one.live(130);
  one.is("new1.130.130.1130");
});

test("an event whose prev is not here comes after a hole", () => {
  const one = at();
  one.welcome(120, "none");
  assert.equal(one.event(125, 120), undefined); // proven by welcome
  assert.equal(one.event(130, 125), undefined);
  assert.equal(one.event(140, 135), HOLE);
  assert.equal(one.event(141, 139, { broadcast: true }), HOLE);
  assert.equal(one.event(142, 140), undefined); // told once
});

test("a stored position goes on, whole until it is answered", () => {
  const one = at();
  const since = "k3f9.120.152.1152.u150.troom%2E7=151.x199.b152";
  one.adopt(since);
  one.is(since);
  one.welcome(160, "complete");
  one.is("k3f9.120.160.1160.u150.troom%2E7=151.b152");
  assert.equal(one.event(150, 0), DUPLICATE);
  assert.equal(one.event(151, 0, { topic: "room.7" }), DUPLICATE);
  assert.equal(one.event(152, 0, { broadcast: true }), DUPLICATE);
  assert.equal(one.event(155, 0), undefined);
});

test("the largest sequence that was stored counts, also above welcome's", () => {
  const one = at();
  one.adopt("k3f9.120.170.1170.u170");
  one.welcome(160, "complete");
  one.is("k3f9.120.170.1170.u170");
});

test("from the beginning, and the older form, are positions too", () => {
  const one = at();
  one.adopt("0");
  one.is("0");
  one.welcome(3, "complete");
  one.event(1, 0);
  one.is("k3f9.0.3.1003.u1");
  const other = at();
  other.adopt("k3f9.121");
  other.is("k3f9.121");
  other.welcome(130, "gap");
  other.is("k3f9.0.130.1130");
});

test("a long position leaves marks out", () => {
  const one = at();
  one.welcome(1, "none");
  for (let number = 0; number < 400; number += 1) one.event(2 + number, 0, { topic: `a-topic-with-a-long-name-${number}` });
  const { length } = one.text();
  assert.ok(length <= 4096 && length > 4096 - 60, `${length}`);
  one.live(401);
  one.is("k3f9.401.401.1401");
});
