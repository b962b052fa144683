import {
  CommandType,
  OptionType,
  type Application,
  type ApplicationCommand,
  type CommandIndex,
  type CommandOption,
  type UsedOption,
} from "./payloads";

/** What a person can use: a command, or one subcommand of it. */
export interface Usable {
  /** As it is typed after the slash: the command and, for a subcommand, its group and name. */
  name: string;
  description: string;
  options: readonly CommandOption[];
  command: ApplicationCommand;
  app: Application;
}

/** Files cannot be sent here, so a command that needs one cannot be used. */
const usable = (options: readonly CommandOption[]) =>
  !options.some((option) => option.type === OptionType.attachment && option.required);

/** All that an index offers, by name. */
export function usables(index: CommandIndex): Usable[] {
  const apps = new Map(index.applications.map((app) => [app.id, app]));
  const found: Usable[] = [];
  const add = (command: ApplicationCommand, app: Application, name: string, of: ApplicationCommand | CommandOption) => {
    const inner = (of.options ?? []).filter((option) => option.type <= OptionType.group);
    for (const option of inner) add(command, app, `${name} ${option.name}`, option);
    if (inner.length > 0 || !usable(of.options ?? [])) return;
    const options = (of.options ?? []).filter((option) => option.type !== OptionType.attachment);
    found.push({ name, description: of.description, options, command, app });
  };
  for (const command of index.application_commands) {
    const app = apps.get(command.application_id);
    if (app && command.type === CommandType.slash) add(command, app, command.name, command);
  }
  return found.sort((a, b) => a.name.localeCompare(b.name) || a.app.name.localeCompare(b.app.name));
}

/** Those that fit what was typed after the slash, best first. */
export function search(all: readonly Usable[], typed: string): Usable[] {
  const query = typed.trimEnd().toLowerCase();
  const rank = ({ name, description }: Usable) => {
    if (name.startsWith(query)) return 0;
    if (name.split(/[ _-]/).some((word) => word.startsWith(query))) return 1;
    if (name.includes(query)) return 2;
    return query.length > 2 && description.toLowerCase().includes(query) ? 3 : 4;
  };
  return all
    .map((one) => ({ one, rank: rank(one) }))
    .filter((ranked) => ranked.rank < 4)
    .sort((a, b) => a.rank - b.rank)
    .map(({ one }) => one);
}

/** What is filled in so far: by option, the text that stands there. An option that is not shown has no entry. */
export type Filled = Readonly<Record<string, string>>;

/**
 * The one command that the text after the slash already names in full, and the rest of the text, by options: what
 * follows "name:" for that option, and what comes first for the first one.
 */
export function typedUse(all: readonly Usable[], typed: string): { usable: Usable; filled: Filled } | undefined {
  const named = all.filter(({ name }) => typed.startsWith(`${name} `));
  const [first, second] = named.sort((a, b) => b.name.length - a.name.length);
  if (!first || second?.name === first.name) return undefined;
  const filled: Record<string, string> = {};
  for (const { name, required } of first.options) if (required) filled[name] = "";
  let into = first.options[0]?.name;
  for (const word of typed.slice(first.name.length + 1).split(/(?<=\s)/)) {
    const named = /^([^:\s]+):(.*)$/s.exec(word);
    const option = named && first.options.find(({ name }) => name === named[1]);
    if (option) into = option.name;
    if (into !== undefined) filled[into] = (option ? "" : (filled[into] ?? "")) + (option ? (named?.[2] ?? "") : word);
  }
  for (const [name, text] of Object.entries(filled)) {
    if (text.trim() !== "" || first.options.some((option) => option.name === name && option.required)) filled[name] = text.trim();
    else delete filled[name];
  }
  return { usable: first, filled };
}

/** Something that an option can be set to by picking it. */
export interface Pick {
  label: string;
  value: string | number | boolean;
  detail?: string;
}

/** Who and what a guild has to pick from. */
export interface Pickable {
  users: readonly Pick[];
  channels: readonly (Pick & { type: number })[];
  roles: readonly Pick[];
}

