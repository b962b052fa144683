import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Gateway } from "../src/protocol/gateway";
import type { GuildCreate, VoiceState } from "../src/protocol/payloads";
import { Call } from "../src/state/call";
import { toasts } from "../src/state/toasts";
import { emptyWorld, reduce, type World } from "../src/state/world";
import { fakeSockets } from "./fakeSocket";

const fakes = vi.hoisted(() => ({
  peers: [] as FakePeer[],
  open: undefined as ((url: string) => unknown) | undefined,
  /** What getUserMedia would throw. */
  refusal: undefined as string | undefined,
  captures: 0,
  priority: [] as string[][],
  /** Who is played, and on which stream. */
  played: new Map<string, unknown>(),
}));

interface FakePeer {
  events: { state(state: string): void; streams(streams: Map<string, unknown>): void };
  server: { host: string; port: number } | undefined;
  spoke: [string, number, boolean][];
  gone: string[];
  sending: boolean | undefined;
  closed: boolean;
}

vi.mock("../src/rtc/peer", () => ({
  Peer: class implements FakePeer {
    server: FakePeer["server"];
    spoke: FakePeer["spoke"] = [];
    gone: string[] = [];
    sending: boolean | undefined;
    closed = false;
    offer = Promise.resolve({ fragment: "v=0", codecs: [], ssrc: 77 });
    connection = { getStats: async () => new Map(), connectionState: "connected" };
    constructor(readonly events: FakePeer["events"]) {
      fakes.peers.push(this);
    }
    accept = async () => {
      this.server = { host: "192.0.2.1", port: 50000 };
    };
    setTrack = async () => undefined;
    setSending = async (on: boolean) => {
      this.sending = on;
    };
    speaking = (...spoke: [string, number, boolean]) => this.spoke.push(spoke);
    leave = (id: string) => this.gone.push(id);
    close = () => {
      this.closed = true;
    };
  },
}));

vi.mock("../src/audio/playback", () => ({
  Playback: class {
    streams = new Map();
    update = (streams: Map<string, unknown>) => {
      fakes.played = streams;
    };
    setVolume = () => undefined;
    setDeaf = () => undefined;
    setSink = async () => undefined;
    setPriority = (ids: ReadonlySet<string>) => fakes.priority.push([...ids]);
    unblock = async () => undefined;
    clear = () => undefined;
  },
}));

vi.mock("../src/audio/capture", async (original) => ({
  ...(await original<typeof import("../src/audio/capture")>()),
  Capture: class {
    running = false;
    track = undefined;
    start = async () => {
      fakes.captures++;
      if (fakes.refusal) throw Object.assign(new Error(fakes.refusal), { name: fakes.refusal });
      this.running = true;
    };
    stop = () => {
      this.running = false;
    };
    configure = () => undefined;
    resume = async () => undefined;
  },
}));

vi.mock("../src/audio/cues", () => ({ playCue: () => undefined }));

vi.mock("../src/protocol/link", async (original) => ({
  ...(await original<typeof import("../src/protocol/link")>()),
  openWebSocket: (url: string) => fakes.open?.(url),
}));

const self = "9";
const guildId = "1";
const [lounge, duo, closed] = ["20", "21", "22"];

const guild: GuildCreate = {
  id: guildId,
  name: "Night Owls",
  owner_id: "2",
  roles: [{ id: guildId, name: "@everyone", permissions: String((1n << 10n) | (1n << 20n) | (1n << 21n) | (1n << 25n)), position: 0 }],
  channels: [
    { id: lounge, type: 2, name: "Lounge" },
    { id: duo, type: 2, name: "Duo", user_limit: 1 },
    { id: closed, type: 2, name: "Closed", permission_overwrites: [{ id: guildId, type: 0, allow: "0", deny: String(1n << 20n) }] },
  ],
  members: [
    { user: { id: self, username: "self" }, roles: [] },
    { user: { id: "3", username: "noor" }, roles: [] },
  ],
  voice_states: [],
};

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("location", { protocol: "http:", hostname: "localhost", host: "localhost" });
  fakes.peers = [];
  fakes.refusal = undefined;
  fakes.captures = 0;
  fakes.priority = [];
  toasts.value = [];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const settle = () => vi.advanceTimersByTimeAsync(0);

