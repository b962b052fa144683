import type { VoiceState } from "../protocol/payloads";

export interface Shown {
  rows: VoiceState[];
  /** How many are in the channel and not among the rows. */
  more: number;
}

/**
 * Whom of a channel's occupants to draw where only `most` fit. A channel within the bound stays as it is ordered; from
 * one beyond it, those who speak come first, then those to `keep`, then the others, each in the order given.
 */
export function bounded(
  inside: VoiceState[],
  most: number,
  speaks: (state: VoiceState) => boolean,
  keep: (state: VoiceState) => boolean,
): Shown {
  if (inside.length <= most) return { rows: inside, more: 0 };
  const ranks: [VoiceState[], VoiceState[], VoiceState[]] = [[], [], []];
  for (const state of inside) ranks[speaks(state) ? 0 : keep(state) ? 1 : 2].push(state);
  return { rows: ranks.flat().slice(0, most), more: inside.length - most };
}

/** Why an occupant is not heard, in words, or undefined of one who is. */
export function muteReason(state: VoiceState): string | undefined {
  if (state.mute) return "Muted by a moderator";
  if (state.suppress) return "Listening only";
  return state.self_mute ? "Muted" : undefined;
}

/** What a screen reader says of somebody in a voice channel. */
export function voiceLabel(name: string, state: VoiceState, speaking: boolean): string {
  const words = [name];
  if (speaking) words.push("speaking");
  const muted = muteReason(state);
  if (muted) words.push(muted.toLowerCase());
  if (state.deaf) words.push("deafened by a moderator");
  else if (state.self_deaf) words.push("deafened");
  return words.join(", ");
}
