import type { JSX } from "preact";
import { useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { search, typedUse, type Pickable, type Usable } from "../protocol/commands";
import type { Channel, UsedOption } from "../protocol/payloads";
import { Permission } from "../protocol/permissions";
import { can, canSee, chat, commands, nameOf, rest, world } from "../state/app";
import { attempt } from "../state/toasts";
import type { Guild } from "../state/world";
import { CommandForm, type Draft } from "./CommandForm";
import { CommandPicker, optionId } from "./CommandPicker";
import { useGrow } from "./grow";
import { Icon } from "./icons";

/** Typing is told again only after this long (ms): a mark lasts about ten seconds. */
const typingEvery = 8000;
const longestMessage = 2000;

interface Props {
  guild: Guild;
  channel: Channel;
  editLast: () => void;
}

/** Where messages are written, and where a slash opens the commands. */
export function Composer({ guild, channel, editLast }: Props): JSX.Element {
  const [text, setText] = useState("");
  const [draft, setDraft] = useState<Draft | undefined>();
  const back = useRef(false);
  const choose = (chosen: Draft) => {
    setText("");
    setDraft(chosen);
  };
  const leave = (written: string) => {
    back.current = true;
    setText(written);
    setDraft(undefined);
  };
  const from = useMemo(() => (draft ? pickable(guild) : undefined), [draft, guild]);
  if (draft && from) {
    const { usable } = draft;
    const send = (options: UsedOption[]) => {
      leave("");
      void commands.use(guild.id, channel.id, usable, options);
    };
    return <CommandForm key={usable.name + usable.command.id} draft={draft} from={from} send={send} cancel={() => leave(`/${usable.name}`)} />;
  }
  return <TextForm guild={guild} channel={channel} text={text} setText={setText} editLast={editLast} choose={choose} focus={back} />;
}

/** Everybody and everything of a guild that an option can be set to. */
function pickable(guild: Guild): Pickable {
  const users = [...guild.members.keys()].map((id) => ({
    label: nameOf(id, guild),
    value: id,
    detail: world.value.users.get(id)?.username ?? "",
  }));
  return {
    users: users.sort((a, b) => a.label.localeCompare(b.label)),
    channels: [...guild.channels.values()].filter(canSee(guild)).map(({ id, name, type }) => ({ label: name, value: id, type })),
    roles: [...guild.roles.values()].map(({ id, name }) => ({ label: name, value: id })),
  };
}

interface TextProps extends Props {
  text: string;
  setText: (text: string) => void;
  choose: (draft: Draft) => void;
  /** Take the focus at once: a command was here just now. */
  focus: { current: boolean };
}

function TextForm({ guild, channel, text, setText, editLast, choose, focus }: TextProps): JSX.Element {
  const area = useRef<HTMLTextAreaElement>(null);
  const told = useRef(-Infinity);
  const picker = usePicker(guild, channel, text, choose);
  useLayoutEffect(() => {
    if (!focus.current) return;
    focus.current = false;
    // The command's own slash does not open the commands again.
    picker.dismiss();
    area.current?.focus();
  }, []);
  useGrow(area, text);
  const send = () => {
    const content = text.trim();
    if (content === "") return;
    setText("");
    told.current = -Infinity;
    void attempt(chat.send(channel.id, content));
    area.current?.focus();
  };
  const type = (value: string) => {
    setText(value);
    if (picker.typed(value) || value === "" || value.startsWith("/") || performance.now() - told.current < typingEvery) return;
    told.current = performance.now();
    rest.typing(channel.id).catch(() => undefined);
  };
  const left = longestMessage - text.length;
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {picker.view}
      <textarea
        ref={area}
        rows={1}
        value={text}
        maxLength={longestMessage}
        data-testid="composer"
        aria-label={`Message ${channel.name}`}
        placeholder={`Write to ${channel.name}`}
        {...picker.attributes}
        onFocus={() => void commands.refresh(guild.id)}
        onInput={(event) => type(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.isComposing || picker.key(event)) return;
          if (event.key === "Enter" && !event.shiftKey) {
            event.preventDefault();
            send();
          }
          if (event.key === "ArrowUp" && text === "") {
            event.preventDefault();
            editLast();
          }
        }}
      />
      {left < 200 && <span class={`composer-left${left === 0 ? " none" : ""}`}>{left}</span>}
      <button type="submit" class="icon-button send" aria-label="Send" disabled={text.trim() === ""}>
        <Icon name="send" />
      </button>
    </form>
  );
}

