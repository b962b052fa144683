/** Shapes on the wire, in Discord's public names. Only the fields this app reads. */

export type Snowflake = string;

export interface User {
  id: Snowflake;
  username: string;
  global_name?: string | null;
  avatar?: string | null;
  bot?: boolean;
  guest?: boolean;
}

export interface Overwrite {
  id: Snowflake;
  /** 0: role, 1: member */
  type: 0 | 1;
  allow: string;
  deny: string;
}

export const ChannelType = { text: 0, voice: 2, category: 4, stage: 13 } as const;

export interface Channel {
  id: Snowflake;
  guild_id?: Snowflake;
  type: number;
  name: string;
  position?: number;
  parent_id?: Snowflake | null;
  permission_overwrites?: Overwrite[];
  topic?: string | null;
  user_limit?: number;
  bitrate?: number;
  last_message_id?: Snowflake | null;
}

export interface Role {
  id: Snowflake;
  name: string;
  permissions: string;
  position: number;
  color?: number;
  hoist?: boolean;
}

export interface Member {
  user?: User;
  nick?: string | null;
  roles: Snowflake[];
  joined_at?: string;
  mute?: boolean;
  deaf?: boolean;
}

export interface VoiceState {
  guild_id?: Snowflake;
  channel_id: Snowflake | null;
  user_id: Snowflake;
  session_id: string;
  member?: Member;
  mute: boolean;
  deaf: boolean;
  self_mute: boolean;
  self_deaf: boolean;
  suppress: boolean;
}

export interface Presence {
  user: { id: Snowflake };
  status: string;
}

export interface GuildCreate {
  id: Snowflake;
  unavailable?: boolean;
  name: string;
  icon?: string | null;
  owner_id: Snowflake;
  roles: Role[];
  channels: Channel[];
  members: Member[];
  voice_states: VoiceState[];
  presences?: Presence[];
  member_count?: number;
}

export interface Message {
  id: Snowflake;
  channel_id: Snowflake;
  guild_id?: Snowflake;
  author: User;
  content: string;
  timestamp: string;
  edited_timestamp?: string | null;
  nonce?: string | number;
  mentions?: User[];
  type?: number;
}

export interface Ready {
  v: number;
  user: User;
  guilds: { id: Snowflake; unavailable?: boolean }[];
  session_id: string;
  resume_gateway_url?: string;
}

export interface VoiceServerUpdate {
  token: string;
  guild_id: Snowflake;
  endpoint: string | null;
}

export interface TypingStart {
  channel_id: Snowflake;
  guild_id?: Snowflake;
  user_id: Snowflake;
  timestamp: number;
}

export interface Instance {
  name: string;
  version: string;
  region: string;
  registration: "open" | "invite" | "closed";
}

export interface Invite {
  code: string;
  guild: { id: Snowflake; name: string; icon?: string | null; description?: string | null };
  channel: { id: Snowflake; name: string; type: number };
  inviter?: User;
  approximate_member_count?: number;
  approximate_presence_count?: number;
}

/** Milliseconds since 1970 of a snowflake; its first 42 bits count from 2015-01-01. */
export function snowflakeTime(id: Snowflake): number {
  return Number(BigInt(id) >> 22n) + 1420070400000;
}

/** Orders snowflakes by age without losing the bits a number cannot hold. */
export function compareSnowflakes(a: Snowflake, b: Snowflake): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
