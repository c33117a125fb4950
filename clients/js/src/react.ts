"use client";

import { useEffect, useRef, useState } from "react";
import { connect as connectAlone } from "./index.js";
import type { Client, Options, State } from "./types.js";

export type * from "./types.js";

/**
 * A client that lives as long as the component. There is none before the component is mounted.
 *
 * Another `url`, `since`, `store`, `transport` or `WebSocket` makes another client. `topics` are followed as they
 * change, and `getTicket` and `getToken` are those of the last render. `connect` is that of
 * `usher-client`, if not that of `usher-client/tabs`.
 */
export function useUsher(
  options: Options,
  connect: (options: Options) => Client = connectAlone,
): { state: State; client: Client | undefined } {
  const [state, setState] = useState<State>("connecting");
  const [client, setClient] = useState<Client>();
  const latest = useRef(options);
  const { since, store, transport, WebSocket } = options;
  const url = `${options.url}`;
  const isToken = !!options.getToken;
  const wanted = JSON.stringify([...(options.topics ?? [])]);

  useEffect(() => {
    latest.current = options;
  });

  useEffect(() => {
    const { getTicket: _, getToken: __, ...rest } = latest.current;
    const made = connect({
      ...rest,
      ...(isToken ? { getToken: () => latest.current.getToken!() } : { getTicket: () => latest.current.getTicket!() }),
    });
    const off = made.on("state", (change) => setState(change.state));
    setState("connecting");
    setClient(made);
    return () => {
      off();
      made.close();
    };
  }, [url, since, store, transport, WebSocket, isToken, connect]);

  // What the client has been asked to follow.
  const followed = useRef<{ client?: Client; topics: string[] }>({ topics: [] });
  useEffect(() => {
    if (!client) return;
    const topics: string[] = JSON.parse(wanted);
    const before = followed.current.client === client ? followed.current.topics : [];
    followed.current = { client, topics };
    for (const topic of before) if (!topics.includes(topic)) client.unfollow(topic);
    for (const topic of topics) client.follow(topic);
  }, [client, wanted]);

  return { state, client };
}
