import { useEffect } from "preact/hooks";
import { call } from "../state/app";
import { prefs } from "../state/prefs";
import { dialog, menu } from "../state/ui";

/** A key's name as people know it, from KeyboardEvent.code. */
export function keyName(code: string): string {
  const named: Record<string, string> = {
    Space: "Space",
    Backquote: "`",
    ControlLeft: "Left Ctrl",
    ControlRight: "Right Ctrl",
    ShiftLeft: "Left Shift",
    ShiftRight: "Right Shift",
    AltLeft: "Left Alt",
    AltRight: "Right Alt",
    MetaLeft: "Left Meta",
    MetaRight: "Right Meta",
    CapsLock: "Caps Lock",
  };
  return named[code] ?? code.replace(/^(Key|Digit)/, "").replace(/^Numpad/, "Numpad ");
}

/** A text field takes the keys itself; a checkbox or a slider is no text. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

const shortcuts: Record<string, () => void> = {
  m: () => call.setMute(!(call.selfMute.value || call.selfDeaf.value)),
  d: () => call.setDeaf(!call.selfDeaf.value),
  "?": () => (dialog.value = { kind: "help" }),
  ",": () => (dialog.value = { kind: "settings", tab: "voice" }),
};

/** Keys of the whole page: shortcuts, and push-to-talk held down. */
export function useKeys(): void {
  useEffect(() => {
    const talks = (event: KeyboardEvent) =>
      call.state.value !== undefined && call.mic.mode.value === "push" && event.code === prefs.value.pushKey;
    const down = (event: KeyboardEvent) => {
      if (isTyping(event.target)) return;
      if (talks(event)) {
        // Space would scroll the page or press the focused button.
        event.preventDefault();
        if (!event.repeat) call.mic.push(true);
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || dialog.value || menu.value) return;
      const run = shortcuts[event.key.toLowerCase()];
      if (!run) return;
      event.preventDefault();
      run();
    };
    const up = (event: KeyboardEvent) => {
      if (!talks(event) || !call.mic.pushHeld.value) return;
      event.preventDefault();
      call.mic.push(false);
    };
    // A key let go in another window is never heard of here.
    const blur = () => call.mic.push(false);
    window.addEventListener("keydown", down);
    window.addEventListener("keyup", up);
    window.addEventListener("blur", blur);
    return () => {
      window.removeEventListener("keydown", down);
      window.removeEventListener("keyup", up);
      window.removeEventListener("blur", blur);
    };
  }, []);
}
