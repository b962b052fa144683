/** The part of a WebSocket that the sessions use; tests put a fake in its place. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type OpenSocket = (url: string) => Socket;

export const openWebSocket: OpenSocket = (url) => new WebSocket(url) as unknown as Socket;

export interface Frame {
  op: number;
  d: unknown;
  s?: number | null;
  t?: string | null;
  seq?: number;
}

/** Closed by us because the server stopped answering heartbeats; never on the wire as a server's code. */
export const CLOSE_ZOMBIE = 4900;

/** Milliseconds to wait before the n-th (from 0) attempt: doubling from 0.4 s to 5 s, half of it random. */
export function backoff(attempt: number, random: () => number): number {
  const ceiling = Math.min(5000, 400 * 2 ** Math.min(attempt, 6));
  return ceiling / 2 + (ceiling / 2) * random();
}

export interface LinkHandlers {
  frame(frame: Frame): void;
  /** Called once, with the server's close code, or CLOSE_ZOMBIE. Not called after close(). */
  closed(code: number, reason: string): void;
}

/** One WebSocket connection with heartbeats: opened once, closed once. Sessions make a new one to reconnect. */
export class Link {
  sentBytes = 0;
  receivedBytes = 0;
  /** Round trip of the last heartbeat in milliseconds, NaN before the first answer. */
  latency = NaN;

  readonly #socket: Socket;
  readonly #handlers: LinkHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #beat: (() => void) | undefined;
  #beatSentAt = 0;
  #awaitingAck = false;
  #done = false;

  constructor(open: OpenSocket, url: string, handlers: LinkHandlers, connectTimeout = 8000) {
    this.#handlers = handlers;
    this.#socket = open(url);
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) => this.#finish(event.code, event.reason);
    this.#timer = setTimeout(() => this.#abandon(), connectTimeout);
  }

  send(op: number, d: unknown): void {
    if (this.#done) return;
    const text = JSON.stringify({ op, d });
    this.sentBytes += text.length;
    this.#socket.send(text);
  }

  /** Starts beating every interval ms; the first comes after a random part of one, so a crowd does not beat in step. */
  startHeartbeat(interval: number, random: () => number, beat: () => void): void {
    clearTimeout(this.#timer);
    this.#beat = beat;
    const tick = () => {
      if (this.#awaitingAck) return this.#abandon();
      this.beatNow();
      this.#timer = setTimeout(tick, interval);
    };
    this.#timer = setTimeout(tick, interval * random());
  }

  beatNow(): void {
    this.#awaitingAck = true;
    this.#beatSentAt = performance.now();
    this.#beat?.();
  }

  acknowledge(): void {
    if (!this.#awaitingAck) return;
    this.#awaitingAck = false;
    this.latency = performance.now() - this.#beatSentAt;
  }

  close(code: number): void {
    if (this.#done) return;
    this.#detach();
    this.#socket.close(code);
  }

  #receive(data: unknown): void {
    if (typeof data !== "string") return;
    this.receivedBytes += data.length;
    let frame: Frame;
    try {
      frame = JSON.parse(data) as Frame;
    } catch {
      return;
    }
    if (typeof frame?.op === "number") this.#handlers.frame(frame);
  }

  #abandon(): void {
    if (this.#done) return;
    // A dead path may keep a WebSocket in "closing" for a minute; its close event is not waited for.
    this.#detach();
    this.#socket.close(CLOSE_ZOMBIE);
    this.#handlers.closed(CLOSE_ZOMBIE, "no answer");
  }

  #finish(code: number, reason: string): void {
    if (this.#done) return;
    this.#detach();
    this.#handlers.closed(code, reason);
  }

  #detach(): void {
    this.#done = true;
    clearTimeout(this.#timer);
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
  }
}
