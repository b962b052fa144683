import type { JSX } from "preact";
import { prefs } from "../state/prefs";
import { Dialog } from "./Dialog";
import { keyName } from "./keys";

export function Shortcuts(): JSX.Element {
  const keys: [string[], string][] = [
    [["M"], "Mute or unmute"],
    [["D"], "Deafen or undeafen"],
    [[keyName(prefs.value.pushKey)], "Hold to talk, with push to talk chosen"],
    [["↑", "↓"], "Move through channels, members and menus"],
    [["←", "→"], "Close or open a category"],
    [["Shift F10"], "Menu of a channel or a person"],
    [["↑"], "Edit your last message, from an empty box"],
    [["Shift Enter"], "New line in a message"],
    [["Esc"], "Close what is open"],
    [[","], "Settings"],
    [["?"], "This list"],
  ];
  return (
    <dl class="shortcuts">
      {keys.map(([caps, meaning]) => (
        <div key={meaning}>
          <dt>
            {caps.map((cap) => (
              <kbd key={cap}>{cap}</kbd>
            ))}
          </dt>
          <dd>{meaning}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Help(): JSX.Element {
  return (
    <Dialog title="Shortcuts and help" class="help">
      <Shortcuts />
      <p class="field-note">
        Right-click a person, or press the menu key on them, to set their volume. Letters work as shortcuts while you are not typing.
      </p>
    </Dialog>
  );
}
