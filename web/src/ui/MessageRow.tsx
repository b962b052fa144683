import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { MessageFlag, snowflakeTime, type Message } from "../protocol/payloads";
import { Permission } from "../protocol/permissions";
import { can, chat, commands, nameOf, rest, world } from "../state/app";
import type { Pending } from "../state/chat";
import type { Use } from "../state/commands";
import { attempt } from "../state/toasts";
import { dialog, openMenu } from "../state/ui";
import type { Guild } from "../state/world";
import { Avatar, hueOf } from "./Avatar";
import { EmbedView } from "./EmbedView";
import { useGrow } from "./grow";
import { Icon } from "./icons";
import { Markup } from "./markup";
import { memberMenu } from "./memberMenu";

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });

/** A bot that put its answer off has this long (ms) to give it. */
const answerLasts = 15 * 60_000;

const isPrivate = (message: Message) => ((message.flags ?? 0) & MessageFlag.ephemeral) !== 0;
const isLoading = (message: Message) => ((message.flags ?? 0) & MessageFlag.loading) !== 0;

/** What a message says, in a line of text. */
export function summary(message: Message): string {
  if (isLoading(message)) return "is thinking";
  const [embed] = message.embeds ?? [];
  const said = message.content || embed?.title || embed?.description || "a message that can't be shown here";
  return isPrivate(message) ? `${said} (only you can see this)` : said;
}

interface Props {
  guild: Guild;
  message: Message;
  /** First of a group: with name and picture. */
  head: boolean;
  editing: boolean;
  edit: (on: boolean) => void;
}

export function MessageRow({ guild, message, head, editing, edit }: Props): JSX.Element {
  const known = guild.members.has(message.author.id);
  const name = known ? nameOf(message.author.id, guild) : message.author.global_name || message.author.username;
  const sent = new Date(message.timestamp);
  const own = message.author.id === world.value.self?.id;
  const hidden = isPrivate(message);
  const loading = isLoading(message);
  const mayDelete = !hidden && !loading && (own || can(guild, Permission.manageMessages, message.channel_id));
  const openMember = (event: MouseEvent) => openMenu(event, name, memberMenu(guild, message.author.id));
  const remove = () =>
    (dialog.value = {
      kind: "confirm",
      title: "Delete this message?",
      text: message.content.length > 140 ? `${message.content.slice(0, 140)}…` : message.content,
      confirm: "Delete",
      run: () => void attempt(rest.remove(message.channel_id, message.id)),
    });
  return (
    <article
      class={`message${head ? " head" : ""}${editing ? " editing" : ""}${hidden ? " private" : ""}`}
      data-testid={`message-${message.id}`}
    >
      {message.interaction_metadata && <Cause guild={guild} about={message.interaction_metadata} />}
      {head ? (
        <span class="message-face" onContextMenu={openMember}>
          <Avatar id={message.author.id} name={name} size={38} />
        </span>
      ) : (
        <time class="message-time-aside" dateTime={message.timestamp} title={full.format(sent)}>
          {clock.format(sent)}
        </time>
      )}
      <div class="message-body">
        {head && (
          <header>
            <button type="button" class="message-author" style={{ "--hue": hueOf(message.author.id) }} aria-haspopup="menu" onClick={openMember} onContextMenu={openMember}>
              {name}
            </button>
            {message.author.bot && <span class="tag">Bot</span>}
            <time dateTime={message.timestamp} title={full.format(sent)}>
              {clock.format(sent)}
            </time>
          </header>
        )}
        {editing ? (
          <Editor message={message} done={() => edit(false)} />
        ) : (
          <div class="message-text">
            {loading ? <Thinking name={name} since={snowflakeTime(message.id)} /> : <Markup content={message.content} name={(id) => nameOf(id, guild)} />}
            {message.edited_timestamp && <span class="edited"> (edited)</span>}
          </div>
        )}
        {message.embeds?.map((embed, index) => <EmbedView key={index} embed={embed} name={(id) => nameOf(id, guild)} />)}
        {hidden && (
          <p class="message-private">
            <Icon name="lock" size={13} /> Only you can see this.{" "}
            <button type="button" class="link" onClick={() => chat.dismiss(message)}>
              Dismiss
            </button>
          </p>
        )}
      </div>
      {!editing && (own || mayDelete) && (
        <div class="message-tools">
          {own && (
            <button type="button" class="icon-button small" aria-label="Edit message" title="Edit" onClick={() => edit(true)}>
              <Icon name="edit" size={16} />
            </button>
          )}
          {mayDelete && (
            <button type="button" class="icon-button small danger" aria-label="Delete message" title="Delete" onClick={remove}>
              <Icon name="trash" size={16} />
            </button>
          )}
        </div>
      )}
    </article>
  );
}

