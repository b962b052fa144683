/** Connection figures from getStats: pure arithmetic on two reports, so that tests can feed it. */

export interface Sample {
  /** ms */
  at: number;
  sentBytes: number;
  receivedBytes: number;
  sentPackets: number;
  receivedPackets: number;
  lostDown: number;
  /** Fraction 0 to 1 as the server's receiver reports say; undefined before the first. */
  lossUp: number | undefined;
  /** s */
  jitterDown: number | undefined;
  jitterUp: number | undefined;
  /** s */
  roundTrip: number | undefined;
  codec: string | undefined;
  srtpCipher: string | undefined;
  dtls: string | undefined;
  ice: string | undefined;
}

export interface ConnectionStats {
  /** ms */
  ping: number | undefined;
  /** Percent */
  lossUp: number | undefined;
  lossDown: number | undefined;
  /** ms */
  jitterUp: number | undefined;
  jitterDown: number | undefined;
  /** kbit/s */
  bitrateUp: number | undefined;
  bitrateDown: number | undefined;
  packetsSent: number;
  packetsReceived: number;
  codec: string | undefined;
  srtpCipher: string | undefined;
  dtls: string | undefined;
  ice: string | undefined;
}

interface Entry {
  type: string;
  [key: string]: unknown;
}

const number = (value: unknown) => (typeof value === "number" ? value : 0);
const maybe = (value: unknown) => (typeof value === "number" ? value : undefined);
const text = (value: unknown) => (typeof value === "string" ? value : undefined);

/** Reads what is needed of an RTCStatsReport. */
export function sample(report: ReadonlyMap<string, unknown>, at: number): Sample {
  const out: Sample = {
    at,
    sentBytes: 0,
    receivedBytes: 0,
    sentPackets: 0,
    receivedPackets: 0,
    lostDown: 0,
    lossUp: undefined,
    jitterDown: undefined,
    jitterUp: undefined,
    roundTrip: undefined,
    codec: undefined,
    srtpCipher: undefined,
    dtls: undefined,
    ice: undefined,
  };
  const readers: Record<string, (entry: Entry) => void> = {
    "outbound-rtp": (e) => {
      out.sentBytes += number(e["bytesSent"]);
      out.sentPackets += number(e["packetsSent"]);
    },
    "inbound-rtp": (e) => {
      out.receivedBytes += number(e["bytesReceived"]);
      out.receivedPackets += number(e["packetsReceived"]);
      out.lostDown += number(e["packetsLost"]);
      // Of many speakers the worst is shown; a stream that carries nothing has no say.
      if (number(e["packetsReceived"]) > 0) out.jitterDown = Math.max(out.jitterDown ?? 0, number(e["jitter"]));
    },
    "remote-inbound-rtp": (e) => {
      out.lossUp = maybe(e["fractionLost"]);
      out.jitterUp = maybe(e["jitter"]);
      out.roundTrip ??= maybe(e["roundTripTime"]);
    },
    "candidate-pair": (e) => {
      if (e["nominated"] !== true && e["selected"] !== true) return;
      if (e["state"] !== "succeeded") return;
      out.roundTrip = maybe(e["currentRoundTripTime"]) ?? out.roundTrip;
    },
    codec: (e) => {
      const mime = text(e["mimeType"]);
      if (mime?.toLowerCase() === "audio/opus") out.codec = `Opus ${number(e["clockRate"]) / 1000} kHz`;
    },
    transport: (e) => {
      out.srtpCipher = text(e["srtpCipher"]);
      out.dtls = text(e["dtlsState"]);
      out.ice = text(e["iceState"]);
    },
  };
  for (const entry of report.values()) readers[(entry as Entry).type]?.(entry as Entry);
  return out;
}

/** Figures between two samples. */
export function compare(before: Sample | undefined, now: Sample): ConnectionStats {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const rate = (bytes: number) => (seconds > 0 ? Math.max(0, (bytes * 8) / 1000 / seconds) : undefined);
  const milliseconds = (value: number | undefined) => (value === undefined ? undefined : value * 1000);
  const lost = before ? Math.max(0, now.lostDown - before.lostDown) : 0;
  const arrived = before ? Math.max(0, now.receivedPackets - before.receivedPackets) : 0;
  return {
    ping: milliseconds(now.roundTrip),
    lossUp: now.lossUp === undefined ? undefined : now.lossUp * 100,
    lossDown: before ? (lost + arrived > 0 ? (100 * lost) / (lost + arrived) : 0) : undefined,
    jitterUp: milliseconds(now.jitterUp),
    jitterDown: milliseconds(now.jitterDown),
    bitrateUp: before && rate(now.sentBytes - before.sentBytes),
    bitrateDown: before && rate(now.receivedBytes - before.receivedBytes),
    packetsSent: now.sentPackets,
    packetsReceived: now.receivedPackets,
    codec: now.codec,
    srtpCipher: now.srtpCipher,
    dtls: now.dtls,
    ice: now.ice,
  };
}
