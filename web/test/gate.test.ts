import { describe, expect, it } from "vitest";
import { Gate, toDecibels, type GateMode } from "../src/audio/gate";

const rate = 48000;
const block = 128;

function tone(amplitude: number): Float32Array {
  return Float32Array.from({ length: block }, (_, i) => amplitude * Math.SQRT2 * Math.sin((2 * Math.PI * i) / 64));
}

/** Feeds seconds of a tone and returns what came out. */
function feed(gate: Gate, amplitude: number, seconds: number): Float32Array {
  const blocks = Math.round((seconds * rate) / block);
  const out = new Float32Array(blocks * block);
  for (let i = 0; i < blocks; i++) gate.process(tone(amplitude), out.subarray(i * block, (i + 1) * block));
  return out;
}

const peak = (samples: Float32Array) => samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);

function gateIn(mode: GateMode, threshold: number | "auto" = -40): Gate {
  const gate = new Gate(rate);
  gate.configure({ mode, threshold, gain: 1 });
  return gate;
}

describe("Gate", () => {
  it("passes nothing when closed and everything when open", () => {
    expect(peak(feed(gateIn("closed"), 0.5, 0.2))).toBe(0);
    expect(peak(feed(gateIn("open"), 0.5, 0.2))).toBeCloseTo(0.5 * Math.SQRT2, 2);
  });

  it("opens by level within one block and holds 300 ms after it falls", () => {
    const gate = gateIn("voice");
    feed(gate, 0.001, 0.5);
    expect(gate.open).toBe(false);
    feed(gate, 0.1, block / rate);
    expect(gate.open).toBe(true);
    feed(gate, 0, 0.25);
    expect(gate.open).toBe(true);
    feed(gate, 0, 0.6);
    expect(gate.open).toBe(false);
  });

  it("loses no first syllable: what opened the gate comes out after it opened", () => {
    const gate = gateIn("voice");
    feed(gate, 0, 0.5);
    // One loud block, then silence: the delay line must still bring it out.
    const out = [...feed(gate, 0.3, block / rate), ...feed(gate, 0, 0.1)];
    expect(peak(Float32Array.from(out))).toBeGreaterThan(0.3);
    const first = out.findIndex((sample) => Math.abs(sample) > 0.1);
    expect(first / rate).toBeGreaterThan(0.045);
    expect(first / rate).toBeLessThan(0.056);
  });

  it("does not delay when it need not look ahead", () => {
    const out = feed(gateIn("open"), 0.5, 0.05);
    expect(out.findIndex((sample) => Math.abs(sample) > 0.1) / rate).toBeLessThan(0.006);
  });

  it("does not flutter at the threshold", () => {
    const gate = gateIn("voice", -30);
    feed(gate, 10 ** (-29 / 20), 0.1);
    feed(gate, 10 ** (-34 / 20), 2);
    expect(gate.open).toBe(true);
  });

  it("finds its threshold above steady noise and still opens for speech", () => {
    const gate = gateIn("voice", "auto");
    feed(gate, 10 ** (-52 / 20), 5);
    expect(gate.open).toBe(false);
    expect(gate.threshold).toBeGreaterThan(-52);
    feed(gate, 10 ** (-24 / 20), 0.02);
    expect(gate.open).toBe(true);
  });

  it("measures after the gain and clips what the gain drives past full scale", () => {
    const gate = new Gate(rate);
    gate.configure({ mode: "open", threshold: -40, gain: 2 });
    const out = feed(gate, 0.7, 0.1);
    expect(peak(out)).toBe(1);
    expect(gate.level).toBeCloseTo(toDecibels(1.4), 0);
  });

  it("changes without a click: no two samples far apart when it closes", () => {
    const gate = gateIn("open");
    const before = feed(gate, 0.5, 0.1);
    gate.configure({ mode: "closed", threshold: -40, gain: 1 });
    const after = feed(gate, 0.5, 0.1);
    expect(Math.abs((after[0] ?? 0) - (before.at(-1) ?? 0))).toBeLessThan(0.1);
    expect(peak(after.subarray(rate * 0.02))).toBe(0);
  });
});
