import type { Channel, Member, Role, Snowflake } from "./payloads";

/** Permission bits (Discord, "Permissions"), those this app asks about. */
export const Permission = {
  createInvite: 1n << 0n,
  kickMembers: 1n << 1n,
  administrator: 1n << 3n,
  manageChannels: 1n << 4n,
  manageGuild: 1n << 5n,
  viewChannel: 1n << 10n,
  sendMessages: 1n << 11n,
  manageMessages: 1n << 13n,
  readHistory: 1n << 16n,
  connect: 1n << 20n,
  speak: 1n << 21n,
  muteMembers: 1n << 22n,
  deafenMembers: 1n << 23n,
  moveMembers: 1n << 24n,
  useVad: 1n << 25n,
  useCommands: 1n << 31n,
} as const;

const all = (1n << 62n) - 1n;

/** What the computation reads of a guild. */
export interface PermissionSource {
  id: Snowflake;
  ownerId: Snowflake;
  roles: ReadonlyMap<Snowflake, Role>;
}

function bits(value: string | undefined): bigint {
  return value === undefined ? 0n : BigInt(value);
}

/** Permissions of a member in the guild, before any channel's overwrites. */
export function guildPermissions(guild: PermissionSource, userId: Snowflake, member: Member | undefined): bigint {
  if (userId === guild.ownerId) return all;
  // The role whose id is the guild's is @everyone.
  let allowed = bits(guild.roles.get(guild.id)?.permissions);
  for (const id of member?.roles ?? []) allowed |= bits(guild.roles.get(id)?.permissions);
  return allowed & Permission.administrator ? all : allowed;
}

/** Permissions of a member in a channel: overwrites of @everyone, then of roles, then of the member. */
export function channelPermissions(
  guild: PermissionSource,
  channel: Channel,
  userId: Snowflake,
  member: Member | undefined,
): bigint {
  let allowed = guildPermissions(guild, userId, member);
  if (allowed === all) return all;
  const overwrites = channel.permission_overwrites ?? [];
  const apply = (allow: bigint, deny: bigint) => {
    allowed = (allowed & ~deny) | allow;
  };
  const everyone = overwrites.find((o) => o.id === guild.id);
  if (everyone) apply(bits(everyone.allow), bits(everyone.deny));
  let allow = 0n;
  let deny = 0n;
  for (const o of overwrites) {
    if (Number(o.type) !== 0 || o.id === guild.id || !member?.roles.includes(o.id)) continue;
    allow |= bits(o.allow);
    deny |= bits(o.deny);
  }
  apply(allow, deny);
  const own = overwrites.find((o) => Number(o.type) === 1 && o.id === userId);
  if (own) apply(bits(own.allow), bits(own.deny));
  return allowed;
}

export function has(permissions: bigint, wanted: bigint): boolean {
  return (permissions & wanted) === wanted;
}
