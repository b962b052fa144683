import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Permission } from "../protocol/permissions";
import { can, currentChannel, currentGuild, gatewayStatus, loaded, openGuild, token, world } from "../state/app";
import { prefs, setPrefs } from "../state/prefs";
import { navigate, route } from "../state/route";
import { dismissToast, toasts } from "../state/toasts";
import { announcement, dialog, narrow, pane } from "../state/ui";
import { isVoice, occupants } from "../state/world";
import { Banner } from "./Banner";
import { ChatView } from "./ChatView";
import { DialogLayer } from "./dialogs";
import { Dock } from "./Dock";
import { InvitePage, LoginPage, NoGuild, RegisterPage, Splash } from "./Entry";
import { channelIcon, Icon } from "./icons";
import { useKeys } from "./keys";
import { Members } from "./Members";
import { MenuLayer } from "./Menu";
import { Rail } from "./Rail";
import { Sidebar } from "./Sidebar";
import { VoiceRoom } from "./VoiceRoom";

export function App(): JSX.Element {
  useKeys();
  return (
    <>
      <Page />
      <MenuLayer />
      <DialogLayer />
      <div class="toasts" role="status" aria-live="polite">
        {toasts.value.map((toast) => (
          <div key={toast.id} class={`toast ${toast.kind}`}>
            <span>{toast.text}</span>
            <button type="button" class="icon-button small" aria-label="Dismiss" onClick={() => dismissToast(toast.id)}>
              <Icon name="close" size={16} />
            </button>
          </div>
        ))}
      </div>
      <p class="sr-only" aria-live="polite">
        {announcement.value}
      </p>
    </>
  );
}

function Page(): JSX.Element {
  const at = route.value;
  useEffect(() => {
    if (!token.value && (at.name === "home" || at.name === "channel")) navigate({ name: "login" }, { replace: true });
  }, [at, token.value]);
  if (at.name === "invite") return <InvitePage key={at.code} code={at.code} />;
  if (at.name === "register" && !token.value) return <RegisterPage />;
  if (!token.value) return <LoginPage />;
  if (!world.value.self || (!loaded.value && world.value.guilds.size === 0)) {
    return (
      <Splash>
        <Banner />
      </Splash>
    );
  }
  return <Shell />;
}

/** From "/" or a guild without a channel to where something can be read. */
function useDefaultChannel(): void {
  const at = route.value;
  const guilds = world.value.guilds;
  useEffect(() => {
    if (at.name === "channel" && guilds.has(at.guildId)) {
      const guild = guilds.get(at.guildId);
      if (guild && !at.channelId) openGuild(guild, true);
      return;
    }
    // A guild just made or joined may still be on its way.
    if (at.name === "channel" && !loaded.value) return;
    const [first] = guilds.values();
    if (at.name !== "channel" && first) openGuild(first, true);
  }, [at, guilds]);
}

function Shell(): JSX.Element {
  useDefaultChannel();
  const guild = currentGuild.value;
  const offline = gatewayStatus.value.kind !== "ready";
  return (
    <div class={`shell pane-${pane.value}${offline ? " offline" : ""}`}>
      <Banner />
      <Rail />
      {/* A phone shows one pane at a time, and each of them is the page then. */}
      <div class="side" role={narrow.value && pane.value === "list" ? "main" : undefined}>
        {guild ? <Sidebar guild={guild} /> : <div class="sidebar" />}
        <Dock />
      </div>
      <Main />
    </div>
  );
}

function Main(): JSX.Element {
  const guild = currentGuild.value;
  const channel = currentChannel.value;
  useEffect(() => {
    document.title = channel ? `${channel.name} · Hubbub` : "Hubbub";
  }, [channel?.name]);
  if (!guild || !channel) {
    return (
      <main class="main">
        <NoGuild />
      </main>
    );
  }
  const voice = isVoice(channel);
  // A call shows who is in it already; a conversation does not.
  const open = voice ? "membersInCall" : "membersOpen";
  const showMembers = prefs.value[open] || pane.value === "members";
  const inside = voice ? occupants(world.value, guild, channel.id).length : 0;
  const topic = voice ? inside > 0 && `${inside} here` : channel.topic;
  const toggleMembers = () => {
    if (narrow.value) pane.value = pane.value === "members" ? "main" : "members";
    else setPrefs({ [open]: !prefs.value[open] });
  };
  return (
    <main class="main">
      <header class="main-head">
        <button type="button" class="icon-button main-back" aria-label="Back" onClick={() => (pane.value = pane.value === "members" ? "main" : "list")}>
          <Icon name="back" />
        </button>
        <Icon name={channelIcon(channel)} />
        <h1>{channel.name}</h1>
        {topic && <p class="topic">{topic}</p>}
        <span class="grow" />
        {can(guild, Permission.createInvite, channel.id) && (
          <button type="button" class="icon-button" aria-label="Invite people" title="Invite people" onClick={() => (dialog.value = { kind: "invite", guildId: guild.id, channelId: channel.id })}>
            <Icon name="user-plus" />
          </button>
        )}
        <button type="button" class="icon-button" aria-label="Members" title="Members" aria-pressed={showMembers} onClick={toggleMembers}>
          <Icon name="users" />
        </button>
        <button type="button" class="icon-button head-help" aria-label="Shortcuts and help" title="Shortcuts and help (?)" onClick={() => (dialog.value = { kind: "help" })}>
          <Icon name="help" />
        </button>
      </header>
      <div class="main-body">
        {voice ? <VoiceRoom guild={guild} channel={channel} /> : <ChatView key={channel.id} guild={guild} channel={channel} />}
        {showMembers && <Members guild={guild} />}
      </div>
    </main>
  );
}
