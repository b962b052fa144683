import { describe, expect, it, vi } from "vitest";
import { closed, duo, guildId, lounge, self, setUp, eachAfresh } from "./callSetUp";
import { fakes } from "./fakeMedia";

vi.mock("../src/rtc/peer", async () => (await import("./fakeMedia")).rtc);
vi.mock("../src/audio/playback", async () => (await import("./fakeMedia")).playback);
vi.mock("../src/audio/cues", async () => (await import("./fakeMedia")).cues);
vi.mock("../src/audio/capture", async (original) => ({ ...(await original<object>()), ...(await import("./fakeMedia")).capture }));
vi.mock("../src/protocol/link", async (original) => ({ ...(await original<object>()), ...(await import("./fakeMedia")).link }));

eachAfresh();

describe("joining", () => {
  it("asks the gateway, then the voice server, and is there when the media is", async () => {
    const { call, asked, state, server, sockets, greet, peer, phase } = setUp();
    call.join(guildId, lounge);
    expect(asked).toEqual([[guildId, lounge, false, false]]);
    expect(phase()).toBe("joining");
    state(lounge);
    server();
    expect(phase()).toBe("connecting");
    expect(sockets.last().url).toBe("ws://voice:1/?v=9");
    await greet();
    expect(sockets.last().of(0)).toMatchObject([{ server_id: guildId, channel_id: lounge, user_id: self, session_id: "s", token: "t" }]);
    expect(sockets.last().of(1)).toMatchObject([{ protocol: "webrtc", data: "v=0" }]);
    expect(sockets.last().of(5)).toEqual([{ speaking: 1, delay: 0, ssrc: 77 }]);
    peer().events.state("connected");
    expect(phase()).toBe("connected");
    expect(call.trouble.value).toBeUndefined();
  });

  it("takes the voice server's name before the voice state, too", async () => {
    const { call, server, state, greet, peer, phase } = setUp();
    call.join(guildId, lounge);
    server();
    state(lounge);
    await greet();
    peer().events.state("connected");
    expect(phase()).toBe("connected");
  });

  it("asks once the gateway is back", () => {
    const { call, asked, renew, setGateway, phase } = setUp();
    setGateway(false);
    call.join(guildId, lounge);
    vi.advanceTimersByTime(20_000);
    expect(phase()).toBe("joining");
    setGateway(true);
    renew("g2");
    expect(asked).toEqual([[guildId, lounge, false, false]]);
  });

  it("does not ask for a full channel, and says that it is full", () => {
    const { call, state, asked, said, phase } = setUp();
    state(duo, { user_id: "3", session_id: "other" });
    call.join(guildId, duo);
    expect(asked).toEqual([]);
    expect(phase()).toBeUndefined();
    expect(said()).toEqual(["Duo is full (1 of 1)."]);
  });

  it("does not ask for a forbidden channel, and says so", () => {
    const { call, asked, said } = setUp();
    call.join(guildId, closed);
    expect(asked).toEqual([]);
    expect(said()).toEqual(["You don't have permission to join Closed."]);
  });

  it("gives up when the server says nothing", () => {
    const { call, phase, said, peer } = setUp();
    call.join(guildId, lounge);
    vi.advanceTimersByTime(5000);
    expect(phase()).toBeUndefined();
    expect(peer().closed).toBe(true);
    expect(said()[0]).toContain("no answer about Lounge");
  });

  it("leaves", async () => {
    const { call, join, asked, sockets, peer, phase } = setUp();
    await join();
    call.leave();
    expect(asked.at(-1)).toEqual([guildId, null, false, false]);
    expect(sockets.last().closedWith).toBe(1000);
    expect(peer().closed).toBe(true);
    expect(phase()).toBeUndefined();
  });
});

