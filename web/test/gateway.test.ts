import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Gateway, type GatewayStatus } from "../src/protocol/gateway";
import { backoff, CLOSE_ZOMBIE } from "../src/protocol/link";
import { fakeSockets } from "./fakeSocket";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function setUp() {
  const sockets = fakeSockets();
  const statuses: GatewayStatus[] = [];
  const events: [string, unknown][] = [];
  const gateway = new Gateway({
    url: "ws://host/gateway",
    token: "secret",
    properties: { os: "Linux", browser: "Test", device: "" },
    open: sockets.open,
    random: () => 0.5,
    dispatch: (type, data) => events.push([type, data]),
    status: (status) => statuses.push(status),
  });
  gateway.connect();
  const ready = () => {
    sockets.last().say({ op: 10, d: { heartbeat_interval: 40000 } });
    sockets.last().say({ op: 0, t: "READY", s: 1, d: { session_id: "abc", resume_gateway_url: "ws://host/resume", guilds: [], user: { id: "1", username: "a" }, v: 10 } });
  };
  const status = () => statuses.at(-1);
  return { sockets, statuses, events, gateway, ready, status };
}

describe("Gateway", () => {
  it("identifies without intents after hello", () => {
    const { sockets, ready, status, events } = setUp();
    expect(sockets.last().url).toBe("ws://host/gateway/?v=10&encoding=json");
    ready();
    expect(sockets.last().of(2)).toEqual([{ token: "secret", properties: { os: "Linux", browser: "Test", device: "" } }]);
    expect(status()).toEqual({ kind: "ready" });
    expect(events[0]?.[0]).toBe("READY");
  });

  it("beats with the last sequence, the first time after a random part of the interval", () => {
    const { sockets, ready } = setUp();
    ready();
    vi.advanceTimersByTime(20000);
    expect(sockets.last().of(1)).toEqual([1]);
    sockets.last().say({ op: 11 });
    vi.advanceTimersByTime(40000);
    expect(sockets.last().of(1)).toEqual([1, 1]);
  });

  it("takes an unanswered heartbeat for a dead connection and resumes", () => {
    const { sockets, ready, status } = setUp();
    ready();
    const first = sockets.last();
    vi.advanceTimersByTime(60000);
    expect(first.closedWith).toBe(CLOSE_ZOMBIE);
    expect(status()?.kind).toBe("reconnecting");
    vi.advanceTimersByTime(1000);
    expect(sockets.all).toHaveLength(2);
  });

  it("resumes at the resume address with session and sequence, and is ready once resumed", () => {
    const { sockets, ready, status } = setUp();
    ready();
    sockets.last().say({ op: 0, t: "TYPING_START", s: 9, d: {} });
    sockets.last().end(1006);
    vi.advanceTimersByTime(1000);
    expect(sockets.last().url).toBe("ws://host/resume/?v=10&encoding=json");
    sockets.last().say({ op: 10, d: { heartbeat_interval: 40000 } });
    expect(sockets.last().of(6)).toEqual([{ token: "secret", session_id: "abc", seq: 9 }]);
    expect(sockets.last().of(2)).toEqual([]);
    sockets.last().say({ op: 0, t: "RESUMED", s: 10, d: null });
    expect(status()).toEqual({ kind: "ready" });
  });

  it("identifies anew on the same connection when the session is invalid", () => {
    const { sockets, ready } = setUp();
    ready();
    sockets.last().end(1001);
    vi.advanceTimersByTime(1000);
    sockets.last().say({ op: 10, d: { heartbeat_interval: 40000 } });
    sockets.last().say({ op: 9, d: false });
    expect(sockets.last().of(2)).toEqual([]);
    vi.advanceTimersByTime(2000);
    expect(sockets.last().of(2)).toHaveLength(1);
    expect(sockets.all).toHaveLength(2);
  });

  it("reconnects and resumes on opcode 7, with a close code that keeps the session", () => {
    const { sockets, ready } = setUp();
    ready();
    const first = sockets.last();
    first.say({ op: 7, d: null });
    expect(first.closedWith).toBe(4000);
    vi.advanceTimersByTime(1000);
    sockets.last().say({ op: 10, d: { heartbeat_interval: 40000 } });
    expect(sockets.last().of(6)).toHaveLength(1);
  });

  it.each([4007, 4009])("forgets the session on close code %i", (code) => {
    const { sockets, ready } = setUp();
    ready();
    sockets.last().end(code);
    vi.advanceTimersByTime(1000);
    sockets.last().say({ op: 10, d: { heartbeat_interval: 40000 } });
    expect(sockets.last().of(2)).toHaveLength(1);
  });

  it.each([4004, 4010, 4012, 4014])("gives up on close code %i", (code) => {
    const { sockets, ready, status } = setUp();
    ready();
    sockets.last().end(code);
    vi.advanceTimersByTime(60000);
    expect(status()).toEqual({ kind: "dead", code });
    expect(sockets.all).toHaveLength(1);
  });

  it("leaves a resume address that never answers for the first one", () => {
    const { sockets, ready } = setUp();
    ready();
    sockets.last().end(1006);
    for (let i = 0; i < 3; i++) {
      vi.advanceTimersByTime(5000);
      sockets.last().end(1006);
    }
    expect(sockets.last().url).toBe("ws://host/gateway/?v=10&encoding=json");
    expect(sockets.last().sent).toEqual([]);
  });

  it("keeps the time of the cut over many attempts, and retries at once when asked", () => {
    const { sockets, ready, statuses, gateway } = setUp();
    ready();
    sockets.last().end(1006);
    vi.advanceTimersByTime(3000);
    sockets.last().end(1006);
    const cuts = statuses.filter((status) => status.kind === "reconnecting");
    expect(new Set(cuts.map((status) => status.since)).size).toBe(1);
    const before = sockets.all.length;
    gateway.retryNow();
    expect(sockets.all).toHaveLength(before + 1);
    gateway.retryNow();
    expect(sockets.all).toHaveLength(before + 1);
  });

  it("gives up on a connection that never says hello", () => {
    const { sockets } = setUp();
    vi.advanceTimersByTime(8000);
    expect(sockets.all[0]?.closedWith).toBe(CLOSE_ZOMBIE);
    vi.advanceTimersByTime(1000);
    expect(sockets.all).toHaveLength(2);
  });

  it("sends a voice state only while ready, and says so", () => {
    const { sockets, ready, gateway } = setUp();
    expect(gateway.updateVoiceState("1", "2", false, false)).toBe(false);
    ready();
    expect(gateway.updateVoiceState("1", "2", true, false)).toBe(true);
    expect(sockets.last().of(4)).toEqual([{ guild_id: "1", channel_id: "2", self_mute: true, self_deaf: false }]);
    sockets.last().end(1006);
    expect(gateway.updateVoiceState("1", null, true, false)).toBe(false);
  });

  it("ignores what is no frame", () => {
    const { sockets, ready, status } = setUp();
    ready();
    for (const data of ["", "{", "null", "7", '{"op":"x"}', '{"op":99}', new ArrayBuffer(2)]) sockets.last().onmessage?.({ data });
    expect(status()).toEqual({ kind: "ready" });
  });
});

describe("backoff", () => {
  it("doubles up to five seconds, never under half of the step", () => {
    expect(backoff(0, () => 0)).toBe(200);
    expect(backoff(0, () => 1)).toBe(400);
    expect(backoff(3, () => 1)).toBe(3200);
    expect(backoff(50, () => 1)).toBe(5000);
    expect(backoff(50, () => 0)).toBe(2500);
  });
});
