import { signal } from "@preact/signals";
import { compareSnowflakes, type Message, type Snowflake, type TypingStart, type User } from "../protocol/payloads";

/** A message on its way, or one that did not get there. */
export interface Pending {
  nonce: string;
  content: string;
  failed: boolean;
}

export interface ChannelLog {
  /** Oldest first. */
  messages: readonly Message[];
  pending: readonly Pending[];
  /** The beginning of the channel has been reached. */
  complete: boolean;
  state: "idle" | "loading" | "failed";
}

export const emptyLog: ChannelLog = { messages: [], pending: [], complete: false, state: "idle" };

export type Logs = ReadonlyMap<Snowflake, ChannelLog>;

function change(logs: Logs, channelId: Snowflake, with_: (log: ChannelLog) => Partial<ChannelLog>): Logs {
  const log = logs.get(channelId) ?? emptyLog;
  return new Map(logs).set(channelId, { ...log, ...with_(log) });
}

/** Puts messages in by age; one that is there already is replaced. */
export function merge(into: readonly Message[], more: readonly Message[]): Message[] {
  const byId = new Map(into.map((message) => [message.id, message]));
  for (const message of more) byId.set(message.id, { ...byId.get(message.id), ...message });
  return [...byId.values()].sort((a, b) => compareSnowflakes(a.id, b.id));
}

/** The logs after a gateway dispatch. Only channels that were opened are kept. */
export function reduceLogs(logs: Logs, type: string, data: unknown): Logs {
  const message = data as Message;
  if (!logs.has(message.channel_id)) return logs;
  switch (type) {
    case "MESSAGE_CREATE":
      return change(logs, message.channel_id, (log) => ({
        messages: merge(log.messages, [message]),
        pending: log.pending.filter((one) => one.nonce !== String(message.nonce)),
      }));
    case "MESSAGE_UPDATE":
      return change(logs, message.channel_id, (log) =>
        log.messages.some((one) => one.id === message.id) ? { messages: merge(log.messages, [message]) } : {},
      );
    case "MESSAGE_DELETE":
      return change(logs, message.channel_id, (log) => ({
        messages: log.messages.filter((one) => one.id !== message.id),
      }));
    default:
      return logs;
  }
}

/** What the log of messages needs of the REST API. */
export interface MessageApi {
  messages(channelId: Snowflake, before?: Snowflake): Promise<Message[]>;
  send(channelId: Snowflake, content: string, nonce: string): Promise<Message>;
}

const pageSize = 50;
/** A typing mark lasts this long (ms) unless renewed. */
const typingLasts = 9000;

/** Text of all opened channels: history, messages on their way, who types. */
export class Chat {
  readonly logs = signal<Logs>(new Map());
  readonly typing = signal<ReadonlyMap<Snowflake, ReadonlySet<Snowflake>>>(new Map());
  readonly #api: MessageApi;
  readonly #typingTimers = new Map<string, ReturnType<typeof setTimeout>>();
  #nonce = 0;

  constructor(api: MessageApi) {
    this.#api = api;
  }

  dispatch(type: string, data: unknown, self: User | undefined): void {
    if (type.startsWith("MESSAGE_")) this.logs.value = reduceLogs(this.logs.value, type, data);
    if (type === "TYPING_START") {
      const { channel_id, user_id } = data as TypingStart;
      if (user_id !== self?.id) this.#startTyping(channel_id, user_id);
    }
    if (type === "MESSAGE_CREATE") this.#stopTyping((data as Message).channel_id, (data as Message).author.id);
    // A new session may have missed messages: what is open is fetched again.
    if (type === "READY") for (const channelId of this.logs.value.keys()) void this.load(channelId);
  }

  /** Fetches the newest page. */
  async load(channelId: Snowflake): Promise<void> {
    await this.#fetch(channelId, undefined);
  }

  async loadOlder(channelId: Snowflake): Promise<void> {
    const log = this.logs.value.get(channelId);
    if (!log || log.complete || log.state === "loading") return;
    await this.#fetch(channelId, log.messages[0]?.id);
  }

  async send(channelId: Snowflake, content: string): Promise<void> {
    const nonce = `${Date.now()}${this.#nonce++ % 1000}`;
    this.#change(channelId, (log) => ({ pending: [...log.pending, { nonce, content, failed: false }] }));
    try {
      const message = await this.#api.send(channelId, content, nonce);
      this.#change(channelId, (log) => ({
        messages: merge(log.messages, [message]),
        pending: log.pending.filter((one) => one.nonce !== nonce),
      }));
    } catch (error) {
      this.#change(channelId, (log) => ({
        pending: log.pending.map((one) => (one.nonce === nonce ? { ...one, failed: true } : one)),
      }));
      throw error;
    }
  }

  forgetPending(channelId: Snowflake, nonce: string): void {
    this.#change(channelId, (log) => ({ pending: log.pending.filter((one) => one.nonce !== nonce) }));
  }

  /** Takes a message that only this user sees off the screen; no server keeps it. */
  dismiss(message: Message): void {
    this.#change(message.channel_id, (log) => ({ messages: log.messages.filter((one) => one.id !== message.id) }));
  }

  reset(): void {
    this.logs.value = new Map();
    this.typing.value = new Map();
  }

  async #fetch(channelId: Snowflake, before: Snowflake | undefined): Promise<void> {
    this.#change(channelId, () => ({ state: "loading" }));
    try {
      const page = await this.#api.messages(channelId, before);
      this.#change(channelId, (log) => ({
        messages: merge(log.messages, page),
        complete: log.complete || page.length < pageSize,
        state: "idle",
      }));
    } catch {
      this.#change(channelId, () => ({ state: "failed" }));
    }
  }

  #change(channelId: Snowflake, with_: (log: ChannelLog) => Partial<ChannelLog>): void {
    this.logs.value = change(this.logs.value, channelId, with_);
  }

  #startTyping(channelId: Snowflake, userId: Snowflake): void {
    const key = `${channelId}/${userId}`;
    clearTimeout(this.#typingTimers.get(key));
    this.#typingTimers.set(
      key,
      setTimeout(() => this.#stopTyping(channelId, userId), typingLasts),
    );
    this.#setTyping(channelId, (users) => users.add(userId));
  }

  #stopTyping(channelId: Snowflake, userId: Snowflake): void {
    const key = `${channelId}/${userId}`;
    clearTimeout(this.#typingTimers.get(key));
    if (this.#typingTimers.delete(key)) this.#setTyping(channelId, (users) => users.delete(userId));
  }

  #setTyping(channelId: Snowflake, edit: (users: Set<Snowflake>) => void): void {
    const users = new Set(this.typing.value.get(channelId));
    edit(users);
    this.typing.value = new Map(this.typing.value).set(channelId, users);
  }
}
