/**
 * Which user is heard on which receiving media section. A section is made once and reused; beyond the most there may
 * be, whoever speaks takes the place of whoever has been silent longest.
 */

export interface Occupant {
  userId: string;
  ssrc: number;
}

interface Known extends Occupant {
  speaking: boolean;
  /** Counts up with every start of speech: the order in which users last spoke. */
  spoke: number;
}

export class Slots {
  readonly #most: number;
  readonly #known = new Map<string, Known>();
  #slots: (string | undefined)[];
  #clock = 0;

  constructor(initial = 8, most = 24) {
    this.#most = most;
    this.#slots = new Array<string | undefined>(initial).fill(undefined);
  }

  /** Sections needed so far; never shrinks, since sections cannot be taken out of a description. */
  get size(): number {
    return this.#slots.length;
  }

  /** The occupant of each section, in order. */
  get occupants(): readonly (Occupant | undefined)[] {
    return this.#slots.map((id) => (id === undefined ? undefined : this.#known.get(id)));
  }

  /** Opcode 5. Returns whether the description must change. */
  speaking(userId: string, ssrc: number, speaking: boolean): boolean {
    const known = this.#known.get(userId);
    const next: Known = {
      userId,
      ssrc,
      speaking,
      spoke: speaking ? ++this.#clock : (known?.spoke ?? 0),
    };
    this.#known.set(userId, next);
    if (this.#slots.includes(userId)) return known?.ssrc !== ssrc;
    return this.#seat(userId, speaking);
  }

  /** Opcode 13. Returns whether the description must change. */
  leave(userId: string): boolean {
    this.#known.delete(userId);
    const slot = this.#slots.indexOf(userId);
    if (slot < 0) return false;
    const waiting = [...this.#known.values()]
      .filter((user) => !this.#slots.includes(user.userId))
      .sort((a, b) => b.spoke - a.spoke)[0];
    this.#slots[slot] = waiting?.userId;
    return true;
  }

  #seat(userId: string, speaking: boolean): boolean {
    const free = this.#slots.indexOf(undefined);
    if (free >= 0) {
      this.#slots[free] = userId;
      return true;
    }
    if (this.#slots.length < this.#most) {
      // By fours: each growth costs the browser a new offer with all sections.
      const grow = Math.min(4, this.#most - this.#slots.length);
      this.#slots = [...this.#slots, userId, ...new Array<undefined>(grow - 1).fill(undefined)];
      return true;
    }
    if (!speaking) return false;
    const silent = this.#slots
      .map((id, slot) => ({ slot, user: id === undefined ? undefined : this.#known.get(id) }))
      .filter(({ user }) => user && !user.speaking)
      .sort((a, b) => (a.user?.spoke ?? 0) - (b.user?.spoke ?? 0))[0];
    if (!silent) return false;
    this.#slots[silent.slot] = userId;
    return true;
  }
}
