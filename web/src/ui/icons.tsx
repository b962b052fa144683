import type { JSX } from "preact";
import { ChannelType, type Channel } from "../protocol/payloads";

/** Line icons on a 24 by 24 grid, drawn for this app; the stroke takes the text's colour. */
const paths: Record<string, string> = {
  mic: "M12 3a3 3 0 0 1 3 3v6a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3ZM5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3",
  "mic-off": "M9 9v3a3 3 0 0 0 4.8 2.4M15 11.5V6a3 3 0 0 0-5.7-1.3M5.5 11.5a6.5 6.5 0 0 0 10.6 5M18.5 11.5a6.6 6.6 0 0 1-.6 2.7M12 18v3M4 4l16 16",
  ear: "M4 15v-2.5a8 8 0 0 1 16 0V15M4 15.5A1.5 1.5 0 0 1 5.5 14h1A1.5 1.5 0 0 1 8 15.500v3A1.5 1.5 0 0 1 6.5 20h-1A1.5 1.5 0 0 1 4 18.500ZM16 15.500A1.5 1.5 0 0 1 17.5 14h1a1.5 1.5 0 0 1 1.5 1.500v3a1.5 1.5 0 0 1-1.5 1.500h-1a1.5 1.5 0 0 1-1.5-1.500Z",
  "ear-off": "M4 15v-2.500a8 8 0 0 1 1.7-4.900M8.5 5.300A8 8 0 0 1 20 12.500V14M4 15.500A1.5 1.5 0 0 1 5.5 14h1A1.5 1.5 0 0 1 8 15.500v3A1.5 1.5 0 0 1 6.5 20h-1A1.5 1.5 0 0 1 4 18.500ZM16 16v2.500a1.5 1.5 0 0 0 1.5 1.500h1M4 4l16 16",
  leave: "M3.5 14.200c-.7-.9-.6-2.4.5-3.3 4.6-3.9 11.4-3.9 16 0 1.1.9 1.2 2.4.5 3.300l-.6.800c-.4.5-1.1.700-1.7.400l-2.5-1.200a1.5 1.5 0 0 1-.8-1.500l.1-1.300a10 10 0 0 0-6 0l.1 1.300c0 .6-.3 1.2-.8 1.500l-2.5 1.200c-.6.3-1.3.100-1.7-.4Z",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.800a2.2 2.2 0 1 1 0 4.4 2.2 2.2 0 0 1 0-4.400ZM9 14.800a2.2 2.2 0 1 1 0 4.4 2.2 2.2 0 0 1 0-4.400Z",
  hash: "M9.5 4 7.5 20M16.5 4l-2 16M4.5 9h15M4 15h15",
  speaker: "M4 10v4h3.500L12 18V6L7.5 10ZM15.5 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11",
  stage: "M12 13a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM8 20c0-2.5 1.6-4 4-4s4 1.5 4 4M7 15a6.5 6.5 0 1 1 10 0",
  plus: "M12 5v14M5 12h14",
  users: "M9 11.500a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM3 20c0-3.3 2.5-5.5 6-5.500s6 2.2 6 5.500M15.5 5a3.3 3.3 0 0 1 0 6.300M17.5 15c2.2.7 3.5 2.5 3.5 5",
  "user-plus": "M10 11.500a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM4 20c0-3.3 2.5-5.5 6-5.5 1.3 0 2.5.3 3.5.9M18 13.500v6M15 16.500h6",
  chevron: "m6 9.5 6 6 6-6",
  back: "M14.5 5.5 8 12l6.5 6.5",
  close: "m6 6 12 12M18 6 6 18",
  check: "m5 12.5 4.5 4.500L19 7.5",
  copy: "M9 9h10v11H9ZM15 9V4H5v11h4",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  edit: "M4 20l1-4.500L15.5 5a2 2 0 0 1 3 0l.5.500a2 2 0 0 1 0 3L8.5 19ZM14 6.500l3.5 3.5",
  trash: "M5 7h14M10 4h4M6.5 7l1 13h9l1-13M10.5 11v5M13.5 11v5",
  help: "M9.3 9.300a2.8 2.8 0 1 1 4.3 2.400c-1 .6-1.6 1.2-1.6 2.300M12 17.200h.01M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18Z",
  send: "M5 12 4 4.5 20.5 12 4 19.500ZM5 12h7",
  link: "M10 14a4 4 0 0 0 6 .400l3-3a4 4 0 0 0-5.7-5.700L12 7M14 10a4 4 0 0 0-6-.400l-3 3a4 4 0 0 0 5.7 5.700L12 17",
  logout: "M10 5H5v14h5M14 8l4 4-4 4M18 12H9.5",
  warning: "M12 4 2.8 20h18.400ZM12 10v4.500M12 17.300h.01",
  move: "M4 12h15M13.5 6.5 19 12l-5.5 5.5",
  volume: "M4 10v4h3.500L12 18V6L7.5 10ZM16 9.500a3.5 3.5 0 0 1 0 5",
  "volume-off": "M4 10v4h3.500L12 18V6L7.5 10ZM16 10l4.5 4.500M20.5 10 16 14.5",
  kick: "M10 11.500a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM4 20c0-3.3 2.5-5.5 6-5.5 1.3 0 2.5.3 3.5.9M15.5 15l5 5M20.5 15l-5 5",
  lock: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  retry: "M19.5 12a7.5 7.5 0 1 1-2.3-5.400M19.5 3.500v4h-4",
  keyboard: "M3 7h18v10H3ZM7 10.500h.01M10.5 10.500h.01M14 10.500h.01M17.5 10.500h.01M8 14h8",
  palette: "M12 20.500a8.5 8.5 0 1 1 8.5-8.500c0 2-1.5 3-3.2 3H15a2 2 0 0 0-1.3 3.500c.5.7 0 2-1.7 2ZM8 11.500h.01M11 8h.01M15 9h.01",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 20.500c.5-3.8 3.3-6 7.5-6s7 2.2 7.5 6",
};

export function Icon({ name, size = 20 }: { name: string; size?: number }): JSX.Element {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}

/** The name of the icon that stands for a channel of this type. */
export function channelIcon(channel: Channel): string {
  if (channel.type === ChannelType.stage) return "stage";
  return channel.type === ChannelType.voice ? "speaker" : "hash";
}

/** Four bars at the levels of a voice, which also read as an H. */
export function Mark({ size = 32 }: { size?: number }): JSX.Element {
  return (
    <svg class="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect class="mark-ground" width="32" height="32" rx="9" />
      <rect class="mark-bar" x="6.5" y="7" width="4" height="18" rx="2" />
      <rect class="mark-bar" x="11.5" y="13.5" width="4" height="5" rx="2" />
      <rect class="mark-bar" x="16.5" y="12" width="4" height="8" rx="2" />
      <rect class="mark-bar" x="21.5" y="7" width="4" height="18" rx="2" />
    </svg>
  );
}

/** Signal strength in three bars, from the ping in milliseconds. */
export function SignalBars({ ping, lost = false }: { ping: number | undefined; lost?: boolean }): JSX.Element {
  const bars = lost || ping === undefined ? 0 : ping < 80 ? 3 : ping < 200 ? 2 : 1;
  return (
    <svg class={`bars bars-${bars}`} width="18" height="18" viewBox="0 0 18 18" aria-hidden="true">
      {[0, 1, 2].map((index) => (
        <rect key={index} class={index < bars ? "on" : ""} x={2 + index * 5} y={11 - index * 4} width="3.5" height={5 + index * 4} rx="1.5" />
      ))}
    </svg>
  );
}
