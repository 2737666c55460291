// Everything the page shows but the points themselves: one state, one reducer.

import type { SeriesName } from "./api/client";
import { sameSeries } from "./api/client";
import type {
  AboutOut,
  FailuresOut,
  HistoryOut,
  IncidentOut,
  LimitsEventOut,
  LiveObservationOut,
  NumbersOut,
  RollupOut,
  SeriesOut,
  SpcOut,
  StatusOut,
  SystemOut,
  ViolationOut,
  WindowOut,
} from "./api/schema";

export const SYSTEM_KEPT = 150; // readings, one every 2 s: five minutes
export const LIVE_HOURS = 24; // windows up to this long come point by point; longer ones from rollups

/** A span of time that is shown: the last hours, or from one moment to another, both in ms since 1970. */
export type Range = { readonly hours: number } | { readonly from: number; readonly to: number };

/** A span of time in seconds since 1970. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** Which marks the log lists beside rule and severity. */
export type Standing = "all" | "open" | "ended" | "unseen" | "seen";

export interface View {
  screen: "series" | "overview";
  series: SeriesName | null;
  metric: string;
  range: Range;
  zoom: readonly [number, number] | null; // a part of the range, ms since 1970
  chart: "points" | "buckets"; // which chart is drawn, and whose marks the log lists
  rules: readonly string[]; // none pressed is all
  severity: "all" | "critical" | "warning";
  standing: Standing;
  models: "this" | "all"; // whose marks the log lists
  search: string;
  open: number | null; // the violation in the dialog
}

/** The metric that the API is asked for: failures are told with every metric. */
export const judgedMetric = (metric: string): string => (metric === "failures" ? "latency" : metric);

/** How long a range is, in hours. */
export function hoursOf(range: Range): number {
  return "hours" in range ? range.hours : (range.to - range.from) / 3_600_000;
}

/** Whether a range runs with the clock, point by point. */
export function isLive(range: Range): range is { hours: number } {
  return "hours" in range && range.hours <= LIVE_HOURS;
}

export type Connection = { kind: "connecting" } | { kind: "live" } | { kind: "retrying"; at: number };

export interface State {
  view: View;
  about: AboutOut | null;
  series: readonly SeriesOut[] | null; // one entry a metric; null until it was asked for
  targets: readonly SeriesOut[]; // one entry a target
  spc: SpcOut | null;
  rollup: RollupOut | null; // what is drawn instead of points
  span: Span | null; // all of a range that does not run with the clock
  status: StatusOut | null;
  violations: readonly ViolationOut[]; // of the range, newest first; of a long one the furthest out
  total: number; // all violations of the range
  latest: LiveObservationOut | null;
  system: readonly SystemOut[];
  connection: Connection;
  loading: boolean;
  error: string | null;
  paused: boolean;
  missed: number; // points that came while paused
}

export const emptyState = (view: View): State => ({
  view,
  about: null,
  series: null,
  targets: [],
  spc: null,
  rollup: null,
  span: null,
  status: null,
  violations: [],
  total: 0,
  latest: null,
  system: [],
  connection: { kind: "connecting" },
  loading: true,
  error: null,
  paused: false,
  missed: 0,
});

export type Action =
  | { type: "about"; about: AboutOut }
  | { type: "series"; series: readonly SeriesOut[] }
  | { type: "choose"; series: SeriesName; open?: number }
  | { type: "view"; view: Partial<View> }
  | { type: "window"; window: WindowOut }
  | { type: "delta"; window: WindowOut }
  | { type: "history"; history: HistoryOut; whole: Span }
  | { type: "numbers"; numbers: NumbersOut }
  | { type: "observations"; observations: readonly LiveObservationOut[] }
  | { type: "violation"; violation: ViolationOut }
  | { type: "incident"; incident: IncidentOut }
  | { type: "limits"; limits: LimitsEventOut }
  | { type: "status"; status: StatusOut }
  | { type: "system"; system: SystemOut }
  | { type: "connection"; connection: Connection }
  | { type: "failed"; error: string }
  | { type: "pause"; paused: boolean };