/** Who used which command, over the answer to it. */
function Cause({ guild, about }: { guild: Guild; about: NonNullable<Message["interaction_metadata"]> }): JSX.Element {
  const name = guild.members.has(about.user.id) ? nameOf(about.user.id, guild) : about.user.global_name || about.user.username;
  return (
    <p class="message-cause">
      <Avatar id={about.user.id} name={name} size={16} />
      <strong>{name}</strong> used {about.name ? <span class="command-name">/{about.name}</span> : "a button"}
    </p>
  );
}

function Dots(): JSX.Element {
  return (
    <span class="typing-dots" aria-hidden="true">
      <i />
      <i />
      <i />
    </span>
  );
}

function Thinking({ name, since }: { name: string; since: number }): JSX.Element {
  const left = since + answerLasts - Date.now();
  const [over, setOver] = useState(left <= 0);
  useEffect(() => {
    const timer = setTimeout(() => setOver(true), left);
    return () => clearTimeout(timer);
  }, []);
  if (over) return <span class="message-thinking">{name} did not answer.</span>;
  return (
    <span class="message-thinking" data-testid="thinking">
      <Dots /> {name} is thinking…
    </span>
  );
}

/** A command on its way, or one that came to nothing. */
export function UseRow({ use }: { use: Use }): JSX.Element {
  return (
    <article class={`message pending${use.problem ? " failed" : ""}`} data-testid="use">
      <span class="message-time-aside" />
      <div class="message-body">
        <div class="message-text">
          You used <span class="command-name">{use.label}</span>
          {!use.problem && (
            <span class="message-thinking" role="status">
              <Dots /> Waiting for {use.usable.app.name}…
            </span>
          )}
        </div>
        {use.problem && (
          <p class="pending-failed" role="alert">
            {use.problem}{" "}
            <button type="button" class="link" onClick={() => void commands.again(use)}>
              Try again
            </button>{" "}
            <button type="button" class="link" onClick={() => commands.forget(use.nonce)}>
              Discard
            </button>
          </p>
        )}
      </div>
    </article>
  );
}

function Editor({ message, done }: { message: Message; done: () => void }): JSX.Element {
  const [text, setText] = useState(message.content);
  const area = useRef<HTMLTextAreaElement>(null);
  useGrow(area, text);
  useEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(text.length, text.length);
  }, []);
  const save = () => {
    const content = text.trim();
    if (content !== "" && content !== message.content) void attempt(rest.edit(message.channel_id, message.id, content));
    done();
  };
  return (
    <div class="editor">
      <textarea
        ref={area}
        rows={1}
        value={text}
        maxLength={2000}
        aria-label="Edit message"
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") done();
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            save();
          }
        }}
      />
      <p class="editor-hint">
        <button type="button" class="button small" onClick={done}>
          Cancel
        </button>
        <button type="button" class="button small primary" onClick={save}>
          Save
        </button>
        <span>Enter saves, Escape cancels</span>
      </p>
    </div>
  );
}

export function PendingRow({ channelId, pending }: { channelId: string; pending: Pending }): JSX.Element {
  const again = () => {
    chat.forgetPending(channelId, pending.nonce);
    void attempt(chat.send(channelId, pending.content));
  };
  return (
    <article class={`message pending${pending.failed ? " failed" : ""}`}>
      <span class="message-time-aside" />
      <div class="message-body">
        <div class="message-text">{pending.content}</div>
        {pending.failed && (
          <p class="pending-failed" role="alert">
            Not sent.{" "}
            <button type="button" class="link" onClick={again}>
              Try again
            </button>{" "}
            <button type="button" class="link" onClick={() => chat.forgetPending(channelId, pending.nonce)}>
              Discard
            </button>
          </p>
        )}
      </div>
    </article>
  );
}
