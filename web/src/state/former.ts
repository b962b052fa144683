import type { Peer } from "../rtc/peer";
import type { VoiceSession } from "../protocol/voice";

/** The old voice server closes what is kept before, once everybody is at the new one (ms). */
const keptFor = 15000;

/**
 * The connection to the voice server that a call's channel is leaving. Until everybody is at the next server, what the
 * user says goes to both, and who is heard here is heard here.
 */
export class Former {
  streams: ReadonlyMap<string, MediaStream> = new Map();
  readonly session: VoiceSession;
  readonly peer: Peer;
  readonly #timer: ReturnType<typeof setTimeout>;

  /** `over` is called when it was kept for long enough. */
  constructor(session: VoiceSession, peer: Peer, streams: ReadonlyMap<string, MediaStream>, over: () => void) {
    this.session = session;
    this.peer = peer;
    this.streams = streams;
    this.#timer = setTimeout(over, keptFor);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.session.close();
    this.peer.close();
  }
}
