import { computed, effect, signal } from "@preact/signals";
import { playCue, type Cue } from "../audio/cues";
import { Playback } from "../audio/playback";
import { openWebSocket } from "../protocol/link";
import type { Gateway } from "../protocol/gateway";
import type { Channel, Snowflake, VoiceServerUpdate, VoiceState } from "../protocol/payloads";
import { channelPermissions, has, Permission } from "../protocol/permissions";
import { SpeakingFlag, VoiceSession, type CloseAction } from "../protocol/voice";
import { Peer, type TransportState } from "../rtc/peer";
import type { ConnectionStats } from "../rtc/stats";
import { testMode, webSocketUrl } from "./env";
import { Former } from "./former";
import { Meter } from "./meter";
import { Microphone } from "./mic";
import { prefs } from "./prefs";
import { autoplayBlocked, udpBlocked, voiceFatal, type Problem } from "./problems";
import { joinRefusal } from "./refusal";
import { Speakers } from "./speakers";
import { toast } from "./toasts";
import { displayName, type World } from "./world";

export interface CallState {
  phase: "joining" | "connecting" | "connected" | "reconnecting";
  guildId: Snowflake;
  channelId: Snowflake;
}

/** A refused join brings no event at all, so silence has to be read as an answer after this long (ms). */
const answerWithin = 5000;
/** Media that has not come up after this long (ms) is taken as blocked. */
const mediaWithin = 8000;
/** The sender stops this long (ms) after the gate closed, so that listeners hear the fade and not a cut. */
const stopSendingAfter = 120;
/** A cut of the signalling shorter than this (ms) is mended before anyone need read of it. */
const quietFor = 1000;
/** Rejoins in a row before the user is asked. */
const mostRejoins = 3;
/** How often the connection is claimed by a new gateway session before the channel is asked for anew. */
const mostClaims = 2;
/** A voice server that is named this soon (ms) after a claim was answered is a part of the answer. */
const answerLasts = 1000;

