import { signal } from "@preact/signals";
import type { Snowflake } from "../protocol/payloads";

export type Route =
  | { name: "invite"; code: string }
  | { name: "login" }
  | { name: "register" }
  | { name: "home" }
  | { name: "channel"; guildId: Snowflake; channelId: Snowflake | undefined };

export function parseRoute(path: string): Route {
  const [first, second, third] = path.split("/").filter((part) => part !== "");
  if (first === "invite" && second) return { name: "invite", code: decodeURIComponent(second) };
  if (first === "login") return { name: "login" };
  if (first === "register") return { name: "register" };
  if (first === "channels" && second) return { name: "channel", guildId: second, channelId: third };
  return { name: "home" };
}

function formatRoute(route: Route): string {
  switch (route.name) {
    case "invite":
      return `/invite/${encodeURIComponent(route.code)}`;
    case "login":
      return "/login";
    case "register":
      return "/register";
    case "home":
      return "/";
    case "channel":
      return `/channels/${route.guildId}${route.channelId ? `/${route.channelId}` : ""}`;
  }
}

export const route = signal<Route>(parseRoute(typeof location === "undefined" ? "/" : location.pathname));

export function navigate(next: Route, options: { replace?: boolean } = {}): void {
  route.value = next;
  const url = formatRoute(next);
  if (url === location.pathname) return;
  if (options.replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
}

if (typeof window !== "undefined") {
  window.addEventListener("popstate", () => {
    route.value = parseRoute(location.pathname);
  });
}
