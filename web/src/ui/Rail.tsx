import type { JSX } from "preact";
import { call, canSee, currentGuild, isUnread, openGuild, world } from "../state/app";
import { dialog, pane } from "../state/ui";
import { Avatar } from "./Avatar";
import { Icon } from "./icons";
import { moveFocus } from "./roving";

export function Rail(): JSX.Element {
  const guilds = [...world.value.guilds.values()];
  const current = currentGuild.value?.id;
  return (
    <nav class="rail" aria-label="Communities" onKeyDown={(event) => moveFocus(event, ".rail-item")}>
      {guilds.map((guild) => {
        const visible = canSee(guild);
        const unread = [...guild.channels.values()].some((channel) => isUnread(channel) && visible(channel));
        const inCall = call.state.value?.guildId === guild.id;
        return (
          <button
            key={guild.id}
            type="button"
            class={`rail-item${guild.id === current ? " current" : ""}${unread ? " unread" : ""}`}
            aria-current={guild.id === current ? "page" : undefined}
            aria-label={`${guild.name}${unread ? ", unread messages" : ""}${inCall ? ", in a call" : ""}`}
            title={guild.name}
            onClick={() => {
              openGuild(guild);
              pane.value = "list";
            }}
          >
            <Avatar id={guild.id} name={guild.name} size={44} square />
            {inCall && (
              <span class="rail-call">
                <Icon name="speaker" size={12} />
              </span>
            )}
          </button>
        );
      })}
      <button
        type="button"
        class="rail-item rail-add"
        aria-label="Make a community"
        title="Make a community"
        onClick={() => (dialog.value = { kind: "create-guild" })}
      >
        <span class="rail-plus">
          <Icon name="plus" size={22} />
        </span>
      </button>
    </nav>
  );
}
