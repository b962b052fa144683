import type { RefObject } from "preact";
import { useLayoutEffect } from "preact/hooks";

/** Whether the browser fits a field to its text by itself; the style sheet asks it to, and bounds the height. */
const fits = CSS.supports("field-sizing", "content");

/** Keeps a text area as high as its text, wrapped lines and all, up to its `max-height`. */
export function useGrow(area: RefObject<HTMLTextAreaElement>, text: string): void {
  useLayoutEffect(() => {
    const element = area.current;
    if (fits || !element) return;
    element.style.height = "auto";
    // Heights here count the border, which scrollHeight leaves out.
    element.style.height = `${element.scrollHeight + element.offsetHeight - element.clientHeight}px`;
  }, [text]);
}
