import { expect, test } from "vitest";
import type { LiveObservationOut, OverviewTargetOut } from "./api/schema";
import { afterPoint, countsOf, keptInPlace, keyOf, listed, restanding, standingText, Targets, withValue } from "./overview";

const status = { state: "live", since: null, last: null, learn_left_s: null, failed_in_row: 0 } as unknown as OverviewTargetOut["status"];
const target = (id: number, changes: Partial<OverviewTargetOut> = {}): OverviewTargetOut =>
  ({
    id,
    provider: "ollama",
    model: `m${id}`,
    server: "s",
    source: "probe",
    standing: "in_control",
    since: null,
    headline: null,
    status,
    last: 1,
    last_z: 0,
    centre: 1,
    open_incidents: 0,
    open_marks: 0,
    marks: 0,
    times_ms: [0, 1000, 2000],
    low: [1, null, 3],
    middle: [1, null, 3],
    high: [1, null, 3],
    ...changes,
  }) as OverviewTargetOut;
const point = (changes: Partial<LiveObservationOut> = {}): LiveObservationOut =>
  ({ ...target(1), time_ms: 2500, timestamp: "2026-03-01T12:00:00Z", ok: true, latency_ms: 5000, verdicts: {}, ...changes }) as unknown as LiveObservationOut;
const choice = { standings: new Set<never>(), search: "", order: "worst", metric: "latency" } as const;
const mapped = (targets: OverviewTargetOut[]): Map<string, OverviewTargetOut> => new Map(targets.map((one) => [keyOf(one), one]));
const ids = (targets: OverviewTargetOut[], changes: object): number[] => {
  const held = mapped(targets);
  return listed(held, { ...choice, ...changes }).map((key) => held.get(key)?.id ?? 0);
};

test("a value goes into the newest stretch of the picture, or begins the next", () => {
  const same = withValue(target(1), 2500, 5, [3], 1000, 1);
  expect([same.low.at(-1), same.middle.at(-1), same.high.at(-1)]).toEqual([3, 4, 5]);
  expect(same.times_ms).toEqual([0, 1000, 2000]);

  const next = withValue(target(1), 4200, 5, [], 1000, 1);
  expect(next.times_ms).toEqual([0, 1000, 2000, 3000, 4000]);
  expect(next.middle).toEqual([1, null, 3, null, 5]);
});

test("a picture is as long as its span, and a failed request leaves no value in it", () => {
  const hours = 2 / 3600; // two seconds
  expect(withValue(target(1), 3500, 5, [], 1000, hours).times_ms).toEqual([1000, 2000, 3000]);
  expect(withValue(target(1), 3500, null, [], 1000, hours).middle).toEqual([null, 3, null]);
  expect(withValue(target(1), 500, 9, [], 1000, 1)).toEqual(target(1));
});

test("a live value changes the last one, its distance and the picture; one of another series changes nothing", () => {
  const targets = new Targets();
  targets.open("latency", 1);
  targets.close();
  targets.load([target(1), target(2)], 1000);
  targets.observation(point({ verdicts: { latency: { z: 2.5, rules: [] } } }));

  const [first, second] = [...targets.all.values()];
  expect([first?.last, first?.last_z, first?.middle.at(-1)]).toEqual([5, 2.5, 4]);
  expect(second).toEqual(target(2));
});

test("a failed request is told at once, and the next good one takes it back", () => {
  const failed = afterPoint(target(1), point({ ok: false, error_kind: "refused" }));
  expect(failed.standing).toBe("failing");
  expect(failed.since).toBe("2026-03-01T12:00:00Z");
  expect(afterPoint(failed, point()).standing).toBe("in_control");
  expect(afterPoint({ ...failed, open_incidents: 1 }, point()).standing).toBe("out");
});

test("what is not judged stays so until it has limits", () => {
  expect(restanding(target(1, { standing: "not_judged", centre: null })).standing).toBe("not_judged");
  expect(restanding(target(1, { status: { ...status, state: "stale" } })).standing).toBe("stale");
});

test("the worst come first, then by name; the slowest of a rate is the least", () => {
  const all = [target(1), target(2, { standing: "stale", last: 3 }), target(3, { standing: "out", last: 2 }), target(4, { open_marks: 1, last: null })];
  expect(ids(all, {})).toEqual([3, 2, 4, 1]);
  expect(ids(all, { order: "name" })).toEqual([1, 2, 3, 4]);
  expect(ids(all, { order: "slowest" })).toEqual([2, 3, 1, 4]);
  expect(ids(all, { order: "slowest", metric: "tokens_per_second" })).toEqual([1, 3, 2, 4]);
  expect(ids(all, { standings: new Set(["out", "stale"]) })).toEqual([3, 2]);
  expect(ids(all, { search: "M4" })).toEqual([4]);
  expect(countsOf(all).get("in_control")).toBe(2);
});

test("cards keep their places until they are sorted again; new ones come last", () => {
  expect(keptInPlace(["b", "a", "c"], ["a", "b", "d"])).toEqual(["b", "a", "d"]);
});

test("a standing is told in words", () => {
  const since = "2026-03-01T12:37:04Z";
  expect(standingText(target(1, { standing: "out", since }), Date.parse(since))).toMatch(/^Out of control since \d\d:37$/);
  expect(standingText(target(1, { standing: "learning", status: { ...status, learn_left_s: 780 } }))).toBe("Learning, 13 min left");
  expect(standingText(target(1))).toBe("In control");
});
