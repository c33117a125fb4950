/** What each tab wants to follow. All tabs know it of all, since each may come to hold the session. */
export function keepWishes(mine: Set<string>) {
  const others = new Map<string, string[]>();
  const wantedByOthers = (topic: string) => [...others.values()].some((topics) => topics.includes(topic));

  return {
    others,
    all: () => new Set([...mine, ...[...others.values()].flat()]),
    isWanted: (topic: string) => mine.has(topic) || wantedByOthers(topic),
    /** Whether a topic's events are for this tab: not those that only another asked for. */
    isMine: (topic: string) => mine.has(topic) || !wantedByOthers(topic),
  };
}
