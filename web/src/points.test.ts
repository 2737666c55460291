import { expect, test } from "vitest";
import type { LiveObservationOut, WindowOut } from "./api/schema";
import { Points } from "./points";

const window = (ids: number[], values: (number | null)[], times = ids.map((id) => id * 2000)): WindowOut =>
  ({ ids, values, times_ms: times, oks: values.map((v) => (v === null ? 0 : 1)), eval_counts: ids }) as unknown as WindowOut;
const live = (id: number, at = id * 2000): LiveObservationOut =>
  ({ id, time_ms: at, ok: true, eval_count: 3 }) as unknown as LiveObservationOut;

test("a point that came by the stream and by polling is there once", () => {
  const points = new Points();
  points.load(window([1, 2, 3], [1, 2, 3]));

  expect(points.add(live(4), 4)).toBe(true);
  points.append(window([3, 4, 5], [3, 4, 5]));
  expect(points.add(live(5), 5)).toBe(false);
  expect([...points.ids]).toEqual([1, 2, 3, 4, 5]);
  expect([...points.values]).toEqual([1, 2, 3, 4, 5]);
});

test("a late point goes where its time belongs", () => {
  const points = new Points();
  points.load(window([1, 2], [1, 2]));
  points.add(live(3, 3000), 9);

  expect([...points.times]).toEqual([2, 3, 4]);
  expect([...points.values]).toEqual([1, 9, 2]);
});

test("failures are gaps with a mark, and what is too old drops off the left", () => {
  const points = new Points();
  points.load(window([1, 2, 3], [1, null, 3]));
  expect(points.failures(0, 10)).toEqual([4]);
  expect(points.values[1]).toBeNaN();

  points.dropBefore(5);
  expect([...points.ids]).toEqual([3]);
});

test("it holds any number of points and says when it changed", () => {
  const points = new Points();
  let heard = 0;
  points.subscribe(() => heard++);
  for (let id = 1; id <= 5000; id++) points.add(live(id), id);

  expect(points.length).toBe(5000);
  expect(points.at(2 * 4321)).toBe(4320);
  expect(heard).toBe(5000);
});