/** The voice call: asks the gateway for a channel, talks to the voice server, and puts things right when they break. */
export class Call {
  readonly state = signal<CallState | undefined>(undefined);
  readonly selfMute = signal(false);
  readonly selfDeaf = signal(false);
  readonly #speakers = new Speakers((ids) => this.playback.setPriority(ids));
  /** Other users who speak now; the user's own is the microphone's gate. */
  readonly speaking = this.#speakers.now;
  readonly problem = signal<Problem | undefined>(undefined);
  readonly transport = signal<TransportState>("new");
  readonly #meter = new Meter(() => this.#peer);
  readonly stats = this.#meter.stats;
  readonly pings = this.#meter.pings;
  readonly endpoint = signal("");
  /** The voice server's WebSocket is being resumed, while the sound goes on. */
  readonly resuming = signal(false);
  readonly mic = new Microphone((track) => {
    for (const peer of this.#peers()) void peer.setTrack(track ?? null);
  });
  readonly playback = new Playback((blocked) => this.#autoplay(blocked));
  /** What the user should know first. */
  readonly trouble = computed(() => this.problem.value ?? (this.state.value ? this.mic.problem.value : undefined));

  readonly #world: () => World;
  readonly #gateway: () => Gateway | undefined;
  #session: VoiceSession | undefined;
  #peer: Peer | undefined;
  /** Of #peer. */
  #streams: ReadonlyMap<string, MediaStream> = new Map();
  /** The channel of #session. */
  #sessionChannel: Snowflake | undefined;
  #former: Former | undefined;
  #ssrc = 0;
  #rejoins = 0;
  /** Opcode 4 was sent and its voice state has not come back yet. */
  #asked = false;
  /** The next voice server is the answer to opcode 4. */
  #answered = false;
  /** Times that this gateway session has claimed the connection. */
  #claims = 0;
  /** Of the voice state that put us in the channel; undefined until it arrives. */
  #voiceSession: string | undefined;
  #pendingServer: VoiceServerUpdate | undefined;
  #answerTimer: ReturnType<typeof setTimeout> | undefined;
  #mediaTimer: ReturnType<typeof setTimeout> | undefined;
  #stopTimer: ReturnType<typeof setTimeout> | undefined;
  #resumeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(world: () => World, gateway: () => Gateway | undefined) {
    this.#world = world;
    this.#gateway = gateway;
    effect(() => this.#transmit(this.mic.open.value));
    effect(() => {
      const { outputDevice } = prefs.value;
      this.playback.setSink(outputDevice).catch(() => toast("That output device can't be used.", "error"));
    });
    effect(() => {
      const { volumes, silenced } = prefs.value;
      for (const id of this.playback.streams.keys()) {
        this.playback.setVolume(id, silenced[id] ? 0 : (volumes[id] ?? 1));
      }
    });
    effect(() => this.playback.setDeaf(this.selfDeaf.value));
  }

  join(guildId: Snowflake, channelId: Snowflake): void {
    const guild = this.#world().guilds.get(guildId);
    const channel = guild?.channels.get(channelId);
    if (!guild || !channel) return;
    const current = this.state.value;
    if (current?.channelId === channelId && current.phase !== "reconnecting") return;
    const refusal = joinRefusal(this.#world(), guild, channel);
    if (refusal) return toast(refusal, "error");
    this.#disposeSession();
    this.#rejoins = 0;
    this.problem.value = undefined;
    this.state.value = { phase: "joining", guildId, channelId };
    this.#updateGates(this.#ownVoiceState());
    // Both take a while and neither needs the server's answer.
    this.#peer = this.#createPeer();
    void this.mic.acquire("call");
    this.#ask();
  }

  leave(): void {
    const state = this.state.value;
    if (!state) return;
    this.#sendState(state.guildId, null);
    this.#end();
    this.#cue("leave");
  }

  setMute(mute: boolean): void {
    if (!mute && this.selfDeaf.value) this.selfDeaf.value = false;
    this.selfMute.value = mute;
    this.#selfChanged(mute);
  }

  setDeaf(deaf: boolean): void {
    this.selfDeaf.value = deaf;
    this.#selfChanged(deaf);
  }

  retry(): void {
    this.#rejoins = 0;
    this.problem.value = undefined;
    this.#gateway()?.retryNow();
    this.#session?.retryNow();
    if (this.state.value) this.#rejoin();
  }

  /** Called from a click, after the browser held the sound back. */
  async unblock(): Promise<void> {
    await Promise.all([this.playback.unblock(), this.mic.resume()]);
  }

  /** Feeds a gateway event, after the world has taken it in. */
  dispatch(type: string, data: unknown): void {
    if (type === "VOICE_STATE_UPDATE") this.#voiceState(data as VoiceState);
    if (type === "VOICE_SERVER_UPDATE") this.#voiceServer(data as VoiceServerUpdate);
    // A new gateway session knows nothing of the call; a resumed one does.
    if (type === "READY" && this.state.value) {
      this.#claims = 0;
      this.#ask();
    }
    if (type === "CHANNEL_DELETE" && (data as Channel).id === this.state.value?.channelId) {
      this.#end();
      toast("The channel was deleted.");
    }
    if (type === "CHANNEL_UPDATE" || type.startsWith("GUILD_ROLE")) this.#updateGates(this.#ownVoiceState());
  }

  /** Signs out: nothing of the call may outlive the session. */
  shutDown(): void {
    if (this.state.value) this.#end();
  }

  get signalling(): { latency: number; sent: number; received: number } {
    const bytes = this.#session?.bytes ?? { sent: 0, received: 0 };
    return { latency: this.#session?.latency ?? NaN, ...bytes };
  }

  get peer(): Peer | undefined {
    return this.#peer;
  }

  sampleStats(): Promise<ConnectionStats | undefined> {
    return this.#meter.sample();
  }

  #ownVoiceState(): VoiceState | undefined {
    const world = this.#world();
    return world.guilds.get(this.state.value?.guildId ?? "")?.voiceStates.get(world.self?.id ?? "");
  }

  /** The session by which the call is connected, if that is not the gateway's: it may have died, and the call has not. */
  #connectedAs(): string | undefined {
    const session = this.transport.value === "connected" ? this.#session?.sessionId : undefined;
    const here = this.#sessionChannel === this.state.value?.channelId && session !== this.#gateway()?.sessionId;
    return here ? session : undefined;
  }

  #sendState(guildId: Snowflake, channelId: Snowflake | null, connectedAs?: string): boolean {
    const [mute, deaf] = [this.selfMute.value, this.selfDeaf.value];
    return this.#gateway()?.updateVoiceState(guildId, channelId, mute, deaf, connectedAs) ?? false;
  }

  /** Opcode 4 for the channel of the call, and a watch on the answer. */
  #ask(): void {
    const state = this.state.value;
    if (!state) return;
    const claim = this.#claims < mostClaims ? this.#connectedAs() : undefined;
    if (claim) this.#claims++;
    clearTimeout(this.#answerTimer);
    this.#asked = this.#answered = true;
    this.#voiceSession = undefined;
    this.#pendingServer = undefined;
    const sent = this.#sendState(state.guildId, state.channelId, claim);
    // Not connected: the next READY asks again, and the reconnection banner says what is going on.
    if (!sent) return;
    this.#answerTimer = setTimeout(() => this.#unanswered(), answerWithin);
  }

  #unanswered(): void {
    const state = this.state.value;
    if (!state) return;
    // Who was in the call is not turned away by silence: what was asked got lost, and the sound may flow on meanwhile.
    if (state.phase !== "joining") return this.#ask();
    const name = this.#world().guilds.get(state.guildId)?.channels.get(state.channelId)?.name ?? "the channel";
    this.#end();
    toast(`The server gave no answer about ${name}. It may be full, or closed to you. Try again.`, "error");
  }

