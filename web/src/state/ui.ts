import { signal } from "@preact/signals";
import type { Channel, Snowflake } from "../protocol/payloads";

export type SettingsTab = "voice" | "appearance" | "account" | "keys";

export type Dialog =
  | { kind: "settings"; tab: SettingsTab }
  | { kind: "connection" }
  | { kind: "help" }
  | { kind: "create-guild" }
  | { kind: "create-channel"; guildId: Snowflake; parentId?: Snowflake }
  | { kind: "edit-channel"; guildId: Snowflake; channel: Channel }
  | { kind: "invite"; guildId: Snowflake; channelId: Snowflake }
  | { kind: "confirm"; title: string; text: string; confirm: string; run: () => void };

export const dialog = signal<Dialog | undefined>(undefined);

/** What a phone shows of the three panes; a desktop shows all. */
export const pane = signal<"list" | "main" | "members">("list");

/** The window shows one pane at a time, as the style sheets have it too. */
export const narrow = signal(false);

if (typeof matchMedia === "function") {
  const query = matchMedia("(max-width: 760px)");
  narrow.value = query.matches;
  query.addEventListener("change", () => (narrow.value = query.matches));
}

export type MenuItem =
  | {
      kind: "action";
      label: string;
      icon?: string;
      danger?: boolean;
      /** Given: the item is a switch. */
      checked?: boolean;
      testId?: string;
      run: () => void;
    }
  | { kind: "slider"; label: string; value: number; change: (value: number) => void }
  | { kind: "group"; label: string; icon?: string; testId?: string; items: MenuItem[] }
  | { kind: "separator" };

export interface MenuState {
  title: string;
  x: number;
  y: number;
  items: MenuItem[];
  /** Gets the focus back. */
  opener: HTMLElement | undefined;
}

export const menu = signal<MenuState | undefined>(undefined);

/** Opens a menu where the event happened: at the pointer, or under the element when a key asked for it. */
export function openMenu(event: MouseEvent, title: string, items: MenuItem[]): void {
  event.preventDefault();
  event.stopPropagation();
  const element = event.currentTarget as HTMLElement;
  const box = element.getBoundingClientRect();
  const byPointer = event.type === "contextmenu" && (event.clientX > 0 || event.clientY > 0);
  menu.value = {
    title,
    items,
    opener: element,
    x: byPointer ? event.clientX : box.left,
    y: byPointer ? event.clientY : box.bottom + 4,
  };
}

/** Says something to a screen reader, and to nobody else. */
export const announcement = signal("");

export function announce(text: string): void {
  announcement.value = text;
}
