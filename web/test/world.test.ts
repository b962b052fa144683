import { describe, expect, it } from "vitest";
import { ChannelType, type Channel, type GuildCreate, type VoiceState } from "../src/protocol/payloads";
import { channelPermissions, has, Permission } from "../src/protocol/permissions";
import { joinRefusal } from "../src/state/refusal";
import { channelGroups, displayName, emptyWorld, occupants, reduce, type Guild, type World } from "../src/state/world";

const me = { id: "10", username: "me" };
const noor = { id: "11", username: "noor", global_name: "Noor" };

const voiceState = (userId: string, channelId: string | null): VoiceState => ({
  guild_id: "1",
  user_id: userId,
  channel_id: channelId,
  session_id: "s",
  mute: false,
  deaf: false,
  self_mute: false,
  self_deaf: false,
  suppress: false,
});

const base = String(Permission.viewChannel | Permission.connect | Permission.speak | Permission.useVad);

function guildCreate(more: Partial<GuildCreate> = {}): GuildCreate {
  return {
    id: "1",
    name: "Owls",
    owner_id: "99",
    roles: [{ id: "1", name: "@everyone", permissions: base, position: 0 }],
    channels: [
      { id: "5", type: ChannelType.category, name: "Voices", position: 0 },
      { id: "20", type: ChannelType.voice, name: "Lounge", position: 1, parent_id: "5" },
      { id: "21", type: ChannelType.voice, name: "Duo", position: 0, parent_id: "5", user_limit: 1 },
      { id: "22", type: ChannelType.text, name: "general", position: 0 },
    ],
    members: [
      { user: me, roles: [] },
      { user: noor, roles: ["2"], nick: "N." },
    ],
    voice_states: [voiceState("11", "21")],
    presences: [{ user: { id: "11" }, status: "online" }],
    ...more,
  };
}

function worldWith(more: Partial<GuildCreate> = {}): World {
  const ready = reduce(emptyWorld, "READY", { v: 10, user: me, guilds: [{ id: "1" }], session_id: "s" });
  return reduce(ready, "GUILD_CREATE", guildCreate(more));
}

const owls = (world: World) => world.guilds.get("1") as Guild;
const channel = (world: World, id: string) => owls(world).channels.get(id) as Channel;

describe("reduce", () => {
  it("takes in a guild with who is where", () => {
    const world = worldWith();
    expect(occupants(world, owls(world), "21").map((state) => state.user_id)).toEqual(["11"]);
    expect(displayName(world, owls(world), "11")).toBe("N.");
    expect(displayName(world, undefined, "11")).toBe("Noor");
    expect(displayName(world, undefined, "404")).toBe("Someone");
  });

  it("moves and removes voice states, and learns of members by them", () => {
    let world = worldWith();
    world = reduce(world, "VOICE_STATE_UPDATE", voiceState("11", "20"));
    expect(occupants(world, owls(world), "21")).toEqual([]);
    expect(occupants(world, owls(world), "20")).toHaveLength(1);
    world = reduce(world, "VOICE_STATE_UPDATE", { ...voiceState("12", "20"), member: { user: { id: "12", username: "zed" }, roles: [] } });
    expect(occupants(world, owls(world), "20").map((state) => displayName(world, owls(world), state.user_id))).toEqual(["N.", "zed"]);
    world = reduce(world, "VOICE_STATE_UPDATE", voiceState("11", null));
    expect(owls(world).voiceStates.has("11")).toBe(false);
  });

  it("does not change what it was given", () => {
    const before = worldWith();
    const guild = owls(before);
    reduce(before, "VOICE_STATE_UPDATE", voiceState("11", "20"));
    reduce(before, "CHANNEL_DELETE", { id: "20", guild_id: "1" });
    expect(owls(before)).toBe(guild);
    expect(guild.voiceStates.get("11")?.channel_id).toBe("21");
    expect(guild.channels.has("20")).toBe(true);
  });

  it("follows channels, roles, members and presences", () => {
    let world = worldWith();
    world = reduce(world, "CHANNEL_CREATE", { id: "30", guild_id: "1", type: 0, name: "new" });
    world = reduce(world, "CHANNEL_UPDATE", { id: "30", guild_id: "1", type: 0, name: "newer", topic: "t" });
    world = reduce(world, "GUILD_ROLE_CREATE", { guild_id: "1", role: { id: "2", name: "mods", permissions: "0", position: 1 } });
    world = reduce(world, "GUILD_MEMBER_ADD", { guild_id: "1", user: { id: "13", username: "x" }, roles: [] });
    world = reduce(world, "PRESENCE_UPDATE", { guild_id: "1", user: { id: "13" }, status: "idle" });
    expect(channel(world, "30")).toMatchObject({ name: "newer", topic: "t" });
    expect(owls(world).roles.has("2")).toBe(true);
    expect(owls(world).memberCount).toBe(3);
    expect(owls(world).online.has("13")).toBe(true);
    world = reduce(world, "GUILD_MEMBER_REMOVE", { guild_id: "1", user: { id: "11" } });
    expect(owls(world).voiceStates.has("11")).toBe(false);
    world = reduce(world, "GUILD_ROLE_DELETE", { guild_id: "1", role_id: "2" });
    expect(owls(world).roles.has("2")).toBe(false);
    world = reduce(world, "GUILD_DELETE", { id: "1", unavailable: true });
    expect(owls(world).unavailable).toBe(true);
    world = reduce(world, "GUILD_DELETE", { id: "1" });
    expect(world.guilds.size).toBe(0);
  });

  it("ignores events of guilds and kinds it does not know", () => {
    const world = worldWith();
    expect(reduce(world, "VOICE_STATE_UPDATE", { ...voiceState("11", "20"), guild_id: "404" })).toBe(world);
    expect(reduce(world, "SOMETHING_NEW", { guild_id: "1" })).toBe(world);
  });

  it("forgets that one was a guest once one is not", () => {
    const guest = reduce(worldWith(), "USER_UPDATE", { ...me, guest: true });
    expect(guest.self?.guest).toBe(true);
    expect(reduce(guest, "USER_UPDATE", { ...me, global_name: "Me" }).self).toEqual({ ...me, global_name: "Me" });
  });

  it("lists text before voice, uncategorised before categories, each by position", () => {
    const world = worldWith();
    const groups = channelGroups(owls(world), () => true);
    expect(groups.map((group) => [group.category?.name, ...group.channels.map((one) => one.name)])).toEqual([
      [undefined, "general"],
      ["Voices", "Duo", "Lounge"],
    ]);
    expect(channelGroups(owls(world), (one) => one.id === "22")).toHaveLength(1);
  });
});

