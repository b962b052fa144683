import type { Channel } from "../protocol/payloads";
import { channelPermissions, has, Permission } from "../protocol/permissions";
import type { Guild, World } from "./world";

/** Why this user cannot join the channel, or undefined. The server would refuse without a word. */
export function joinRefusal(world: World, guild: Guild, channel: Channel): string | undefined {
  const self = world.self?.id ?? "";
  const permissions = channelPermissions(guild, channel, self, guild.members.get(self));
  if (!has(permissions, Permission.viewChannel)) return `You can't see ${channel.name}.`;
  if (!has(permissions, Permission.connect)) return `You don't have permission to join ${channel.name}.`;
  const limit = channel.user_limit ?? 0;
  let inside = 0;
  for (const state of guild.voiceStates.values()) {
    if (state.channel_id === channel.id && state.user_id !== self) inside++;
  }
  if (limit > 0 && inside >= limit && !has(permissions, Permission.moveMembers)) {
    return `${channel.name} is full (${limit} of ${limit}).`;
  }
  return undefined;
}