  #voiceState(voice: VoiceState): void {
    const state = this.state.value;
    const self = this.#world().self?.id;
    if (!state || voice.guild_id !== state.guildId) return;
    if (voice.user_id !== self) return this.#otherVoiceState(voice, state);
    if (this.#asked) {
      // Until the answer comes, older events, our own leaving among them, may still be under way.
      if (voice.channel_id !== state.channelId || voice.session_id !== this.#gateway()?.sessionId) return;
      this.#asked = false;
      this.#voiceSession = voice.session_id;
      this.#updateGates(voice);
      if (this.#connectedAs() && !this.#pendingServer) {
        // The call goes on by the new session, unless a voice server is named after all.
        clearTimeout(this.#answerTimer);
        this.#answerTimer = setTimeout(() => (this.#answered = false), answerLasts);
      }
      if (this.#pendingServer) this.#voiceServer(this.#pendingServer);
      return;
    }
    if (voice.session_id !== this.#voiceSession) {
      if (!voice.channel_id) return;
      this.#end();
      return toast("You joined a voice channel from somewhere else.");
    }
    if (!voice.channel_id) {
      this.#end();
      this.#cue("leave");
      return toast("You were disconnected from the voice channel.");
    }
    if (voice.channel_id !== state.channelId) {
      const name = this.#world().guilds.get(state.guildId)?.channels.get(voice.channel_id)?.name ?? "another channel";
      this.state.value = { ...state, channelId: voice.channel_id };
      toast(`You were moved to ${name}.`);
    }
    this.#updateGates(voice);
  }

  #otherVoiceState(voice: VoiceState, state: CallState): void {
    if (voice.channel_id === state.channelId) return;
    this.#left(voice.user_id);
  }

  #left(userId: Snowflake): void {
    for (const peer of this.#peers()) peer.leave(userId);
    this.#speakers.set(userId, false);
  }

  #peers(): Peer[] {
    return [this.#peer, this.#former?.peer].filter((peer) => peer !== undefined);
  }

  #updateGates(voice: VoiceState | undefined): void {
    const state = this.state.value;
    const world = this.#world();
    const guild = world.guilds.get(state?.guildId ?? "");
    const channel = guild?.channels.get(state?.channelId ?? "");
    const self = world.self?.id ?? "";
    if (guild && channel) {
      const permissions = channelPermissions(guild, channel, self, guild.members.get(self));
      this.mic.pushOnly.value = !has(permissions, Permission.useVad);
    }
    const silenced = voice !== undefined && (voice.mute || voice.deaf || voice.suppress);
    this.mic.muted.value = this.selfMute.value || this.selfDeaf.value || silenced;
  }

