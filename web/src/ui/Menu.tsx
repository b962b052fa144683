import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { menu, type MenuItem, type MenuState } from "../state/ui";
import { Icon } from "./icons";

type SliderItem = Extract<MenuItem, { kind: "slider" }>;

function close(returnFocus: boolean): void {
  const opener = menu.value?.opener;
  menu.value = undefined;
  if (returnFocus) opener?.focus();
}

export function MenuLayer(): JSX.Element | null {
  const state = menu.value;
  return state ? <Menu key={`${state.title}/${state.x}/${state.y}`} state={state} /> : null;
}

function Menu({ state }: { state: MenuState }): JSX.Element {
  const element = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState({ x: state.x, y: state.y });
  const place = () => {
    const box = element.current?.getBoundingClientRect();
    if (!box) return;
    const margin = 8;
    setAt({
      x: Math.max(margin, Math.min(state.x, window.innerWidth - box.width - margin)),
      y: Math.max(margin, Math.min(state.y, window.innerHeight - box.height - margin)),
    });
  };
  useLayoutEffect(() => {
    place();
    items(element.current)[0]?.focus();
  }, []);
  useEffect(() => {
    const outside = (event: PointerEvent) => {
      if (!element.current?.contains(event.target as Node)) close(false);
    };
    const away = () => close(false);
    document.addEventListener("pointerdown", outside, true);
    window.addEventListener("resize", away);
    return () => {
      document.removeEventListener("pointerdown", outside, true);
      window.removeEventListener("resize", away);
    };
  }, []);
  return (
    <div class="menu-layer">
      <div
        ref={element}
        class="menu"
        role="dialog"
        aria-label={state.title}
        style={{ left: `${at.x}px`, top: `${at.y}px` }}
        onKeyDown={(event) => onKey(event, element.current)}
        onContextMenu={(event) => event.preventDefault()}
      >
        <p class="menu-title" aria-hidden="true">
          {state.title}
        </p>
        {state.items.map((item, index) => item.kind === "slider" && <VolumeSlider key={index} item={item} />)}
        <div role="menu" aria-label={state.title}>
          {state.items.map((item, index) => item.kind !== "slider" && <Entry key={index} item={item} grown={place} />)}
        </div>
      </div>
    </div>
  );
}

function Entry({ item, grown }: { item: Exclude<MenuItem, SliderItem>; grown: () => void }): JSX.Element {
  const [open, setOpen] = useState(false);
  useLayoutEffect(grown, [open]);
  switch (item.kind) {
    case "separator":
      return <hr role="separator" />;
    case "group":
      return (
        <>
          <button
            type="button"
            role="menuitem"
            tabIndex={-1}
            class="menu-item"
            aria-expanded={open}
            data-testid={item.testId}
            onClick={() => setOpen(!open)}
          >
            {item.icon && <Icon name={item.icon} size={18} />}
            <span>{item.label}</span>
            <span class={`menu-chevron${open ? " open" : ""}`}>
              <Icon name="chevron" size={16} />
            </span>
          </button>
          {open && (
            <div class="menu-group" role="group" aria-label={item.label}>
              {item.items.map((inner, index) => inner.kind !== "slider" && <Entry key={index} item={inner} grown={grown} />)}
            </div>
          )}
        </>
      );
    case "action": {
      const isSwitch = item.checked !== undefined;
      return (
        <button
          type="button"
          role={isSwitch ? "menuitemcheckbox" : "menuitem"}
          aria-checked={isSwitch ? item.checked : undefined}
          tabIndex={-1}
          class={`menu-item${item.danger ? " danger" : ""}`}
          data-testid={item.testId}
          onClick={() => {
            close(true);
            item.run();
          }}
        >
          {item.icon && <Icon name={item.icon} size={18} />}
          <span>{item.label}</span>
          {item.checked && (
            <span class="menu-check">
              <Icon name="check" size={16} />
            </span>
          )}
        </button>
      );
    }
  }
}

function VolumeSlider({ item }: { item: SliderItem }): JSX.Element {
  const [value, setValue] = useState(item.value);
  const percent = Math.round(value * 100);
  return (
    <label class="menu-slider">
      <span>
        {item.label} <output>{percent} %</output>
      </span>
      <input
        type="range"
        min="0"
        max="200"
        step="5"
        value={percent}
        style={{ "--fill": `${percent / 2}%` }}
        aria-valuetext={`${percent} percent`}
        onInput={(event) => {
          const next = Number(event.currentTarget.value) / 100;
          setValue(next);
          item.change(next);
        }}
      />
    </label>
  );
}

function items(element: HTMLElement | null): HTMLElement[] {
  return [...(element?.querySelectorAll<HTMLElement>("[role^=menuitem], input") ?? [])];
}

function onKey(event: KeyboardEvent, element: HTMLElement | null): void {
  const all = items(element);
  const here = all.indexOf(document.activeElement as HTMLElement);
  const focus = (index: number) => all.at(index % all.length)?.focus();
  const onSlider = document.activeElement instanceof HTMLInputElement;
  switch (event.key) {
    case "ArrowDown":
      focus(here + 1);
      break;
    case "ArrowUp":
      focus(here - 1);
      break;
    case "Home":
      if (onSlider) return;
      focus(0);
      break;
    case "End":
      if (onSlider) return;
      focus(-1);
      break;
    case "Escape":
    case "Tab":
      close(true);
      break;
    default:
      return;
  }
  event.preventDefault();
  event.stopPropagation();
}
