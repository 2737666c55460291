import { expect, test } from "vitest";
import { budgetText } from "../rules";
import { sizeText } from "./Incidents";

test("a size is told with its interval", () => {
  expect(sizeText({ size_percent: 19.2, size_low: 14.6, size_high: 23.4 })).toBe("+19 % (15 to 23)");
  expect(sizeText({ size_percent: -12, size_low: -15, size_high: -9 })).toBe("−12 % (−15 to −9)");
});

test("a budget is told as people set it", () => {
  expect([1, 1 / 7, 1 / 30, 2, null].map(budgetText)).toEqual(["1 a day", "1 a week", "1 a month", "2 a day", "no detectors"]);
});
