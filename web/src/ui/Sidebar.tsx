import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Channel, VoiceState } from "../protocol/payloads";
import { Permission } from "../protocol/permissions";
import { call, can, canSee, currentChannel, isUnread, nameOf, rest, selectChannel, world } from "../state/app";
import { bounded, muteReason, voiceLabel } from "../state/occupancy";
import { joinRefusal } from "../state/refusal";
import { prefs, setPrefs } from "../state/prefs";
import { attempt } from "../state/toasts";
import { dialog, openMenu, pane, type MenuItem } from "../state/ui";
import { channelGroups, isVoice, occupants, type Guild } from "../state/world";
import { Avatar } from "./Avatar";
import { channelIcon, Icon } from "./icons";
import { memberMenu } from "./memberMenu";
import { moveFocus } from "./roving";

/** More rows than this under one channel would hide the next, and slow the page; the rest is counted. */
const mostRows = 50;

/** Whether someone is heard to speak now: by the voice server for others, by the own gate for oneself. */
export function isSpeaking(userId: string, channelId: string | null): boolean {
  const inCall = call.state.value;
  if (inCall?.channelId !== channelId) return false;
  if (userId === world.value.self?.id) return inCall?.phase === "connected" && call.mic.open.value;
  return call.speaking.value.has(userId);
}

export function firstInvitable(guild: Guild): string | undefined {
  return [...guild.channels.values()].find(
    (channel) => channel.type !== 4 && can(guild, Permission.createInvite, channel.id),
  )?.id;
}

function guildMenu(guild: Guild): MenuItem[] {
  const items: MenuItem[] = [];
  const invitable = firstInvitable(guild);
  if (invitable) {
    items.push({
      kind: "action",
      label: "Invite people",
      icon: "user-plus",
      run: () => (dialog.value = { kind: "invite", guildId: guild.id, channelId: invitable }),
    });
  }
  if (can(guild, Permission.manageChannels)) {
    items.push({
      kind: "action",
      label: "Create channel",
      icon: "plus",
      run: () => (dialog.value = { kind: "create-channel", guildId: guild.id }),
    });
  }
  items.push({
    kind: "action",
    label: "Shortcuts and help",
    icon: "help",
    run: () => (dialog.value = { kind: "help" }),
  });
  return items;
}

function channelMenu(guild: Guild, channel: Channel): MenuItem[] {
  const items: MenuItem[] = [];
  if (can(guild, Permission.createInvite, channel.id)) {
    items.push({
      kind: "action",
      label: "Invite people",
      icon: "user-plus",
      run: () => (dialog.value = { kind: "invite", guildId: guild.id, channelId: channel.id }),
    });
  }
  if (can(guild, Permission.manageChannels, channel.id)) {
    items.push(
      {
        kind: "action",
        label: "Edit channel",
        icon: "edit",
        run: () => (dialog.value = { kind: "edit-channel", guildId: guild.id, channel }),
      },
      {
        kind: "action",
        label: "Delete channel",
        icon: "trash",
        danger: true,
        run: () =>
          (dialog.value = {
            kind: "confirm",
            title: `Delete ${channel.name}?`,
            text: "Its messages go with it. This cannot be undone.",
            confirm: "Delete",
            run: () => void attempt(rest.deleteChannel(channel.id)),
          }),
      },
    );
  }
  return items;
}

export function Sidebar({ guild }: { guild: Guild }): JSX.Element {
  const [focused, setFocused] = useState<string | undefined>();
  const groups = channelGroups(guild, canSee(guild));
  const { collapsed } = prefs.value;
  const invitable = firstInvitable(guild);
  // One stop for the Tab key; the arrows go on from there.
  const stop = focused ?? currentChannel.value?.id ?? groups[0]?.channels[0]?.id;
  return (
    <nav class="sidebar" aria-label={guild.name}>
      <header class="sidebar-head">
        <button type="button" class="guild-name" aria-haspopup="menu" onClick={(event) => openMenu(event, guild.name, guildMenu(guild))}>
          <h1>{guild.name}</h1>
          <Icon name="chevron" size={16} />
        </button>
        {invitable && (
          <button
            type="button"
            class="icon-button"
            aria-label="Invite people"
            title="Invite people"
            onClick={() => (dialog.value = { kind: "invite", guildId: guild.id, channelId: invitable })}
          >
            <Icon name="user-plus" />
          </button>
        )}
      </header>
      <div
        class="tree"
        role="tree"
        aria-label="Channels"
        onKeyDown={(event) => moveFocus(event, "[role=treeitem]")}
        onFocusIn={(event) => setFocused((event.target as HTMLElement).dataset["node"])}
      >
        {groups.map(({ category, channels }) => {
          const id = category?.id ?? "none";
          const closed = collapsed[id] === true;
          const shown = closed ? channels.filter((channel) => call.state.value?.channelId === channel.id || isUnread(channel)) : channels;
          return (
            <div class="tree-group" role="none" key={id}>
              {category && (
                <Category guild={guild} category={category} closed={closed} stop={stop === category.id} />
              )}
              {shown.map((channel) => (
                <ChannelRow key={channel.id} guild={guild} channel={channel} level={category ? 2 : 1} stop={stop} />
              ))}
            </div>
          );
        })}
      </div>
    </nav>
  );
}