function setUp() {
  const sockets = fakeSockets();
  fakes.open = (url) => {
    sockets.open(url);
    const socket = sockets.last();
    const send = socket.send.bind(socket);
    // Only a voice server that answers heartbeats is taken to be there.
    socket.send = (data) => {
      send(data);
      if (socket.sent.at(-1)?.op === 3) socket.say({ op: 6, d: { t: 0 } });
    };
    return socket;
  };
  let world: World = emptyWorld;
  const asked: unknown[][] = [];
  let connected = true;
  const gateway = {
    updateVoiceState: (...what: unknown[]) => {
      if (connected) asked.push(what);
      return connected;
    },
    retryNow: () => undefined,
  } as unknown as Gateway;
  const call = new Call(
    () => world,
    () => gateway,
  );
  const dispatch = (type: string, data: unknown) => {
    world = reduce(world, type, data);
    call.dispatch(type, data);
  };
  dispatch("READY", { v: 10, user: { id: self, username: "self" }, guilds: [], session_id: "g" });
  dispatch("GUILD_CREATE", guild);

  const state = (channel: string | null, more: Partial<VoiceState> = {}) =>
    dispatch("VOICE_STATE_UPDATE", {
      guild_id: guildId,
      user_id: self,
      channel_id: channel,
      session_id: "s",
      mute: false,
      deaf: false,
      self_mute: false,
      self_deaf: false,
      suppress: false,
      ...more,
    });
  const server = (token = "t", endpoint: string | null = "voice:1") => dispatch("VOICE_SERVER_UPDATE", { guild_id: guildId, token, endpoint });
  const peer = () => {
    const last = fakes.peers.at(-1);
    if (!last) throw new Error("no peer was made");
    return last;
  };
  const hello = () => sockets.last().say({ op: 8, d: { v: 9, heartbeat_interval: 13750 } });
  /** The voice server's side of a connection, as far as the media. */
  const greet = async () => {
    hello();
    sockets.last().say({ op: 2, d: { ssrc: 5, ip: "192.0.2.1", port: 50000 }, seq: 1 });
    await settle();
    sockets.last().say({ op: 4, d: { sdp: "answer" }, seq: 2 });
    await settle();
  };
  const join = async (channel = lounge) => {
    call.join(guildId, channel);
    state(channel);
    server();
    await greet();
    peer().events.state("connected");
  };
  return {
    call,
    sockets,
    asked,
    dispatch,
    state,
    server,
    peer,
    hello,
    greet,
    join,
    setGateway: (up: boolean) => (connected = up),
    phase: () => call.state.value?.phase,
    said: () => toasts.value.map(({ text }) => text),
  };
}

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
    const { call, asked, dispatch, setGateway, phase } = setUp();
    setGateway(false);
    call.join(guildId, lounge);
    vi.advanceTimersByTime(20_000);
    expect(phase()).toBe("joining");
    setGateway(true);
    dispatch("READY", { v: 10, user: { id: self, username: "self" }, guilds: [{ id: guildId }], session_id: "g2" });
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
    const { join, dispatch, state, server, peer } = setUp();
    await join();
    const before = peer();
    dispatch("READY", { v: 10, user: { id: self, username: "self" }, guilds: [{ id: guildId }], session_id: "g2" });
    dispatch("GUILD_CREATE", guild);
    state(lounge, { session_id: "s2" });
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
    state(lounge, { session_id: "s2" });
    server("t2");
    await greet();
    peer().events.state("connected");
    expect(phase()).toBe("connected");
    expect(fakes.peers[0]?.closed).toBe(true);
  });

  it("by a restart of the server ends with everything as before", async () => {
    const { call, join, sockets, dispatch, state, server, greet, peer, phase } = setUp();
    await join();
    call.setMute(true);
    sockets.last().end(4015);
    // The gateway's session is gone with the server; its new one is asked for the channel.
    dispatch("READY", { v: 10, user: { id: self, username: "self" }, guilds: [{ id: guildId }], session_id: "g2" });
    dispatch("GUILD_CREATE", guild);
    state(lounge, { session_id: "g2", self_mute: true });
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
    const { join, dispatch, state, server, greet, asked, peer, phase, said } = setUp();
    await join();
    dispatch("READY", { v: 10, user: { id: self, username: "self" }, guilds: [{ id: guildId }], session_id: "g2" });
    vi.advanceTimersByTime(20_000);
    expect(phase()).toBe("connected");
    expect(peer().closed).toBe(false);
    expect(asked.length).toBeGreaterThan(3);
    state(lounge, { session_id: "g2" });
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
