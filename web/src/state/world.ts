import {
  ChannelType,
  compareSnowflakes,
  type Channel,
  type GuildCreate,
  type Member,
  type Presence,
  type Ready,
  type Role,
  type Snowflake,
  type User,
  type VoiceState,
} from "../protocol/payloads";
import type { PermissionSource } from "../protocol/permissions";

/** A guild as the gateway has told of it. Values are never changed in place, so a view can compare by identity. */
export interface Guild extends PermissionSource {
  name: string;
  icon: string | null;
  unavailable: boolean;
  channels: ReadonlyMap<Snowflake, Channel>;
  members: ReadonlyMap<Snowflake, Member>;
  voiceStates: ReadonlyMap<Snowflake, VoiceState>;
  online: ReadonlySet<Snowflake>;
  memberCount: number;
}

export interface World {
  self: User | undefined;
  guilds: ReadonlyMap<Snowflake, Guild>;
  users: ReadonlyMap<Snowflake, User>;
}

export const emptyWorld: World = { self: undefined, guilds: new Map(), users: new Map() };

function withEntry<V>(map: ReadonlyMap<Snowflake, V>, key: Snowflake, value: V | undefined): Map<Snowflake, V> {
  const copy = new Map(map);
  if (value === undefined) copy.delete(key);
  else copy.set(key, value);
  return copy;
}

function withUsers(world: World, users: Iterable<User | undefined>): World {
  let copy: Map<Snowflake, User> | undefined;
  for (const user of users) {
    if (!user || world.users.get(user.id) === user) continue;
    copy ??= new Map(world.users);
    copy.set(user.id, { ...copy.get(user.id), ...user });
  }
  return copy ? { ...world, users: copy } : world;
}

function withGuild(world: World, id: Snowflake | undefined, change: (guild: Guild) => Partial<Guild>): World {
  const guild = id === undefined ? undefined : world.guilds.get(id);
  if (!guild) return world;
  return { ...world, guilds: withEntry(world.guilds, guild.id, { ...guild, ...change(guild) }) };
}

function guildCreate(world: World, data: GuildCreate): World {
  if (data.unavailable) return world;
  const online = new Set<Snowflake>();
  for (const presence of data.presences ?? []) if (presence.status !== "offline") online.add(presence.user.id);
  const members = new Map<Snowflake, Member>();
  for (const member of data.members ?? []) if (member.user) members.set(member.user.id, member);
  const voiceStates = new Map<Snowflake, VoiceState>();
  for (const state of data.voice_states ?? []) {
    if (!state.channel_id) continue;
    voiceStates.set(state.user_id, state);
    if (state.member?.user && !members.has(state.user_id)) members.set(state.user_id, state.member);
  }
  const guild: Guild = {
    id: data.id,
    name: data.name,
    icon: data.icon ?? null,
    ownerId: data.owner_id,
    unavailable: false,
    roles: new Map((data.roles ?? []).map((role) => [role.id, role])),
    channels: new Map((data.channels ?? []).map((channel) => [channel.id, { ...channel, guild_id: data.id }])),
    members,
    voiceStates,
    online,
    memberCount: data.member_count ?? members.size,
  };
  const next = { ...world, guilds: withEntry(world.guilds, data.id, guild) };
  return withUsers(next, [...members.values()].map((member) => member.user));
}

function voiceStateUpdate(world: World, state: VoiceState): World {
  const next = withGuild(world, state.guild_id, (guild) => ({
    voiceStates: withEntry(guild.voiceStates, state.user_id, state.channel_id ? state : undefined),
    ...(state.member?.user && !guild.members.has(state.user_id)
      ? { members: withEntry(guild.members, state.user_id, state.member) }
      : {}),
  }));
  return withUsers(next, [state.member?.user]);
}

function memberUpdate(world: World, data: Member & { guild_id: Snowflake }, added: boolean): World {
  const { user } = data;
  if (!user) return world;
  const next = withGuild(world, data.guild_id, (guild) => ({
    members: withEntry(guild.members, user.id, { ...guild.members.get(user.id), ...data }),
    memberCount: guild.memberCount + (added && !guild.members.has(user.id) ? 1 : 0),
  }));
  return withUsers(next, [user]);
}

type Reducer = (world: World, data: never) => World;

const setChannel = (world: World, channel: Channel) =>
  withGuild(world, channel.guild_id, (guild) => ({
    channels: withEntry(guild.channels, channel.id, { ...guild.channels.get(channel.id), ...channel }),
  }));

const setRole = (world: World, data: { guild_id: Snowflake; role: Role }) =>
  withGuild(world, data.guild_id, (guild) => ({ roles: withEntry(guild.roles, data.role.id, data.role) }));

