import { computed, signal } from "@preact/signals";
import { Gateway, type GatewayStatus } from "../protocol/gateway";
import { openWebSocket } from "../protocol/link";
import type { Instance, Message, Snowflake, User } from "../protocol/payloads";
import { compareSnowflakes } from "../protocol/payloads";
import { channelPermissions, guildPermissions, has, Permission } from "../protocol/permissions";
import { Rest, type Entered } from "../protocol/rest";
import { Call } from "./call";
import { Chat } from "./chat";
import { Commands } from "./commands";
import { loadToken, saveToken, webSocketUrl } from "./env";
import { prefs, setPrefs } from "./prefs";
import { gatewayDead } from "./problems";
import { navigate, route } from "./route";
import { attempt, toast } from "./toasts";
import { displayName, emptyWorld, guildOf, isVoice, reduce, type Guild, type World } from "./world";

export const token = signal<string | undefined>(loadToken());
export const world = signal<World>(emptyWorld);
export const gatewayStatus = signal<GatewayStatus>({ kind: "connecting" });
export const instance = signal<Instance | undefined>(undefined);
/** READY has come, and every guild it named. */
export const loaded = signal(false);

export const rest = new Rest(() => token.value);
export const chat = new Chat(rest);
export const commands = new Commands(rest, (guildId, botId) => world.value.guilds.get(guildId)?.online.has(botId) ?? false);

let gateway: Gateway | undefined;
let awaited = new Set<Snowflake>();

export const call = new Call(
  () => world.value,
  () => gateway,
);

export const currentGuild = computed<Guild | undefined>(() => {
  const at = route.value;
  return at.name === "channel" ? world.value.guilds.get(at.guildId) : undefined;
});

export const currentChannel = computed(() => {
  const at = route.value;
  return at.name === "channel" ? currentGuild.value?.channels.get(at.channelId ?? "") : undefined;
});

export const selfName = computed(() => {
  const { self } = world.value;
  return self ? self.global_name || self.username : "";
});

function properties() {
  const agent = navigator.userAgent;
  const os = /Windows|Mac OS X|Android|iPhone|Linux/.exec(agent)?.[0] ?? "Other";
  const browser = /Firefox|Edg|Chrome|Safari/.exec(agent)?.[0] ?? "Other";
  return { os, browser, device: "" };
}

/** Connects with the token at hand, if there is one. */
export function start(): void {
  void rest.instance().then(
    (found) => (instance.value = found),
    () => undefined,
  );
  if (token.value) connect(token.value);
  const retry = () => gateway?.retryNow();
  window.addEventListener("online", retry);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") retry();
  });
}

export function retryConnection(): void {
  gateway?.retryNow();
}

export function enter(entered: Pick<Entered, "token">): void {
  token.value = entered.token;
  saveToken(entered.token);
  connect(entered.token);
}

/** Turns the guest into an account; a call goes on if the token stays the same. */
export async function claim(username: string, password: string): Promise<void> {
  const claimed = await rest.claim(username, password);
  if (claimed.token !== token.value) return enter(claimed);
  takeSelf(await rest.me());
}

export async function rename(globalName: string): Promise<void> {
  takeSelf(await rest.updateMe({ global_name: globalName }));
}

/** The answer to a change of one's own user; its event may come sooner, later or, to some, not at all. */
function takeSelf(user: User): void {
  world.value = reduce(world.value, "USER_UPDATE", user);
}

export async function logout(): Promise<void> {
  await attempt(rest.logout());
  forget();
}

function forget(): void {
  call.shutDown();
  gateway?.close();
  gateway = undefined;
  token.value = undefined;
  saveToken(undefined);
  world.value = emptyWorld;
  loaded.value = false;
  chat.reset();
  commands.reset();
  navigate({ name: "login" });
}

function connect(withToken: string): void {
  gateway?.close();
  loaded.value = false;
  gateway = new Gateway({
    url: webSocketUrl(`${location.host}/gateway`),
    token: withToken,
    properties: properties(),
    open: openWebSocket,
    dispatch,
    status: (status) => {
      gatewayStatus.value = status;
      if (status.kind !== "dead") return;
      toast(gatewayDead(status.code), "error");
      if (status.code === 4004) forget();
    },
  });
  gateway.connect();
}

