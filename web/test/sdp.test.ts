import { describe, expect, it } from "vitest";
import { answerDirection, buildAnswer, parseOffer, parseServerTransport, type RemoteStream } from "../src/protocol/sdp";

const chromiumSection = (mid: number, direction: string, port = 9) => `m=audio ${port} UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:h2Pq
a=ice-pwd:PqzbB5mWnVb0XH2DPW0Nk1Wu
a=ice-options:trickle
a=fingerprint:sha-256 71:20:4C:BE:C2:D0:B7:9B:73:5B:4B:29:7C:32:41:25:D8:D2:BC:66:74:D3:93:98:B3:0D:01:F7:67:19:01:13
a=setup:actpass
a=mid:${mid}
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=${direction}
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
${direction === "sendrecv" ? "a=msid:- 0a5c3e\na=ssrc:3735928559 cname:Zx9\na=ssrc:3735928559 msid:- 0a5c3e\n" : ""}`;

const chromiumOffer = `v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=extmap-allow-mixed
a=msid-semantic: WMS
${chromiumSection(0, "sendrecv")}${chromiumSection(1, "recvonly", 0)}${chromiumSection(2, "recvonly", 0)}`.replaceAll("\n", "\r\n");

const firefoxOffer = `v=0
o=mozilla...THIS_IS_SDPARTA-99.0 8117562931217519413 0 IN IP4 0.0.0.0
s=-
t=0 0
a=sendrecv
a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF
a=group:BUNDLE 0 1
a=ice-options:trickle
m=audio 9 UDP/TLS/RTP/SAVPF 109 9 0 8 101
c=IN IP4 0.0.0.0
a=sendrecv
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level
a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid
a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1
a=ice-pwd:0bd2b1a1f2f9e1c0d5d6e9dc5c0a9c11
a=ice-ufrag:7f5ad1b2
a=mid:0
a=rtcp-mux
a=rtpmap:109 opus/48000/2
a=setup:actpass
a=ssrc:1234567 cname:{a}
m=audio 0 UDP/TLS/RTP/SAVPF 109 9 0 8 101
c=IN IP4 0.0.0.0
a=bundle-only
a=recvonly
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=mid:1
a=rtcp-mux
a=rtpmap:109 opus/48000/2
a=setup:actpass
a=ssrc:7654321 cname:{b}
`;

const serverSdp = [
  "m=audio 50001 ICE/SDP",
  "a=fingerprint:sha-256 AA:BB",
  "c=IN IP4 203.0.113.9",
  "a=rtcp:50001",
  "a=ice-ufrag:srv1",
  "a=ice-pwd:serverpassword",
  "a=candidate:1 1 UDP 4261412862 203.0.113.9 50001 typ host",
].join("\n");

describe("parseOffer", () => {
  it("takes from Chromium's offer what the server can use, once each", () => {
    const offer = parseOffer(chromiumOffer);
    expect(offer.fragment.split("\n")).toEqual([
      "a=ice-ufrag:h2Pq",
      "a=ice-pwd:PqzbB5mWnVb0XH2DPW0Nk1Wu",
      "a=ice-options:trickle",
      "a=fingerprint:sha-256 71:20:4C:BE:C2:D0:B7:9B:73:5B:4B:29:7C:32:41:25:D8:D2:BC:66:74:D3:93:98:B3:0D:01:F7:67:19:01:13",
      "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
      "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
      "a=rtpmap:111 opus/48000/2",
    ]);
    expect(offer).toMatchObject({ opus: 111, ssrc: 3735928559, audioLevel: 1 });
    expect(offer.codecs).toEqual([{ name: "opus", type: "audio", priority: 1000, payload_type: 111 }]);
    expect(offer.sections).toEqual([
      { mid: "0", direction: "sendrecv" },
      { mid: "1", direction: "recvonly" },
      { mid: "2", direction: "recvonly" },
    ]);
  });

  it("finds Firefox's fingerprint in the session part and leaves its one-way extension out", () => {
    const offer = parseOffer(firefoxOffer);
    expect(offer.fragment).toContain("a=fingerprint:sha-256 00:11");
    expect(offer.fragment).not.toContain("csrc-audio-level");
    expect(offer).toMatchObject({ opus: 109, ssrc: 1234567, audioLevel: 1 });
  });

  it("keeps a whole browser join under 1,200 bytes sent", () => {
    const offer = parseOffer(chromiumOffer);
    const id = "1112345678901234567";
    const messages = [
      { op: 0, d: { server_id: id, channel_id: id, user_id: id, session_id: "a".repeat(32), token: "t".repeat(200), max_dave_protocol_version: 0 } },
      { op: 1, d: { protocol: "webrtc", data: offer.fragment, codecs: offer.codecs, rtc_connection_id: crypto.randomUUID() } },
      { op: 5, d: { speaking: 1, delay: 0, ssrc: offer.ssrc } },
    ];
    const bytes = messages.reduce((sum, message) => sum + JSON.stringify(message).length, 0);
    expect(bytes).toBeLessThan(1200);
  });

  it("refuses an offer without Opus", () => {
    expect(() => parseOffer(chromiumOffer.replaceAll("opus/48000/2", "pcmu/8000"))).toThrow(/no Opus/);
    expect(() => parseOffer("")).toThrow();
  });
});

