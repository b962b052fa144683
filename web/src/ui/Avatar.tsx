import type { JSX } from "preact";
import type { Snowflake } from "../protocol/payloads";

/** Hues (OKLCH) that stay clear at the lightness white letters need; between orange and green they would turn to mud. */
const hues = [8, 25, 42, 142, 158, 175, 195, 215, 240, 262, 285, 305, 328, 348];

/** A hue of the person's own, the same on every screen. */
export function hueOf(id: Snowflake): number {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619);
  return hues[(hash >>> 8) % hues.length] ?? 0;
}

export function initials(name: string): string {
  const words = name.trim().split(/[\s_.-]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0] ?? "?"];
  return letters.map((word) => [...(word ?? "")][0] ?? "").join("").toUpperCase();
}

interface Props {
  id: Snowflake;
  name: string;
  size?: number;
  speaking?: boolean;
  online?: boolean | undefined;
  square?: boolean;
}

export function Avatar({ id, name, size = 32, speaking = false, online, square = false }: Props): JSX.Element {
  return (
    <span
      class={`avatar${speaking ? " speaking" : ""}${square ? " square" : ""}`}
      style={{ "--size": `${size}px`, "--hue": hueOf(id) }}
      aria-hidden="true"
    >
      <span class="avatar-face" data-initials={initials(name)} />
      {online !== undefined && <span class={`presence ${online ? "online" : ""}`} />}
    </span>
  );
}
