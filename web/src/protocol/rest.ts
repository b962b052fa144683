import type { Channel, CommandIndex, CommandUse, Instance, Invite, Message, Snowflake, User } from "./payloads";

/** A refused request: Discord's error body, with field errors flattened to one message each. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
    readonly fields: Record<string, string>,
  ) {
    super(message);
  }
}

/** Flattens {field:{_errors:[{message}]}} (nested or not) to {"field": "message"}. */
export function flattenErrors(errors: unknown, prefix = ""): Record<string, string> {
  const out: Record<string, string> = {};
  if (typeof errors !== "object" || errors === null) return out;
  for (const [key, inner] of Object.entries(errors)) {
    if (key === "_errors" && Array.isArray(inner)) {
      const [first] = inner as { message?: string }[];
      if (first?.message) out[prefix] = first.message;
    } else {
      Object.assign(out, flattenErrors(inner, prefix ? `${prefix}.${key}` : key));
    }
  }
  return out;
}

interface ErrorBody {
  code?: number;
  message?: string;
  errors?: unknown;
  retry_after?: number;
}

/** How often, and for how long at most (s), a rate-limited request is repeated before the user hears of it. */
const rateLimitRetries = 2;
const longestRetryAfter = 5;

const wait = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export interface Entered {
  token: string;
  user_id: Snowflake;
  guild_id?: Snowflake;
}

export class Rest {
  constructor(
    private readonly token: () => string | undefined,
    private readonly fetcher: typeof fetch = (input, init) => fetch(input, init),
    private readonly base = "/api/v10",
  ) {}

  instance = () => this.#call<Instance>("GET", "/instance");
  register = (body: { username?: string; password?: string; global_name?: string; invite?: string }) =>
    this.#call<Entered>("POST", "/auth/register", body);
  login = (login: string, password: string) => this.#call<Entered>("POST", "/auth/login", { login, password });
  logout = () => this.#call<void>("POST", "/auth/logout");
  claim = (username: string, password: string) =>
    this.#call<{ token: string }>("POST", "/users/@me/claim", { username, password });
  me = () => this.#call<User>("GET", "/users/@me");
  updateMe = (body: { global_name: string }) => this.#call<User>("PATCH", "/users/@me", body);

  invite = (code: string) => this.#call<Invite>("GET", `/invites/${encodeURIComponent(code)}?with_counts=true`);
  acceptInvite = (code: string) => this.#call<Invite>("POST", `/invites/${encodeURIComponent(code)}`, {});
  createInvite = (channelId: Snowflake, maxAge: number, maxUses: number) =>
    this.#call<{ code: string }>("POST", `/channels/${channelId}/invites`, { max_age: maxAge, max_uses: maxUses });

  createGuild = (name: string) => this.#call<{ id: Snowflake }>("POST", "/guilds", { name });
  createChannel = (guildId: Snowflake, body: Partial<Channel>) =>
    this.#call<Channel>("POST", `/guilds/${guildId}/channels`, body);
  updateChannel = (id: Snowflake, body: Partial<Channel>) => this.#call<Channel>("PATCH", `/channels/${id}`, body);
  deleteChannel = (id: Snowflake) => this.#call<Channel>("DELETE", `/channels/${id}`);

  messages = (channelId: Snowflake, before?: Snowflake) =>
    this.#call<Message[]>("GET", `/channels/${channelId}/messages?limit=50${before ? `&before=${before}` : ""}`);
  send = (channelId: Snowflake, content: string, nonce: string) =>
    this.#call<Message>("POST", `/channels/${channelId}/messages`, { content, nonce });
  edit = (channelId: Snowflake, id: Snowflake, content: string) =>
    this.#call<Message>("PATCH", `/channels/${channelId}/messages/${id}`, { content });
  remove = (channelId: Snowflake, id: Snowflake) => this.#call<void>("DELETE", `/channels/${channelId}/messages/${id}`);
  typing = (channelId: Snowflake) => this.#call<void>("POST", `/channels/${channelId}/typing`);

  commandIndex = (guildId: Snowflake) => this.#call<CommandIndex>("GET", `/guilds/${guildId}/application-command-index`);
  interact = (use: CommandUse) => this.#call<void>("POST", "/interactions", use);

  updateMember = (
    guildId: Snowflake,
    userId: Snowflake,
    body: { mute?: boolean; deaf?: boolean; channel_id?: Snowflake | null },
  ) => this.#call<unknown>("PATCH", `/guilds/${guildId}/members/${userId}`, body);
  kick = (guildId: Snowflake, userId: Snowflake) => this.#call<void>("DELETE", `/guilds/${guildId}/members/${userId}`);

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = {};
    const token = this.token();
    if (token) headers["Authorization"] = token;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const init: RequestInit = { method, headers };
    if (body !== undefined) init.body = JSON.stringify(body);
    for (let attempt = 0; ; attempt++) {
      let response: Response;
      try {
        response = await this.fetcher(this.base + path, init);
      } catch {
        throw new ApiError(0, 0, "The server can't be reached. Check your connection and try again.", {});
      }
      if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
      const problem = (await response.json().catch(() => ({}))) as ErrorBody;
      if (response.status === 429 && attempt < rateLimitRetries) {
        const seconds = problem.retry_after ?? Number(response.headers.get("Retry-After") ?? 1);
        if (seconds <= longestRetryAfter) {
          await wait(seconds);
          continue;
        }
      }
      const message = problem.message ?? `The server answered with status ${response.status}.`;
      throw new ApiError(response.status, problem.code ?? 0, message, flattenErrors(problem.errors));
    }
  }
}
