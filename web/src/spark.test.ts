import { expect, test } from "vitest";
import { outside, rangeOf, runsOf } from "./spark";

const picture = (high: (number | null)[], limits: { centre: number | null; ucl: number | null; lcl: number | null }) => ({
  times_ms: high.map((_, i) => i * 1000),
  low: high.map((value) => (value === null ? null : 1)),
  middle: high.map((value) => (value === null ? null : 1)),
  high,
  ...limits,
});
const LIMITS = { centre: 1, ucl: 2, lcl: 0 };
const NONE = { centre: null, ucl: null, lcl: null };

test("the limits are always in sight, and one outlier does not flatten the rest", () => {
  const [bottom, top] = rangeOf(picture([1, 1.1], LIMITS)) ?? [];
  expect(bottom).toBeLessThan(0);
  expect(top).toBeGreaterThan(2);
  expect(rangeOf(picture([1, 90], LIMITS))?.[1]).toBeLessThan(4);
  expect(rangeOf(picture([1, 90], NONE))?.[1]).toBeLessThan(2);
  expect(rangeOf(picture([null], NONE))).toBeNull();
});

test("each run beyond a limit is marked once, where it is furthest", () => {
  const found = outside(picture([1, 2.5, 3, 2.2, 1, 1, 1, 2.1], LIMITS), 1);
  expect(found).toEqual([
    { at: 2, value: 3 },
    { at: 7, value: 2.1 },
  ]);
  expect(outside(picture([1, 5], NONE), 1)).toEqual([]);
});

test("a line is broken where nothing was measured", () => {
  expect(runsOf([1, 2, null, 3, null, null, 4, 5])).toEqual([
    [0, 2],
    [3, 4],
    [6, 8],
  ]);
});
