/** By channel, the sequence up to which a client at this position has everything. */
function parse(text: string) {
  const [epoch, proven, ...rest] = text.split(".");
  const marks = new Map<string, number>();
  for (const part of rest) {
    const [, channel, seq] = /^([ub]|t.+=)(\d+)$/.exec(part) ?? [];
    if (channel) marks.set(channel, +seq!);
  }
  return { epoch, proven: +proven!, marks };
}

/** Whether a client at the position `one` has all that a client at `other` has. */
export function covers(one: string, other: string): boolean {
  const [had, wanted] = [parse(one), parse(other)];
  const hasMark = ([channel, seq]: [string, number]) => Math.max(had.proven, had.marks.get(channel) ?? 0) >= seq;
  return had.epoch === wanted.epoch && had.proven >= wanted.proven && [...wanted.marks].every(hasMark);
}
