import { expect, test } from "vitest";
import type { BucketsOut } from "../api/schema";
import { budgetText } from "../rules";
import { drawFailures } from "./Failures";
import { drawScores, scoreY } from "./HalfMinutes";
import { sizeText } from "./Incidents";

test("a size is told with its interval", () => {
  expect(sizeText({ size_percent: 19.2, size_low: 14.6, size_high: 23.4 })).toBe("+19 % (15 to 23)");
  expect(sizeText({ size_percent: -12, size_low: -15, size_high: -9 })).toBe("−12 % (−15 to −9)");
});

test("a budget is told as people set it", () => {
  expect([1, 1 / 7, 1 / 30, 2, null].map(budgetText)).toEqual(["1 a day", "1 a week", "1 a month", "2 a day", "no detectors"]);
});

test("the line of scores breaks at a gap, and what is beyond the edge is drawn there", () => {
  const buckets: BucketsOut = {
    times_ms: [0, 30_000, 60_000, 300_000],
    levels: [1, 1, 1, 1],
    scores: [0, 9, null, -1],
    rules: { "1": ["R1", "R5"] },
  };
  const { path, marks } = drawScores(buckets, 0, 300_000);

  expect(path.split("M").length - 1).toBe(2);
  expect(marks).toHaveLength(1);
  expect(marks[0]?.y).toBe(scoreY(5));
  expect(marks[0]?.text).toContain("R1, R5: 9.0σ");
});

test("a half minute with failures is a bar as high as their share, told apart beyond the limit", () => {
  const failures = {
    times_ms: [0, 30_000, 60_000],
    seen: [15, 15, 10],
    failed: [0, 1, 5],
    centre: 0.02,
    ucl: [0.1, 0.1, 0.15],
  };
  const bars = drawFailures(failures, 0, 90_000);

  expect(bars.map((bar) => bar.outside)).toEqual([false, true]);
  expect((bars[1]?.height ?? 0) / (bars[0]?.height ?? 1)).toBeCloseTo(7.5);
  expect(bars[1]?.text).toContain("5 of 10 failed");
});
