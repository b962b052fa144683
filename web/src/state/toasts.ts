import { signal } from "@preact/signals";

export interface Toast {
  id: number;
  kind: "info" | "error";
  text: string;
}

export const toasts = signal<readonly Toast[]>([]);

let next = 1;

export function toast(text: string, kind: Toast["kind"] = "info"): void {
  const id = next++;
  toasts.value = [...toasts.value.slice(-2), { id, kind, text }];
  setTimeout(() => dismissToast(id), kind === "error" ? 8000 : 4000);
}

export function dismissToast(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

/** Runs an action of the user's and shows what went wrong, if anything did. */
export async function attempt<T>(action: Promise<T>): Promise<T | undefined> {
  try {
    return await action;
  } catch (error) {
    toast(error instanceof Error ? error.message : String(error), "error");
    return undefined;
  }
}
