import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { gatewayStatus, retryConnection } from "../state/app";

/** A cut shorter than this (ms) is mended before anyone need read of it. */
const quietFor = 700;
/** After this long (ms) "reconnecting" alone is no longer an answer. */
const explainAfter = 10_000;

/** Tells of a lost gateway: at first that it is being mended, then what may be wrong and what to do. */
export function Banner(): JSX.Element | null {
  const status = gatewayStatus.value;
  const since = status.kind === "reconnecting" ? status.since : undefined;
  const [, tick] = useState(0);
  useEffect(() => {
    if (since === undefined) return;
    const timer = setInterval(() => tick((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, [since]);
  if (status.kind === "dead") {
    return (
      <div class="banner bad" role="alert">
        <span>The server closed this session for good.</span>
        <button type="button" class="button small" onClick={() => location.reload()}>
          Reload
        </button>
      </div>
    );
  }
  if (since === undefined) return null;
  const elapsed = performance.now() - since;
  if (elapsed < quietFor) return null;
  const long = elapsed >= explainAfter;
  const why = navigator.onLine
    ? `${location.host} has not answered for ${Math.round(elapsed / 1000)} s. It may be restarting, or a network in between is down.`
    : "This device is offline. Check its network.";
  return (
    <div class={`banner${long ? " bad" : ""}`} role="status" data-testid="reconnecting">
      <span class="spinner" aria-hidden="true" />
      <span>{long ? why : "Reconnecting…"}</span>
      {long && (
        <button type="button" class="button small" onClick={retryConnection}>
          Retry now
        </button>
      )}
    </div>
  );
}
