import { signal } from "@preact/signals";
import type { Peer } from "../rtc/peer";
import { compare, sample, type ConnectionStats, type Sample } from "../rtc/stats";

/** Samples a connection once a second. */
export class Meter {
  readonly stats = signal<ConnectionStats | undefined>(undefined);
  /** Pings of the last minute, ms. */
  readonly pings = signal<readonly number[]>([]);

  readonly #peer: () => Peer | undefined;
  #last: Sample | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(peer: () => Peer | undefined) {
    this.#peer = peer;
  }

  start(): void {
    clearInterval(this.#timer);
    this.#last = undefined;
    this.#timer = setInterval(() => void this.sample(), 1000);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.stats.value = undefined;
  }

  async sample(): Promise<ConnectionStats | undefined> {
    const peer = this.#peer();
    if (!peer) return undefined;
    const report = await peer.connection.getStats();
    if (peer !== this.#peer()) return undefined;
    const now = sample(report as unknown as ReadonlyMap<string, unknown>, performance.now());
    const stats = compare(this.#last, now);
    this.#last = now;
    this.stats.value = stats;
    if (stats.ping !== undefined) this.pings.value = [...this.pings.value.slice(-59), stats.ping];
    return stats;
  }
}
