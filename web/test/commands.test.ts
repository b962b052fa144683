import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { build, fitting, picks, read, search, typedUse, usables, type Pickable } from "../src/protocol/commands";
import { OptionType, type ApplicationCommand, type CommandIndex, type CommandOption, type CommandUse } from "../src/protocol/payloads";
import { Commands } from "../src/state/commands";

const command = (name: string, options: CommandOption[] = [], more: Partial<ApplicationCommand> = {}): ApplicationCommand => ({
  id: `1${name.length}`,
  type: 1,
  application_id: "9",
  name,
  description: `The ${name} command`,
  options,
  version: "5",
  ...more,
});

const option = (name: string, type: number, more: Partial<CommandOption> = {}): CommandOption => ({ name, type, description: name, ...more });

const title = option("title", OptionType.string, { required: true });
const volume = option("volume", OptionType.integer, { min_value: 0, max_value: 100 });
const add = option("add", OptionType.subcommand, { options: [title, volume] });
const queue = command("queue", [add, option("list", OptionType.group, { options: [option("show", OptionType.subcommand)] })]);

const index: CommandIndex = {
  applications: [{ id: "9", name: "Tuner", bot: { id: "90", username: "tuner" } }],
  application_commands: [
    command("play", [title, volume]),
    queue,
    command("ping"),
    command("upload", [option("file", OptionType.attachment, { required: true })]),
    command("Who is this", [], { type: 2 }),
    command("stray", [], { application_id: "8" }),
  ],
};
const all = usables(index);
const named = (name: string) => {
  const found = all.find((one) => one.name === name);
  if (!found) throw new Error(`no ${name}`);
  return found;
};

const from: Pickable = {
  users: [
    { label: "Noor", value: "1", detail: "noor" },
    { label: "Sam", value: "2", detail: "sam.a" },
    { label: "Sam", value: "3", detail: "sam.b" },
  ],
  channels: [
    { label: "general", value: "10", type: 0 },
    { label: "Lounge", value: "11", type: 2 },
  ],
  roles: [{ label: "crew", value: "20" }],
};

describe("usables", () => {
  it("lists slash commands by what is typed, each subcommand by itself, without what cannot be used", () => {
    expect(all.map(({ name }) => name)).toEqual(["ping", "play", "queue add", "queue list show"]);
    expect(named("queue add").description).toBe("add");
  });

  it("finds by beginning, then by word, then by any part", () => {
    expect(search(all, "p").map(({ name }) => name)).toEqual(["ping", "play"]);
    expect(search(all, "add").map(({ name }) => name)).toEqual(["queue add"]);
    expect(search(all, "lay").map(({ name }) => name)).toEqual(["play"]);
    expect(search(all, "queue a").map(({ name }) => name)).toEqual(["queue add"]);
    expect(search(all, "nothing")).toEqual([]);
  });
});

describe("typedUse", () => {
  it("waits for the whole name and a space", () => {
    expect(typedUse(all, "play")).toBeUndefined();
    expect(typedUse(all, "queue ")).toBeUndefined();
    expect(typedUse(all, "play ")).toEqual({ usable: named("play"), filled: { title: "" } });
    expect(typedUse(all, "ping ")).toEqual({ usable: named("ping"), filled: {} });
  });

  it("takes what follows for the options", () => {
    expect(typedUse(all, "play so  what")?.filled).toEqual({ title: "so  what" });
    expect(typedUse(all, "queue add title:so what volume:40")).toEqual({ usable: named("queue add"), filled: { title: "so what", volume: "40" } });
    expect(typedUse(all, "play at 12:30 volume:1")?.filled).toEqual({ title: "at 12:30", volume: "1" });
  });

  it("leaves the choice to the user when two bots have the command", () => {
    const twins = usables({ ...index, applications: [...index.applications, { id: "8", name: "Other" }], application_commands: [command("play"), command("play", [], { application_id: "8" })] });
    expect(typedUse(twins, "play ")).toBeUndefined();
  });
});

