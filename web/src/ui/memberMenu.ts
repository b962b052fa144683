import type { Snowflake } from "../protocol/payloads";
import { Permission } from "../protocol/permissions";
import { call, can, canSee, nameOf, rest, world } from "../state/app";
import { prefs, setPrefs } from "../state/prefs";
import { attempt } from "../state/toasts";
import { dialog, type MenuItem } from "../state/ui";
import { isVoice, type Guild } from "../state/world";

/** What may be done to a member: things for this ear only first, then what a moderator may do for everyone. */
export function memberMenu(guild: Guild, userId: Snowflake): MenuItem[] {
  const self = userId === world.value.self?.id;
  const items: MenuItem[] = self ? ownItems() : localItems(userId);
  const moderation = moderationItems(guild, userId);
  if (moderation.length > 0) items.push({ kind: "separator" }, ...moderation);
  if (!self && can(guild, Permission.kickMembers) && userId !== guild.ownerId) {
    items.push({ kind: "separator" }, kickItem(guild, userId));
  }
  return items;
}

function ownItems(): MenuItem[] {
  return [
    {
      kind: "action",
      label: "Mute",
      icon: "mic-off",
      checked: call.selfMute.value,
      run: () => call.setMute(!call.selfMute.value),
    },
    {
      kind: "action",
      label: "Deafen",
      icon: "ear-off",
      checked: call.selfDeaf.value,
      run: () => call.setDeaf(!call.selfDeaf.value),
    },
    {
      kind: "action",
      label: "Voice settings",
      icon: "settings",
      run: () => (dialog.value = { kind: "settings", tab: "voice" }),
    },
  ];
}

function localItems(userId: Snowflake): MenuItem[] {
  const { volumes, silenced } = prefs.value;
  return [
    {
      kind: "slider",
      label: "Volume",
      value: volumes[userId] ?? 1,
      change: (value) => setPrefs({ volumes: { ...prefs.value.volumes, [userId]: value } }),
    },
    {
      kind: "action",
      label: "Mute for me",
      icon: "volume-off",
      testId: "menu-local-mute",
      checked: silenced[userId] === true,
      run: () => {
        const { [userId]: was, ...others } = prefs.value.silenced;
        setPrefs({ silenced: was ? others : { ...others, [userId]: true } });
      },
    },
  ];
}

function moderationItems(guild: Guild, userId: Snowflake): MenuItem[] {
  const voice = guild.voiceStates.get(userId);
  if (!voice?.channel_id) return [];
  const channelId = voice.channel_id;
  const update = (body: Parameters<typeof rest.updateMember>[2]) =>
    void attempt(rest.updateMember(guild.id, userId, body));
  const items: MenuItem[] = [];
  if (can(guild, Permission.muteMembers, channelId)) {
    items.push({
      kind: "action",
      label: "Mute for everyone",
      icon: "mic-off",
      testId: "menu-mute",
      checked: voice.mute,
      run: () => update({ mute: !voice.mute }),
    });
  }
  if (can(guild, Permission.deafenMembers, channelId)) {
    items.push({
      kind: "action",
      label: "Deafen for everyone",
      icon: "ear-off",
      testId: "menu-deafen",
      checked: voice.deaf,
      run: () => update({ deaf: !voice.deaf }),
    });
  }
  if (can(guild, Permission.moveMembers, channelId)) {
    const targets = [...guild.channels.values()]
      .filter((channel) => isVoice(channel) && channel.id !== channelId && canSee(guild)(channel))
      .sort((a, b) => (a.position ?? 0) - (b.position ?? 0));
    if (targets.length > 0) {
      items.push({
        kind: "group",
        label: "Move to…",
        icon: "move",
        testId: "menu-move",
        items: targets.map((channel) => ({
          kind: "action",
          label: channel.name,
          icon: "speaker",
          testId: `menu-move-${channel.id}`,
          run: () => update({ channel_id: channel.id }),
        })),
      });
    }
    items.push({
      kind: "action",
      label: "Disconnect",
      icon: "leave",
      danger: true,
      testId: "menu-disconnect",
      run: () => update({ channel_id: null }),
    });
  }
  return items;
}

function kickItem(guild: Guild, userId: Snowflake): MenuItem {
  const name = nameOf(userId, guild);
  return {
    kind: "action",
    label: `Kick ${name}`,
    icon: "kick",
    danger: true,
    testId: "menu-kick",
    run: () =>
      (dialog.value = {
        kind: "confirm",
        title: `Kick ${name}?`,
        text: `${name} leaves ${guild.name} and can come back only with an invite.`,
        confirm: "Kick",
        run: () => void attempt(rest.kick(guild.id, userId)),
      }),
  };
}
