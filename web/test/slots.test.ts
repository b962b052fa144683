import { describe, expect, it } from "vitest";
import { Slots } from "../src/rtc/slots";

const ids = (slots: Slots) => slots.occupants.map((occupant) => occupant?.userId);

describe("Slots", () => {
  it("gives each user a section of their own and takes it back", () => {
    const slots = new Slots(3, 6);
    expect(slots.speaking("a", 1, false)).toBe(true);
    expect(slots.speaking("b", 2, true)).toBe(true);
    expect(slots.speaking("b", 2, false)).toBe(false);
    expect(ids(slots)).toEqual(["a", "b", undefined]);
    expect(slots.leave("a")).toBe(true);
    expect(slots.leave("a")).toBe(false);
    expect(slots.speaking("c", 3, false)).toBe(true);
    expect(ids(slots)).toEqual(["c", "b", undefined]);
  });

  it("wants a new description when an SSRC changes", () => {
    const slots = new Slots();
    slots.speaking("a", 1, true);
    expect(slots.speaking("a", 9, true)).toBe(true);
    expect(slots.occupants[0]?.ssrc).toBe(9);
  });

  it("grows by fours up to the most, and never moves who is there", () => {
    const slots = new Slots(2, 7);
    for (let i = 0; i < 7; i++) expect(slots.speaking(`u${i}`, i, false)).toBe(true);
    expect(slots.size).toBe(7);
    expect(ids(slots)).toEqual(["u0", "u1", "u2", "u3", "u4", "u5", "u6"]);
  });

  it("seats a speaker beyond the most in place of the longest silent", () => {
    const slots = new Slots(2, 2);
    slots.speaking("a", 1, true);
    slots.speaking("b", 2, true);
    slots.speaking("a", 1, false);
    slots.speaking("b", 2, false);
    expect(slots.speaking("c", 3, false)).toBe(false);
    expect(slots.speaking("c", 3, true)).toBe(true);
    expect(ids(slots)).toEqual(["c", "b"]);
  });

  it("interrupts nobody who speaks", () => {
    const slots = new Slots(1, 1);
    slots.speaking("a", 1, true);
    expect(slots.speaking("b", 2, true)).toBe(false);
    expect(ids(slots)).toEqual(["a"]);
  });

  it("gives a freed section to whoever waits and spoke last", () => {
    const slots = new Slots(1, 1);
    slots.speaking("a", 1, true);
    slots.speaking("b", 2, true);
    slots.speaking("c", 3, true);
    slots.leave("a");
    expect(ids(slots)).toEqual(["c"]);
  });
});
