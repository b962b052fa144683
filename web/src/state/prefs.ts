import { effect, signal } from "@preact/signals";
import type { NoiseSuppression } from "../audio/capture";
import type { Snowflake } from "../protocol/payloads";
import { testMode } from "./env";

export type InputMode = "voice" | "push" | "open";

export interface Prefs {
  theme: "system" | "dark" | "light";
  inputDevice: string;
  outputDevice: string;
  inputMode: InputMode;
  /** dBFS, or follow the room. */
  threshold: number | "auto";
  /** KeyboardEvent.code of the push-to-talk key. */
  pushKey: string;
  /** Linear */
  inputGain: number;
  noiseSuppression: NoiseSuppression;
  echoCancellation: boolean;
  autoGain: boolean;
  sounds: boolean;
  /** Per user: linear volume, and silenced here only. */
  volumes: Record<Snowflake, number>;
  silenced: Record<Snowflake, true>;
  /** Newest message seen, by channel. */
  read: Record<Snowflake, Snowflake>;
  collapsed: Record<Snowflake, true>;
  membersOpen: boolean;
  membersInCall: boolean;
}

const defaults: Prefs = {
  theme: "system",
  inputDevice: "",
  outputDevice: "",
  inputMode: "voice",
  threshold: "auto",
  pushKey: "Space",
  inputGain: 1,
  noiseSuppression: "standard",
  echoCancellation: true,
  autoGain: true,
  sounds: true,
  volumes: {},
  silenced: {},
  read: {},
  collapsed: {},
  membersOpen: true,
  membersInCall: false,
};

const key = "hubbub.prefs";

function load(): Prefs {
  try {
    const stored = JSON.parse(localStorage.getItem(key) ?? "{}") as Record<string, unknown>;
    const out: Record<string, unknown> = { ...defaults };
    // What an older version stored in another type is dropped, not trusted.
    for (const [name, value] of Object.entries(defaults)) {
      if (typeof stored[name] === typeof value && stored[name] !== null) out[name] = stored[name];
    }
    if (typeof stored["threshold"] === "number") out["threshold"] = stored["threshold"];
    return out as unknown as Prefs;
  } catch {
    return defaults;
  }
}

export const prefs = signal<Prefs>({ ...load(), ...(testMode.gateOff ? { inputMode: "open" as const } : {}) });

export function setPrefs(change: Partial<Prefs>): void {
  prefs.value = { ...prefs.value, ...change };
}

effect(() => {
  const { theme } = prefs.value;
  try {
    localStorage.setItem(key, JSON.stringify(prefs.value));
  } catch {
    // Private windows may refuse; the choice then lasts as long as the page.
  }
  if (typeof document === "undefined") return;
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
});
