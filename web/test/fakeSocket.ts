import type { Frame, OpenSocket, Socket } from "../src/protocol/link";

/** A socket whose other end is the test. */
export class FakeSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: Frame[] = [];
  closedWith: number | undefined;

  constructor(readonly url: string) {}

  send(data: string): void {
    this.sent.push(JSON.parse(data) as Frame);
  }

  close(code?: number): void {
    this.closedWith = code;
  }

  /** The server sends a frame. */
  say(frame: Partial<Frame>): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** The connection ends from the other side. */
  end(code: number): void {
    this.onclose?.({ code, reason: "" });
  }

  /** Frames of one opcode that were sent. */
  of(op: number): unknown[] {
    return this.sent.filter((frame) => frame.op === op).map((frame) => frame.d);
  }
}

export function fakeSockets(): { open: OpenSocket; all: FakeSocket[]; last: () => FakeSocket } {
  const all: FakeSocket[] = [];
  return {
    all,
    open: (url) => {
      const socket = new FakeSocket(url);
      all.push(socket);
      return socket;
    },
    last: () => {
      const socket = all.at(-1);
      if (!socket) throw new Error("no socket was opened");
      return socket;
    },
  };
}