  #voiceServer(update: VoiceServerUpdate): void {
    const state = this.state.value;
    if (!state || update.guild_id !== state.guildId) return;
    if (this.#voiceSession === undefined) {
      // The voice state with our session id comes in no fixed order with this.
      this.#pendingServer = update;
      return;
    }
    this.#pendingServer = undefined;
    clearTimeout(this.#answerTimer);
    if (!update.endpoint) {
      // The voice server is gone and another is being found; a second update will name it.
      this.state.value = { ...state, phase: "reconnecting" };
      return;
    }
    // A peer made while joining has not been used yet; one of an earlier session cannot be used again.
    if (this.#session || !this.#peer) {
      // The answer to a request of ours names what takes the old connection's place; that has ended already.
      if (this.#answered || !this.#keepFormer(state)) this.#disposeSession();
      this.#peer = this.#createPeer();
    }
    this.#answered = false;
    this.#connect(this.#peer, state, update.endpoint, update.token);
  }

  #connect(peer: Peer, state: CallState, endpoint: string, token: string): void {
    const world = this.#world();
    this.endpoint.value = endpoint;
    if (!this.#former) {
      this.state.value = { ...state, phase: state.phase === "reconnecting" ? "reconnecting" : "connecting" };
    }
    this.#sessionChannel = state.channelId;
    const session: VoiceSession = new VoiceSession({
      url: webSocketUrl(`${endpoint}/?v=9`),
      open: openWebSocket,
      guildId: state.guildId,
      channelId: state.channelId,
      userId: world.self?.id ?? "",
      sessionId: this.#voiceSession ?? "",
      token,
      ready: () => void this.#select(session, peer),
      described: ({ sdp }) => void this.#describe(session, peer, sdp),
      speaking: ({ user_id, ssrc, speaking }) => {
        if (user_id === world.self?.id) return;
        peer.speaking(user_id, ssrc, speaking !== 0);
        this.#speakers.set(user_id, speaking !== 0, (speaking & SpeakingFlag.priority) !== 0);
      },
      connected: () => undefined,
      disconnected: (userId) => {
        peer.leave(userId);
        // Of two servers, the other goes on telling whether the user speaks.
        if (!this.#former) this.#speakers.set(userId, false);
      },
      signalling: (up) => {
        if (session !== this.#former?.session) this.#signalling(up);
        else if (!up && this.transport.value === "connected") this.#dropFormer();
      },
      ended: (action, code) => {
        if (session === this.#former?.session) this.#dropFormer();
        else this.#sessionEnded(action, code);
      },
    });
    this.#session = session;
    clearTimeout(this.#mediaTimer);
    this.#mediaTimer = setTimeout(() => this.#mediaLate(), mediaWithin);
  }

  async #select(session: VoiceSession, peer: Peer): Promise<void> {
    try {
      const offer = await peer.offer;
      this.#ssrc = offer.ssrc;
      session.selectWebRTC(offer.fragment, offer.codecs, crypto.randomUUID?.() ?? `${Date.now()}`);
    } catch (error) {
      this.#broken(error as Error);
    }
  }

  async #describe(session: VoiceSession, peer: Peer, sdp: string): Promise<void> {
    const state = this.state.value;
    const channel = this.#world().guilds.get(state?.guildId ?? "")?.channels.get(state?.channelId ?? "");
    try {
      await peer.accept(sdp, channel?.bitrate ?? 64000);
      session.speak(this.mic.muted.value ? 0 : 1, this.#ssrc);
      await Promise.all([peer.setTrack(this.mic.track ?? null), peer.setSending(this.mic.open.value)]);
    } catch (error) {
      if (peer === this.#peer) this.#broken(error as Error);
    }
  }

  #createPeer(): Peer {
    if (!this.#former) this.transport.value = "new";
    const peer: Peer = new Peer({
      state: (transport) => {
        if (peer === this.#peer) this.#transportChanged(transport);
        else if (peer === this.#former?.peer && transport !== "connected") this.#dropFormer();
      },
      streams: (streams) => {
        if (peer === this.#peer) this.#streams = streams;
        else if (peer === this.#former?.peer) this.#former.streams = streams;
        else return;
        this.#play();
      },
      failed: (error) => this.#broken(error),
    });
    return peer;
  }

  /** Keeps the connection to the server that the channel is leaving, if it is one to go on with. */
  #keepFormer(state: CallState): boolean {
    const [session, peer] = [this.#session, this.#peer];
    if (this.transport.value !== "connected" || this.#sessionChannel !== state.channelId || !session || !peer) return false;
    clearTimeout(this.#mediaTimer);
    clearTimeout(this.#resumeTimer);
    this.resuming.value = false;
    if (this.#former && peer.connection.connectionState !== "connected") {
      // Sent on before it was there: the call is still at the first server.
      session.close();
      peer.close();
    } else {
      this.#dropFormer();
      this.#former = new Former(session, peer, this.#streams, () => this.#peer, () => this.#dropFormer());
    }
    this.#session = undefined;
    this.#streams = new Map();
    return true;
  }

  /** Everybody is at the new server, or the old one is gone. */
  #dropFormer(): void {
    const former = this.#former;
    if (!former) return;
    this.#former = undefined;
    former.close();
    for (const id of former.streams.keys()) if (!this.#streams.has(id)) this.#speakers.set(id, false);
    this.#play();
    const transport = this.#peer?.connection.connectionState ?? "closed";
    if (transport === "connected" || !this.state.value) return;
    this.transport.value = transport;
    this.state.value = { ...this.state.value, phase: "reconnecting" };
    clearTimeout(this.#mediaTimer);
    this.#mediaTimer = setTimeout(() => this.#mediaLate(), mediaWithin);
  }

  #play(): void {
    const { volumes, silenced } = prefs.value;
    const streams = new Map([...this.#streams, ...(this.#former?.streams ?? [])]);
    this.playback.update(streams, (id) => (silenced[id] ? 0 : (volumes[id] ?? 1)));
  }

  #transportChanged(transport: TransportState): void {
    if (this.#former && (transport === "new" || transport === "connecting")) return;
    if (transport !== "connected") this.#dropFormer();
    this.transport.value = transport;
    const state = this.state.value;
    if (!state) return;
    if (transport === "connected") {
      clearTimeout(this.#mediaTimer);
      this.#rejoins = 0;
      if (this.problem.value?.kind !== "autoplay") this.problem.value = undefined;
      if (state.phase === "connecting") this.#cue("join");
      this.state.value = { ...state, phase: "connected" };
      this.#meter.start();
    } else if (transport === "disconnected") {
      this.state.value = { ...state, phase: "reconnecting" };
    } else if (transport === "failed") {
      if (state.phase === "reconnecting") this.#rejoin();
      else this.#mediaLate();
    }
  }

  #signalling(up: boolean): void {
    const state = this.state.value;
    clearTimeout(this.#resumeTimer);
    if (up) this.resuming.value = false;
    if (!state || up) return;
    // Media goes on without signalling: only a call that has none yet is held up by it.
    if (this.transport.value === "connected") this.#resumeTimer = setTimeout(() => (this.resuming.value = true), quietFor);
    else if (state.phase === "connecting") this.state.value = { ...state, phase: "reconnecting" };
  }

  #mediaLate(): void {
    const server = this.#peer?.server;
    // What was found first stands: later tries fail for the same reason, and often know less.
    const told = this.problem.value !== undefined && this.problem.value.kind !== autoplayBlocked.kind;
    if (this.transport.value === "connected" || told) return;
    this.problem.value = server
      ? udpBlocked(server.host, server.port)
      : {
          kind: "voice-unreachable",
          title: "The voice server does not answer",
          detail: `No reply from ${this.endpoint.value}. It may be restarting, or a firewall may block it.`,
          action: "retry-join",
        };
  }

  #sessionEnded(action: Exclude<CloseAction, "resume">, code: number): void {
    const state = this.state.value;
    if (!state) return;
    if (action === "fatal") {
      this.#sendState(state.guildId, null);
      this.#end();
      return toast(voiceFatal(code), "error");
    }
    this.#disposeSession();
    this.state.value = { ...state, phase: "reconnecting" };
    if (action === "rejoin") return this.#rejoin();
    // Moved, or the guild got another voice server: its update is on its way, or a null voice state is.
    clearTimeout(this.#answerTimer);
    this.#answerTimer = setTimeout(() => {
      this.#end();
      toast("You were disconnected from the voice channel.");
    }, answerWithin);
  }

  /** Asks for the channel anew, by leaving it first: a server need not answer a request for what it thinks we have. */
  #rejoin(): void {
    const state = this.state.value;
    if (!state) return;
    this.state.value = { ...state, phase: "reconnecting" };
    if (this.#rejoins++ >= mostRejoins) return this.#mediaLate();
    this.#disposeSession();
    this.#sendState(state.guildId, null);
    this.#ask();
  }

  #broken(error: Error): void {
    if (!this.state.value) return;
    this.problem.value = {
      kind: "media-failed",
      title: "The browser could not set up the call",
      detail: error.message,
      action: "retry-join",
    };
  }

  #selfChanged(off: boolean): void {
    this.#cue(off ? "mute" : "unmute");
    this.#updateGates(this.#ownVoiceState());
    const state = this.state.value;
    if (!state) return;
    this.#sendState(state.guildId, state.channelId, this.#connectedAs());
    if (this.#ssrc) this.#session?.speak(this.mic.muted.value ? 0 : 1, this.#ssrc);
  }

  #transmit(open: boolean): void {
    clearTimeout(this.#stopTimer);
    const send = (on: boolean) => {
      for (const peer of this.#peers()) void peer.setSending(on);
    };
    if (open) send(true);
    else this.#stopTimer = setTimeout(() => send(false), stopSendingAfter);
  }

  #autoplay(blocked: boolean): void {
    if (blocked) this.problem.value ??= autoplayBlocked;
    else if (this.problem.value?.kind === "autoplay") this.problem.value = undefined;
  }

  #disposeSession(): void {
    clearTimeout(this.#answerTimer);
    clearTimeout(this.#mediaTimer);
    clearTimeout(this.#resumeTimer);
    this.resuming.value = false;
    this.#session?.close();
    this.#peer?.close();
    this.#former?.close();
    this.#session = undefined;
    this.#peer = undefined;
    this.#former = undefined;
    this.#streams = new Map();
    this.playback.clear();
    this.#speakers.clear();
    this.#meter.stop();
    this.transport.value = "closed";
  }

  #end(): void {
    this.#disposeSession();
    this.state.value = undefined;
    this.problem.value = undefined;
    this.pings.value = [];
    this.mic.muted.value = false;
    this.mic.pushOnly.value = false;
    this.mic.release("call");
  }

  #cue(cue: Cue): void {
    if (prefs.value.sounds && !testMode.on) playCue(cue);
  }

  /** Names of others who speak now, for a screen reader. */
  speakers(): string[] {
    const world = this.#world();
    const guild = world.guilds.get(this.state.value?.guildId ?? "");
    return [...this.speaking.value].map((id) => displayName(world, guild, id));
  }
}
