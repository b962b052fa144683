import { backoff, CLOSE_ZOMBIE, Link, type Frame, type OpenSocket } from "./link";
import type { Ready, Snowflake } from "./payloads";

const Op = {
  dispatch: 0,
  heartbeat: 1,
  identify: 2,
  voiceState: 4,
  resume: 6,
  reconnect: 7,
  invalidSession: 9,
  hello: 10,
  heartbeatAck: 11,
} as const;

/** Close codes after which trying again cannot help. */
const fatalCodes = new Set([4004, 4010, 4011, 4012, 4013, 4014]);
/** Close codes after which the session is gone, but a new one may be made. */
const sessionLostCodes = new Set([4003, 4005, 4006, 4007, 4009]);

export type GatewayStatus =
  | { kind: "connecting" }
  | { kind: "ready" }
  /** Cut off since `since` (ms, performance.now), `attempts` made; the session tries again by itself. */
  | { kind: "reconnecting"; since: number; attempts: number; code: number }
  | { kind: "dead"; code: number };

export interface GatewayOptions {
  url: string;
  token: string;
  properties: { os: string; browser: string; device: string };
  open: OpenSocket;
  random?: () => number;
  dispatch(type: string, data: unknown): void;
  status(status: GatewayStatus): void;
}

/** A gateway session: identifies, beats, and after a cut resumes or identifies anew with jittered backoff. */
export class Gateway {
  sessionId: string | undefined;

  readonly #options: GatewayOptions;
  readonly #random: () => number;
  #link: Link | undefined;
  #resumeUrl: string | undefined;
  #sequence: number | null = null;
  #attempts = 0;
  #cutAt: number | undefined;
  #lastCode = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #ready = false;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  get latency(): number {
    return this.#link?.latency ?? NaN;
  }

  get ready(): boolean {
    return this.#ready;
  }

  connect(): void {
    this.#options.status({ kind: "connecting" });
    this.#open();
  }

  /** Ends the session for good; the server forgets it at once. */
  close(): void {
    this.#closed = true;
    this.#ready = false;
    clearTimeout(this.#timer);
    this.#link?.close(1000);
  }

  /** Skips what is left of a backoff: the user asked, or the network came back. */
  retryNow(): void {
    if (this.#closed || this.#link) return;
    clearTimeout(this.#timer);
    this.#open();
  }

  /**
   * Opcode 4. Dropped when not connected: the caller asks again after the next ready. `connectedAs` is the session by
   * which the voice connection was made that there still is, if that was another than this.
   */
  updateVoiceState(
    guildId: Snowflake,
    channelId: Snowflake | null,
    selfMute: boolean,
    selfDeaf: boolean,
    connectedAs?: string,
  ): boolean {
    if (!this.#ready || !this.#link) return false;
    this.#link.send(Op.voiceState, {
      guild_id: guildId,
      channel_id: channelId,
      self_mute: selfMute,
      self_deaf: selfDeaf,
      connected_as: connectedAs,
    });
    return true;
  }

  #open(): void {
    const base = (this.sessionId && this.#resumeUrl) || this.#options.url;
    const url = `${base.replace(/\/+$/, "")}${base.includes("?") ? "" : "/?v=10&encoding=json"}`;
    this.#link = new Link(this.#options.open, url, {
      frame: (frame) => this.#receive(frame),
      closed: (code) => this.#cut(code),
    });
  }

  readonly #handlers: Record<number, (frame: Frame) => void> = {
    [Op.hello]: (frame) => this.#hello(frame.d as { heartbeat_interval: number }),
    [Op.heartbeat]: () => this.#link?.beatNow(),
    [Op.heartbeatAck]: () => this.#link?.acknowledge(),
    [Op.reconnect]: () => this.#drop(CLOSE_ZOMBIE),
    [Op.invalidSession]: (frame) => this.#invalidSession(frame.d === true),
    [Op.dispatch]: (frame) => this.#dispatch(frame.t ?? "", frame.d),
  };

  #receive(frame: Frame): void {
    if (typeof frame.s === "number") this.#sequence = frame.s;
    this.#handlers[frame.op]?.(frame);
  }

  #hello(hello: { heartbeat_interval: number }): void {
    const link = this.#link;
    if (!link) return;
    link.startHeartbeat(hello.heartbeat_interval, this.#random, () => link.send(Op.heartbeat, this.#sequence));
    if (this.sessionId) {
      link.send(Op.resume, { token: this.#options.token, session_id: this.sessionId, seq: this.#sequence });
    } else {
      this.#identify();
    }
  }

  #identify(): void {
    this.#link?.send(Op.identify, { token: this.#options.token, properties: this.#options.properties });
  }

  #dispatch(type: string, data: unknown): void {
    if (type === "READY") {
      const ready = data as Ready;
      this.sessionId = ready.session_id;
      this.#resumeUrl = ready.resume_gateway_url;
    }
    if (type === "READY" || type === "RESUMED") {
      this.#ready = true;
      this.#attempts = 0;
      this.#cutAt = undefined;
    }
    this.#options.dispatch(type, data);
    if (type === "READY" || type === "RESUMED") this.#options.status({ kind: "ready" });
  }

  #invalidSession(resumable: boolean): void {
    if (resumable) return this.#drop(CLOSE_ZOMBIE);
    this.#forget();
    // The documentation asks for a random wait of one to five seconds before identifying again.
    this.#timer = setTimeout(() => this.#identify(), 1000 + 2000 * this.#random());
  }

  #forget(): void {
    this.sessionId = undefined;
    this.#resumeUrl = undefined;
    this.#sequence = null;
  }

  #drop(code: number): void {
    // Codes 1000 and 1001 would end the session on the server; any other keeps it resumable.
    this.#link?.close(4000);
    this.#cut(code);
  }

  #cut(code: number): void {
    this.#link = undefined;
    this.#ready = false;
    clearTimeout(this.#timer);
    if (this.#closed) return;
    if (fatalCodes.has(code)) {
      this.#closed = true;
      return this.#options.status({ kind: "dead", code });
    }
    if (sessionLostCodes.has(code)) this.#forget();
    // Resuming through an address that never answers would never end; the first address is tried instead.
    if (this.#attempts >= 2) this.#resumeUrl = undefined;
    this.#cutAt ??= performance.now();
    this.#lastCode = code;
    const delay = backoff(this.#attempts++, this.#random);
    this.#options.status({
      kind: "reconnecting",
      since: this.#cutAt,
      attempts: this.#attempts,
      code: this.#lastCode,
    });
    this.#timer = setTimeout(() => this.#open(), delay);
  }
}
