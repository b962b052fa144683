import type { JSX } from "preact";
import type { Channel, VoiceState } from "../protocol/payloads";
import { call, nameOf, world } from "../state/app";
import { bounded, voiceLabel } from "../state/occupancy";
import { joinRefusal } from "../state/refusal";
import { openMenu } from "../state/ui";
import { occupants, type Guild } from "../state/world";
import { Avatar, hueOf } from "./Avatar";
import { Icon } from "./icons";
import { memberMenu } from "./memberMenu";
import { isSpeaking, VoiceBadges } from "./Sidebar";

/** More tiles than this would only slow the page; the rest is counted. */
const mostTiles = 100;

function Tile({ guild, state }: { guild: Guild; state: VoiceState }): JSX.Element {
  const name = nameOf(state.user_id, guild);
  const speaking = isSpeaking(state.user_id, state.channel_id);
  const open = (event: MouseEvent) => openMenu(event, name, memberMenu(guild, state.user_id));
  const self = state.user_id === world.value.self?.id;
  return (
    <li
      class={`tile${speaking ? " speaking" : ""}`}
      style={{ "--hue": hueOf(state.user_id) }}
      data-testid={`tile-${state.user_id}`}
      onContextMenu={open}
    >
      <Avatar id={state.user_id} name={name} size={88} speaking={speaking} />
      <span class="tile-name" aria-hidden="true">
        <span>
          {name}
          {self && <small> you</small>}
        </span>
        <VoiceBadges state={state} />
      </span>
      <span class="sr-only">{voiceLabel(name, state, speaking)}</span>
      <button type="button" class="icon-button small tile-more" aria-haspopup="menu" aria-label={`More for ${name}`} onClick={open}>
        <Icon name="more" size={18} />
      </button>
    </li>
  );
}

/** Columns that leave the rows about even: 2 for four, 3 for six, 4 for a dozen. */
function columnsFor(people: number): number {
  return Math.min(6, Math.ceil(Math.sqrt(people)));
}

export function VoiceRoom({ guild, channel }: { guild: Guild; channel: Channel }): JSX.Element {
  const inside = occupants(world.value, guild, channel.id);
  const { rows, more } = bounded(
    inside,
    mostTiles,
    (state) => isSpeaking(state.user_id, state.channel_id),
    (state) => state.user_id === world.value.self?.id,
  );
  const joined = call.state.value?.channelId === channel.id;
  const refusal = joinRefusal(world.value, guild, channel);
  const join = !joined && (
    <div class="room-join">
      <button type="button" class="button primary large" disabled={refusal !== undefined} data-testid="join-voice" onClick={() => call.join(guild.id, channel.id)}>
        <Icon name="speaker" size={18} /> Join voice
      </button>
      {refusal && <p class="field-note">{refusal}</p>}
    </div>
  );
  return (
    <section class="room" aria-label={`Voice channel ${channel.name}`}>
      {inside.length > 0 ? (
        <ul class={`tiles${inside.length <= 2 ? " few" : ""}`} style={{ "--columns": columnsFor(inside.length) }} aria-label="In this channel">
          {rows.map((state) => (
            <Tile key={state.user_id} guild={guild} state={state} />
          ))}
        </ul>
      ) : (
        <div class="empty">
          <span class="empty-mark" aria-hidden="true">
            <i />
            <i />
            <i />
            <i />
          </span>
          <h2>{joined ? "Opening the room…" : "It's quiet in here"}</h2>
          <p>{joined ? "One moment." : "Be the first one in; others will see you here."}</p>
          {join}
        </div>
      )}
      {more > 0 && <p class="room-hint">and {more} more</p>}
      {inside.length > 0 && join}
      {joined && inside.length === 1 && <p class="room-hint">You are alone here for now. Invite someone with the button above.</p>}
    </section>
  );
}
