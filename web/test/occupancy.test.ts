import { describe, expect, it } from "vitest";
import type { VoiceState } from "../src/protocol/payloads";
import { bounded, voiceLabel } from "../src/state/occupancy";

const state = (userId: string, more: Partial<VoiceState> = {}): VoiceState => ({
  guild_id: "1",
  user_id: userId,
  channel_id: "20",
  session_id: "s",
  mute: false,
  deaf: false,
  self_mute: false,
  self_deaf: false,
  suppress: false,
  ...more,
});
const is =
  (...ids: string[]) =>
  (of: VoiceState) =>
    ids.includes(of.user_id);

describe("bounded", () => {
  const inside = ["1", "2", "3", "4", "5"].map((id) => state(id));
  const ids = (most: number, speaking: string[], kept: string[]) => {
    const { rows, more } = bounded(inside, most, is(...speaking), is(...kept));
    return [rows.map((row) => row.user_id).join(""), more];
  };

  it("leaves a channel within the bound as it is ordered", () => {
    expect(ids(5, ["4"], ["5"])).toEqual(["12345", 0]);
    expect(bounded([], 5, is(), is())).toEqual({ rows: [], more: 0 });
  });
  it("draws speakers first, then those to keep, and counts the rest", () => {
    expect(ids(4, ["4"], ["5"])).toEqual(["4512", 1]);
    expect(ids(3, [], [])).toEqual(["123", 2]);
    expect(ids(3, ["5", "2"], ["5"])).toEqual(["251", 2]);
  });
  it("holds the bound when more speak than fit", () => {
    expect(ids(2, ["1", "3", "5"], ["2"])).toEqual(["13", 3]);
  });
});

describe("voiceLabel", () => {
  const says = (more: Partial<VoiceState>, speaking = false) => voiceLabel("Noor", state("1", more), speaking);

  it("says who speaks, and why one is not heard", () => {
    expect(says({}, true)).toBe("Noor, speaking");
    expect(says({ self_mute: true, self_deaf: true })).toBe("Noor, muted, deafened");
    expect(says({ mute: true, deaf: true, self_mute: true, suppress: true })).toBe("Noor, muted by a moderator, deafened by a moderator");
  });
  it("says who only listens on a stage", () => {
    expect(says({ suppress: true })).toBe("Noor, listening only");
    expect(says({ suppress: true, self_mute: true })).toBe("Noor, listening only");
  });
});
