import type { Actions } from "./client.js";
import { covers } from "./covers.js";
import type { Frame } from "./frames.js";
import type { Inbox } from "./inbox.js";
import { keepLink, type Link } from "./link.js";
import { failure, keepRequests } from "./requests.js";
import { isTopic } from "./topics.js";
import type { Options, State, StateChange } from "./types.js";
import { onWake } from "./wake.js";
import { keepWishes } from "./wishes.js";

/** What tabs say to each other. Those with `holder` come from the tab that holds the session. */
interface Message {
  holder?: number;
  state?: StateChange;
  frame?: Frame;
  sent?: string;
  /** The answer to `ask`: what the session is. */
  status?: Status;
  /** The answer to `call`. */
  answer?: Frame;
  /** Whose answer it is. */
  to?: string;
  tab?: string;
  ask?: "wake" | "there";
  call?: { id: string; name: string; data: unknown };
  wishes?: string[];
  /** A topic that no tab may want any more. */
  left?: string;
  bye?: true;
}

interface Status {
  state: StateChange;
  position: string;
  welcome?: NonNullable<Frame["welcome"]>;
  /** The topics that tabs added to those of the ticket. */
  added?: string[];
}

const PATIENCE = 2000; // ms for the holder's answer
const FAREWELL = 1000; // ms for the others to hear that the session is over, before one takes the lock
const PING = 25; // s without a frame before a tab asks, until a welcome says how many

