import { describe, expect, it, vi } from "vitest";
import { guildId, lounge, setUp, eachAfresh } from "./callSetUp";
import { fakes } from "./fakeMedia";

vi.mock("../src/rtc/peer", async () => (await import("./fakeMedia")).rtc);
vi.mock("../src/audio/playback", async () => (await import("./fakeMedia")).playback);
vi.mock("../src/audio/cues", async () => (await import("./fakeMedia")).cues);
vi.mock("../src/audio/capture", async (original) => ({ ...(await original<object>()), ...(await import("./fakeMedia")).capture }));
vi.mock("../src/protocol/link", async (original) => ({ ...(await original<object>()), ...(await import("./fakeMedia")).link }));

eachAfresh();

describe("a cut", () => {
  it("of the voice WebSocket is resumed while the media goes on, and told of only if it lasts", async () => {
    const { call, join, sockets, peer, hello, phase } = setUp();
    await join();
    sockets.last().end(1006);
    expect(call.resuming.value).toBe(false);
    vi.advanceTimersByTime(1200);
    expect(call.resuming.value).toBe(true);
    expect(phase()).toBe("connected");
    expect(peer().closed).toBe(false);
    hello();
    expect(sockets.last().of(7)).toMatchObject([{ session_id: "s", token: "t", seq_ack: 2 }]);
    sockets.last().say({ op: 9, d: null });
    expect(call.resuming.value).toBe(false);
    expect(fakes.peers).toHaveLength(1);
  });

  it("that is mended at once is not told of", async () => {
    const { call, join, sockets, hello } = setUp();
    await join();
    sockets.last().end(4015);
    vi.advanceTimersByTime(500);
    hello();
    sockets.last().say({ op: 9, d: null });
    vi.advanceTimersByTime(5000);
    expect(call.resuming.value).toBe(false);
  });

  it("after which the voice server knows nothing leads to a new join", async () => {
    const { join, sockets, hello, asked, state, server, greet, peer, phase } = setUp();
    await join();
    sockets.last().end(1006);
    vi.advanceTimersByTime(500);
    hello();
    sockets.last().end(4006);
    expect(phase()).toBe("reconnecting");
    expect(asked.slice(-2)).toEqual([
      [guildId, null, false, false],
      [guildId, lounge, false, false],
    ]);
    state(null); // our own leaving, on its way still
    state(lounge);
    server("t2");
    await greet();
    peer().events.state("connected");
    expect(phase()).toBe("connected");
    expect(fakes.peers[0]?.closed).toBe(true);
  });

  it("by a restart of the server ends with everything as before", async () => {
    const { call, join, sockets, renew, state, server, greet, peer, phase } = setUp();
    await join();
    call.setMute(true);
    sockets.last().end(4015);
    // The gateway's session is gone with the server; its new one is asked for the channel.
    renew("g2");
    state(lounge, { self_mute: true });
    server("t2");
    await greet();
    expect(sockets.last().of(0)).toMatchObject([{ session_id: "g2", token: "t2" }]);
    expect(sockets.last().of(5)).toMatchObject([{ speaking: 0 }]);
    peer().events.state("connected");
    expect(phase()).toBe("connected");
    expect(call.selfMute.value).toBe(true);
    expect(call.problem.value).toBeUndefined();
  });

  it("of the gateway is outlasted, however long nobody answers the new session", async () => {
    const { join, renew, state, server, greet, asked, peer, phase, said } = setUp();
    await join();
    renew("g2");
    vi.advanceTimersByTime(20_000);
    expect(phase()).toBe("connected");
    expect(peer().closed).toBe(false);
    expect(asked.length).toBeGreaterThan(3);
    state(lounge);
    server("t2");
    await greet();
    peer().events.state("connected");
    const times = asked.length;
    vi.advanceTimersByTime(20_000);
    expect(asked.length).toBe(times);
    expect(phase()).toBe("connected");
    expect(said()).toEqual([]);
  });

  it("without another voice server waits for one", async () => {
    const { join, server, greet, peer, phase } = setUp();
    await join();
    server("t", null);
    expect(phase()).toBe("reconnecting");
    server("t2", "voice:2");
    await greet();
    peer().events.state("connected");
    expect(phase()).toBe("connected");
  });

  it("of the media is waited out, and rejoined when it fails", async () => {
    const { join, peer, asked, phase } = setUp();
    await join();
    peer().events.state("disconnected");
    expect(phase()).toBe("reconnecting");
    peer().events.state("failed");
    expect(asked.slice(-2)).toEqual([
      [guildId, null, false, false],
      [guildId, lounge, false, false],
    ]);
  });
});

