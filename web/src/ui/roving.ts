/** Arrow keys move the focus among the elements a selector finds inside the one that handles the event. */
export function moveFocus(event: KeyboardEvent, selector: string): void {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const container = event.currentTarget as HTMLElement;
  const all = [...container.querySelectorAll<HTMLElement>(selector)];
  const here = all.findIndex((element) => element.contains(document.activeElement));
  if (here < 0) return;
  const targets: Record<string, number> = {
    ArrowDown: Math.min(here + 1, all.length - 1),
    ArrowUp: Math.max(here - 1, 0),
    Home: 0,
    End: all.length - 1,
  };
  const target = targets[event.key];
  if (target === undefined) return;
  event.preventDefault();
  all[target]?.focus();
}
