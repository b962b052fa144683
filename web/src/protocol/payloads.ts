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
  flags?: number;
  embeds?: Embed[];
  interaction_metadata?: InteractionMetadata;
}

export const MessageFlag = { ephemeral: 1 << 6, loading: 1 << 7 } as const;

/** What a message answers. */
export interface InteractionMetadata {
  id: Snowflake;
  type: number;
  /** Of a command, with its subcommand. */
  name?: string;
  user: User;
}

/** Pictures and video of an embed are left out: they would tell a stranger's server who reads. */
export interface Embed {
  title?: string;
  description?: string;
  url?: string;
  color?: number;
  author?: { name?: string };
  footer?: { text?: string };
  fields?: { name: string; value: string; inline?: boolean }[];
}

export const CommandType = { slash: 1 } as const;

export const OptionType = {
  subcommand: 1,
  group: 2,
  string: 3,
  integer: 4,
  boolean: 5,
  user: 6,
  channel: 7,
  role: 8,
  mentionable: 9,
  number: 10,
  attachment: 11,
} as const;

export interface CommandOption {
  type: number;
  name: string;
  description: string;
  required?: boolean;
  choices?: { name: string; value: string | number }[];
  options?: CommandOption[];
  channel_types?: number[];
  min_value?: number;
  max_value?: number;
  min_length?: number;
  max_length?: number;
}

export interface ApplicationCommand {
  id: Snowflake;
  type: number;
  application_id: Snowflake;
  name: string;
  description: string;
  options?: CommandOption[];
  version: Snowflake;
}

export interface Application {
  id: Snowflake;
  name: string;
  icon?: string | null;
  bot?: User | null;
}

export interface CommandIndex {
  applications: Application[];
  application_commands: ApplicationCommand[];
}

/** An option as it is used. */
export interface UsedOption {
  type: number;
  name: string;
  value?: string | number | boolean;
  options?: UsedOption[];
}

/** The body of POST /interactions. */
export interface CommandUse {
  type: 2;
  application_id: Snowflake;
  guild_id: Snowflake;
  channel_id: Snowflake;
  nonce: string;
  data: { id: Snowflake; name: string; type: number; version: Snowflake; options: UsedOption[] };
}

export interface InteractionOutcome {
  id: Snowflake;
  nonce?: string | number;
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
