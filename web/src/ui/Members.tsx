import type { JSX } from "preact";
import { nameOf, world } from "../state/app";
import { openMenu } from "../state/ui";
import type { Guild } from "../state/world";
import { Avatar } from "./Avatar";
import { memberMenu } from "./memberMenu";
import { moveFocus } from "./roving";

/** More rows than this would only slow the page; the rest is counted. */
const mostRows = 200;

export function Members({ guild }: { guild: Guild }): JSX.Element {
  const self = world.value.self?.id;
  const online = (id: string) => id === self || guild.online.has(id) || guild.voiceStates.has(id);
  const sorted = [...guild.members.keys()]
    .map((id) => ({ id, name: nameOf(id, guild), online: online(id) }))
    .sort((a, b) => Number(b.online) - Number(a.online) || a.name.localeCompare(b.name));
  const groups = [
    { label: "Online", rows: sorted.filter((member) => member.online) },
    { label: "Offline", rows: sorted.filter((member) => !member.online) },
  ];
  return (
    <aside class="members" aria-label="Members" onKeyDown={(event) => moveFocus(event, ".member")}>
      {groups.map(
        ({ label, rows }) =>
          rows.length > 0 && (
            <section key={label} aria-label={label}>
              <h2>
                {label} <span>{rows.length}</span>
              </h2>
              {rows.slice(0, mostRows).map((member) => {
                const open = (event: MouseEvent) => openMenu(event, member.name, memberMenu(guild, member.id));
                const user = world.value.users.get(member.id);
                return (
                  <button
                    key={member.id}
                    type="button"
                    class={`member${member.online ? "" : " offline"}`}
                    aria-haspopup="menu"
                    data-testid={`memberlist-${member.id}`}
                    onClick={open}
                    onContextMenu={open}
                  >
                    <Avatar id={member.id} name={member.name} size={32} online={member.online} />
                    <span class="member-name">{member.name}</span>
                    {user?.bot && <span class="tag">Bot</span>}
                    {member.id === guild.ownerId && <span class="tag">Owner</span>}
                  </button>
                );
              })}
              {rows.length > mostRows && <p class="field-note">and {rows.length - mostRows} more</p>}
            </section>
          ),
      )}
    </aside>
  );
}
