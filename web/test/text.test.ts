import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Message } from "../src/protocol/payloads";
import { compareSnowflakes, snowflakeTime } from "../src/protocol/payloads";
import { ApiError, flattenErrors, Rest } from "../src/protocol/rest";
import { Chat, merge } from "../src/state/chat";
import { parseRoute } from "../src/state/route";
import { parseMarkup } from "../src/ui/markup";

const message = (id: string, content = id, more: Partial<Message> = {}): Message => ({
  id,
  channel_id: "5",
  author: { id: "1", username: "a" },
  content,
  timestamp: "2026-01-01T00:00:00Z",
  ...more,
});

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe("parseMarkup", () => {
  const kinds = (content: string) => parseMarkup(content).map((piece) => piece.kind);

  it("knows a few marks and leaves the rest as text", () => {
    expect(kinds("a **b** *c* ~~d~~ `e` <@12>")).toEqual(["text", "bold", "text", "italic", "text", "strike", "text", "code", "text", "mention"]);
    expect(parseMarkup("snake_case_name and 2*3*4")).toEqual([{ kind: "text", text: "snake_case_name and 2*3*4" }]);
    expect(parseMarkup("```go\nx := 1\n```")).toEqual([{ kind: "block", text: "x := 1\n" }]);
  });

  it("links http and https only, without the sentence's punctuation", () => {
    expect(parseMarkup("see (https://a.example/x_(y)).")).toEqual([
      { kind: "text", text: "see (" },
      { kind: "link", text: "https://a.example/x_(y)", href: "https://a.example/x_(y)" },
      { kind: "text", text: ")." },
    ]);
    expect(kinds("javascript:alert(1) data:text/html,x ftp://x")).toEqual(["text"]);
    expect(parseMarkup('https://a.example/"onmouseover="x')[0]).toMatchObject({ text: "https://a.example/" });
  });

  it("gives markup of the page back as text", () => {
    expect(parseMarkup("<img src=x onerror=alert(1)>")).toEqual([{ kind: "text", text: "<img src=x onerror=alert(1)>" }]);
  });

  it("loses no character of plain text", () => {
    const text = "line one\n\n* not a list _ and ` alone **";
    expect(parseMarkup(text).map((piece) => ("text" in piece ? piece.text : "")).join("")).toBe(text);
  });
});

describe("merge", () => {
  it("orders by age and replaces what is there", () => {
    const merged = merge([message("20"), message("100")], [message("99"), message("20", "edited")]);
    expect(merged.map((one) => one.content)).toEqual(["edited", "99", "100"]);
  });
});

describe("Chat", () => {
  const api = (over: Partial<{ messages: () => Promise<Message[]>; send: () => Promise<Message> }> = {}) => ({
    messages: () => Promise.resolve([message("2"), message("1")]),
    send: () => Promise.resolve(message("3", "hi")),
    ...over,
  });

  it("shows a message once, whichever of the answer and the event comes first", async () => {
    const chat = new Chat(api());
    await chat.load("5");
    const sent = chat.send("5", "hi");
    const [pending] = chat.logs.value.get("5")?.pending ?? [];
    chat.dispatch("MESSAGE_CREATE", message("3", "hi", { nonce: pending?.nonce ?? "" }), undefined);
    await sent;
    const log = chat.logs.value.get("5");
    expect(log?.messages.map((one) => one.id)).toEqual(["1", "2", "3"]);
    expect(log?.pending).toEqual([]);
    expect(log?.complete).toBe(true);
  });

  it("keeps a message that could not be sent, for another try", async () => {
    const chat = new Chat(api({ send: () => Promise.reject(new Error("offline")) }));
    await chat.load("5");
    await expect(chat.send("5", "hi")).rejects.toThrow("offline");
    const [pending] = chat.logs.value.get("5")?.pending ?? [];
    expect(pending).toMatchObject({ content: "hi", failed: true });
    chat.forgetPending("5", pending?.nonce ?? "");
    expect(chat.logs.value.get("5")?.pending).toEqual([]);
  });

  it("follows edits and deletions, and keeps nothing of channels never opened", async () => {
    const chat = new Chat(api());
    await chat.load("5");
    chat.dispatch("MESSAGE_UPDATE", { id: "1", channel_id: "5", content: "new" }, undefined);
    chat.dispatch("MESSAGE_DELETE", { id: "2", channel_id: "5" }, undefined);
    chat.dispatch("MESSAGE_CREATE", message("9", "x", { channel_id: "6" }), undefined);
    expect(chat.logs.value.get("5")?.messages.map((one) => [one.id, one.content, one.author.id])).toEqual([["1", "new", "1"]]);
    expect(chat.logs.value.has("6")).toBe(false);
  });

  it("forgets that someone types, after a while or once they wrote", () => {
    const chat = new Chat(api());
    const self = { id: "1", username: "me" };
    chat.dispatch("TYPING_START", { channel_id: "5", user_id: "2", timestamp: 0 }, self);
    chat.dispatch("TYPING_START", { channel_id: "5", user_id: "1", timestamp: 0 }, self);
    expect([...(chat.typing.value.get("5") ?? [])]).toEqual(["2"]);
    vi.advanceTimersByTime(10_000);
    expect(chat.typing.value.get("5")?.size).toBe(0);
  });
});

