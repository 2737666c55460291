import { expect, test } from "vitest";
import { drawn, led, revealed } from "./rows";

test("the rows in view are drawn with a few beyond, never one that is not there", () => {
  expect(drawn(0, 4, 3, -1)).toEqual([0, 1, 2]);
  expect(drawn(100, 10, 50_000, -1)).toEqual(Array.from({ length: 26 }, (_, i) => 92 + i));
  expect(drawn(49_995, 10, 50_000, -1).at(-1)).toBe(49_999);
  expect(drawn(90, 10, 0, -1)).toEqual([]);
});

test("the row that has the keyboard stays drawn when it is scrolled away, once", () => {
  expect(drawn(100, 10, 50_000, 3)[0]).toBe(3);
  expect(drawn(100, 10, 50_000, 30_000).at(-1)).toBe(30_000);
  expect(drawn(100, 10, 50_000, 104).filter((row) => row === 104)).toHaveLength(1);
});

test("keys move by a row, a page or to an end, and stop there", () => {
  expect(led("ArrowDown", 5, 10, 100)).toBe(6);
  expect(led("ArrowUp", 0, 10, 100)).toBe(0);
  expect(led("PageDown", 5, 10, 100)).toBe(14);
  expect(led("PageUp", 5, 10, 100)).toBe(0);
  expect(led("End", 5, 10, 100)).toBe(99);
  expect(led("Home", 50, 10, 100)).toBe(0);
  expect(led("a", 5, 10, 100)).toBeNull();
  expect(led("End", 0, 10, 0)).toBeNull();
});

test("a row is scrolled to by as little as shows it", () => {
  expect(revealed(2, 38, 0, 380)).toBe(0);
  expect(revealed(12, 38, 0, 380)).toBe(3 * 38);
  expect(revealed(2, 38, 500, 380)).toBe(76);
});
