import { signal } from "@preact/signals";
import { usables, type Usable } from "../protocol/commands";
import type { CommandIndex, CommandUse, InteractionOutcome, Snowflake, UsedOption } from "../protocol/payloads";

/** What the commands need of the REST API. */
export interface CommandApi {
  commandIndex(guildId: Snowflake): Promise<CommandIndex>;
  interact(use: CommandUse): Promise<void>;
}

/** The commands of a guild, as far as they are known. */
export interface KnownCommands {
  usables: readonly Usable[];
  state: "loading" | "ready" | "failed";
}

/** A command that was used and whose bot has not answered. */
export interface Use {
  nonce: string;
  channelId: Snowflake;
  /** "/play" */
  label: string;
  usable: Usable;
  body: CommandUse;
  /** Why it came to nothing; undefined while it may still be answered. */
  problem: string | undefined;
}

/** A bot has three seconds to answer, and its answer takes a moment to get here (ms). */
const answerWithin = 4000;
/** Commands change seldom, but the picker must not show yesterday's (ms). */
const freshFor = 15_000;

/** Slash commands: which there are, and what became of those used. */
export class Commands {
  readonly known = signal<ReadonlyMap<Snowflake, KnownCommands>>(new Map());
  readonly uses = signal<readonly Use[]>([]);

  readonly #api: CommandApi;
  readonly #isOnline: (guildId: Snowflake, botId: Snowflake) => boolean;
  readonly #readAt = new Map<Snowflake, number>();
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #count = 0;

  constructor(api: CommandApi, isOnline: (guildId: Snowflake, botId: Snowflake) => boolean) {
    this.#api = api;
    this.#isOnline = isOnline;
  }

  /** Reads the commands of a guild, unless they were read just now. What is known stays while they come. */
  async refresh(guildId: Snowflake): Promise<void> {
    const now = performance.now();
    if (now - (this.#readAt.get(guildId) ?? -Infinity) < freshFor) return;
    this.#readAt.set(guildId, now);
    if (this.known.value.get(guildId)?.state !== "ready") this.#setKnown(guildId, { usables: [], state: "loading" });
    try {
      this.#setKnown(guildId, { usables: usables(await this.#api.commandIndex(guildId)), state: "ready" });
    } catch {
      this.#readAt.delete(guildId);
      if (this.known.value.get(guildId)?.state !== "ready") this.#setKnown(guildId, { usables: [], state: "failed" });
    }
  }

  async use(guildId: Snowflake, channelId: Snowflake, usable: Usable, options: UsedOption[]): Promise<void> {
    const nonce = `${Date.now()}${this.#count++ % 1000}`;
    const { command, app } = usable;
    await this.#send({
      nonce,
      channelId,
      label: `/${usable.name}`,
      usable,
      problem: undefined,
      body: {
        type: 2,
        application_id: app.id,
        guild_id: guildId,
        channel_id: channelId,
        nonce,
        data: { id: command.id, name: command.name, type: command.type, version: command.version, options },
      },
    });
  }

  async again(use: Use): Promise<void> {
    this.forget(use.nonce);
    await this.use(use.body.guild_id, use.channelId, use.usable, use.body.data.options);
  }

  forget(nonce: string): void {
    clearTimeout(this.#timers.get(nonce));
    this.#timers.delete(nonce);
    this.uses.value = this.uses.value.filter((use) => use.nonce !== nonce);
  }

  dispatch(type: string, data: unknown): void {
    if (type === "INTERACTION_SUCCESS") this.forget(String((data as InteractionOutcome).nonce));
    if (type === "INTERACTION_FAILURE") this.#unanswered(String((data as InteractionOutcome).nonce));
  }

  reset(): void {
    for (const { nonce } of this.uses.value) this.forget(nonce);
    this.known.value = new Map();
    this.#readAt.clear();
  }

  async #send(use: Use): Promise<void> {
    this.uses.value = [...this.uses.value, use];
    try {
      await this.#api.interact(use.body);
      this.#timers.set(use.nonce, setTimeout(() => this.#unanswered(use.nonce), answerWithin));
    } catch (error) {
      // A command that was changed or taken away is why most uses are refused.
      this.#readAt.delete(use.body.guild_id);
      this.#fail(use.nonce, (error as Error).message);
    }
  }

  #unanswered(nonce: string): void {
    const use = this.uses.value.find((one) => one.nonce === nonce);
    if (!use) return;
    const { name, bot } = use.usable.app;
    const online = bot ? this.#isOnline(use.body.guild_id, bot.id) : true;
    this.#fail(nonce, online ? `${name} did not answer in time.` : `${name} is offline, so nobody answered.`);
  }

  #fail(nonce: string, problem: string): void {
    this.#timers.delete(nonce);
    this.uses.value = this.uses.value.map((use) => (use.nonce === nonce ? { ...use, problem } : use));
  }

  #setKnown(guildId: Snowflake, known: KnownCommands): void {
    this.known.value = new Map(this.known.value).set(guildId, known);
  }
}
