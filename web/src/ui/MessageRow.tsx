import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Message } from "../protocol/payloads";
import { Permission } from "../protocol/permissions";
import { can, chat, nameOf, rest, world } from "../state/app";
import type { Pending } from "../state/chat";
import { attempt } from "../state/toasts";
import { dialog, openMenu } from "../state/ui";
import type { Guild } from "../state/world";
import { Avatar, hueOf } from "./Avatar";
import { Icon } from "./icons";
import { Markup } from "./markup";
import { memberMenu } from "./memberMenu";

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });

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
  const mayDelete = own || can(guild, Permission.manageMessages, message.channel_id);
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
    <article class={`message${head ? " head" : ""}${editing ? " editing" : ""}`} data-testid={`message-${message.id}`}>
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
            <Markup content={message.content} name={(id) => nameOf(id, guild)} />
            {message.edited_timestamp && <span class="edited"> (edited)</span>}
          </div>
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

function Editor({ message, done }: { message: Message; done: () => void }): JSX.Element {
  const [text, setText] = useState(message.content);
  const area = useRef<HTMLTextAreaElement>(null);
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
        rows={Math.min(8, text.split("\n").length)}
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
