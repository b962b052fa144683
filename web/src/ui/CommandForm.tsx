import type { JSX, RefObject } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { build, fitting, hint, picks, read, type Filled, type Pick, type Pickable, type Usable } from "../protocol/commands";
import type { CommandOption, UsedOption } from "../protocol/payloads";
import { optionId, useActiveInView } from "./CommandPicker";
import { Icon } from "./icons";

export interface Draft {
  usable: Usable;
  filled: Filled;
}

interface Props {
  draft: Draft;
  from: Pickable;
  send: (options: UsedOption[]) => void;
  /** Back to plain text: all of it, as far as it was filled in. */
  cancel: () => void;
}

/** A chosen command: its options as fields in a row, with what each of them wants above. */
export function CommandForm({ draft, from, send, cancel }: Props): JSX.Element {
  const { usable } = draft;
  const [filled, setFilled] = useState(draft.filled);
  const [problems, setProblems] = useState<Record<string, string>>({});
  const [focused, setFocused] = useState<string | undefined>();
  const form = useRef<HTMLFormElement>(null);
  const popup = useId();
  const shown = usable.options.filter(({ name, required }) => required || filled[name] !== undefined);
  const hidden = usable.options.filter((option) => !shown.includes(option));
  const option = usable.options.find(({ name }) => name === focused);

  const focusOn = (name: string | undefined) => {
    const field = name === undefined ? ".send" : `[data-option="${CSS.escape(name)}"]`;
    form.current?.querySelector<HTMLElement>(field)?.focus();
  };
  useLayoutEffect(() => {
    const empty = shown.find(({ name }) => !filled[name]);
    focusOn((empty ?? shown.at(-1))?.name);
  }, []);

  const set = (name: string, text: string) => {
    setFilled({ ...filled, [name]: text });
    const { [name]: _, ...others } = problems;
    setProblems(others);
  };
  const add = (name: string) => {
    set(name, "");
    setFocused(name);
  };
  // A field just added is there only after the next render.
  useEffect(() => {
    if (focused !== undefined) focusOn(focused);
  }, [shown.length]);
  const remove = ({ name, required }: CommandOption) => {
    const at = shown.findIndex((one) => one.name === name);
    if (required && (at === 0 || shown.every((one) => !filled[one.name]))) return cancel();
    if (!required) {
      const { [name]: _, ...others } = filled;
      setFilled(others);
    }
    const before = shown[at - 1]?.name;
    setFocused(before);
    focusOn(before);
  };
  const submit = () => {
    const built = build(usable, filled, from);
    if ("options" in built) return send(built.options);
    setProblems(built.problems);
    focusOn(usable.options.find(({ name }) => built.problems[name])?.name);
  };
  /** Where to go on from a field: the first required one that is still empty. */
  const emptyBut = (name: string) => shown.find((one) => one.required && one.name !== name && !filled[one.name]);

  return (
    <form
      ref={form}
      class="composer command-form"
      aria-label={`Use /${usable.name}`}
      data-testid="command-form"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape" && !event.defaultPrevented) {
          event.preventDefault();
          cancel();
        }
      }}
      onFocusIn={(event) => setFocused((event.target as HTMLElement).dataset["option"])}
    >
      <p class="command-about" id={`${popup}-about`}>
        <Explanation usable={usable} option={option} problem={option && problems[option.name]} />
      </p>
      <div class="command-fields">
        <span class="command-name">/{usable.name}</span>
        {shown.map((one) => (
          <OptionField
            key={one.name}
            option={one}
            text={filled[one.name] ?? ""}
            problem={problems[one.name]}
            describedBy={`${popup}-about`}
            list={`${popup}-${one.name}`}
            from={from}
            focused={focused === one.name}
            set={(text) => set(one.name, text)}
            picked={(text) => {
              set(one.name, text);
              const empty = emptyBut(one.name);
              if (empty) focusOn(empty.name);
            }}
            enter={() => {
              const empty = filled[one.name] ? emptyBut(one.name) : undefined;
              if (empty) focusOn(empty.name);
              else submit();
            }}
            remove={() => remove(one)}
          />
        ))}
        {hidden.map(({ name, description }) => (
          <button key={name} type="button" class="option-add" title={description} onClick={() => add(name)}>
            <Icon name="plus" size={12} /> {name}
          </button>
        ))}
      </div>
      <button type="button" class="icon-button" aria-label="Cancel the command" title="Cancel (Esc)" onClick={cancel}>
        <Icon name="close" />
      </button>
      <button type="submit" class="icon-button send" aria-label={`Use /${usable.name}`} title="Use (Enter)">
        <Icon name="send" />
      </button>
    </form>
  );
}

