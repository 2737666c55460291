import { expect, test } from "vitest";
import type { ContextOut, ObservationOut } from "../../api/schema";
import { pathOf, readValue, spanOf, ticks, zoneName, zonesOf } from "./context";
import { countText } from "./Drilldown";

test("limits of the log scale have their zones at equal ratios, others at equal distances", () => {
  const zones = zonesOf({ centre: 1.66159, ucl: 1.91241, lcl: 1.44367 });
  // as the server tells them for these limits
  const told = [1.44367, 1.51293, 1.58552, 1.66159, 1.74131, 1.82485, 1.91241];

  zones.forEach((zone, i) => expect(zone).toBeCloseTo(told[i] ?? 0, 4));
  expect(zonesOf({ centre: 10, ucl: 13, lcl: 7 })).toEqual([7, 8, 9, 10, 11, 12, 13]);
});

test("a failed point and one that does not tell have no value", () => {
  const point = { ok: true, latency_ms: 1500, eval_duration_ms: 1480, eval_count: 40, ttft_ms: null } as ObservationOut;

  expect(readValue("latency", point)).toBe(1.5);
  expect(readValue("ms_per_token", point)).toBe(37);
  expect(readValue("ttft", point)).toBeNull();
  expect(readValue("latency", { ...point, ok: false })).toBeNull();
});

test("ticks are round and lie within the span", () => {
  expect(ticks(1.3, 5.2, 4)).toEqual([2, 3, 4, 5]);
  expect(ticks(2, 2, 4)).toEqual([2]);
});

test("the span holds the limits also where every point failed", () => {
  const context = { violation: { ucl: 2, lcl: 1, peak_value: 2.5 } } as ContextOut;
  const [low, high] = spanOf(context, [null, null]);

  expect(low).toBeLessThan(1);
  expect(high).toBeGreaterThan(2.5);
});

test("the line is broken where a value is missing", () => {
  expect(pathOf([1, 2, null, 3], (i) => i, (value) => value)).toBe("M0.0 1.0L1.0 2.0M3.0 3.0");
});

test("zones are named by distance", () => {
  expect([0.4, -1.5, 2.2, -3.4].map(zoneName)).toEqual(["zone C", "zone B", "zone A", "beyond the limits"]);
});

test("fewer samples than were asked for are said to be all", () => {
  expect(countText({ before: 10, after: 10 }, 10)).toBe("10 samples before and 10 after");
  expect(countText({ before: 25, after: 4 }, 25)).toBe("25 samples before and 4 after, there are no more");
});