/** What an option can be set to; undefined if anything of its type may be written. */
export function picks(option: CommandOption, from: Pickable): readonly Pick[] | undefined {
  if (option.choices && option.choices.length > 0) {
    return option.choices.map(({ name, value }) => ({ label: name, value }));
  }
  switch (option.type) {
    case OptionType.boolean:
      return [
        { label: "Yes", value: true },
        { label: "No", value: false },
      ];
    case OptionType.user:
      return from.users;
    case OptionType.channel:
      return from.channels.filter(({ type }) => !option.channel_types?.length || option.channel_types.includes(type));
    case OptionType.role:
      return from.roles;
    case OptionType.mentionable:
      return [...from.users, ...from.roles];
    default:
      return undefined;
  }
}

/** Those that fit the text, at most a screenful. */
export function fitting(all: readonly Pick[], text: string, most = 20): Pick[] {
  const query = text.trim().replace(/^[@#]/, "").toLowerCase();
  const starts = (pick: Pick) => pick.label.toLowerCase().startsWith(query);
  const holds = (pick: Pick) => pick.label.toLowerCase().includes(query) || pick.detail?.toLowerCase().includes(query);
  return [...all.filter(starts), ...all.filter((pick) => !starts(pick) && holds(pick))].slice(0, most);
}

export type Read = { value: string | number | boolean } | { problem: string };

/** What the text in an option's field means, or what is wrong with it. */
export function read(option: CommandOption, text: string, from: Pickable): Read {
  const trimmed = text.trim();
  if (trimmed === "") return { problem: "Fill this in." };
  const list = picks(option, from);
  if (list) {
    const wanted = trimmed.replace(/^[@#]/, "").toLowerCase();
    const same = list.filter((pick) => pick.label.toLowerCase() === wanted || pick.detail?.toLowerCase() === wanted);
    const [found] = same;
    return found ? { value: found.value } : { problem: "Pick one of the list." };
  }
  switch (option.type) {
    case OptionType.integer:
    case OptionType.number:
      return readNumber(option, trimmed);
    default: {
      const { min_length: least = 0, max_length: most = Infinity } = option;
      if (trimmed.length < least) return { problem: `Write at least ${least} characters.` };
      if (trimmed.length > most) return { problem: `Write at most ${most} characters.` };
      return { value: trimmed };
    }
  }
}

function readNumber(option: CommandOption, text: string): Read {
  const value = Number(text.replace(",", "."));
  const { min_value: least = -Infinity, max_value: most = Infinity } = option;
  if (!Number.isFinite(value)) return { problem: "Write a number." };
  if (option.type === OptionType.integer && !Number.isSafeInteger(value)) return { problem: "Write a whole number." };
  if (value < least) return { problem: `The least is ${least}.` };
  if (value > most) return { problem: `The most is ${most}.` };
  return { value };
}

/** What kind of thing an option wants, in a word or two. */
export function hint(option: CommandOption): string {
  if (option.choices?.length) return "one of a list";
  const words: Record<number, string> = {
    [OptionType.string]: "text",
    [OptionType.integer]: "whole number",
    [OptionType.number]: "number",
    [OptionType.boolean]: "yes or no",
    [OptionType.user]: "a person",
    [OptionType.channel]: "a channel",
    [OptionType.role]: "a role",
    [OptionType.mentionable]: "a person or role",
  };
  return words[option.type] ?? "";
}

/** The options of a use as they are sent, or the problem of each that cannot be. */
export function build(
  { name, command, options }: Usable,
  filled: Filled,
  from: Pickable,
): { options: UsedOption[] } | { problems: Record<string, string> } {
  const used: UsedOption[] = [];
  const problems: Record<string, string> = {};
  for (const option of options) {
    const text = filled[option.name];
    if (text === undefined && !option.required) continue;
    const result = read(option, text ?? "", from);
    if ("problem" in result) problems[option.name] = result.problem;
    else used.push({ type: option.type, name: option.name, value: result.value });
  }
  if (Object.keys(problems).length > 0) return { problems };
  return { options: nest(command.options ?? [], name.split(" ").slice(1), used) };
}

/** Wraps parameters in the group and subcommand that they belong to. */
function nest(defined: readonly CommandOption[], path: readonly string[], used: UsedOption[]): UsedOption[] {
  const option = defined.find(({ name }) => name === path[0]);
  if (!option) return used;
  return [{ type: option.type, name: option.name, options: nest(option.options ?? [], path.slice(1), used) }];
}
