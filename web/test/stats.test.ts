import { describe, expect, it } from "vitest";
import { compare, sample } from "../src/rtc/stats";

const report = (entries: Record<string, unknown>[]) => new Map(entries.map((entry, index) => [String(index), entry]));

describe("stats", () => {
  const first = sample(
    report([
      { type: "outbound-rtp", bytesSent: 1000, packetsSent: 10 },
      { type: "inbound-rtp", bytesReceived: 0, packetsReceived: 0, packetsLost: 0, jitter: 0.9 },
      { type: "inbound-rtp", bytesReceived: 2000, packetsReceived: 90, packetsLost: 2, jitter: 0.004 },
    ]),
    0,
  );
  const second = sample(
    report([
      { type: "outbound-rtp", bytesSent: 9000, packetsSent: 60 },
      { type: "inbound-rtp", bytesReceived: 18000, packetsReceived: 180, packetsLost: 12, jitter: 0.005 },
      { type: "remote-inbound-rtp", fractionLost: 0.05, jitter: 0.002, roundTripTime: 0.1 },
      { type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: 0.03 },
      { type: "candidate-pair", nominated: false, state: "failed", currentRoundTripTime: 9 },
      { type: "codec", mimeType: "audio/opus", clockRate: 48000 },
      { type: "transport", srtpCipher: "AEAD_AES_128_GCM", dtlsState: "connected", iceState: "connected" },
    ]),
    1000,
  );

  it("computes rates and losses between two samples", () => {
    expect(compare(first, second)).toMatchObject({
      ping: 30,
      lossUp: 5,
      lossDown: 10,
      bitrateUp: 64,
      bitrateDown: 128,
      jitterDown: 5,
      jitterUp: 2,
      codec: "Opus 48 kHz",
      srtpCipher: "AEAD_AES_128_GCM",
      ice: "connected",
    });
  });

  it("says nothing it does not know after one sample", () => {
    expect(compare(undefined, first)).toMatchObject({ ping: undefined, lossUp: undefined, lossDown: undefined, bitrateUp: undefined });
    expect(first.jitterDown).toBe(0.004);
  });

  it("survives counters that start over", () => {
    expect(compare(second, { ...first, at: 2000 })).toMatchObject({ bitrateUp: 0, bitrateDown: 0, lossDown: 0 });
  });
});
