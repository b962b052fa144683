import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Usable } from "../protocol/commands";
import { Avatar } from "./Avatar";

interface Props {
  id: string;
  found: readonly Usable[];
  active: number;
  isOffline: (usable: Usable) => boolean;
  choose: (usable: Usable) => void;
  hover: (index: number) => void;
  keyDown: (event: KeyboardEvent) => void;
}

export const optionId = (list: string, index: number) => `${list}-${index}`;

/** Keeps the active option of a listbox in view; the focus itself stays in the text field. */
export function useActiveInView(active: number) {
  const list = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [active]);
  return list;
}

/** The commands that fit what was typed after the slash. */
export function CommandPicker({ id, found, active, isOffline, choose, hover, keyDown }: Props): JSX.Element {
  const list = useActiveInView(active);
  return (
    <div
      class="picker"
      id={id}
      ref={list}
      role="listbox"
      aria-label="Commands"
      // A list that scrolls can be reached by itself, too; its keys are the same then.
      tabIndex={0}
      aria-activedescendant={optionId(id, active)}
      onKeyDown={(event) => {
        // Closed by this key, the list would take the focus with it.
        if (event.key === "Escape") event.currentTarget.closest("form")?.querySelector("textarea")?.focus();
        keyDown(event);
      }}
    >
      {found.map((usable, index) => (
        <div
          key={`${usable.command.id} ${usable.name}`}
          id={optionId(id, index)}
          role="option"
          aria-selected={index === active}
          class="pick command-pick"
          data-testid={`command-${usable.name.replaceAll(" ", "-")}`}
          // Before the click, which would take the focus out of the text field.
          onPointerDown={(event) => event.preventDefault()}
          onPointerMove={() => hover(index)}
          onClick={() => choose(usable)}
        >
          <Avatar id={usable.app.bot?.id ?? usable.app.id} name={usable.app.name} size={28} />
          <span class="command-pick-text">
            <span>
              <strong>/{usable.name}</strong>
              {usable.options.map(({ name, required }) => (
                <span key={name} class={`command-pick-option${required ? "" : " optional"}`}>
                  {name}
                </span>
              ))}
            </span>
            <span class="command-pick-description">{usable.description}</span>
          </span>
          <span class="command-pick-app">
            {usable.app.name}
            {isOffline(usable) && " · offline"}
          </span>
        </div>
      ))}
    </div>
  );
}
