import { expect, test } from "vitest";
import type { LimitsVersionOut, RollupOut, SpcOut, ViolationOut } from "../api/schema";
import { Points } from "../points";
import { cluster, marksOf, type Mark } from "./marks";
import { valueTicks } from "./options";
import { flagsOf, pictureOf, spansOf, type Inputs } from "./picture";
import { Summary, envelopeOf, stepFor } from "./summary";

const at = (seconds: number): string => new Date(seconds * 1000).toISOString();
const limits = (from: number, centre = 1): LimitsVersionOut => ({
  from: at(from),
  state: "locked",
  phase: 1,
  centre,
  sigma: 0.1,
  ucl: centre + 0.3,
  lcl: centre - 0.3,
  zones: [-3, -2, -1, 0, 1, 2, 3].map((k) => centre + k / 10),
  n: 150,
});
const spc = (more: Partial<SpcOut> = {}): SpcOut =>
  ({
    limits: [limits(0)],
    scale: "linear",
    centre: 1,
    phases: [],
    incidents: [],
    exclusions: [],
    annotations: [],
    cold_ids: [],
    buckets: { times_ms: [], levels: [], scores: [], rules: {} },
    failures: { times_ms: [], seen: [], failed: [], centre: null, ucl: [] },
    ...more,
  }) as SpcOut;
const violation = (id: number, more: Partial<ViolationOut> = {}): ViolationOut =>
  ({
    id,
    chart: "points",
    severity: "warning",
    rule: "R2",
    peak_id: id,
    peak_value: 5,
    peak_z: 4,
    pattern_start: at(4),
    first_signal: at(9),
    last_signal: at(9),
    ...more,
  }) as ViolationOut;

function filled(n: number, value: (i: number) => number | null, step = 2): Points {
  const points = new Points();
  const ids = Array.from({ length: n }, (_, i) => i + 1);
  points.load({ ids, times_ms: ids.map((_, i) => i * step * 1000), values: ids.map((_, i) => value(i)), oks: ids.map((_, i) => (value(i) === null ? 0 : 1)) });
  return points;
}

const inputs = (points: Points, more: Partial<Inputs> = {}): Inputs => ({
  kind: "points",
  points,
  rollup: null,
  summary: (from, to) => new Summary(points, stepFor(to - from)),
  spc: spc(),
  marks: [],
  metric: "latency",
  fit: "limits",
  log: false,
  slo: null,
  selected: null,
  from: 0,
  to: 100,
  now: 100,
  width: 1000,
  ...more,
});

test("a day in stretches keeps the extremes, and its median is not moved by them", () => {
  const n = 43_200;
  const points = filled(n, (i) => (i === 20_000 ? null : i === 12_345 ? 99 : 1 + (i % 7) / 100));
  const { low, middle, high, times } = new Summary(points, stepFor(2 * n)).of(0, 2 * n);

  expect(Math.max(...high.map((v) => v ?? 0))).toBe(99);
  expect(Math.min(...low.map((v) => v ?? 9))).toBe(1);
  expect(middle.filter((v) => v !== null).every((v) => v < 2)).toBe(true);
  expect(times.length).toBeLessThanOrEqual(482);
});

test("a new point, and a late one, change only what is computed anew, and nothing is stale", () => {
  const points = filled(1000, (i) => i);
  const kept = new Summary(points, 30);
  kept.of(0, 2200);
  const live = (id: number, ms: number) => ({ id, time_ms: ms, ok: true, eval_count: 1 }) as never;
  for (let i = 0; i < 40; i++) {
    points.add(live(1001 + i, 2_000_000 + i * 2000), 5 + i);
    if (i % 7 === 0) points.add(live(5000 + i, 30_000 + i * 1000), 777);
    expect(kept.of(0, 2200)).toEqual(new Summary(points, 30).of(0, 2200));
  }
});

test("few points are drawn one by one, many as an envelope, a long span as the server gave it", () => {
  const few = pictureOf(inputs(filled(50, () => 1)));
  expect(few.detail).toBe("points");
  expect(few.columns[1]?.length).toBe(50);
  expect(pictureOf(inputs(filled(5000, () => 1), { to: 10_000 })).detail).toBe("stretches");
  const rollup: RollupOut = {
    step_s: 3600,
    times_ms: [0, 3_600_000],
    seen: [10, 10],
    failed: [0, 10],
    mean: [1, null],
    min: [0.5, null],
    p5: [0.6, null],
    median: [1, null],
    p95: [2, null],
    max: [3, null],
  };
  const long = pictureOf(inputs(new Points(), { rollup, to: 7200 }));
  expect(long.detail).toBe("stretches");
  expect(Array.from(long.stops)).toEqual(envelopeOf(rollup).times);
  expect(long.read(0).rows).toContainEqual(["Lowest to highest", "0.50 to 3.00 s"]);
  expect(long.read(1).value).toBe("nothing measured");
});

