import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { duckedTo, Playback, ramp } from "../src/audio/playback";

class FakeAudio {
  static all: FakeAudio[] = [];
  autoplay = false;
  srcObject: unknown;
  muted = false;
  volume = 1;
  constructor() {
    FakeAudio.all.push(this);
  }
  play = async () => undefined;
  pause = () => undefined;
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeAudio.all = [];
  vi.stubGlobal("Audio", FakeAudio);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const stream = () => {
  const track = {};
  return { getAudioTracks: () => [track] } as unknown as MediaStream;
};
const volumes = () => FakeAudio.all.map(({ volume }) => volume);

describe("a priority speaker", () => {
  it("lowers all others by and by, and no longer than it speaks", () => {
    const playback = new Playback(() => undefined);
    playback.update(new Map([["1", stream()], ["2", stream()]]), () => 1);
    playback.setPriority(new Set(["1"]));
    vi.advanceTimersByTime(60);
    expect(volumes()[0]).toBe(1);
    expect(volumes()[1]).toBeGreaterThan(duckedTo);
    expect(volumes()[1]).toBeLessThan(1);
    vi.advanceTimersByTime(200);
    expect(volumes()).toEqual([1, duckedTo]);
    playback.setPriority(new Set());
    vi.advanceTimersByTime(100);
    expect(volumes()[1]).toBeLessThan(1);
    vi.advanceTimersByTime(500);
    expect(volumes()).toEqual([1, 1]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("leaves each user's own volume as it is set", () => {
    const playback = new Playback(() => undefined);
    playback.update(new Map([["1", stream()], ["2", stream()]]), (id) => (id === "2" ? 0.5 : 1));
    playback.setPriority(new Set(["1"]));
    vi.advanceTimersByTime(500);
    expect(volumes()[1]).toBeCloseTo(0.5 * duckedTo);
  });

  it("is heard over who comes while it speaks, and forgotten with the call", () => {
    const playback = new Playback(() => undefined);
    playback.setPriority(new Set(["1"]));
    playback.update(new Map([["2", stream()]]), () => 1);
    expect(volumes()).toEqual([duckedTo]);
    playback.clear();
    playback.update(new Map([["2", stream()]]), () => 1);
    expect(volumes()[1]).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("ramp", () => {
  it("stops at its ends", () => {
    expect(ramp(1, true, 10_000)).toBe(duckedTo);
    expect(ramp(duckedTo, false, 10_000)).toBe(1);
    expect(ramp(1, true, 0)).toBe(1);
  });
});
