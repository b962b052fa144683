import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { dialog } from "../state/ui";
import { Icon } from "./icons";

interface Props {
  title: string;
  class?: string;
  testId?: string;
  children: ComponentChildren;
}

export function closeDialog(): void {
  dialog.value = undefined;
}

/** The browser's own modal dialog: it keeps the focus inside and gives it back. */
export function Dialog({ title, class: extra = "", testId, children }: Props): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const opener = document.activeElement;
    element.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  const backdrop = (event: MouseEvent) => {
    if (event.target === element.current) closeDialog();
  };
  return (
    <dialog
      ref={element}
      class={`dialog ${extra}`}
      aria-label={title}
      data-testid={testId}
      onClose={closeDialog}
      onPointerDown={backdrop}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2>{title}</h2>
          <button type="button" class="icon-button" aria-label="Close" onClick={closeDialog}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
