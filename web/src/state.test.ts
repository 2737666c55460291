import { expect, test } from "vitest";
import type { FailuresOut, IncidentOut, LiveObservationOut, SeriesOut, SpcOut, StatusOut, ViolationOut } from "./api/schema";
import { admitted, emptyState, mostRecent, reduce, searchOf, upsert, viewOf, withIncident, withPoint, withRequest, type State } from "./state";

const violation = (id: number, more: Partial<ViolationOut> = {}): ViolationOut =>
  ({ id, chart: "points", rule: "R1", severity: "critical", first_signal: `2026-01-01T00:00:${10 + id}Z`, ...more }) as ViolationOut;
const series = (model: string, more: Partial<SeriesOut> = {}): SeriesOut =>
  ({
    provider: "ollama",
    model,
    server: "",
    source: "probe",
    metric: "latency",
    last: "2026-01-01T00:00:00Z",
    status: { state: "live" },
    ...more,
  }) as SeriesOut;

test("a violation that grows replaces itself; the newest is first", () => {
  const held = [violation(2), violation(1)];

  expect(upsert(held, violation(1, { count: 5 })).map((v) => [v.id, v.count])).toEqual([[2, undefined], [1, 5]]);
  expect(upsert(held, violation(3)).map((v) => v.id)).toEqual([3, 2, 1]);
});

test("filters by rule are any of the pressed, and the severity comes on top", () => {
  const held = [violation(3, { rule: "R3", severity: "warning" }), violation(2), violation(1, { rule: "R2", severity: "warning" })];

  expect(admitted(held, ["R1", "R3"], "warning").map((v) => v.id)).toEqual([3]);
});

test("a link shows the same view", () => {
  const search = "?provider=ollama&model=llama3&server=a:1&hours=24&rules=R1&severity=critical&violation=7";

  expect(searchOf(viewOf(search))).toBe(search);
  expect(searchOf(viewOf(""))).toBe("");
  expect(viewOf("?hours=-7&violation=x&severity=odd")).toMatchObject({ range: { hours: 1 }, open: null, severity: "all" });
  const past = "?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&zoom=2026-01-01T01:00:00Z/2026-01-01T02:00:00.500Z&standing=open&models=all&search=ann+b";
  expect(searchOf(viewOf(past))).toBe(past);
});

test("a real and live series is shown before a simulated or a stale one", () => {
  const simulated = series("sim", { source: "simulator", last: "2026-01-02T00:00:00Z" });
  const stale = series("old", { last: "2026-01-03T00:00:00Z", status: { state: "stale" } as StatusOut });

  expect(mostRecent([simulated, stale, series("real")])?.model).toBe("real");
  expect(mostRecent([stale, simulated])?.model).toBe("sim");
  expect(mostRecent([])).toBeNull();
});

test("a failed probe turns the status at once, and a good one back", () => {
  const status = { state: "live", learned: 150, learn_n: null, learn_left_s: null, interval_s: 2, failed_in_row: 0 } as StatusOut;
  const failed = { ok: false, error_kind: "refused", error: "no", timestamp: "t" } as LiveObservationOut;
  const good = { ok: true, timestamp: "u" } as LiveObservationOut;
  let state: State = { ...emptyState(viewOf("")), status };

  state = reduce(reduce(state, { type: "observations", observations: [failed] }), { type: "observations", observations: [failed] });
  expect(state.status).toMatchObject({ state: "failing", failed_in_row: 2, error_kind: "refused", since: "t" });
  state = reduce(state, { type: "observations", observations: [good] });
  expect(state.status).toMatchObject({ state: "live", failed_in_row: 0, error_kind: null });
});

test("points that come while paused are counted", () => {
  const good = { ok: true, timestamp: "u" } as LiveObservationOut;
  let state = reduce(emptyState(viewOf("")), { type: "pause", paused: true });
  state = reduce(state, { type: "observations", observations: [good] });

  expect(state.missed).toBe(1);
  expect(reduce(state, { type: "pause", paused: false }).missed).toBe(0);
});

test("an incident replaces itself, and goes when it is superseded", () => {
  const incident = (id: number, more: Partial<IncidentOut> = {}): IncidentOut =>
    ({ id, opened: `2026-01-01T00:0${id}:00Z`, state: "open", superseded: false, ...more }) as IncidentOut;
  const held = [incident(2), incident(1)];

  expect(withIncident(held, incident(1, { state: "recovered" })).map((i) => [i.id, i.state])).toEqual([
    [2, "open"],
    [1, "recovered"],
  ]);
  expect(withIncident(held, incident(2, { superseded: true })).map((i) => i.id)).toEqual([1]);
  expect(withIncident(held, incident(3)).map((i) => i.id)).toEqual([3, 2, 1]);
});

test("a live point adds the half minute that it completes to the chart of its metric", () => {
  const failures = { times_ms: [], seen: [], failed: [], ucl: [], centre: null };
  const spc = { cold_ids: [4], failures, buckets: { times_ms: [1], levels: [2], scores: [0.5], rules: {} } } as unknown as SpcOut;
  const point = {
    id: 9,
    cold: true,
    buckets: { latency: { time_ms: 30_001, level: 3, score: 3.2, rules: ["R1"] } },
  } as unknown as LiveObservationOut;
  const after = withPoint(spc, "latency", point);

  expect(after.buckets).toEqual({ times_ms: [1, 30_001], levels: [2, 3], scores: [0.5, 3.2], rules: { "1": ["R1"] } });
  expect(after.cold_ids).toEqual([4, 9]);
  expect(withPoint(spc, "ttft", { ...point, cold: false }).buckets).toBe(spc.buckets);
});

test("requests are counted in their half minute, failures apart", () => {
  const point = (seconds: number, ok: boolean): LiveObservationOut => ({ time_ms: seconds * 1000, ok }) as LiveObservationOut;
  let failures: FailuresOut = { times_ms: [30_000], seen: [14], failed: [0], centre: 0.01, ucl: [0.2] };
  for (const [seconds, ok] of [[58, true], [59, false], [61, false], [62, true], [5, true]] as const) failures = withRequest(failures, point(seconds, ok));

  expect(failures).toMatchObject({ times_ms: [30_000, 60_000], seen: [16, 2], failed: [1, 1], ucl: [0.2, 0.2] });
});
