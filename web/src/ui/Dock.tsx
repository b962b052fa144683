import type { JSX } from "preact";
import { call, currentChannel, gatewayStatus, openChannel, selfName, world } from "../state/app";
import type { CallState } from "../state/call";
import { prefs } from "../state/prefs";
import type { Problem } from "../state/problems";
import { dialog, openMenu, pane } from "../state/ui";
import { Avatar } from "./Avatar";
import { Icon, SignalBars } from "./icons";
import { keyName } from "./keys";

const phaseText: Record<CallState["phase"], string> = {
  joining: "Joining…",
  connecting: "Connecting…",
  connected: "Voice connected",
  reconnecting: "Reconnecting…",
};

function act(problem: Problem): void {
  switch (problem.action) {
    case "retry-mic":
      void call.mic.restart();
      break;
    case "retry-join":
      call.retry();
      break;
    case "unblock":
      void call.unblock();
      break;
    case "details":
    case undefined:
      dialog.value = { kind: "connection" };
  }
}

const actionText: Record<NonNullable<Problem["action"]>, string> = {
  "retry-mic": "Try again",
  "retry-join": "Try again",
  unblock: "Play sound",
  details: "Details",
};

function Trouble({ problem }: { problem: Problem }): JSX.Element {
  return (
    <div class="trouble" role="alert" data-testid={`problem-${problem.kind}`}>
      <p class="trouble-title">
        <Icon name="warning" size={16} /> {problem.title}
      </p>
      <p class="trouble-detail">{problem.detail}</p>
      <div class="trouble-actions">
        {problem.action && (
          <button type="button" class="button small primary" onClick={() => act(problem)}>
            {actionText[problem.action]}
          </button>
        )}
        {problem.kind.startsWith("mic") ? (
          <button type="button" class="button small" onClick={() => (dialog.value = { kind: "settings", tab: "voice" })}>
            Settings
          </button>
        ) : (
          problem.action !== "unblock" && (
            <button type="button" class="button small" onClick={() => (dialog.value = { kind: "connection" })}>
              Connection
            </button>
          )
        )}
      </div>
    </div>
  );
}

function CallRow({ state }: { state: CallState }): JSX.Element {
  const guild = world.value.guilds.get(state.guildId);
  const channel = guild?.channels.get(state.channelId);
  const connected = state.phase === "connected";
  const ping = call.stats.value?.ping;
  const resuming = connected && call.resuming.value;
  return (
    <div class={`call-row ${state.phase}`}>
      <button
        type="button"
        class="call-status"
        data-testid="connection-panel"
        aria-haspopup="dialog"
        title="Connection"
        onClick={() => (dialog.value = { kind: "connection" })}
      >
        <SignalBars ping={ping ?? (connected ? 0 : undefined)} lost={!connected} />
        <span class="call-text">
          <strong data-testid={connected ? "voice-connected" : "voice-pending"} aria-live="polite">
            {resuming ? "Reconnecting…" : phaseText[state.phase]}
          </strong>
          <span>
            {resuming ? "The sound goes on" : `${channel?.name ?? "…"}${guild ? ` · ${guild.name}` : ""}`}
          </span>
        </span>
      </button>
      <button
        type="button"
        hidden={currentChannel.value?.id === state.channelId && pane.value === "main"}
        class="icon-button call-view"
        aria-label="Show the call"
        title="Show the call"
        onClick={() => {
          openChannel(state.guildId, state.channelId);
          pane.value = "main";
        }}
      >
        <Icon name="users" />
      </button>
      <button type="button" class="icon-button leave" data-testid="leave" aria-label="Leave the call" title="Leave the call" onClick={() => call.leave()}>
        <Icon name="leave" />
      </button>
    </div>
  );
}

function PushToTalk(): JSX.Element {
  const held = call.mic.pushHeld.value;
  const hold = (on: boolean) => (event: Event) => {
    event.preventDefault();
    call.mic.push(on);
  };
  return (
    <button
      type="button"
      class={`push${held ? " held" : ""}`}
      data-testid="push-to-talk"
      aria-pressed={held}
      disabled={call.mic.muted.value}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        hold(true)(event);
      }}
      onPointerUp={hold(false)}
      onPointerCancel={hold(false)}
      onContextMenu={(event) => event.preventDefault()}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.repeat) hold(true)(event);
      }}
      onKeyUp={(event) => {
        if (event.key === "Enter") hold(false)(event);
      }}
    >
      <Icon name="mic" size={18} />
      {held ? "Talking" : "Hold to talk"}
      <kbd>{keyName(prefs.value.pushKey)}</kbd>
    </button>
  );
}

export function Dock(): JSX.Element {
  const state = call.state.value;
  const { self, guilds } = world.value;
  const own = guilds.get(state?.guildId ?? "")?.voiceStates.get(self?.id ?? "");
  const muted = call.selfMute.value || call.selfDeaf.value;
  const deaf = call.selfDeaf.value;
  const moderated = own?.mute ? "Muted by a moderator" : own?.suppress ? "You may listen here, not speak" : undefined;
  const speaking = state?.phase === "connected" && call.mic.open.value;
  const trouble = call.trouble.value;
  return (
    <section class={`dock${state ? " in-call" : ""}`} aria-label="Your controls">
      {trouble && <Trouble problem={trouble} />}
      {state && moderated && <p class="dock-note">{moderated}</p>}
      {state && call.mic.mode.value === "push" && <PushToTalk />}
      {state && <CallRow state={state} />}
      <div class="self-row">
        <button
          type="button"
          class="self"
          aria-haspopup="dialog"
          title="Account"
          onClick={() => (dialog.value = { kind: "settings", tab: "account" })}
        >
          <Avatar id={self?.id ?? ""} name={selfName.value} size={34} speaking={speaking} online={gatewayStatus.value.kind === "ready"} />
          <span class="self-text">
            <strong>{selfName.value}</strong>
            <span>{self?.guest ? "Guest" : self?.username}</span>
          </span>
        </button>
        <button
          type="button"
          class={`icon-button toggle${muted ? " off" : ""}`}
          data-testid="mute"
          aria-pressed={muted}
          aria-label={muted ? "Unmute" : "Mute"}
          title={`${muted ? "Unmute" : "Mute"} (M)`}
          onClick={() => call.setMute(!muted)}
        >
          <Icon name={muted ? "mic-off" : "mic"} />
        </button>
        <button
          type="button"
          class={`icon-button toggle${deaf ? " off" : ""}`}
          data-testid="deafen"
          aria-pressed={deaf}
          aria-label={deaf ? "Undeafen" : "Deafen"}
          title={`${deaf ? "Undeafen" : "Deafen"} (D)`}
          onClick={() => call.setDeaf(!deaf)}
        >
          <Icon name={deaf ? "ear-off" : "ear"} />
        </button>
        <button
          type="button"
          class="icon-button"
          data-testid="settings"
          aria-label="Settings"
          title="Settings"
          onClick={() => (dialog.value = { kind: "settings", tab: "voice" })}
          onContextMenu={(event) =>
            openMenu(event, "Settings", [
              { kind: "action", label: "Shortcuts and help", icon: "help", run: () => (dialog.value = { kind: "help" }) },
            ])
          }
        >
          <Icon name="settings" />
        </button>
      </div>
    </section>
  );
}
