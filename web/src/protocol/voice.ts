import { backoff, Link, type Frame, type OpenSocket } from "./link";
import type { Snowflake } from "./payloads";
import type { OfferedCodec } from "./sdp";

const Op = {
  identify: 0,
  selectProtocol: 1,
  ready: 2,
  heartbeat: 3,
  sessionDescription: 4,
  speaking: 5,
  heartbeatAck: 6,
  resume: 7,
  hello: 8,
  resumed: 9,
  clientsConnect: 11,
  clientDisconnect: 13,
} as const;

/** Heartbeats are also the ping that is shown, so they are more frequent than the server asks for. */
const longestHeartbeat = 5000;

export interface VoiceReady {
  ssrc: number;
  ip: string;
  port: number;
}

export interface SessionDescription {
  audio_codec?: string;
  media_session_id?: string;
  sdp: string;
}

/** Bits of `speaking`. */
export const SpeakingFlag = { voice: 1, priority: 1 << 2 } as const;

export interface Speaking {
  /** 0: not any more. */
  speaking: number;
  ssrc: number;
  user_id: Snowflake;
}

/** What a close code asks of the client. */
export type CloseAction =
  /** Open a new WebSocket and resume; media goes on meanwhile. */
  | "resume"
  /** The voice session is gone: ask the gateway for the channel again. */
  | "rejoin"
  /** Taken out of the channel or moved: a new voice server update may follow. */
  | "removed"
  /** Trying again cannot help. */
  | "fatal";

const closeActions: Record<number, CloseAction> = {
  4001: "fatal",
  4002: "fatal",
  4003: "rejoin",
  4004: "rejoin",
  4005: "rejoin",
  4006: "rejoin",
  4009: "rejoin",
  4011: "rejoin",
  4012: "fatal",
  4014: "removed",
  4016: "fatal",
  4017: "fatal",
  4020: "fatal",
  4021: "fatal",
  4022: "removed",
};

export function closeAction(code: number): CloseAction {
  return closeActions[code] ?? "resume";
}

export interface VoiceIdentity {
  guildId: Snowflake;
  channelId: Snowflake;
  userId: Snowflake;
  sessionId: string;
  token: string;
}

export interface VoiceSessionOptions extends VoiceIdentity {
  url: string;
  open: OpenSocket;
  random?: () => number;
  ready(ready: VoiceReady): void;
  described(description: SessionDescription): void;
  speaking(speaking: Speaking): void;
  connected(userIds: Snowflake[]): void;
  disconnected(userId: Snowflake): void;
  /** The WebSocket was cut (false) or is back (true); media is not touched. */
  signalling(up: boolean): void;
  /** The session is over, for any reason but close(). */
  ended(action: Exclude<CloseAction, "resume">, code: number): void;
}

/** One session with a voice server: from identify to its end, over as many WebSockets as resuming takes. */
export class VoiceSession {
  readonly #options: VoiceSessionOptions;
  readonly #random: () => number;
  #link: Link | undefined;
  #identified = false;
  #sequence = -1;
  #attempts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #pastBytes = { sent: 0, received: 0 };

  constructor(options: VoiceSessionOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#open();
  }

  /** The gateway session by which the voice server knows this one. */
  get sessionId(): string {
    return this.#options.sessionId;
  }

  /** Round trip of the last heartbeat in milliseconds, NaN before the first. */
  get latency(): number {
    return this.#link?.latency ?? NaN;
  }

  /** Bytes of signalling in each direction so far, WebSocket framing apart. */
  get bytes(): { sent: number; received: number } {
    return {
      sent: this.#pastBytes.sent + (this.#link?.sentBytes ?? 0),
      received: this.#pastBytes.received + (this.#link?.receivedBytes ?? 0),
    };
  }

  selectWebRTC(fragment: string, codecs: readonly OfferedCodec[], connectionId: string): void {
    this.#link?.send(Op.selectProtocol, {
      protocol: "webrtc",
      data: fragment,
      codecs,
      rtc_connection_id: connectionId,
    });
  }

  speak(flags: number, ssrc: number): void {
    this.#link?.send(Op.speaking, { speaking: flags, delay: 0, ssrc });
  }

  retryNow(): void {
    if (this.#closed || this.#link) return;
    clearTimeout(this.#timer);
    this.#open();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#link?.close(1000);
  }

  #open(): void {
    this.#link = new Link(this.#options.open, this.#options.url, {
      frame: (frame) => this.#receive(frame),
      closed: (code) => this.#cut(code),
    });
  }

  readonly #handlers: Record<number, (d: never) => void> = {
    [Op.hello]: (d: { heartbeat_interval: number }) => this.#hello(d.heartbeat_interval),
    [Op.heartbeat]: () => this.#link?.beatNow(),
    [Op.heartbeatAck]: () => this.#link?.acknowledge(),
    [Op.ready]: (d: VoiceReady) => {
      this.#identified = true;
      this.#up();
      this.#options.ready(d);
    },
    [Op.resumed]: () => this.#up(),
    [Op.sessionDescription]: (d: SessionDescription) => this.#options.described(d),
    [Op.speaking]: (d: Speaking) => this.#options.speaking(d),
    [Op.clientsConnect]: (d: { user_ids: Snowflake[] }) => this.#options.connected(d.user_ids),
    [Op.clientDisconnect]: (d: { user_id: Snowflake }) => this.#options.disconnected(d.user_id),
  };

  #receive(frame: Frame): void {
    if (typeof frame.seq === "number") this.#sequence = frame.seq;
    this.#handlers[frame.op]?.(frame.d as never);
  }

  #hello(interval: number): void {
    const link = this.#link;
    if (!link) return;
    link.startHeartbeat(Math.min(interval, longestHeartbeat), this.#random, () =>
      link.send(Op.heartbeat, { t: Date.now(), seq_ack: this.#sequence }),
    );
    const { guildId, channelId, userId, sessionId, token } = this.#options;
    if (this.#identified) {
      link.send(Op.resume, {
        server_id: guildId,
        channel_id: channelId,
        session_id: sessionId,
        token,
        seq_ack: this.#sequence,
      });
    } else {
      link.send(Op.identify, {
        server_id: guildId,
        channel_id: channelId,
        user_id: userId,
        session_id: sessionId,
        token,
        max_dave_protocol_version: 0,
      });
    }
  }

  #up(): void {
    this.#attempts = 0;
    this.#options.signalling(true);
  }

  #cut(code: number): void {
    this.#pastBytes = this.bytes;
    this.#link = undefined;
    if (this.#closed) return;
    const action = closeAction(code);
    if (action !== "resume") {
      this.#closed = true;
      return this.#options.ended(action, code);
    }
    this.#options.signalling(false);
    this.#timer = setTimeout(() => this.#open(), backoff(this.#attempts++, this.#random));
  }
}