test("the half minutes break at a gap, and what lies beyond the edge is read in full", () => {
  const buckets = { times_ms: [0, 30_000, 60_000, 300_000], levels: [1, 2, 1, 1], scores: [0, 9, null, -1], rules: { "1": ["R1", "R5"] } };
  const shown = pictureOf(inputs(new Points(), { kind: "buckets", spc: spc({ buckets }), to: 400 }));

  expect(shown.columns[2]).toEqual([0, 9, null, null, -1]);
  expect(shown.y).toEqual([-5.6, 5.6]);
  expect(shown.read(1).value).toBe("+9.0 σ");
  expect(shown.read(1).rows).toContainEqual(["Rules", "R1, R5"]);
  expect(pictureOf(inputs(new Points(), { kind: "buckets", fit: "all", spc: spc({ buckets }), to: 400 })).y[1]).toBeGreaterThan(9);
});

test("failures are shares with a limit each", () => {
  const failures = { times_ms: [0, 30_000, 60_000], seen: [15, 15, 10], failed: [0, 1, 5], centre: 0.02, ucl: [0.1, 0.1, 0.15] };
  const { scene, read } = pictureOf(inputs(new Points(), { kind: "failures", spc: spc({ failures }), to: 90 }));

  expect(scene.bars.map((bar) => Math.round(bar.value))).toEqual([0, 7, 50]);
  expect(scene.bars.map((bar) => bar.limit)).toEqual([10, 10, 15]);
  expect(read(2).rows).toContainEqual(["Failed", "5 of 10"]);
});

test("a failed point is read as failed and never as zero; a cold start says so", () => {
  const shown = pictureOf(inputs(filled(5, (i) => (i === 1 ? null : 1.05)), { spc: spc({ cold_ids: [3], limits: [limits(-10)] }) }));

  expect(shown.read(1).value).toBe("failed, or not told");
  expect(shown.read(0).rows).toContainEqual(["From centre line", "+0.5 σ"]);
  expect(shown.read(2).rows).toContainEqual(["Cold start", "model loaded"]);
});

test("a mark stands at its worst point when that is here, else where it was signalled", () => {
  const points = new Points();
  points.load({ ids: [11, 12], times_ms: [8000, 10_000], values: [1, 5] });

  expect(marksOf([violation(12)], "points", points)).toMatchObject([{ time: 10, value: 5, start: 4, end: 9 }]);
  expect(marksOf([violation(99)], "points", points)).toMatchObject([{ time: 9 }]);
  expect(marksOf([violation(12), violation(13, { chart: "buckets" })], "buckets", points)).toMatchObject([{ time: 9, value: 4 }]);
});

test("many marks are gathered by column, the worst in front; the chosen one stays by itself", () => {
  const marks: Mark[] = Array.from({ length: 200 }, (_, i) => ({
    violation: violation(i, { peak_z: i, severity: i === 7 ? "critical" : "warning" }),
    time: i,
    value: 1,
    start: i,
    end: i,
  }));
  const gathered = cluster(marks, (time) => time, 50);

  expect(gathered).toHaveLength(10);
  expect(gathered.reduce((sum, one) => sum + one.count, 0)).toBe(200);
  expect(gathered[0]?.worst.violation.id).toBe(7);
  expect(gathered.at(-1)).toMatchObject({ count: 1, worst: { violation: { id: 50 } } });
  expect(cluster(marks.slice(0, 60), (time) => time, null)).toHaveLength(60);
});

test("phases have a flag with their cause from the second on, and notes theirs; incidents are spans of their metrics", () => {
  const phase = (number: number, cause: string) => ({ metric: "latency", number, start: at(10 * number), cause }) as never;
  const found = flagsOf({ phases: [phase(1, "first"), phase(2, "num_ctx 2048")], annotations: [{ id: 1, time: at(5), text: "backup" } as never] }, "latency", 0, 100);
  expect(found.map((flag) => flag.label)).toEqual(["backup", "P2  num_ctx 2048"]);

  const incident = { metrics: ["latency"], change: at(20), closed: null, state: "open", headline: "slow" } as never;
  const spans = spansOf({ incidents: [incident], exclusions: [] }, "latency", 0, 100, 90);
  expect(spans).toMatchObject([{ from: 20, to: 90, open: true }]);
  expect(spansOf({ incidents: [incident], exclusions: [] }, "ttft", 0, 100, 90)).toEqual([]);
});

test("a logarithmic axis never begins at zero", () => {
  const wide = spc({ limits: [{ ...limits(0), lcl: -0.5, zones: [-0.5, 0, 0.5, 1, 1.5, 2, 2.5] }] });
  const [low] = pictureOf(inputs(filled(5, () => 1), { log: true, spc: wide })).y;

  expect(low).toBeGreaterThan(0);
});

test("ticks have the digits that tell them apart, and no more", () => {
  expect(valueTicks([0.4, 0.425, 0.45], "s", false)).toEqual(["0.400 s", "0.425 s", "0.450 s"]);
  expect(valueTicks([1.4, 1.6], "s", false)).toEqual(["1.4 s", "1.6 s"]);
  expect(valueTicks([-2, 0, 2], "σ", false)).toEqual(["−2 σ", "0 σ", "2 σ"]);
  expect(valueTicks([0.1, 1, null], "s", true)).toEqual(["0.1 s", "1 s", null]);
});
