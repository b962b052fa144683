import { signal } from "@preact/signals";
import type { Snowflake } from "../protocol/payloads";

/** Other users who speak now, and who of them has priority. */
export class Speakers {
  readonly now = signal<ReadonlySet<Snowflake>>(new Set());

  readonly #priority = new Set<Snowflake>();
  readonly #prioritized: (ids: ReadonlySet<Snowflake>) => void;

  /** `prioritized` is told of every change of who speaks with priority. */
  constructor(prioritized: (ids: ReadonlySet<Snowflake>) => void) {
    this.#prioritized = prioritized;
  }

  set(userId: Snowflake, speaking: boolean, priority = false): void {
    if (this.#priority.has(userId) !== priority) {
      if (priority) this.#priority.add(userId);
      else this.#priority.delete(userId);
      this.#prioritized(this.#priority);
    }
    if (this.now.value.has(userId) === speaking) return;
    const next = new Set(this.now.value);
    if (speaking) next.add(userId);
    else next.delete(userId);
    this.now.value = next;
  }

  clear(): void {
    this.#priority.clear();
    this.now.value = new Set();
  }
}