describe("Rest", () => {
  const answer = (status: number, body: unknown) => new Response(JSON.stringify(body), { status });

  it("sends the token bare and turns error bodies into messages by field", async () => {
    const fetcher = vi.fn<typeof fetch>(() =>
      Promise.resolve(answer(400, { code: 50035, message: "Invalid Form Body", errors: { username: { _errors: [{ code: "TAKEN", message: "Taken." }] } } })),
    );
    const rest = new Rest(() => "secret", fetcher);
    const error = await rest.register({ username: "a" }).catch((problem: unknown) => problem);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 400, code: 50035, fields: { username: "Taken." } });
    expect(fetcher.mock.calls[0]?.[1]?.headers).toMatchObject({ Authorization: "secret" });
  });

  it("waits as told when rate-limited, and tries again", async () => {
    const answers = [answer(429, { message: "slow", retry_after: 0.25, global: false }), answer(200, { code: "x" })];
    const fetcher = vi.fn<typeof fetch>(() => Promise.resolve(answers.shift() as Response));
    const result = new Rest(() => undefined, fetcher).createInvite("1", 0, 0);
    await vi.advanceTimersByTimeAsync(200);
    expect(fetcher).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(100);
    expect(await result).toEqual({ code: "x" });
  });

  it("does not wait long on a rate limit, and says what the server said", async () => {
    const fetcher = vi.fn<typeof fetch>(() => Promise.resolve(answer(429, { message: "You are being rate limited.", retry_after: 60 })));
    await expect(new Rest(() => undefined, fetcher).createGuild("x")).rejects.toThrow("You are being rate limited.");
    expect(fetcher).toHaveBeenCalledTimes(1);
  });

  it("gives a plain message when there is no server", async () => {
    const rest = new Rest(() => undefined, () => Promise.reject(new TypeError("Failed to fetch")));
    await expect(rest.instance()).rejects.toThrow(/can't be reached/);
  });

  it("reads nothing from a 204", async () => {
    const rest = new Rest(() => undefined, () => Promise.resolve(new Response(null, { status: 204 })));
    expect(await rest.logout()).toBeUndefined();
  });

  it("flattens nested field errors", () => {
    expect(flattenErrors({ a: { b: { _errors: [{ message: "no" }] } }, c: { _errors: [] } })).toEqual({ "a.b": "no" });
    expect(flattenErrors(null)).toEqual({});
  });
});

describe("snowflakes and routes", () => {
  it("reads time and order from ids that no number can hold", () => {
    expect(snowflakeTime("175928847299117063")).toBe(1462015105796);
    expect(compareSnowflakes("999", "1000")).toBeLessThan(0);
    expect(compareSnowflakes("1000000000000000001", "1000000000000000002")).toBeLessThan(0);
  });

  it.each([
    ["/", { name: "home" }],
    ["/invite/a%2Fb", { name: "invite", code: "a/b" }],
    ["/channels/1/2", { name: "channel", guildId: "1", channelId: "2" }],
    ["/channels/1", { name: "channel", guildId: "1", channelId: undefined }],
    ["/register", { name: "register" }],
    ["/nowhere/at/all", { name: "home" }],
  ])("parses %s", (path, route) => expect(parseRoute(path)).toEqual(route));
});