/** The next state; pure. */
export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case "about":
      return { ...state, about: action.about };
    case "series":
      return { ...state, series: action.series, targets: targetsOf(action.series, state.targets), loading: action.series.length > 0 && state.loading, error: null };
    case "choose":
      if (state.view.series && sameSeries(state.view.series, action.series)) {
        return action.open === undefined ? state : { ...state, view: { ...state.view, open: action.open } };
      }
      if (state.view.series === null) return { ...state, view: { ...state.view, series: action.series } }; // as the address asked
      return { ...forget(state), view: { ...state.view, series: action.series, zoom: null, open: action.open ?? null } };
    case "view": {
      const view = { ...state.view, ...action.view };
      const reload = view.metric !== state.view.metric || view.range !== state.view.range;
      if (reload && action.view.zoom === undefined) view.zoom = null;
      return { ...(reload ? forget(state) : state), view };
    }
    case "window":
      return {
        ...state,
        spc: action.window.spc,
        status: action.window.status,
        rollup: null,
        span: null,
        violations: newestFirst(action.window.violations),
        total: action.window.violations.length,
        loading: false,
        error: null,
      };
    case "history": {
      const { spc, rollup, status, violations, violations_total: total } = action.history;
      return { ...state, spc, rollup, span: action.whole, status, violations: newestFirst(violations), total, loading: false, error: null };
    }
    case "delta":
      return {
        ...state,
        spc: action.window.spc && state.spc ? { ...action.window.spc, ...onlyInWindows(state.spc) } : state.spc,
        status: action.window.status,
        violations: action.window.violations.reduce(upsert, state.violations),
      };
    case "numbers":
      return withNumbers(state, action.numbers);
    case "observations":
      return action.observations.reduce(withObservation, state);
    case "violation": {
      const { series, metric } = state.view;
      if ((series && !sameSeries(series, action.violation)) || judgedMetric(metric) !== action.violation.metric) return state;
      const violations = upsert(state.violations, action.violation);
      return { ...state, violations, total: state.total + violations.length - state.violations.length };
    }
    case "incident":
      return { ...state, spc: state.spc && { ...state.spc, incidents: withIncident(state.spc.incidents, action.incident) } };
    case "limits":
      return { ...state, spc: withLimits(state.spc, action.limits) };
    case "status":
      return { ...state, status: action.status };
    case "system":
      return { ...state, system: [...state.system, action.system].slice(-SYSTEM_KEPT) };
    case "connection":
      return { ...state, connection: action.connection };
    case "failed":
      return { ...state, error: action.error, loading: false };
    case "pause":
      return { ...state, paused: action.paused, missed: 0 };
  }
}

function forget(state: State): State {
  const nothing = { spc: null, rollup: null, span: null, status: null, violations: [], total: 0, latest: null };
  return { ...state, ...nothing, loading: true, missed: 0 };
}

function withObservation(state: State, observation: LiveObservationOut): State {
  const live = isLive(state.view.range);
  return {
    ...state,
    latest: observation,
    missed: state.paused ? state.missed + 1 : state.missed,
    status: state.status && afterPoint(state.status, observation),
    spc: state.spc && live ? withPoint(state.spc, state.view.metric, observation) : state.spc,
  };
}

/** The statistics of the window, which only the server computes. */
function withNumbers(state: State, numbers: NumbersOut): State {
  const { n, mean, std, p95, learned_n, alarms_in_s, locks_in_s, marks, status } = numbers;
  const { spc } = state;
  if (spc === null) return { ...state, status };
  return { ...state, status, spc: { ...spc, n, mean, std, p95, learned_n, alarms_in_s, locks_in_s, marks } };
}

/** Add a violation, or replace the one of that id; newest first. */
export function upsert(held: readonly ViolationOut[], violation: ViolationOut): readonly ViolationOut[] {
  const at = held.findIndex((v) => v.id === violation.id);
  if (at >= 0) return held.with(at, violation);
  return newestFirst([violation, ...held]);
}

function newestFirst(violations: readonly ViolationOut[]): readonly ViolationOut[] {
  return violations.toSorted((a, b) => b.first_signal.localeCompare(a.first_signal) || b.id - a.id);
}

/** What only a whole window tells; a limits event and a delta leave it as it is. */
function onlyInWindows(spc: SpcOut): Omit<SpcOut, keyof LimitsEventOut["spc"]> {
  const { series_id, buckets, marks, phases, incidents, level_marks, exclusions, annotations, cold_ids, failures } = spc;
  const { n, mean, std, p95 } = spc;
  const found = { series_id, buckets, marks, phases, incidents, level_marks, exclusions, annotations, cold_ids, failures };
  return Object.assign(found, { n, mean, std, p95 });
}