const reducers: Record<string, Reducer> = {
  READY: (_world, ready: Ready) => ({
    self: ready.user,
    guilds: new Map(),
    users: new Map([[ready.user.id, ready.user]]),
  }),
  GUILD_CREATE: guildCreate,
  GUILD_UPDATE: (world, data: GuildCreate) =>
    withGuild(world, data.id, (guild) => ({
      name: data.name ?? guild.name,
      icon: data.icon ?? null,
      ownerId: data.owner_id ?? guild.ownerId,
      roles: data.roles ? new Map(data.roles.map((role) => [role.id, role])) : guild.roles,
    })),
  GUILD_DELETE: (world, data: { id: Snowflake; unavailable?: boolean }) =>
    data.unavailable
      ? withGuild(world, data.id, () => ({ unavailable: true }))
      : { ...world, guilds: withEntry(world.guilds, data.id, undefined) },
  CHANNEL_CREATE: setChannel,
  CHANNEL_UPDATE: setChannel,
  CHANNEL_DELETE: (world, channel: Channel) =>
    withGuild(world, channel.guild_id, (guild) => ({ channels: withEntry(guild.channels, channel.id, undefined) })),
  GUILD_ROLE_CREATE: setRole,
  GUILD_ROLE_UPDATE: setRole,
  GUILD_ROLE_DELETE: (world, data: { guild_id: Snowflake; role_id: Snowflake }) =>
    withGuild(world, data.guild_id, (guild) => ({ roles: withEntry(guild.roles, data.role_id, undefined) })),
  GUILD_MEMBER_ADD: (world, data: Member & { guild_id: Snowflake }) => memberUpdate(world, data, true),
  GUILD_MEMBER_UPDATE: (world, data: Member & { guild_id: Snowflake }) => memberUpdate(world, data, false),
  GUILD_MEMBER_REMOVE: (world, data: { guild_id: Snowflake; user: User }) =>
    withGuild(world, data.guild_id, (guild) => ({
      members: withEntry(guild.members, data.user.id, undefined),
      voiceStates: withEntry(guild.voiceStates, data.user.id, undefined),
      memberCount: guild.memberCount - 1,
    })),
  VOICE_STATE_UPDATE: voiceStateUpdate,
  PRESENCE_UPDATE: (world, data: Presence & { guild_id: Snowflake }) =>
    withGuild(world, data.guild_id, (guild) => {
      const online = new Set(guild.online);
      if (data.status === "offline") online.delete(data.user.id);
      else online.add(data.user.id);
      return { online };
    }),
  // Whole, not merged: a field that is no longer there, such as guest, is meant to be gone.
  USER_UPDATE: (world, user: User) => ({ ...withUsers(world, [user]), self: user }),
  MESSAGE_CREATE: (world, message: { guild_id?: Snowflake; channel_id: Snowflake; id: Snowflake; author: User }) => {
    const guildId = message.guild_id ?? guildOf(world, message.channel_id)?.id;
    const next = withGuild(world, guildId, (guild) => {
      const channel = guild.channels.get(message.channel_id);
      if (!channel) return {};
      return { channels: withEntry(guild.channels, channel.id, { ...channel, last_message_id: message.id }) };
    });
    return withUsers(next, [message.author]);
  },
};

/** The world after one gateway dispatch; the same object if the event changes nothing here. */
export function reduce(world: World, type: string, data: unknown): World {
  return reducers[type]?.(world, data as never) ?? world;
}

export function guildOf(world: World, channelId: Snowflake): Guild | undefined {
  for (const guild of world.guilds.values()) if (guild.channels.has(channelId)) return guild;
  return undefined;
}

export function displayName(world: World, guild: Guild | undefined, userId: Snowflake): string {
  const user = world.users.get(userId);
  return guild?.members.get(userId)?.nick || user?.global_name || user?.username || "Someone";
}

export function isVoice(channel: Channel): boolean {
  return channel.type === ChannelType.voice || channel.type === ChannelType.stage;
}

export interface ChannelGroup {
  category: Channel | undefined;
  channels: Channel[];
}

/** Channels as listed: those of no category first, then by category; text before voice, each by position. */
export function channelGroups(guild: Guild, visible: (channel: Channel) => boolean): ChannelGroup[] {
  const order = (a: Channel, b: Channel) =>
    Number(isVoice(a)) - Number(isVoice(b)) ||
    (a.position ?? 0) - (b.position ?? 0) ||
    compareSnowflakes(a.id, b.id);
  const all = [...guild.channels.values()];
  const categories = all.filter((channel) => channel.type === ChannelType.category).sort(order);
  const listed = all.filter((channel) => channel.type !== ChannelType.category && visible(channel)).sort(order);
  const known = new Set(categories.map((category) => category.id));
  const groups: ChannelGroup[] = [
    { category: undefined, channels: listed.filter((channel) => !channel.parent_id || !known.has(channel.parent_id)) },
    ...categories.map((category) => ({
      category,
      channels: listed.filter((channel) => channel.parent_id === category.id),
    })),
  ];
  return groups.filter((group) => group.channels.length > 0);
}

/** Who is in a voice channel, by name. */
export function occupants(world: World, guild: Guild, channelId: Snowflake): VoiceState[] {
  return [...guild.voiceStates.values()]
    .filter((state) => state.channel_id === channelId)
    .sort((a, b) => displayName(world, guild, a.user_id).localeCompare(displayName(world, guild, b.user_id)));
}