function dispatch(type: string, data: unknown): void {
  const before = world.value;
  world.value = keepDuringReconnect(before, reduce(before, type, data), type);
  chat.dispatch(type, data, world.value.self);
  commands.dispatch(type, data);
  trackLoading(type, data);
  call.dispatch(type, data);
  if (type === "MESSAGE_CREATE") markIfOpen(data as Message);
  if (type === "GUILD_DELETE") leaveGoneGuild();
}

/** A new session's READY empties the world; until its guilds arrive, the old ones stay on the screen. */
function keepDuringReconnect(before: World, after: World, type: string): World {
  if (type !== "READY" || before.guilds.size === 0 || before.self?.id !== after.self?.id) return after;
  return { self: after.self, guilds: before.guilds, users: before.users };
}

function trackLoading(type: string, data: unknown): void {
  if (type === "READY") {
    awaited = new Set((data as { guilds: { id: Snowflake }[] }).guilds.map((guild) => guild.id));
    // Guilds left behind while we were away are gone now.
    const kept = [...world.value.guilds].filter(([id]) => awaited.has(id));
    world.value = { ...world.value, guilds: new Map(kept) };
  }
  if (type === "GUILD_CREATE" || type === "GUILD_DELETE") awaited.delete((data as { id: Snowflake }).id);
  if (world.value.self && awaited.size === 0) loaded.value = true;
}

function leaveGoneGuild(): void {
  const at = route.value;
  if (at.name === "channel" && !world.value.guilds.has(at.guildId)) navigate({ name: "home" }, { replace: true });
  const inCall = call.state.value;
  if (inCall && !world.value.guilds.has(inCall.guildId)) call.shutDown();
}

export function permissionsIn(guild: Guild, channelId?: Snowflake): bigint {
  const self = world.value.self?.id ?? "";
  const channel = channelId === undefined ? undefined : guild.channels.get(channelId);
  const member = guild.members.get(self);
  return channel ? channelPermissions(guild, channel, self, member) : guildPermissions(guild, self, member);
}

export function can(guild: Guild, permission: bigint, channelId?: Snowflake): boolean {
  return has(permissionsIn(guild, channelId), permission);
}

export function canSee(guild: Guild): (channel: { id: Snowflake }) => boolean {
  return (channel) => can(guild, Permission.viewChannel, channel.id);
}

export function openChannel(guildId: Snowflake, channelId: Snowflake | undefined, replace = false): void {
  navigate({ name: "channel", guildId, channelId }, { replace });
}

/** Opens a channel, and joins it if it is for voice. */
export function selectChannel(guild: Guild, channelId: Snowflake): void {
  const channel = guild.channels.get(channelId);
  openChannel(guild.id, channelId);
  if (channel && isVoice(channel)) call.join(guild.id, channelId);
}

/** Opens the guild where it was last read, or at its first text channel. */
export function openGuild(guild: Guild, replace = false): void {
  const visible = [...guild.channels.values()].filter(canSee(guild));
  const text = visible.filter((channel) => channel.type === 0).sort((a, b) => (a.position ?? 0) - (b.position ?? 0));
  openChannel(guild.id, text[0]?.id, replace);
}

export function isUnread(channel: { id: Snowflake; type: number; last_message_id?: Snowflake | null }): boolean {
  if (channel.type !== 0 || !channel.last_message_id) return false;
  const read = prefs.value.read[channel.id];
  // A channel never opened here has no "new" messages; it would mark everything on the first visit.
  return read !== undefined && compareSnowflakes(channel.last_message_id, read) > 0;
}

export function markRead(channelId: Snowflake, messageId: Snowflake | null | undefined): void {
  const read = messageId || "0";
  if (prefs.value.read[channelId] === read) return;
  setPrefs({ read: { ...prefs.value.read, [channelId]: read } });
}

function markIfOpen(message: Message): void {
  const own = message.author.id === world.value.self?.id;
  const open = currentChannel.value?.id === message.channel_id && document.visibilityState === "visible";
  if (own || open) markRead(message.channel_id, message.id);
}

export function nameOf(userId: Snowflake, guild: Guild | undefined = currentGuild.value): string {
  return displayName(world.value, guild, userId);
}

export function guildOfChannel(channelId: Snowflake): Guild | undefined {
  return guildOf(world.value, channelId);
}