/** The list of commands over the text field, while the text is a slash and the beginning of one. */
function usePicker(guild: Guild, channel: Channel, text: string, choose: (draft: Draft) => void) {
  const id = useId();
  const [active, setActive] = useState(0);
  const [dismissed, setDismissed] = useState(false);
  const wanted = text.startsWith("/") && !text.includes("\n") && !dismissed && can(guild, Permission.useCommands, channel.id);
  const known = commands.known.value.get(guild.id);
  const found = wanted ? search(known?.usables ?? [], text.slice(1)) : [];
  const open = found.length > 0;
  const isOffline = ({ app }: Usable) => app.bot != null && !guild.online.has(app.bot.id);
  const pick = (usable: Usable) => {
    const required = usable.options.filter((option) => option.required);
    choose({ usable, filled: Object.fromEntries(required.map(({ name }) => [name, ""])) });
  };
  /** Takes a key, if it is for the list. */
  const key = (event: KeyboardEvent): boolean => {
    const usable = found[active];
    if (wanted && event.key === "Enter" && known?.state === "loading") {
      // Perhaps a command, perhaps not: said aloud in the channel it could not be taken back.
      event.preventDefault();
      return true;
    }
    if (!usable) return false;
    switch (event.key) {
      case "ArrowDown":
        setActive((active + 1) % found.length);
        break;
      case "ArrowUp":
        setActive((active + found.length - 1) % found.length);
        break;
      case "Enter":
      case "Tab":
        if (event.shiftKey) return false;
        pick(usable);
        break;
      case "Escape":
        setDismissed(true);
        break;
      default:
        return false;
    }
    event.preventDefault();
    return true;
  };
  return {
    attributes: {
      "aria-autocomplete": "list" as const,
      "aria-haspopup": "listbox" as const,
      "aria-controls": open ? id : undefined,
      "aria-activedescendant": open ? optionId(id, active) : undefined,
    },
    view: (
      <>
        {open && <CommandPicker id={id} found={found} active={active} isOffline={isOffline} choose={pick} hover={setActive} keyDown={key} />}
        {wanted && !open && <Nothing state={known?.state} bare={text === "/"} />}
        <span class="sr-only" role="status">
          {open ? `${found.length} ${found.length === 1 ? "command" : "commands"}. Arrow keys to choose, Enter to take one.` : ""}
        </span>
      </>
    ),
    dismiss: () => setDismissed(true),
    /** Takes in a change of the text; reports whether a command was begun by it. */
    typed: (value: string): boolean => {
      setActive(0);
      if (!value.startsWith("/")) {
        setDismissed(false);
        return false;
      }
      if (value === "/") setDismissed(false);
      void commands.refresh(guild.id);
      const use = wanted || value === "/" ? typedUse(known?.usables ?? [], value.slice(1)) : undefined;
      if (use) choose(use);
      return use !== undefined;
    },
    key,
  };
}

function Nothing({ state, bare }: { state: "loading" | "ready" | "failed" | undefined; bare: boolean }): JSX.Element | null {
  const text =
    state === "failed" ? "The commands could not be read." : state === "ready" ? (bare ? "No bot here has commands for you." : "") : "Reading the commands…";
  return text === "" ? null : (
    <p class="picker picker-note" role="status">
      {text}
    </p>
  );
}
