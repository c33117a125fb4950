/** Frames from the gateway, as far as this client reads them. */
export interface Frame {
  welcome?: { user: string; ping: number; epoch?: string; seq?: number; at?: number; resume: string; topics?: string[] };
  event?: string;
  topic?: string;
  broadcast?: true;
  seq?: number;
  prev?: number;
  at?: number;
  ping?: Marks;
  live?: Marks;
  gap?: Marks & { reason: string };
  following?: Marks & { id?: string; topics: string[] };
  expiring?: { in: number };
  refreshed?: { id?: string };
  reply?: { id?: string; data?: unknown; base64?: string };
  error?: { id?: string; code: string; message?: string };
  goodbye?: { reason: string; reconnect_after_ms?: number };
}

interface Marks {
  topic?: string;
  broadcast?: true;
  seq?: number;
  prev?: number;
  at?: number;
}