function Explanation(props: { usable: Usable; option: CommandOption | undefined; problem: string | undefined }): JSX.Element {
  const { usable, option, problem } = props;
  if (!option) {
    return (
      <>
        {usable.description} <span class="command-hint">by {usable.app.name}</span>
      </>
    );
  }
  return (
    <>
      <strong>{option.name}</strong> {option.description} <span class="command-hint">{hint(option)}{option.required ? "" : ", optional"}</span>
      {problem && (
        <span class="command-problem" role="alert">
          {problem}
        </span>
      )}
    </>
  );
}

interface FieldProps {
  option: CommandOption;
  text: string;
  problem: string | undefined;
  describedBy: string;
  list: string;
  from: Pickable;
  focused: boolean;
  set: (text: string) => void;
  picked: (text: string) => void;
  enter: () => void;
  remove: () => void;
}

function OptionField(props: FieldProps): JSX.Element {
  const { option, text, from, focused, list } = props;
  const [active, setActive] = useState(0);
  const [closed, setClosed] = useState(false);
  const all = picks(option, from);
  const input = useRef<HTMLInputElement>(null);
  // What says exactly one thing needs no list.
  const settled = all !== undefined && "value" in read(option, text, from);
  const found = all ? fitting(all, text) : [];
  const open = focused && all !== undefined && found.length > 0 && !closed && !settled;
  const choose = (pick: Pick) => {
    const twins = all?.filter(({ label }) => label === pick.label) ?? [];
    props.picked(twins.length > 1 && pick.detail ? pick.detail : pick.label);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    const picked = open ? found[active] : undefined;
    switch (event.key) {
      case "ArrowDown":
      case "ArrowUp":
        if (!all) return;
        setClosed(false);
        setActive((active + (event.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(1, found.length));
        break;
      case "Enter":
        if (picked) choose(picked);
        else props.enter();
        break;
      case "Tab":
        if (picked && text !== "") choose(picked);
        return;
      case "Escape":
        if (!open) return;
        setClosed(true);
        break;
      case "Backspace":
        if (text !== "") return;
        props.remove();
        break;
      default:
        return;
    }
    event.preventDefault();
  };
  return (
    <label class={`option-field${props.problem ? " wrong" : ""}`}>
      <span>{option.name}</span>
      <input
        ref={input}
        {...(all
          ? {
              role: "combobox",
              "aria-expanded": open,
              "aria-autocomplete": "list" as const,
              "aria-controls": list,
              "aria-activedescendant": open ? optionId(list, active) : undefined,
            }
          : {})}
        data-option={option.name}
        data-testid={`option-${option.name}`}
        aria-required={option.required === true}
        aria-invalid={props.problem !== undefined}
        aria-describedby={props.describedBy}
        inputMode={option.type === 4 ? "numeric" : option.type === 10 ? "decimal" : undefined}
        autocomplete="off"
        autocapitalize="off"
        size={Math.min(40, Math.max(5, text.length + 1))}
        value={text}
        maxLength={6000}
        onInput={(event) => {
          setActive(0);
          setClosed(false);
          props.set(event.currentTarget.value);
        }}
        onKeyDown={onKeyDown}
        onBlur={() => setClosed(false)}
      />
      {open && <PickList id={list} label={option.name} found={found} active={active} choose={choose} hover={setActive} input={input} />}
    </label>
  );
}

interface PickListProps {
  id: string;
  label: string;
  found: readonly Pick[];
  active: number;
  choose: (pick: Pick) => void;
  hover: (index: number) => void;
  input: RefObject<HTMLInputElement>;
}

function PickList({ id, label, found, active, choose, hover, input }: PickListProps): JSX.Element {
  const list = useActiveInView(active);
  return (
    <div class="picker" id={id} ref={list} role="listbox" aria-label={label}>
      {found.map((pick, index) => (
        <div
          key={String(pick.value)}
          id={optionId(id, index)}
          role="option"
          aria-selected={index === active}
          class="pick"
          onPointerDown={(event) => event.preventDefault()}
          onPointerMove={() => hover(index)}
          onClick={(event) => {
            // Inside a label a click would go to its field a second time.
            event.preventDefault();
            choose(pick);
            input.current?.focus();
          }}
        >
          {pick.label}
          {pick.detail && <span class="pick-detail">{pick.detail}</span>}
        </div>
      ))}
    </div>
  );
}
