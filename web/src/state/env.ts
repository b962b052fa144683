const query = new URLSearchParams(typeof location === "undefined" ? "" : location.search);

/** `?test=1` gives scripted browsers a handle on the page; it is read once, so it outlives navigation. */
export const testMode = {
  on: query.get("test") === "1",
  gateOff: query.get("test") === "1" && query.get("gate") === "off",
};

/** Pages of one scripted browser are different people: they must not share a token. */
const storage = () => (testMode.on ? sessionStorage : localStorage);

const tokenKey = "hubbub.token";

export function loadToken(): string | undefined {
  try {
    return storage().getItem(tokenKey) ?? undefined;
  } catch {
    return undefined;
  }
}

export function saveToken(token: string | undefined): void {
  try {
    if (token === undefined) storage().removeItem(tokenKey);
    else storage().setItem(tokenKey, token);
  } catch {
    // Without storage the session lasts as long as the page.
  }
}

/** Same origin as the page, over TLS exactly when the page is. */
export function webSocketUrl(hostAndPath: string): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${hostAndPath}`;
}
