import { call, world } from "./state/app";
import { guildOf } from "./state/world";

/** What a scripted browser may do and see under `?test=1`, without going through the page. */
export interface TestHooks {
  state(): {
    connected: boolean;
    phase: string | undefined;
    channel: string | undefined;
    users: string[];
    speaking: string[];
    muted: boolean;
    deaf: boolean;
    sending: boolean;
    transport: string;
    problem: string | undefined;
  };
  join(channelId: string): void;
  leave(): void;
  setMute(mute: boolean): void;
  setDeaf(deaf: boolean): void;
  push(held: boolean): void;
  stats(): Promise<unknown>;
  remoteStreams(): Map<string, MediaStream>;
  /** Calls back on every change of state() until the returned function is called. */
  onChange(listener: () => void): () => void;
}

export function installTestHooks(subscribe: (listener: () => void) => () => void): void {
  const state: TestHooks["state"] = () => {
    const at = call.state.value;
    const guild = world.value.guilds.get(at?.guildId ?? "");
    const users = [...(guild?.voiceStates.values() ?? [])]
      .filter((voice) => voice.channel_id === at?.channelId)
      .map((voice) => voice.user_id);
    return {
      connected: at?.phase === "connected",
      phase: at?.phase,
      channel: at?.channelId,
      users,
      speaking: [...call.speaking.value],
      muted: call.mic.muted.value,
      deaf: call.selfDeaf.value,
      sending: call.mic.open.value,
      transport: call.transport.value,
      problem: call.trouble.value?.kind,
    };
  };
  const hooks: TestHooks = {
    state,
    join: (channelId) => {
      const guild = guildOf(world.value, channelId);
      if (guild) call.join(guild.id, channelId);
    },
    leave: () => call.leave(),
    setMute: (mute) => call.setMute(mute),
    setDeaf: (deaf) => call.setDeaf(deaf),
    push: (held) => call.mic.push(held),
    stats: async () => ({ ...(await call.sampleStats()), signalling: call.signalling, server: call.peer?.server }),
    remoteStreams: () => call.playback.streams,
    onChange: (listener) =>
      subscribe(() => {
        state();
        listener();
      }),
  };
  (window as unknown as { hubbub: TestHooks }).hubbub = hooks;
}
