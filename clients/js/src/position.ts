import type { Frame } from "./frames.js";

/**
 * Keeps the position `EPOCH.PROVEN.TOP.AT` and its marks, by the five rules of docs/clients.md.
 * In live mode the gateway names no epoch, and there is no position.
 */
export interface Position {
  /** What to send as `since`; empty where there is no position. */
  text: () => string;
  /** The topics that are followed, as the gateway last said. */
  topics: () => string[];
  /** Goes on from a stored position. */
  adopt: (text: string) => void;
  /** Takes a frame in. Says whether its event is a duplicate or comes after a hole. */
  take: (frame: Frame) => typeof DUPLICATE | typeof HOLE | undefined;
}

export const DUPLICATE = 1;
export const HOLE = 2;
/** The gateway takes no longer position. */
const LONGEST = 4096;

const hex = (letter: string) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`;
/** A topic's mark. Its name is escaped as in a subject. */
const ofTopic = (topic: string) => `t${encodeURIComponent(topic).replace(/[.!~*'()]/g, hex)}=`;

export function keepPosition(): Position {
  let stored = ""; // until a welcome answers it
  let epoch: string | undefined;
  let topics: string[] = [];
  let proven = 0;
  let top = 0;
  let at = 0;
  // By channel, "u", "b" or "tTOPIC=": the sequence of its last event.
  const marks = new Map<string, number>();

  return {
    text() {
      if (stored || !epoch) return stored;
      let text = `${epoch}.${proven}.${top}.${at}`;
      for (const [channel, seq] of marks) {
        const mark = seq > proven ? `.${channel}${seq}` : "";
        // A mark that is left out lets its messages come again.
        if ((text + mark).length <= LONGEST) text += mark;
      }
      return text;
    },

    topics: () => topics,

    adopt(text) {
      stored = text;
      [proven = 0, top = 0, at = 0] = text.split(".").slice(1, 4).map(Number);
      marks.clear();
      for (const [, channel, seq] of text.matchAll(/\.([ub]|t[^.=]+=)(\d+)/g)) marks.set(channel!, +seq!);
    },

    take(frame) {
      const { event, welcome, following, live, ping, gap } = frame;
      const body = event ? frame : (welcome ?? following ?? live ?? ping ?? gap ?? {});
      const seq = body.seq ?? 0;
      if (welcome) {
        stored = "";
        ({ epoch, topics = [] } = welcome);
        if (welcome.resume !== "complete") { // rule 1
          proven = welcome.resume === "none" ? seq : 0;
          top = at = 0;
          marks.clear();
        }
      }
      if (seq > top) [top, at] = [seq, body.at!]; // rule 5
      if (following) { // rule 3
        const now = following.topics;
        for (const topic of topics) if (!now.includes(topic)) marks.delete(ofTopic(topic));
        for (const topic of now) if (seq && !topics.includes(topic)) marks.set(ofTopic(topic), seq);
        topics = now;
      }
      if ((live ?? ping) && seq > proven) { // rule 4
        proven = seq;
        for (const [channel, mark] of marks) if (mark <= proven) marks.delete(channel);
      }
      if ((event || gap) && seq) { // rule 2: a gap with a sequence stands for an event
        const { topic, broadcast, prev } = body as Frame;
        const channel = topic !== undefined ? ofTopic(topic) : broadcast ? "b" : "u";
        const had = Math.max(proven, marks.get(channel) ?? 0);
        if (seq <= had) return DUPLICATE;
        marks.set(channel, seq);
        if (prev! > had) return HOLE;
      }
    },
  };
}
