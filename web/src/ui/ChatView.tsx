import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Channel, Message } from "../protocol/payloads";
import { compareSnowflakes } from "../protocol/payloads";
import { Permission } from "../protocol/permissions";
import { can, chat, commands, markRead, nameOf, world } from "../state/app";
import { emptyLog } from "../state/chat";
import { prefs } from "../state/prefs";
import { announce } from "../state/ui";
import type { Guild } from "../state/world";
import { Composer } from "./Composer";
import { Icon } from "./icons";
import { MessageRow, PendingRow, summary, UseRow } from "./MessageRow";

/** Messages by one person within this time (ms) stand under one name. */
const groupWithin = 7 * 60_000;

const dayFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });

function startsGroup(message: Message, before: Message | undefined): boolean {
  return (
    !before ||
    before.author.id !== message.author.id ||
    message.interaction_metadata !== undefined ||
    before.interaction_metadata !== undefined ||
    Date.parse(message.timestamp) - Date.parse(before.timestamp) > groupWithin
  );
}

export function ChatView({ guild, channel }: { guild: Guild; channel: Channel }): JSX.Element {
  const log = chat.logs.value.get(channel.id) ?? emptyLog;
  const [editing, setEditing] = useState<string | undefined>();
  // Where reading stopped last time; fixed while the channel is open.
  const [readTo] = useState(() => prefs.value.read[channel.id]);
  const { scroller, onScroll } = useStickyScroll(channel.id, log.messages);

  useEffect(() => {
    if (!chat.logs.value.has(channel.id)) void chat.load(channel.id);
  }, [channel.id]);

  const last = log.messages.at(-1);
  useEffect(() => {
    if (document.visibilityState === "visible") markRead(channel.id, last?.id ?? channel.last_message_id);
  }, [channel.id, last?.id]);
  useAnnouncements(guild, log.messages);

  const mayWrite = can(guild, Permission.sendMessages, channel.id);
  const self = world.value.self?.id;
  const editLast = () => {
    const own = log.messages.findLast((message) => message.author.id === self);
    if (own) setEditing(own.id);
  };
  return (
    <section class="chat" aria-label={`Channel ${channel.name}`}>
      <div class="chat-scroll" ref={scroller} onScroll={onScroll} tabIndex={0} role="log" aria-live="off" aria-label={`Messages in ${channel.name}`}>
        <div class="chat-fill" />
        <Beginning channel={channel} log={log} />
        {log.messages.map((message, index) => {
          const before = log.messages[index - 1];
          const day = dayFormat.format(new Date(message.timestamp));
          const newDay = !before || dayFormat.format(new Date(before.timestamp)) !== day;
          const firstNew =
            readTo !== undefined &&
            message.author.id !== self &&
            compareSnowflakes(message.id, readTo) > 0 &&
            (!before || compareSnowflakes(before.id, readTo) <= 0);
          return (
            <div key={message.id} role="none">
              {newDay && (
                <div class="divider" role="separator">
                  <span>{day}</span>
                </div>
              )}
              {firstNew && (
                <div class="divider new" role="separator">
                  <span>New</span>
                </div>
              )}
              <MessageRow
                guild={guild}
                message={message}
                head={newDay || firstNew || startsGroup(message, before)}
                editing={editing === message.id}
                edit={(on) => setEditing(on ? message.id : undefined)}
              />
            </div>
          );
        })}
        {log.pending.map((pending) => (
          <PendingRow key={pending.nonce} channelId={channel.id} pending={pending} />
        ))}
        {commands.uses.value.map((use) => use.channelId === channel.id && <UseRow key={use.nonce} use={use} />)}
      </div>
      <Typing guild={guild} channelId={channel.id} />
      {mayWrite ? (
        <Composer key={channel.id} guild={guild} channel={channel} editLast={editLast} />
      ) : (
        <p class="composer-closed">You can read here, but not write.</p>
      )}
    </section>
  );
}

/** Keeps the newest message in view while the reader is at the end, and the place while history is put in above. */
function useStickyScroll(channelId: string, messages: readonly Message[]) {
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const before = useRef({ height: 0, first: "" });
  useLayoutEffect(() => {
    atEnd.current = true;
  }, [channelId]);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const first = messages[0]?.id ?? "";
    if (atEnd.current) element.scrollTop = element.scrollHeight;
    else if (before.current.first !== first) element.scrollTop += element.scrollHeight - before.current.height;
    before.current = { height: element.scrollHeight, first };
  });
  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      if (atEnd.current) element.scrollTop = element.scrollHeight;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const onScroll = () => {
    const element = scroller.current;
    if (!element) return;
    atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 60;
    if (element.scrollTop < 300) void chat.loadOlder(channelId);
  };
  return { scroller, onScroll };
}

function useAnnouncements(guild: Guild, messages: readonly Message[]): void {
  const heard = useRef(messages.at(-1)?.id);
  useEffect(() => {
    const last = messages.at(-1);
    const isNew = last && heard.current !== undefined && compareSnowflakes(last.id, heard.current) > 0;
    if (isNew && last.author.id !== world.value.self?.id) {
      announce(`${nameOf(last.author.id, guild)}: ${summary(last)}`);
    }
    heard.current = last?.id;
  }, [messages]);
}

function Beginning({ channel, log }: { channel: Channel; log: typeof emptyLog }): JSX.Element | null {
  if (log.state === "loading") {
    return (
      <div class="chat-loading" role="status">
        <span class="spinner" /> Loading messages…
      </div>
    );
  }
  if (log.state === "failed") {
    return (
      <div class="chat-loading">
        The messages could not be loaded.{" "}
        <button type="button" class="button small" onClick={() => void chat.load(channel.id)}>
          Try again
        </button>
      </div>
    );
  }
  if (!log.complete) return null;
  return (
    <header class="beginning">
      <span class="beginning-icon">
        <Icon name="hash" size={28} />
      </span>
      <h2>{channel.name}</h2>
      <p>{channel.topic || "This is where the channel begins."}</p>
    </header>
  );
}

function Typing({ guild, channelId }: { guild: Guild; channelId: string }): JSX.Element {
  const names = [...(chat.typing.value.get(channelId) ?? [])].map((id) => nameOf(id, guild));
  const text =
    names.length === 0
      ? ""
      : names.length === 1
        ? `${names[0]} is typing…`
        : names.length === 2
          ? `${names[0]} and ${names[1]} are typing…`
          : "Several people are typing…";
  return (
    <p class="typing" aria-live="polite">
      {text && (
        <span class="typing-dots" aria-hidden="true">
          <i />
          <i />
          <i />
        </span>
      )}
      {text}
    </p>
  );
}