describe("permissions", () => {
  const withRoles = (overwrites: Channel["permission_overwrites"], roles: string[] = [], permissions = "0") => {
    const world = worldWith({
      roles: [
        { id: "1", name: "@everyone", permissions: base, position: 0 },
        { id: "2", name: "mods", permissions, position: 1 },
      ],
      members: [{ user: me, roles }],
    });
    const guild = owls(world);
    const target = { ...channel(world, "20"), permission_overwrites: overwrites ?? [] };
    return channelPermissions(guild, target, "10", guild.members.get("10"));
  };
  const connect = String(Permission.connect);

  it("adds roles to @everyone", () => {
    expect(has(withRoles([]), Permission.muteMembers)).toBe(false);
    expect(has(withRoles([], ["2"], String(Permission.muteMembers)), Permission.muteMembers)).toBe(true);
  });

  it("applies overwrites of @everyone, then roles, then the member", () => {
    const everyone = { id: "1", type: 0 as const, allow: "0", deny: connect };
    const role = { id: "2", type: 0 as const, allow: connect, deny: "0" };
    const member = { id: "10", type: 1 as const, allow: "0", deny: connect };
    expect(has(withRoles([everyone]), Permission.connect)).toBe(false);
    expect(has(withRoles([everyone, role], ["2"]), Permission.connect)).toBe(true);
    expect(has(withRoles([everyone, role]), Permission.connect)).toBe(false);
    expect(has(withRoles([everyone, role, member], ["2"]), Permission.connect)).toBe(false);
  });

  it("lets administrators and the owner past overwrites", () => {
    const deny = { id: "1", type: 0 as const, allow: "0", deny: connect };
    expect(has(withRoles([deny], ["2"], String(Permission.administrator)), Permission.connect)).toBe(true);
    const world = worldWith({ owner_id: "10" });
    expect(has(channelPermissions(owls(world), { ...channel(world, "20"), permission_overwrites: [deny] }, "10", undefined), Permission.connect)).toBe(true);
  });
});

describe("joinRefusal", () => {
  it("explains a full channel, and lets who may move members in all the same", () => {
    const world = worldWith();
    expect(joinRefusal(world, owls(world), channel(world, "20"))).toBeUndefined();
    expect(joinRefusal(world, owls(world), channel(world, "21"))).toBe("Duo is full (1 of 1).");
    const mover = worldWith({ roles: [{ id: "1", name: "@everyone", permissions: String(BigInt(base) | Permission.moveMembers), position: 0 }] });
    expect(joinRefusal(mover, owls(mover), channel(mover, "21"))).toBeUndefined();
  });

  it("explains a missing permission", () => {
    const world = worldWith({ roles: [{ id: "1", name: "@everyone", permissions: String(Permission.viewChannel), position: 0 }] });
    expect(joinRefusal(world, owls(world), channel(world, "20"))).toMatch(/permission to join Lounge/);
  });

  it("does not count oneself", () => {
    const world = worldWith({ voice_states: [voiceState("10", "21")] });
    expect(joinRefusal(world, owls(world), channel(world, "21"))).toBeUndefined();
  });
});