describe("a channel that goes over to another voice server", () => {
  const moving = async () => {
    const it = setUp();
    await it.join();
    const [before, old] = [it.peer(), it.sockets.last()];
    before.events.streams(new Map([["3", "3 at the old"], ["4", "4 at the old"]]));
    it.server("t2", "other:1");
    await it.greet();
    return { ...it, before, old };
  };

  it("is heard at the old one until all are at the new one, each there who is there still", async () => {
    const { before, old, peer, phase, sockets } = await moving();
    expect(phase()).toBe("connected");
    expect(sockets.last().url).toBe("ws://other:1/?v=9");
    expect([before.closed, old.closedWith]).toEqual([false, undefined]);
    peer().events.state("connecting");
    peer().events.state("connected");
    peer().events.streams(new Map([["3", "3 at the new"]]));
    expect(Object.fromEntries(fakes.played)).toEqual({ 3: "3 at the old", 4: "4 at the old" });
    old.say({ op: 13, d: { user_id: "3" } });
    expect(before.gone).toEqual(["3"]);
    before.events.streams(new Map([["4", "4 at the old"]]));
    peer().events.streams(new Map([["3", "3 at the new"], ["4", "4 at the new"]]));
    expect(Object.fromEntries(fakes.played)).toEqual({ 3: "3 at the new", 4: "4 at the old" });
    old.end(4014);
    expect(before.closed).toBe(true);
    expect(Object.fromEntries(fakes.played)).toEqual({ 3: "3 at the new", 4: "4 at the new" });
    expect(phase()).toBe("connected");
    expect(peer().closed).toBe(false);
  });

  it("is spoken to at both", async () => {
    const { call, before, peer } = await moving();
    call.mic.open.value = true;
    expect([before.sending, peer().sending]).toEqual([true, true]);
    call.leave();
    expect([before.closed, peer().closed]).toEqual([true, true]);
  });

  it("is left when it dies, and after fifteen seconds", async () => {
    const dead = await moving();
    dead.before.events.state("disconnected");
    expect(dead.before.closed).toBe(true);
    const silent = await moving();
    silent.peer().events.state("connected");
    await vi.advanceTimersByTimeAsync(15_000);
    expect([silent.before.closed, silent.peer().closed]).toEqual([true, false]);
  });

  it("is left when it brings nothing while the next one does", async () => {
    const { before, peer } = await moving();
    peer().events.state("connected");
    const pass = async (old: number, next: number) => {
      before.packets += old;
      peer().packets += next;
      await vi.advanceTimersByTimeAsync(200);
      return before.closed;
    };
    // Somebody talks at both, nobody does, and somebody pauses who is at the old one only.
    for (const [old, next] of [[9, 9], [10, 10], [0, 0], [0, 0], [0, 0], [0, 10], [1, 10], [0, 10]] as const) {
      expect(await pass(old, next)).toBe(false);
    }
    expect(await pass(0, 10)).toBe(true);
    expect(peer().closed).toBe(false);
  });

  it("says that it reconnects when the old one ends too soon", async () => {
    const { old, peer, phase } = await moving();
    (peer() as unknown as { connection: { connectionState: string } }).connection.connectionState = "connecting";
    old.end(4014);
    expect(phase()).toBe("reconnecting");
    peer().events.state("connected");
    expect(phase()).toBe("connected");
  });

  it("goes on from where the call is when the next server is left too", async () => {
    const { before, server, peer, greet } = await moving();
    const second = peer();
    (second as unknown as { connection: { connectionState: string } }).connection.connectionState = "connecting";
    server("t3", "third:1");
    await greet();
    expect([before.closed, second.closed, peer().closed]).toEqual([false, true, false]);
  });

  it("keeps nothing that its own request replaces", async () => {
    const { join, renew, state, server, peer } = setUp();
    await join();
    const before = peer();
    renew("g2");
    state(lounge);
    server("t2");
    expect(before.closed).toBe(true);
  });
});

describe("a moderator", () => {
  it("moves to another channel: the old connection goes, the new one is made with a new token", async () => {
    const { call, join, state, server, sockets, greet, peer, said, phase } = setUp();
    await join();
    const before = peer();
    state(duo);
    server("t2");
    expect(before.closed).toBe(true);
    expect(call.state.value?.channelId).toBe(duo);
    expect(said()).toEqual(["You were moved to Duo."]);
    await greet();
    expect(sockets.last().of(0)).toMatchObject([{ channel_id: duo, token: "t2" }]);
    peer().events.state("connected");
    expect(phase()).toBe("connected");
  });

  it("may close the old connection first", async () => {
    const { join, state, server, sockets, greet, peer, phase } = setUp();
    await join();
    sockets.last().end(4014);
    expect(phase()).toBe("reconnecting");
    state(duo);
    server("t2");
    await greet();
    peer().events.state("connected");
    vi.advanceTimersByTime(6000);
    expect(phase()).toBe("connected");
  });

  it("disconnects", async () => {
    const { join, state, sockets, peer, phase, said } = setUp();
    await join();
    const connections = sockets.all.length;
    state(null);
    expect(phase()).toBeUndefined();
    expect(peer().closed).toBe(true);
    expect(said()).toEqual(["You were disconnected from the voice channel."]);
    vi.advanceTimersByTime(60_000);
    expect(sockets.all).toHaveLength(connections);
  });

  it("disconnects by the voice server alone, when no other follows", async () => {
    const { join, sockets, phase } = setUp();
    await join();
    sockets.last().end(4014);
    vi.advanceTimersByTime(5000);
    expect(phase()).toBeUndefined();
  });

  it("mutes, without a word from the user", async () => {
    const { call, join, state } = setUp();
    await join();
    state(lounge, { mute: true });
    expect(call.mic.muted.value).toBe(true);
    expect(call.selfMute.value).toBe(false);
    state(lounge);
    expect(call.mic.muted.value).toBe(false);
  });

  it("cannot be told apart from the user's own other window, which takes the call over", async () => {
    const { join, state, phase, said } = setUp();
    await join();
    state(lounge, { session_id: "elsewhere" });
    expect(phase()).toBeUndefined();
    expect(said()).toEqual(["You joined a voice channel from somewhere else."]);
  });
});

describe("others", () => {
  it("are heard under the SSRC that is announced, and silent when they leave", async () => {
    const { call, join, sockets, peer, state } = setUp();
    await join();
    sockets.last().say({ op: 5, d: { user_id: "3", ssrc: 8, speaking: 1 }, seq: 3 });
    expect(peer().spoke).toEqual([["3", 8, true]]);
    expect([...call.speaking.value]).toEqual(["3"]);
    state(null, { user_id: "3", session_id: "other" });
    expect(peer().gone).toEqual(["3"]);
    expect(call.speaking.value.size).toBe(0);
  });

  it("have priority while they are announced with it", async () => {
    const { join, sockets } = setUp();
    await join();
    const speak = (speaking: number) => sockets.last().say({ op: 5, d: { user_id: "3", ssrc: 8, speaking }, seq: 3 });
    speak(5);
    speak(0);
    speak(1);
    expect(fakes.priority).toEqual([["3"], []]);
    speak(5);
    sockets.last().say({ op: 13, d: { user_id: "3" }, seq: 4 });
    expect(fakes.priority.at(-1)).toEqual([]);
  });
});