describe("a gateway session that is lost", () => {
  it("leaves the call as it is: the next one claims it, and no media is made anew", async () => {
    const { call, join, renew, asked, state, server, sockets, greet, hello, peer, phase } = setUp();
    await join();
    renew("g2");
    expect(asked.at(-1)).toEqual([guildId, lounge, false, false, "s"]);
    state(lounge);
    const times = asked.length;
    vi.advanceTimersByTime(20_000);
    expect([asked.length, fakes.peers.length, sockets.all.length, phase()]).toEqual([times, 1, 1, "connected"]);
    // To the voice server it is who it was, and it goes on telling the guild so.
    sockets.last().end(1006);
    vi.advanceTimersByTime(500);
    hello();
    expect(sockets.last().of(7)).toMatchObject([{ session_id: "s", token: "t" }]);
    call.setMute(true);
    expect(asked.at(-1)).toEqual([guildId, lounge, true, false, "s"]);
    // And so on, session after session, until there is another voice server.
    renew("g3");
    expect(asked.at(-1)).toEqual([guildId, lounge, true, false, "s"]);
    state(lounge, { self_mute: true });
    vi.advanceTimersByTime(2000);
    server("t2", "voice:2");
    expect(fakes.peers[0]?.closed).toBe(false);
    await greet();
    expect(sockets.last().of(0)).toMatchObject([{ session_id: "g3", token: "t2" }]);
    peer().events.state("connected");
    renew("g4");
    expect(asked.at(-1)).toEqual([guildId, lounge, true, false, "g3"]);
  });

  it("is joined anew when the guild says so", async () => {
    const { join, renew, state, server, greet, peer, phase } = setUp();
    await join();
    renew("g2");
    state(lounge);
    server("t2");
    expect(fakes.peers[0]?.closed).toBe(true);
    await greet();
    peer().events.state("connected");
    expect(phase()).toBe("connected");
  });

  it("is joined anew when nobody answers the claims", async () => {
    const { join, renew, asked } = setUp();
    await join();
    const times = asked.length;
    renew("g2");
    vi.advanceTimersByTime(11_000);
    const claim = [guildId, lounge, false, false, "s"];
    expect(asked.slice(times)).toEqual([claim, claim, [guildId, lounge, false, false]]);
  });

  it("may be told of still, and that is neither an answer nor another window", async () => {
    const { join, renew, asked, state, phase, said } = setUp();
    await join();
    renew("g2");
    state(lounge, { session_id: "s", mute: true });
    const times = asked.length;
    vi.advanceTimersByTime(6000);
    expect(asked.length).toBe(times + 1);
    state(lounge);
    vi.advanceTimersByTime(20_000);
    expect([asked.length, phase(), said()]).toEqual([times + 1, "connected", []]);
  });
});

describe("trouble", () => {
  it("is told when no media comes up: UDP is blocked, at this host and port", async () => {
    const { call, state, server, greet, phase } = setUp();
    call.join(guildId, lounge);
    state(lounge);
    server();
    await greet();
    await vi.advanceTimersByTimeAsync(8000);
    expect(call.trouble.value?.kind).toBe("udp-blocked");
    expect(call.trouble.value?.detail).toContain("50000");
    expect(phase()).toBe("connecting");
  });

  it("is told when the voice server does not answer at all", async () => {
    const { call, state, server } = setUp();
    call.join(guildId, lounge);
    state(lounge);
    server();
    await vi.advanceTimersByTimeAsync(8000);
    expect(call.trouble.value?.kind).toBe("voice-unreachable");
  });

  it("goes away when the media comes after all", async () => {
    const { call, state, server, greet, peer } = setUp();
    call.join(guildId, lounge);
    state(lounge);
    server();
    await greet();
    await vi.advanceTimersByTimeAsync(8000);
    peer().events.state("connected");
    expect(call.trouble.value).toBeUndefined();
  });

  it.each([
    ["NotAllowedError", "mic-refused"],
    ["NotFoundError", "mic-missing"],
    ["NotReadableError", "mic-busy"],
  ])("with the microphone (%s) is told, and one can still listen", async (name, kind) => {
    fakes.refusal = name;
    const { call, join, phase } = setUp();
    await join();
    expect(phase()).toBe("connected");
    expect(call.trouble.value?.kind).toBe(kind);
    fakes.refusal = undefined;
    await call.mic.restart();
    expect(call.trouble.value).toBeUndefined();
    expect(fakes.captures).toBe(2);
  });

  it("that no further try can mend ends the call", async () => {
    const { join, sockets, asked, phase, said } = setUp();
    await join();
    sockets.last().end(4016);
    expect(phase()).toBeUndefined();
    expect(asked.at(-1)).toEqual([guildId, null, false, false]);
    expect(said()).toHaveLength(1);
  });
});