/** Add an incident, or replace the one of that id; one that is superseded goes. Newest first. */
export function withIncident(held: readonly IncidentOut[], incident: IncidentOut): IncidentOut[] {
  const others = held.filter((one) => one.id !== incident.id);
  if (incident.superseded) return others;
  return [incident, ...others].toSorted((a, b) => b.opened.localeCompare(a.opened));
}

const BUCKETS_KEPT = 2880; // a day of half minutes

/** What a live point adds to the half-minute chart, and to the cold starts. */
export function withPoint(spc: SpcOut, metric: string, point: LiveObservationOut): SpcOut {
  const bucket = point.buckets[metric] as { time_ms: number; level: number; score: number | null; rules: string[] } | undefined;
  const cold_ids = point.cold ? [...spc.cold_ids, point.id] : spc.cold_ids;
  const failures = withRequest(spc.failures, point);
  if (!bucket) return { ...spc, cold_ids, failures };
  const { buckets } = spc;
  const drop = Math.max(0, buckets.times_ms.length + 1 - BUCKETS_KEPT);
  const rules: Record<string, string[]> = {};
  for (const [at, broken] of Object.entries(buckets.rules)) if (Number(at) >= drop) rules[Number(at) - drop] = broken;
  if (bucket.rules.length) rules[buckets.times_ms.length - drop] = bucket.rules;
  return {
    ...spc,
    cold_ids,
    failures,
    buckets: {
      times_ms: [...buckets.times_ms.slice(drop), bucket.time_ms],
      levels: [...buckets.levels.slice(drop), bucket.level],
      scores: [...buckets.scores.slice(drop), bucket.score],
      rules,
    },
  };
}

const SLOT_MS = 30_000;

/** Count a request in its half minute; the limit of a new one is that of the one before until the server says more. */
export function withRequest(held: FailuresOut, point: LiveObservationOut): FailuresOut {
  const slot = Math.floor(point.time_ms / SLOT_MS) * SLOT_MS;
  const at = held.times_ms.lastIndexOf(slot);
  if (at < 0) {
    if (slot < (held.times_ms.at(-1) ?? 0)) return held;
    return {
      ...held,
      times_ms: [...held.times_ms, slot],
      seen: [...held.seen, 1],
      failed: [...held.failed, point.ok ? 0 : 1],
      ucl: [...held.ucl, held.ucl.at(-1) ?? 1],
    };
  }
  const seen = held.seen.with(at, (held.seen[at] ?? 0) + 1);
  return { ...held, seen, failed: point.ok ? held.failed : held.failed.with(at, (held.failed[at] ?? 0) + 1) };
}

/** New limits keep the versions that were in force before them. */
function withLimits(spc: SpcOut | null, event: LimitsEventOut): SpcOut | null {
  if (spc === null) return null;
  const known = new Set(spc.limits.map((version) => version.from));
  const versions = [...spc.limits, ...event.spc.limits.filter((version) => !known.has(version.from))];
  return { ...event.spc, ...onlyInWindows(spc), limits: versions };
}

/** What a point tells about the status before the server does. */
function afterPoint(status: StatusOut, point: LiveObservationOut): StatusOut {
  const learned = point.ok ? status.learned + 1 : status.learned;
  const common = { ...status, last: point.timestamp, age_s: 0, learned };
  if (point.ok) {
    const left = status.learn_left_s === null ? null : Math.max(0, status.learn_left_s - (status.interval_s ?? 0));
    const state = left === null ? "live" : "learning";
    return { ...common, state, failed_in_row: 0, error: null, error_kind: null, learn_left_s: left };
  }
  return {
    ...common,
    state: "failing",
    since: status.failed_in_row ? status.since : point.timestamp,
    failed_in_row: status.failed_in_row + 1,
    error_kind: point.error_kind,
    error: point.error,
  };
}

/** The violations that the filters by rule and severity admit: what the chart marks. */
export function admitted(violations: readonly ViolationOut[], rules: readonly string[], severity: View["severity"]): readonly ViolationOut[] {
  if (rules.length === 0 && severity === "all") return violations;
  return violations.filter((v) => (rules.length === 0 || rules.includes(v.rule)) && (severity === "all" || v.severity === severity));
}

