import { expect, test } from "vitest";
import { decimalsFor, formatDuration, formatNumber, formatPercent, formatSigma } from "./format";

test("what is absent is a dash, never 0", () => {
  expect(formatNumber(null, 2)).toBe("—");
  expect(formatNumber(NaN, 2)).toBe("—");
  expect(formatSigma(null)).toBe("—");
  expect(formatDuration(undefined)).toBe("—");
  expect(formatPercent(null)).toBe("not available");
});

test("a distance has its sign and a real minus", () => {
  expect(formatSigma(2.44)).toBe("+2.4 σ");
  expect(formatSigma(-3.16)).toBe("\u22123.2 σ");
});

test("decimals show three significant digits", () => {
  expect([12, 1.66, 0.38, 0.052, 340].map(decimalsFor)).toEqual([1, 2, 3, 4, 0]);
});

test("durations are in the largest unit that fits", () => {
  expect([0.4, 14, 300, 9000, 400_000].map(formatDuration)).toEqual(["under 1 s", "14 s", "5 min", "2.5 h", "5 days"]);
});