describe("read", () => {
  it.each([
    [title, "  so what ", "so what"],
    [option("n", OptionType.integer), "12", 12],
    [option("n", OptionType.number), "1,5", 1.5],
    [option("b", OptionType.boolean), "no", false],
    [option("u", OptionType.user), "@noor", "1"],
    [option("u", OptionType.user), "sam.b", "3"],
    [option("c", OptionType.channel), "#general", "10"],
    [option("r", OptionType.role), "Crew", "20"],
    [option("m", OptionType.mentionable), "crew", "20"],
    [option("k", OptionType.string, { choices: [{ name: "Loud", value: "loud" }] }), "loud", "loud"],
  ] as const)("understands %o of %s", (wanted, text, value) => {
    expect(read(wanted as CommandOption, text, from)).toEqual({ value });
  });

  it.each([
    [title, " "],
    [option("t", OptionType.string, { min_length: 3 }), "ab"],
    [option("t", OptionType.string, { max_length: 3 }), "abcd"],
    [option("n", OptionType.integer), "1.5"],
    [option("n", OptionType.integer), "many"],
    [volume, "101"],
    [volume, "-1"],
    [option("b", OptionType.boolean), "perhaps"],
    [option("u", OptionType.user), "nobody"],
    [option("c", OptionType.channel, { channel_types: [2] }), "general"],
  ] as const)("says what is wrong with %o of %s", (wanted, text) => {
    expect(read(wanted as CommandOption, text, from)).toHaveProperty("problem");
  });

  it("offers what can be picked", () => {
    expect(picks(title, from)).toBeUndefined();
    expect(picks(option("c", OptionType.channel, { channel_types: [2] }), from)?.map(({ label }) => label)).toEqual(["Lounge"]);
    expect(fitting(from.users, "@s").map(({ value }) => value)).toEqual(["2", "3"]);
    expect(fitting(from.users, "sam.b").map(({ value }) => value)).toEqual(["3"]);
  });
});

describe("build", () => {
  it("puts the parameters into their subcommand", () => {
    expect(build(named("queue add"), { title: "x", volume: "7" }, from)).toEqual({
      options: [{ type: 1, name: "add", options: [{ type: 3, name: "title", value: "x" }, { type: 4, name: "volume", value: 7 }] }],
    });
    expect(build(named("queue list show"), {}, from)).toEqual({ options: [{ type: 2, name: "list", options: [{ type: 1, name: "show", options: [] }] }] });
  });

  it("names every option that cannot be sent", () => {
    expect(build(named("play"), { title: "", volume: "x" }, from)).toEqual({ problems: { title: "Fill this in.", volume: "Write a number." } });
  });
});

describe("Commands", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  function setUp(more: { online?: boolean; refuse?: string } = {}) {
    const sent: CommandUse[] = [];
    let reads = 0;
    const commands = new Commands(
      {
        commandIndex: async () => {
          reads++;
          if (more.refuse) throw new Error(more.refuse);
          return index;
        },
        interact: async (use) => {
          sent.push(use);
          if (more.refuse) throw new Error(more.refuse);
        },
      },
      () => more.online ?? true,
    );
    return { commands, sent, reads: () => reads };
  }

  it("reads a guild's commands, and again when they may have changed", async () => {
    const { commands, reads } = setUp();
    void commands.refresh("1");
    expect(commands.known.value.get("1")?.state).toBe("loading");
    await vi.advanceTimersByTimeAsync(0);
    expect(commands.known.value.get("1")).toMatchObject({ state: "ready", usables: { length: 4 } });
    await commands.refresh("1");
    expect(reads()).toBe(1);
    vi.advanceTimersByTime(20_000);
    await commands.refresh("1");
    expect(reads()).toBe(2);
  });

  it("says that they could not be read", async () => {
    const { commands } = setUp({ refuse: "no" });
    await commands.refresh("1");
    expect(commands.known.value.get("1")?.state).toBe("failed");
  });

  it("waits for the answer to the use it sent, and no longer", async () => {
    const { commands, sent } = setUp();
    await commands.use("1", "2", named("play"), [{ type: 3, name: "title", value: "x" }]);
    expect(sent[0]).toMatchObject({ type: 2, application_id: "9", guild_id: "1", channel_id: "2", data: { name: "play", version: "5" } });
    expect(commands.uses.value).toMatchObject([{ label: "/play", problem: undefined }]);
    commands.dispatch("INTERACTION_SUCCESS", { id: "7", nonce: "another" });
    expect(commands.uses.value).toHaveLength(1);
    commands.dispatch("INTERACTION_SUCCESS", { id: "7", nonce: sent[0]?.nonce });
    expect(commands.uses.value).toEqual([]);
    vi.advanceTimersByTime(10_000);
    expect(commands.uses.value).toEqual([]);
  });

  it.each([
    [true, "Tuner did not answer in time."],
    [false, "Tuner is offline, so nobody answered."],
  ])("tells of a bot that does not answer (online: %s), and tries again", async (online, problem) => {
    const { commands, sent } = setUp({ online });
    await commands.use("1", "2", named("ping"), []);
    vi.advanceTimersByTime(4000);
    expect(commands.uses.value).toMatchObject([{ problem }]);
    const [use] = commands.uses.value;
    if (use) await commands.again(use);
    expect(commands.uses.value).toMatchObject([{ problem: undefined }]);
    expect(sent[1]?.nonce).not.toBe(sent[0]?.nonce);
  });

  it("tells why a use was refused", async () => {
    const { commands } = setUp({ refuse: "Missing Permissions" });
    await commands.use("1", "2", named("ping"), []);
    expect(commands.uses.value).toMatchObject([{ problem: "Missing Permissions" }]);
  });
});
