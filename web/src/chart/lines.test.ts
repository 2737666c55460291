import { expect, test } from "vitest";
import type { LimitsVersionOut } from "../api/schema";
import { distance, limitsAt, movingAverage, stretches, verticalRange, zoneOf } from "./lines";

const limits = (from: number, centre = 100): LimitsVersionOut => ({
  from: new Date(from * 1000).toISOString(),
  state: "locked",
  phase: 1,
  centre,
  sigma: 10,
  ucl: centre + 30,
  lcl: centre - 30,
  zones: [-3, -2, -1, 0, 1, 2, 3].map((k) => centre + 10 * k),
  n: 150,
});

test("limits step where a version begins and never before the first", () => {
  const versions = [limits(100), limits(200, 50)];

  expect(stretches(versions, 0, 300).map((s) => [s.from, s.to, s.limits.centre])).toEqual([
    [100, 200, 100],
    [200, 300, 50],
  ]);
  expect(limitsAt(versions, 99)).toBeNull();
  expect(limitsAt(versions, 200)?.centre).toBe(50);
});

test("distance is read off the lines, on either scale", () => {
  expect(distance(130, limits(0), "linear")).toBeCloseTo(3);
  const log = { ...limits(0), ucl: 100 * Math.E ** 0.3, lcl: 100 * Math.E ** -0.3 };
  expect(distance(100 * Math.E ** -0.2, log, "log")).toBeCloseTo(-2);
  expect([0.5, -1.5, 2.5, 3.5].map(zoneOf)).toEqual(["C", "B", "A", "beyond the limit"]);
});

test("the moving average holds an outlier at six sigma and breaks where limits step", () => {
  const times = Float64Array.from({ length: 200 }, (_, i) => i);
  const values = Float64Array.from({ length: 200 }, (_, i) => (i < 100 ? 100 : 50));
  values[50] = 10_000;
  const average = movingAverage(times, values, [limits(0), limits(100, 50)]);

  expect(average[50]).toBeCloseTo(100 + 60 / 31);
  expect(average[99]).toBe(100);
  expect(average[100]).toBe(50);
});

test("fit limits does not let one point flatten the day, fit all shows it", () => {
  const shown = stretches([limits(0)], 0, 10);
  const values = Float64Array.of(90, 5000, NaN);

  expect(verticalRange(values, shown, "limits")).toEqual([58, 156]);
  expect(verticalRange(values, shown, "all")[1]).toBeGreaterThan(5000);
});