describe("parseServerTransport", () => {
  it("reads the transport", () => {
    expect(parseServerTransport(serverSdp)).toEqual({
      ufrag: "srv1",
      pwd: "serverpassword",
      fingerprint: "sha-256 AA:BB",
      candidates: ["candidate:1 1 UDP 4261412862 203.0.113.9 50001 typ host"],
      connection: "IN IP4 203.0.113.9",
      host: "203.0.113.9",
      port: 50001,
    });
  });

  it.each(["a=fingerprint", "a=ice-ufrag", "a=ice-pwd", "a=candidate", "c="])("names a missing %s", (prefix) => {
    const without = serverSdp.split("\n").filter((line) => !line.startsWith(prefix)).join("\n");
    expect(() => parseServerTransport(without)).toThrow(/voice server's description has no/);
  });

  it("refuses a connection line without an address", () => {
    expect(() => parseServerTransport(serverSdp.replace("c=IN IP4 203.0.113.9", "c=IN IP4"))).toThrow(/malformed/);
  });
});

describe("buildAnswer", () => {
  const offer = parseOffer(chromiumOffer);
  const server = parseServerTransport(serverSdp);
  const answer = (remote: [string, RemoteStream][]) => buildAnswer({ offer, server, remote: new Map(remote), bitrate: 96000 });
  const media = (sdp: string) => sdp.split("m=").slice(1);

  it("has one section for each offered one, in order, bundled", () => {
    const sdp = answer([]);
    expect(sdp).toContain("a=group:BUNDLE 0 1 2\r\n");
    expect(sdp).toContain("a=ice-lite\r\n");
    expect(media(sdp).map((section) => /a=mid:(\S+)/.exec(section)?.[1])).toEqual(["0", "1", "2"]);
    expect(media(sdp).map((section) => /a=(sendrecv|sendonly|recvonly|inactive)/.exec(section)?.[1])).toEqual(["recvonly", "inactive", "inactive"]);
  });

  it("gives a remote user's section the direction, the name and the SSRC", () => {
    const [, first, second] = media(answer([["2", { userId: "42", ssrc: 7 }]]));
    expect(first).toContain("a=inactive");
    expect(first).not.toContain("a=ssrc");
    expect(second).toContain("a=sendonly\r\n");
    expect(second).toContain("a=msid:42-7 a42-7\r\na=ssrc:7 cname:42-7\r\n");
  });

  it("asks the encoder for the channel's bitrate, silence without packets, and repair", () => {
    const [own] = media(answer([]));
    expect(own).toContain("a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1;maxaveragebitrate=96000");
    expect(own).toContain("a=setup:passive");
    expect(own).toContain("a=candidate:1 1 UDP 4261412862 203.0.113.9 50001 typ host\r\na=end-of-candidates");
    expect(own).toContain("a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level");
  });

  it.each([
    ["recvonly", true, "sendonly"],
    ["recvonly", false, "inactive"],
    ["sendonly", true, "recvonly"],
    ["sendonly", false, "recvonly"],
    ["sendrecv", true, "sendrecv"],
    ["sendrecv", false, "recvonly"],
    ["inactive", true, "inactive"],
  ] as const)("answers %s (assigned: %s) with %s", (offered, assigned, expected) => {
    expect(answerDirection(offered, assigned)).toBe(expected);
  });
});
