/**
 * The browser's side of Discord's WebRTC signalling (userdoccers, "WebRTC Connections"): a fragment of the local
 * offer goes out, a transport description comes back, and the answer the browser needs is written here.
 */

export type Direction = "sendrecv" | "sendonly" | "recvonly" | "inactive";

/** One media section of the local offer. */
export interface Section {
  mid: string;
  direction: Direction;
}

export interface OfferedCodec {
  name: string;
  type: "audio";
  priority: number;
  payload_type: number;
}

export interface Offer {
  /** `data` of Select Protocol. */
  fragment: string;
  codecs: OfferedCodec[];
  sections: Section[];
  /** Payload type of Opus in this offer. */
  opus: number;
  /** SSRC of the first sending section, 0 when nothing is sent. */
  ssrc: number;
  /** Id of the ssrc-audio-level extension (RFC 6464), when offered. */
  audioLevel: number | undefined;
}

/** The transport of a voice server, from Session Description's `sdp`. */
export interface ServerTransport {
  ufrag: string;
  pwd: string;
  fingerprint: string;
  /** Candidate lines without `a=`. */
  candidates: string[];
  /** The `c=` line's value, for example `IN IP4 203.0.113.9`. */
  connection: string;
  host: string;
  port: number;
}

export interface RemoteStream {
  userId: string;
  ssrc: number;
}

const audioLevelUri = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const midUri = "urn:ietf:params:rtp-hdrext:sdes:mid";

const lines = (sdp: string) => sdp.split(/\r\n|\n/).filter((line) => line !== "");

/** Splits a description into its session part and its media sections. */
function split(sdp: string): { session: string[]; media: string[][] } {
  const session: string[] = [];
  const media: string[][] = [];
  for (const line of lines(sdp)) {
    if (line.startsWith("m=")) media.push([line]);
    else (media.at(-1) ?? session).push(line);
  }
  return { session, media };
}

function value(section: readonly string[], prefix: string): string | undefined {
  return section.find((line) => line.startsWith(prefix))?.slice(prefix.length);
}

function direction(section: readonly string[]): Direction {
  for (const candidate of ["sendrecv", "sendonly", "recvonly", "inactive"] as const) {
    if (section.includes(`a=${candidate}`)) return candidate;
  }
  return "sendrecv";
}

/** Whether a line of the offer belongs in the fragment. Extensions the server has no use for only cost bytes. */
function belongsInFragment(line: string): boolean {
  if (/^a=rtpmap:\d+ opus\//i.test(line)) return true;
  const extension = /^a=extmap:\S+ (\S+)/.exec(line);
  if (extension) return extension[1] === audioLevelUri || extension[1] === midUri;
  return /^a=(ice-|fingerprint)/.test(line);
}

/** Reads a local offer. Throws if it has no Opus, since then nothing could be said or heard. */
export function parseOffer(sdp: string): Offer {
  const { session, media } = split(sdp);
  const first = media[0] ?? [];
  const map = first.map((line) => /^a=rtpmap:(\d+) opus\/48000\/2/i.exec(line)).find((match) => match);
  if (!map) throw new Error("the browser offers no Opus audio");
  const opus = Number(map[1]);
  // Every section is bundled on the first one's transport, so the first says all there is to know.
  const fragment = [...new Set([...session, ...first].filter(belongsInFragment))].join("\n");
  const level = first.map((line) => /^a=extmap:(\d+)\S* (\S+)/.exec(line)).find((match) => match?.[2] === audioLevelUri);
  const sending = media.find((section) => /^send/.test(direction(section)));
  const ssrc = sending ? /^(\d+)/.exec(value(sending, "a=ssrc:") ?? "") : null;
  return {
    fragment,
    codecs: [{ name: "opus", type: "audio", priority: 1000, payload_type: opus }],
    sections: media.map((section, index) => ({
      mid: value(section, "a=mid:") ?? String(index),
      direction: direction(section),
    })),
    opus,
    ssrc: ssrc ? Number(ssrc[1]) : 0,
    audioLevel: level ? Number(level[1]) : undefined,
  };
}

/** Reads and validates the server's part. Throws an Error that names what is missing. */
export function parseServerTransport(sdp: string): ServerTransport {
  const all = lines(sdp);
  const need = (prefix: string) => {
    const found = value(all, prefix);
    if (!found) throw new Error(`the voice server's description has no ${prefix.replace(/[:=]$/, "")}`);
    return found;
  };
  const candidates = all.filter((line) => line.startsWith("a=candidate:")).map((line) => line.slice(2));
  const [candidate] = candidates;
  if (!candidate) throw new Error("the voice server's description has no candidate");
  const connection = need("c=");
  if (connection.split(" ").length < 3) throw new Error("the voice server's connection address is malformed");
  // candidate:<foundation> <component> <transport> <priority> <address> <port> typ <type> (RFC 8839 section 5.1)
  const fields = candidate.split(" ");
  return {
    ufrag: need("a=ice-ufrag:"),
    pwd: need("a=ice-pwd:"),
    fingerprint: need("a=fingerprint:"),
    candidates,
    connection,
    host: fields[4] ?? "",
    port: Number(fields[5]),
  };
}

export function answerDirection(offered: Direction, assigned: boolean): Direction {
  switch (offered) {
    case "recvonly":
      return assigned ? "sendonly" : "inactive";
    case "sendrecv":
      return assigned ? "sendrecv" : "recvonly";
    case "sendonly":
      return "recvonly";
    case "inactive":
      return "inactive";
  }
}

export interface AnswerInput {
  offer: Offer;
  server: ServerTransport;
  /** Remote stream by mid; sections without one are inactive. */
  remote: ReadonlyMap<string, RemoteStream>;
  /** The channel's bitrate in bit/s, asked of the local encoder. */
  bitrate: number;
}

/** Writes the answer: one section for each offered one, in the same order. */
export function buildAnswer({ offer, server, remote, bitrate }: AnswerInput): string {
  const out = [
    "v=0",
    "o=- 1420070400000 0 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    `a=group:BUNDLE ${offer.sections.map((section) => section.mid).join(" ")}`,
    "a=msid-semantic: WMS *",
    "a=ice-lite",
  ];
  for (const section of offer.sections) {
    const stream = remote.get(section.mid);
    out.push(
      `m=audio ${server.port} UDP/TLS/RTP/SAVPF ${offer.opus}`,
      `c=${server.connection}`,
      `a=rtcp:${server.port}`,
      `a=ice-ufrag:${server.ufrag}`,
      `a=ice-pwd:${server.pwd}`,
      `a=fingerprint:${server.fingerprint}`,
      "a=setup:passive",
      `a=mid:${section.mid}`,
      `a=${answerDirection(section.direction, stream !== undefined)}`,
      "a=rtcp-mux",
      `a=rtpmap:${offer.opus} opus/48000/2`,
      `a=fmtp:${offer.opus} minptime=10;useinbandfec=1;usedtx=1;maxaveragebitrate=${bitrate}`,
      "a=maxptime:60",
    );
    if (offer.audioLevel !== undefined) out.push(`a=extmap:${offer.audioLevel} ${audioLevelUri}`);
    if (stream) {
      const name = `${stream.userId}-${stream.ssrc}`;
      out.push(`a=msid:${name} a${name}`, `a=ssrc:${stream.ssrc} cname:${name}`);
    }
    out.push(...server.candidates.map((candidate) => `a=${candidate}`), "a=end-of-candidates");
  }
  return `${out.join("\r\n")}\r\n`;
}
