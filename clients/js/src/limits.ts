/** ms: for a ticket, for a handshake; between attempts; of the session after which they begin anew. */
export const LONG = 30_000;
export const PATIENCE = 2000; // ms for the answer to a ping
export const SOCKETS = 3; // WebSockets that do not open, before server-sent events are tried
export const EVENTS = 600_000; // ms for which a reconnect may begin with server-sent events
export const REFRESH = 6000; // ms between two fresh tickets for a session: the gateway takes one in 5 s
