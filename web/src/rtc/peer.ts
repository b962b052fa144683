import { buildAnswer, parseOffer, parseServerTransport, type Offer, type RemoteStream, type ServerTransport } from "../protocol/sdp";
import { Slots } from "./slots";

/** Firefox goes on with comfort packets for an inactive encoding; only taking the track away silences it. */
const keepsSendingWhenInactive = typeof navigator !== "undefined" && navigator.userAgent.includes("Firefox/");

export type TransportState = "new" | "connecting" | "connected" | "disconnected" | "failed" | "closed";

export interface PeerEvents {
  state(state: TransportState): void;
  /** Who can be heard, and on which stream, changed. */
  streams(streams: Map<string, MediaStream>): void;
  failed(error: Error): void;
}

/**
 * One PeerConnection with a voice server. The first media section sends the microphone; each further one receives
 * one user. Descriptions after the first are renegotiated with itself: the server is not asked.
 */
export class Peer {
  readonly connection: RTCPeerConnection;
  server: ServerTransport | undefined;

  readonly #events: PeerEvents;
  readonly #slots = new Slots();
  readonly #local: RTCRtpTransceiver;
  readonly #receivers: RTCRtpTransceiver[] = [];
  #offer: Promise<Offer>;
  #bitrate = 64000;
  #track: MediaStreamTrack | null = null;
  #sending = false;
  #sender: Promise<void> = Promise.resolve();
  #renegotiating: Promise<void> | undefined;
  #stale = false;
  #closed = false;

  constructor(events: PeerEvents) {
    this.#events = events;
    this.connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.connection.onconnectionstatechange = () => {
      if (!this.#closed) events.state(this.connection.connectionState);
    };
    this.#local = this.connection.addTransceiver("audio", { direction: "sendrecv" });
    this.#growTo(this.#slots.size);
    this.#offer = this.#createOffer();
    // A failure is reported to whoever awaits the offer; this keeps it from also being an unhandled rejection.
    this.#offer.catch(() => undefined);
  }

  /** The local offer: its fragment, codecs and SSRC go to the voice server. */
  get offer(): Promise<Offer> {
    return this.#offer;
  }

  /** Takes the voice server's description. Throws if it is incomplete or the browser refuses it. */
  async accept(serverSdp: string, bitrate: number): Promise<void> {
    this.server = parseServerTransport(serverSdp);
    this.#bitrate = bitrate;
    await this.#answer(await this.#offer);
    await this.#applySender();
    if (this.#stale) this.#change();
  }

  /** Opcode 5: `userId` is heard under `ssrc`. */
  speaking(userId: string, ssrc: number, speaking: boolean): void {
    if (this.#slots.speaking(userId, ssrc, speaking)) this.#change();
  }

  leave(userId: string): void {
    if (this.#slots.leave(userId)) this.#change();
  }

  /** The microphone's track; null listens only. */
  async setTrack(track: MediaStreamTrack | null): Promise<void> {
    this.#track = track;
    await this.#applySender();
  }

  /** Starts or stops the sender: while stopped, no packet leaves at all. */
  async setSending(sending: boolean): Promise<void> {
    this.#sending = sending;
    await this.#applySender();
  }

  /** One change at a time, each to what is wanted by the time it runs: the browser refuses two at once. */
  #applySender(): Promise<void> {
    this.#sender = this.#sender.then(async () => {
      if (this.#closed) return;
      const { sender } = this.#local;
      const track = keepsSendingWhenInactive && !this.#sending ? null : this.#track;
      if (sender.track !== track) await sender.replaceTrack(track);
      const parameters = sender.getParameters();
      const [encoding] = parameters.encodings ?? [];
      // Before the first answer there is no encoding to switch; accept() does it then.
      if (!encoding || !this.server || encoding.active === this.#sending) return;
      encoding.active = this.#sending;
      await sender.setParameters(parameters);
    });
    // A closed connection refuses everything; nothing is left to switch then.
    this.#sender = this.#sender.catch(() => undefined);
    return this.#sender;
  }

  /** RTP packets that have come, of everybody. */
  async received(): Promise<number> {
    let packets = 0;
    for (const stat of (await this.connection.getStats()).values()) {
      if (stat.type === "inbound-rtp") packets += (stat as RTCInboundRtpStreamStats).packetsReceived ?? 0;
    }
    return packets;
  }

  close(): void {
    this.#closed = true;
    this.connection.close();
  }

  #growTo(size: number): void {
    while (this.#receivers.length < size) {
      this.#receivers.push(this.connection.addTransceiver("audio", { direction: "recvonly" }));
    }
  }

  async #createOffer(): Promise<Offer> {
    await this.connection.setLocalDescription();
    return parseOffer(this.connection.localDescription?.sdp ?? "");
  }

  #change(): void {
    if (!this.server || this.#renegotiating) {
      this.#stale = true;
      return;
    }
    this.#renegotiating = this.#renegotiate()
      .catch((error: unknown) => {
        if (!this.#closed) this.#events.failed(error as Error);
      })
      .finally(() => {
        this.#renegotiating = undefined;
        if (this.#stale && !this.#closed) this.#change();
      });
  }

  async #renegotiate(): Promise<void> {
    this.#growTo(this.#slots.size);
    await this.#answer(await this.#createOffer());
  }

  async #answer(offer: Offer): Promise<void> {
    if (!this.server || this.#closed) return;
    this.#stale = false;
    const remote = new Map<string, RemoteStream>();
    const streams = new Map<string, MediaStream>();
    const occupants = this.#slots.occupants;
    for (const [index, receiver] of this.#receivers.entries()) {
      const occupant = occupants[index];
      if (!occupant || receiver.mid === null) continue;
      remote.set(receiver.mid, occupant);
      streams.set(occupant.userId, new MediaStream([receiver.receiver.track]));
    }
    // More users than sections in this offer: the next one has them.
    if (this.#slots.size > this.#receivers.length) this.#stale = true;
    const sdp = buildAnswer({ offer, server: this.server, remote, bitrate: this.#bitrate });
    await this.connection.setRemoteDescription({ type: "answer", sdp });
    if (!this.#closed) this.#events.streams(streams);
  }
}
