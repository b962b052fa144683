import { buildAnswer, parseOffer, parseServerTransport, type Offer, type RemoteStream, type ServerTransport } from "../protocol/sdp";
import { Slots } from "./slots";

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
  readonly #sender: RTCRtpTransceiver;
  readonly #receivers: RTCRtpTransceiver[] = [];
  #offer: Promise<Offer>;
  #bitrate = 64000;
  #sending = false;
  #renegotiating: Promise<void> | undefined;
  #stale = false;
  #closed = false;

  constructor(events: PeerEvents) {
    this.#events = events;
    this.connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.connection.onconnectionstatechange = () => {
      if (!this.#closed) events.state(this.connection.connectionState);
    };
    this.#sender = this.connection.addTransceiver("audio", { direction: "sendrecv" });
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
    await this.setSending(this.#sending);
    if (this.#stale) this.#change();
  }

  /** Opcode 5: `userId` is heard under `ssrc`. */
  speaking(userId: string, ssrc: number, speaking: boolean): void {
    if (this.#slots.speaking(userId, ssrc, speaking)) this.#change();
  }

  leave(userId: string): void {
    if (this.#slots.leave(userId)) this.#change();
  }

  async setTrack(track: MediaStreamTrack | null): Promise<void> {
    if (!this.#closed) await this.#sender.sender.replaceTrack(track);
  }

  /** Starts or stops the encoder: while stopped, no packet leaves at all. */
  async setSending(sending: boolean): Promise<void> {
    this.#sending = sending;
    const { sender } = this.#sender;
    const parameters = sender.getParameters();
    const [encoding] = parameters.encodings ?? [];
    // Before the first answer there is no encoding to switch; accept() does it then.
    if (this.#closed || !encoding || !this.server) return;
    encoding.active = sending;
    try {
      await sender.setParameters(parameters);
    } catch {
      // Two changes crossed: the later one won. The gate passes only silence by then in either case.
    }
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