function Category(props: { guild: Guild; category: Channel; closed: boolean; stop: boolean }): JSX.Element {
  const { guild, category, closed, stop } = props;
  const set = (close: boolean) => {
    const { [category.id]: _, ...others } = prefs.value.collapsed;
    setPrefs({ collapsed: close ? { ...others, [category.id]: true } : others });
  };
  const mayCreate = can(guild, Permission.manageChannels);
  const create = () => (dialog.value = { kind: "create-channel", guildId: guild.id, parentId: category.id });
  // A tree may hold only its items: buttons for the mouse are hidden from screen readers, which have the menu key.
  return (
    <div class="category" role="none">
      <button
        type="button"
        role="treeitem"
        aria-level={1}
        aria-expanded={!closed}
        tabIndex={stop ? 0 : -1}
        data-node={category.id}
        class="category-name"
        onClick={() => set(!closed)}
        onContextMenu={(event) => {
          if (mayCreate) openMenu(event, category.name, [{ kind: "action", label: "Create channel", icon: "plus", run: create }]);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowLeft") set(true);
          if (event.key === "ArrowRight") set(false);
        }}
      >
        <span class={`category-chevron${closed ? " closed" : ""}`}>
          <Icon name="chevron" size={12} />
        </span>
        {category.name}
      </button>
      {mayCreate && (
        <button type="button" class="icon-button small" tabIndex={-1} aria-hidden="true" title="Create a channel" onClick={create}>
          <Icon name="plus" size={16} />
        </button>
      )}
    </div>
  );
}

interface RowProps {
  guild: Guild;
  channel: Channel;
  level: number;
  stop: string | undefined;
}

function ChannelRow({ guild, channel, level, stop }: RowProps): JSX.Element {
  const voice = isVoice(channel);
  const inside = voice ? occupants(world.value, guild, channel.id) : [];
  // Oneself stays, and so does the row with the focus.
  const { rows, more } = bounded(
    inside,
    mostRows,
    (state) => isSpeaking(state.user_id, state.channel_id),
    (state) => state.user_id === world.value.self?.id || stop === `member-${state.user_id}`,
  );
  const current = currentChannel.value?.id === channel.id;
  const joined = call.state.value?.channelId === channel.id;
  const unread = isUnread(channel) && !current;
  const refusal = voice ? joinRefusal(world.value, guild, channel) : undefined;
  const limit = channel.user_limit ?? 0;
  const items = () => channelMenu(guild, channel);
  const labels = [channel.name, voice ? `voice channel, ${inside.length}${limit > 0 ? ` of ${limit}` : ""} inside` : "text channel"];
  if (unread) labels.push("unread messages");
  if (joined) labels.push("you are here");
  return (
    <>
      <div class={`channel${current ? " current" : ""}${unread ? " unread" : ""}${joined ? " joined" : ""}`} role="none">
        <button
          type="button"
          role="treeitem"
          aria-level={level}
          aria-selected={current}
          aria-label={labels.join(", ")}
          tabIndex={stop === channel.id ? 0 : -1}
          data-node={channel.id}
          data-testid={`channel-${channel.id}`}
          class="channel-name"
          title={refusal && !joined ? refusal : undefined}
          onClick={() => {
            pane.value = "main";
            selectChannel(guild, channel.id);
          }}
          onContextMenu={(event) => openMenu(event, channel.name, items())}
        >
          <Icon name={refusal && !joined && limit === 0 ? "lock" : channelIcon(channel)} size={18} />
          <span class="channel-label">{channel.name}</span>
          {voice && limit > 0 && (
            <span class={`channel-limit${inside.length >= limit ? " full" : ""}`} data-count={`${inside.length}/${limit}`} />
          )}
          {unread && <span class="unread-dot" />}
        </button>
        {items().length > 0 && (
          <button type="button" tabIndex={-1} class="icon-button small channel-more" aria-hidden="true" title="More" onClick={(event) => openMenu(event, channel.name, items())}>
            <Icon name="more" size={16} />
          </button>
        )}
      </div>
      {rows.map((state) => (
        <Occupant key={state.user_id} guild={guild} state={state} level={level + 1} stop={stop} />
      ))}
      {more > 0 && (
        <p class="field-note occupants-more" role="none">
          and {more} more
        </p>
      )}
    </>
  );
}

export function VoiceBadges({ state }: { state: VoiceState }): JSX.Element {
  const silenced = prefs.value.silenced[state.user_id] === true;
  const muted = muteReason(state);
  return (
    <span class="badges">
      {silenced && (
        <span class="badge" title="Muted for you">
          <Icon name="volume-off" size={15} />
        </span>
      )}
      {muted && (
        <span class={`badge${state.mute ? " moderated" : ""}`} title={muted}>
          <Icon name="mic-off" size={15} />
        </span>
      )}
      {(state.deaf || state.self_deaf) && (
        <span class={`badge${state.deaf ? " moderated" : ""}`} title={state.deaf ? "Deafened by a moderator" : "Deafened"}>
          <Icon name="ear-off" size={15} />
        </span>
      )}
    </span>
  );
}

function Occupant(props: { guild: Guild; state: VoiceState; level: number; stop: string | undefined }): JSX.Element {
  const { guild, state, level, stop } = props;
  const name = nameOf(state.user_id, guild);
  const speaking = isSpeaking(state.user_id, state.channel_id);
  const node = `member-${state.user_id}`;
  const open = (event: MouseEvent) => openMenu(event, name, memberMenu(guild, state.user_id));
  return (
    <button
      type="button"
      role="treeitem"
      aria-level={level}
      aria-haspopup="menu"
      aria-label={voiceLabel(name, state, speaking)}
      tabIndex={stop === node ? 0 : -1}
      data-node={node}
      data-testid={node}
      data-speaking={speaking}
      class={`occupant${speaking ? " speaking" : ""}`}
      onClick={open}
      onContextMenu={open}
    >
      <Avatar id={state.user_id} name={name} size={24} speaking={speaking} />
      <span class="occupant-name">{name}</span>
      <VoiceBadges state={state} />
    </button>
  );
}