/** What is promised of a metric, in the unit of the chart. */
export function sloOf(about: AboutOut | null, model: string | undefined, metric: string): number | null {
  const said = (about?.slo ?? []).filter((slo) => slo.metric === metric);
  return (said.find((slo) => slo.model === model) ?? said.find((slo) => slo.model === null))?.value ?? null;
}

/** The targets among series of all metrics; the same list while they are the same. */
function targetsOf(series: readonly SeriesOut[], before: readonly SeriesOut[]): readonly SeriesOut[] {
  const targets = [...new Map(series.map((one) => [one.id, one])).values()];
  return targets.length === before.length && targets.every((one, i) => one.id === before[i]?.id) ? before : targets;
}

/** The series to show first: the one with the newest observation, a real one before a simulated one. */
export function mostRecent(series: readonly SeriesOut[]): SeriesOut | null {
  const live = (s: SeriesOut): number => (s.status.state === "stale" || s.status.state === "empty" ? 0 : 1);
  const real = (s: SeriesOut): number => (s.source === "simulator" ? 0 : 1);
  const sorted = series.toSorted(
    (a, b) => live(b) - live(a) || real(b) - real(a) || (b.last ?? "").localeCompare(a.last ?? ""),
  );
  return sorted[0] ?? null;
}

// -- the view in the address, so that a link shows the same

const one = <T extends string>(text: string | null, of: readonly T[]): T => of.find((name) => name === text) ?? (of[0] as T);
const moment = (text: string | null): number | null => {
  const at = text === null ? NaN : Date.parse(text);
  return Number.isNaN(at) ? null : at;
};
const momentText = (ms: number): string => new Date(ms).toISOString().replace(/\.000Z$/, "Z");

/** The view that an address describes. */
export function viewOf(search: string): View {
  const query = new URLSearchParams(search);
  const provider = query.get("provider");
  const model = query.get("model");
  const from = moment(query.get("from"));
  const to = moment(query.get("to"));
  const hours = Number(query.get("hours"));
  const zoom = query.get("zoom")?.split("/") ?? [];
  const zoomFrom = moment(zoom[0] ?? null);
  const zoomTo = moment(zoom[1] ?? null);
  return {
    screen: one(query.get("screen"), ["series", "overview"]),
    series:
      provider && model
        ? { provider, model, server: query.get("server") ?? "", source: query.get("source") ?? "probe" }
        : null,
    metric: query.get("metric") ?? "latency",
    range: from !== null && to !== null && to > from ? { from, to } : { hours: hours > 0 && hours <= 100_000 ? hours : 1 },
    zoom: zoomFrom !== null && zoomTo !== null && zoomTo > zoomFrom ? [zoomFrom, zoomTo] : null,
    chart: one(query.get("chart"), ["points", "buckets"]),
    rules: query.get("rules")?.split(",").filter(Boolean) ?? [],
    severity: one(query.get("severity"), ["all", "critical", "warning"]),
    standing: one(query.get("standing"), ["all", "open", "ended", "unseen", "seen"]),
    models: one(query.get("models"), ["this", "all"]),
    search: query.get("search") ?? "",
    open: Number(query.get("violation")) || null,
  };
}

/** The address of a view, the shortest that says it. */
export function searchOf(view: View): string {
  const query = new URLSearchParams();
  if (view.screen !== "series") query.set("screen", view.screen);
  if (view.series) {
    query.set("provider", view.series.provider);
    query.set("model", view.series.model);
    if (view.series.server) query.set("server", view.series.server);
    if (view.series.source !== "probe") query.set("source", view.series.source);
  }
  if (view.metric !== "latency") query.set("metric", view.metric);
  if (!("hours" in view.range)) {
    query.set("from", momentText(view.range.from));
    query.set("to", momentText(view.range.to));
  } else if (view.range.hours !== 1) query.set("hours", String(view.range.hours));
  if (view.zoom) query.set("zoom", view.zoom.map(momentText).join("/"));
  if (view.chart !== "points") query.set("chart", view.chart);
  if (view.rules.length) query.set("rules", view.rules.join(","));
  if (view.severity !== "all") query.set("severity", view.severity);
  if (view.standing !== "all") query.set("standing", view.standing);
  if (view.models !== "this") query.set("models", view.models);
  if (view.search) query.set("search", view.search);
  if (view.open !== null) query.set("violation", String(view.open));
  const text = query.toString().replaceAll("%3A", ":").replaceAll("%2F", "/").replaceAll("%2C", ",");
  return text ? `?${text}` : "";
}
