import { afterEach, beforeEach, vi } from "vitest";
import type { Gateway } from "../src/protocol/gateway";
import type { GuildCreate, Ready, VoiceState } from "../src/protocol/payloads";
import { Call } from "../src/state/call";
import { toasts } from "../src/state/toasts";
import { emptyWorld, reduce, type World } from "../src/state/world";
import { fakes } from "./fakeMedia";
import { fakeSockets } from "./fakeSocket";

export const self = "9";
export const guildId = "1";
export const [lounge, duo, closed] = ["20", "21", "22"];

export const guild: GuildCreate = {
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

/** Makes each test of a file begin afresh, on a clock of its own. */
export function eachAfresh(): void {
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
}

export const settle = () => vi.advanceTimersByTimeAsync(0);

export function setUp() {
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
    sessionId: undefined as string | undefined,
    updateVoiceState: (...what: unknown[]) => {
      if (connected) asked.push(what.filter((word) => word !== undefined));
      return connected;
    },
    retryNow: () => undefined,
  };
  const call = new Call(
    () => world,
    () => gateway as unknown as Gateway,
  );
  const dispatch = (type: string, data: unknown) => {
    if (type === "READY") gateway.sessionId = (data as Ready).session_id;
    world = reduce(world, type, data);
    call.dispatch(type, data);
  };
  dispatch("READY", { v: 10, user: { id: self, username: "self" }, guilds: [], session_id: "s" });
  dispatch("GUILD_CREATE", guild);

  const state = (channel: string | null, more: Partial<VoiceState> = {}) =>
    dispatch("VOICE_STATE_UPDATE", {
      guild_id: guildId,
      user_id: self,
      channel_id: channel,
      session_id: gateway.sessionId ?? "",
      mute: false,
      deaf: false,
      self_mute: false,
      self_deaf: false,
      suppress: false,
      ...more,
    });
  /** The gateway session is lost, and here is the next one. */
  const renew = (session: string) => {
    dispatch("READY", { v: 10, user: { id: self, username: "self" }, guilds: [{ id: guildId }], session_id: session });
    dispatch("GUILD_CREATE", guild);
  };
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
    renew,
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
