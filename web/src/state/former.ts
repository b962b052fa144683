import type { Peer } from "../rtc/peer";
import type { VoiceSession } from "../protocol/voice";

/** The old voice server closes what is kept before, once everybody is at the new one (ms). */
const keptFor = 15000;

/** How often it is seen what comes from both (ms), and how many times in a row nothing may come from the old one alone. */
const lookEvery = 200;
const mostSilent = 2;

/**
 * The connection to the voice server that a call's channel is leaving. Until everybody is at the next server, what the
 * user says goes to both, and who is heard here is heard here. A server that died without a word brings nothing while the
 * next one does, seconds before the browser takes the connection for broken.
 */
export class Former {
  streams: ReadonlyMap<string, MediaStream> = new Map();
  readonly session: VoiceSession;
  readonly peer: Peer;
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #looks: ReturnType<typeof setInterval>;
  #silent = 0;
  #closed = false;
  /** Packets that had come from here and from the next server at the last look. */
  #before: number[] = [];

  /** `next` is the connection to the next server, and `over` is called when this one was kept for long enough. */
  constructor(session: VoiceSession, peer: Peer, streams: ReadonlyMap<string, MediaStream>, next: () => Peer | undefined, over: () => void) {
    this.session = session;
    this.peer = peer;
    this.streams = streams;
    this.#timer = setTimeout(over, keptFor);
    this.#looks = setInterval(() => void this.#look(next(), over), lookEvery);
  }

  async #look(next: Peer | undefined, over: () => void): Promise<void> {
    const [here = 0, there = 0] = await Promise.all([this.peer.received(), next?.received()]);
    const [hereBefore = here, thereBefore = there] = this.#before;
    this.#before = [here, there];
    this.#silent = here === hereBefore && there > thereBefore ? this.#silent + 1 : 0;
    if (this.#silent >= mostSilent && !this.#closed) over();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#looks);
    this.session.close();
    this.peer.close();
  }
}
