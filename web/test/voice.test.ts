import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { closeAction, VoiceSession } from "../src/protocol/voice";
import { fakeSockets } from "./fakeSocket";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function setUp() {
  const sockets = fakeSockets();
  const log: unknown[][] = [];
  const session = new VoiceSession({
    url: "wss://voice:1/?v=9",
    open: sockets.open,
    random: () => 0.5,
    guildId: "1",
    channelId: "2",
    userId: "3",
    sessionId: "s",
    token: "t",
    ready: (ready) => log.push(["ready", ready.ssrc]),
    described: ({ sdp }) => log.push(["described", sdp]),
    speaking: (speaking) => log.push(["speaking", speaking.user_id, speaking.ssrc, speaking.speaking]),
    connected: (ids) => log.push(["connected", ...ids]),
    disconnected: (id) => log.push(["disconnected", id]),
    signalling: (up) => log.push(["signalling", up]),
    ended: (action, code) => log.push(["ended", action, code]),
  });
  const hello = () => sockets.last().say({ op: 8, d: { v: 9, heartbeat_interval: 13750 } });
  const ready = () => {
    hello();
    sockets.last().say({ op: 2, d: { ssrc: 5, ip: "127.0.0.1", port: 50000 }, seq: 1 });
  };
  return { sockets, session, log, hello, ready };
}

describe("VoiceSession", () => {
  it("identifies with the channel and without video or encryption it does not have", () => {
    const { sockets, ready, log } = setUp();
    ready();
    expect(sockets.last().of(0)).toEqual([
      { server_id: "1", channel_id: "2", user_id: "3", session_id: "s", token: "t", max_dave_protocol_version: 0 },
    ]);
    expect(log).toEqual([["signalling", true], ["ready", 5]]);
  });

  it("passes on what the voice server tells", () => {
    const { sockets, ready, log } = setUp();
    ready();
    log.length = 0;
    sockets.last().say({ op: 4, d: { audio_codec: "opus", sdp: "x" } });
    sockets.last().say({ op: 5, d: { speaking: 1, ssrc: 9, user_id: "8" }, seq: 2 });
    sockets.last().say({ op: 11, d: { user_ids: ["8", "9"] }, seq: 3 });
    sockets.last().say({ op: 13, d: { user_id: "9" }, seq: 4 });
    sockets.last().say({ op: 18, d: {} });
    sockets.last().say({ op: 20, d: {} });
    expect(log).toEqual([["described", "x"], ["speaking", "8", 9, 1], ["connected", "8", "9"], ["disconnected", "9"]]);
  });

  it("beats at most every five seconds, with the last sequence", () => {
    const { sockets, ready } = setUp();
    ready();
    sockets.last().say({ op: 5, d: { speaking: 1, ssrc: 9, user_id: "8" }, seq: 7 });
    vi.advanceTimersByTime(2500);
    expect(sockets.last().of(3)).toMatchObject([{ seq_ack: 7 }]);
    sockets.last().say({ op: 6, d: { t: 1 } });
    vi.advanceTimersByTime(5000);
    expect(sockets.last().of(3)).toHaveLength(2);
  });

  it.each([1006, 4015, 4900])("resumes after close code %i", (code) => {
    const { sockets, ready, hello, log } = setUp();
    ready();
    sockets.last().say({ op: 5, d: { speaking: 1, ssrc: 9, user_id: "8" }, seq: 12 });
    sockets.last().end(code);
    expect(log.at(-1)).toEqual(["signalling", false]);
    vi.advanceTimersByTime(1000);
    hello();
    expect(sockets.last().of(7)).toEqual([{ server_id: "1", channel_id: "2", session_id: "s", token: "t", seq_ack: 12 }]);
    expect(sockets.last().of(0)).toEqual([]);
    sockets.last().say({ op: 9, d: null });
    expect(log.at(-1)).toEqual(["signalling", true]);
  });

  it("identifies again when it was cut before it ever was ready", () => {
    const { sockets, hello } = setUp();
    hello();
    sockets.last().end(1006);
    vi.advanceTimersByTime(1000);
    hello();
    expect(sockets.last().of(0)).toHaveLength(1);
    expect(sockets.last().of(7)).toEqual([]);
  });

  it.each([
    [4006, "rejoin"],
    [4009, "rejoin"],
    [4014, "removed"],
    [4022, "removed"],
    [4021, "fatal"],
  ] as const)("ends on close code %i: %s", (code, action) => {
    const { sockets, ready, log } = setUp();
    ready();
    sockets.last().end(code);
    vi.advanceTimersByTime(60000);
    expect(log.at(-1)).toEqual(["ended", action, code]);
    expect(sockets.all).toHaveLength(1);
  });

  it("counts bytes over all of its connections", () => {
    const { sockets, ready, hello, session } = setUp();
    ready();
    const { sent } = session.bytes;
    expect(sent).toBe(JSON.stringify(sockets.all[0]?.sent[0]).length);
    sockets.last().end(1006);
    vi.advanceTimersByTime(1000);
    hello();
    expect(session.bytes.sent).toBeGreaterThan(sent);
  });

  it("stays closed", () => {
    const { sockets, ready, session, log } = setUp();
    ready();
    log.length = 0;
    session.close();
    expect(sockets.last().closedWith).toBe(1000);
    session.retryNow();
    vi.advanceTimersByTime(60000);
    expect(sockets.all).toHaveLength(1);
    expect(log).toEqual([]);
  });
});

describe("closeAction", () => {
  it("resumes after what it does not know", () => {
    expect(closeAction(1001)).toBe("resume");
    expect(closeAction(4999)).toBe("resume");
  });
});
