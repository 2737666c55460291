import { expect, test } from "vitest";
import { budgetText } from "../rules";
import { causeText, sizeText } from "./Incidents";

test("a size is told with its interval", () => {
  expect(sizeText({ size_percent: 19.2, size_low: 14.6, size_high: 23.4 })).toBe("+19 % (15 to 23)");
  expect(sizeText({ size_percent: -12, size_low: -15, size_high: -9 })).toBe("−12 % (−15 to −9)");
});

test("a budget is told as people set it", () => {
  expect([1, 1 / 7, 1 / 30, 2, null].map(budgetText)).toEqual(["1 a day", "1 a week", "1 a month", "2 a day", "no detectors"]);
});

test("where the time went is one line", () => {
  expect(causeText({ part: "generation", ms: 1871, usual_ms: 1530 })).toBe("Mostly generation: 1.87 s, usually 1.53 s");
  expect(causeText({ part: "load", ms: 3020, usual_ms: 11 })).toBe("Mostly model load: 3.02 s, usually 0.01 s");
});