/** Takes part in a session that one tab holds: whichever has the lock named `key`. */
export function shareSession(
  options: Options,
  inbox: Inbox,
  locks: LockManager,
  channel: BroadcastChannel,
  key: string,
) {
  const me = `${Math.random()}`;
  const mine = new Set([...(options.topics ?? [])].filter(isTopic));
  const wishes = keepWishes(mine);
  /** Topics that the session did not follow when a tab first named them. The others are the ticket's. */
  const added = new Set<string>();
  /** Topics that no tab wants any more, while another tab holds the session, until the session has left them. */
  const unwanted = new Set<string>();
  let isOver = false;
  let isFrozen = false;
  let stopWaking = () => {};
  let state: State | undefined;
  let welcome: Frame["welcome"]; // of the session, as it is now
  let isJoined = false; // this tab has all frames since some moment
  let holder = 0; // the last that this tab knows; a later one has a higher number
  let held: { id: number; link: Link; release: () => void } | undefined; // this tab is the holder
  let request = 0; // of the lock
  let queued = new AbortController();
  let watch: ReturnType<typeof setTimeout> | undefined;
  let asked: typeof watch;
  let isAlone = false; // the browser forbids Web Locks, so this tab connects by itself

  const post = (message: Message) => void (isAlone || isOver || channel.postMessage(message));
  const postAsHolder = (message: Message) => post({ holder, ...message });
  const requests = keepRequests((call) => {
    // As JSON, as the holder sends it: a BroadcastChannel rejects a Proxy and ignores `toJSON`.
    post({ tab: me, call: JSON.parse(JSON.stringify(call)) });
  });
  const tellWishes = (left?: string) => {
    if (isOver) return;
    post({ tab: me, wishes: [...mine], left });
    if (left !== undefined) leaveTopic(left);
    if (held) followWishes();
  };

  /** Notes a topic that a tab names, before it is a wish. A tab that is new hears from the holder what is added. */
  const noteWish = (topic: string) => {
    unwanted.delete(topic);
    if (!wishes.isWanted(topic) && (held || isJoined) && !inbox.topics().includes(topic)) added.add(topic);
  };

  const leaveTopic = (topic: string) => {
    if (wishes.isWanted(topic)) return;
    added.delete(topic);
    if (held) held.link.actions.unfollow(topic);
    else unwanted.add(topic);
  };

  // Both for the holder and for the others:

  const tellState = (change: StateChange) => {
    if (state === "connecting" && change.state === "connecting") return;
    ({ state } = change);
    if (state !== "open") welcome = undefined;
    inbox.tellState(change);
  };

  const receive = (frame: Frame, sent: string) => {
    let isMissing = false;
    if (frame.welcome) {
      const before = inbox.text();
      // It may have read on in a session of its own before it learnt that another tab holds one.
      if (covers(before, sent)) sent = before;
      if (before !== sent) {
        // This tab goes to where the session goes on. It lacks what is between, if it had anything;
        // where the session itself lacks something, the inbox tells of that.
        inbox.adopt(sent);
        isMissing = before !== "" && (frame.welcome.resume === "complete" || !(isJoined || sent));
      }
      isJoined = true;
      state = "open";
      ({ welcome } = frame);
    }
    if (isJoined) inbox.receive(frame, sent);
    if (frame.following) for (const topic of unwanted) if (!inbox.topics().includes(topic)) unwanted.delete(topic);
    if (isMissing) inbox.tell("gap", { reason: "reconnected" });
  };

  const leave = () => post({ tab: me, bye: true });

  const stopTimers = () => {
    clearTimeout(watch);
    clearTimeout(asked);
    asked = undefined;
  };

  const end = () => {
    isOver = true;
    stopTimers();
    stopWaking();
    for (const event of ["freeze", "resume"]) globalThis.document?.removeEventListener(event, freeze);
    globalThis.removeEventListener?.("pagehide", leave);
    requests.fail();
    queued.abort();
    channel.close();
  };

  // The holder:

  const followWishes = () => {
    for (const topic of wishes.all()) held!.link.actions.follow(topic);
  };

  const hold = () =>
    new Promise<void>((release) => {
      if (isOver || isFrozen) return release();
      stopTimers();
      requests.fail();
      const id = (holder = Math.max(holder + 1, Date.now() + Math.random()));
      const isHeld = () => held?.id === id;
      const link = keepLink(
        { ...options, topics: wishes.all() },
        {
          text: inbox.text,
          topics: inbox.topics,
          tellState(change) {
            if (!isHeld()) return;
            postAsHolder({ state: change });
            tellState(change);
            if (change.state !== "closed") return;
            setTimeout(release, FAREWELL);
            end();
          },
          receive(frame, sent) {
            if (!isHeld() || frame.reply || frame.error) return;
            postAsHolder({ frame, sent });
            receive(frame, sent);
          },
        },
      );
      held = { id, link, release };
      for (const topic of wishes.all()) if (!inbox.topics().includes(topic)) added.add(topic);
      // Its connection does not ask for these.
      for (const topic of unwanted) leaveTopic(topic);
      unwanted.clear();
      link.start();
    });

  /** Another tab has taken the lock, or this one has left. */
  const letGo = () => {
    const { link, release } = held ?? {};
    held = undefined;
    link?.actions.close();
    release?.();
  };

  const serve = ({ tab, ask, call }: Message) => {
    const { actions, wake } = held!.link;
    if (ask) {
      if (ask === "wake") wake();
      const now = welcome && { ...welcome, topics: inbox.topics(), resume: "complete" };
      const status = { state: { state: state! }, position: inbox.text(), welcome: now, added: [...added] };
      postAsHolder({ to: tab, status });
    }
    if (call) {
      const { id, name, data } = call;
      const answer = (frame: Frame) => held && postAsHolder({ to: tab, answer: frame });
      actions.call(name, data).then(
        (result) => answer({ reply: { id, data: result } }),
        ({ code, message }) => answer({ error: { id, code, message } }),
      );
    }
  };

  // The others:

  const queue = (options: LockOptions) => {
    const own = ++request;
    locks
      .request(key, options, hold)
      .catch((error) => {
        if (isOver || error.name === "AbortError") return; // robbed, or not waiting any more
        // Web Locks are forbidden, for example in a sandboxed frame.
        isAlone = true;
        channel.close();
        return hold();
      })
      .then(() => {
        if (own !== request || isOver) return;
        letGo();
        wait();
      });
  };

  const wait = () => {
    queued = new AbortController();
    queue({ signal: queued.signal });
    ask("there");
  };

  const steal = () => {
    asked = undefined;
    request++;
    queued.abort();
    queue({ steal: true });
  };

  const ask = (why: Message["ask"]) => {
    if (held || isOver) return;
    post({ tab: me, ask: why });
    asked ??= setTimeout(steal, PATIENCE);
  };

  /**
   * A frozen tab still hears and answers the others, while no frame of its session reaches it. So
   * it lets another tab hold the session before it freezes, and waits for the lock when it runs again.
   */
  const freeze = ({ type }: Event) => {
    if (isFrozen === (type === "freeze")) return;
    isFrozen = !isFrozen;
    if (!isFrozen) return wait();
    stopTimers();
    request++;
    queued.abort();
    letGo();
  };

  const holderIsThere = () => {
    stopTimers();
    watch = setTimeout(ask, 1000 * (welcome?.ping ?? PING), "there");
  };

  const join = (status: Status) => {
    for (const topic of status.added ?? []) added.add(topic);
    if (state === status.state.state && (state !== "open" || inbox.text() === status.position)) return;
    if (status.welcome) receive({ welcome: status.welcome }, status.position);
    else tellState(status.state);
  };

  const hear = (message: Message, from: number) => {
    if (from !== holder) {
      // The lock has been taken: from another tab, or from this one.
      requests.fail();
      if (held) letGo();
      holder = from;
    }
    if (message.state) {
      tellState(message.state);
      if (state === "closed") return end();
    }
    if (message.frame) receive(message.frame, message.sent!);
    if (message.to === me && message.status) join(message.status);
    if (message.to === me && message.answer) requests.received(message.answer);
    // A handler may have closed this client.
    if (!isOver) holderIsThere();
  };

  const listen = ({ data: message }: MessageEvent<Message>) => {
    const { holder: from, tab, wishes: topics, bye, left } = message;
    if (from !== undefined) {
      // One that stood still while the lock was taken from it may speak late.
      if (from >= holder) hear(message, from);
      return;
    }
    if (topics) {
      // A tab that is new hears what the others want.
      if (!wishes.others.has(tab!)) post({ tab: me, wishes: [...mine] });
      topics.forEach(noteWish);
      wishes.others.set(tab!, topics);
      if (left !== undefined) leaveTopic(left);
      if (held) followWishes();
    }
    if (bye) {
      const topics = wishes.others.get(tab!) ?? [];
      wishes.others.delete(tab!);
      // Other tabs may have a topic of the ticket without naming it.
      for (const topic of topics) if (added.has(topic)) leaveTopic(topic);
    }
    if (held) serve(message);
  };

  const actions: Actions = {
    call(name, data) {
      if (held) return held.link.actions.call(name, data);
      if (isOver || state !== "open") return Promise.reject(failure("not_connected"));
      return requests.send({ name, data });
    },
    follow(topic) {
      if (!isTopic(topic)) return;
      noteWish(topic);
      mine.add(topic);
      tellWishes();
    },
    unfollow(topic) {
      mine.delete(topic);
      tellWishes(topic);
    },
    close() {
      if (isOver) return;
      leave();
      letGo();
      end();
      inbox.tellState({ state: "closed", code: 1000, reason: "closed" });
    },
  };

  return {
    actions,
    /** Whether this tab is told of it: not of topics that only other tabs asked for. */
    isMine: (value: any) => value?.topic === undefined || wishes.isMine(value.topic),
    start() {
      if (isOver) return;
      channel.onmessage = listen;
      globalThis.addEventListener?.("pagehide", leave);
      for (const event of ["freeze", "resume"]) globalThis.document?.addEventListener(event, freeze);
      stopWaking = onWake(() => {
        tellWishes();
        ask("wake");
      });
      tellState({ state: "connecting" });
      tellWishes();
      wait();
    },
  };
}
