// Everything the page shows but the points themselves: one state, one reducer.

import type { SeriesName } from "./api/client";
import { sameSeries } from "./api/client";
import type {
  AboutOut,
  LimitsEventOut,
  LiveObservationOut,
  SeriesOut,
  SpcOut,
  StatusOut,
  SystemOut,
  ViolationOut,
  WindowOut,
} from "./api/schema";

export type Hours = 1 | 6 | 24;
export const SYSTEM_KEPT = 150; // readings, one every 2 s: five minutes

export interface View {
  series: SeriesName | null;
  metric: string;
  hours: Hours;
  rules: readonly string[]; // none pressed is all
  severity: "all" | "critical" | "warning";
  open: number | null; // the violation in the dialog
}

export type Connection = { kind: "connecting" } | { kind: "live" } | { kind: "retrying"; at: number };

export interface State {
  view: View;
  about: AboutOut | null;
  series: readonly SeriesOut[] | null; // null until it was asked for
  spc: SpcOut | null;
  status: StatusOut | null;
  violations: readonly ViolationOut[]; // newest first
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
  spc: null,
  status: null,
  violations: [],
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
  | { type: "choose"; series: SeriesName }
  | { type: "view"; view: Partial<View> }
  | { type: "window"; window: WindowOut }
  | { type: "delta"; window: WindowOut }
  | { type: "numbers"; window: WindowOut }
  | { type: "observation"; observation: LiveObservationOut }
  | { type: "violation"; violation: ViolationOut }
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
      return { ...state, series: action.series, loading: action.series.length > 0 && state.loading, error: null };
    case "choose":
      if (state.view.series && sameSeries(state.view.series, action.series)) return state;
      return { ...forget(state), view: { ...state.view, series: action.series, open: null } };
    case "view": {
      const view = { ...state.view, ...action.view };
      const reload = view.metric !== state.view.metric || view.hours !== state.view.hours;
      return { ...(reload ? forget(state) : state), view };
    }
    case "window":
      return {
        ...state,
        spc: action.window.spc,
        status: action.window.status,
        violations: newestFirst(action.window.violations),
        loading: false,
        error: null,
      };
    case "delta":
      return {
        ...state,
        spc: action.window.spc && state.spc ? { ...action.window.spc, ...windowNumbers(state.spc) } : state.spc,
        status: action.window.status,
        violations: action.window.violations.reduce(upsert, state.violations),
      };
    case "numbers":
      return { ...state, spc: action.window.spc, status: action.window.status };
    case "observation":
      return {
        ...state,
        latest: action.observation,
        missed: state.paused ? state.missed + 1 : state.missed,
        status: state.status && afterPoint(state.status, action.observation),
      };
    case "violation":
      return { ...state, violations: upsert(state.violations, action.violation) };
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
  return { ...state, spc: null, status: null, violations: [], latest: null, loading: true, missed: 0 };
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

const windowNumbers = (spc: SpcOut): Pick<SpcOut, "n" | "mean" | "std" | "p95"> => ({
  n: spc.n,
  mean: spc.mean,
  std: spc.std,
  p95: spc.p95,
});

/** New limits keep the versions that were in force before them. */
function withLimits(spc: SpcOut | null, event: LimitsEventOut): SpcOut | null {
  if (spc === null) return null;
  const known = new Set(spc.limits.map((version) => version.from));
  const versions = [...spc.limits, ...event.spc.limits.filter((version) => !known.has(version.from))];
  return { ...event.spc, ...windowNumbers(spc), limits: versions };
}

/** What a point tells about the status before the server does. */
function afterPoint(status: StatusOut, point: LiveObservationOut): StatusOut {
  const learned = point.ok ? Math.min(status.learned + 1, status.learn_n) : status.learned;
  const common = { ...status, last: point.timestamp, age_s: 0, learned };
  if (point.ok) {
    const state = learned < status.learn_n ? "learning" : "live";
    const left = status.interval_s === null ? null : (status.learn_n - learned) * status.interval_s;
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

/** The violations that the log's filters admit. */
export function admitted(state: State): readonly ViolationOut[] {
  const { rules, severity } = state.view;
  return state.violations.filter(
    (v) => (rules.length === 0 || rules.includes(v.rule)) && (severity === "all" || v.severity === severity),
  );
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

/** The view that an address describes. */
export function viewOf(search: string): View {
  const query = new URLSearchParams(search);
  const hours = Number(query.get("hours"));
  const provider = query.get("provider");
  const model = query.get("model");
  const severity = query.get("severity");
  return {
    series:
      provider && model
        ? { provider, model, server: query.get("server") ?? "", source: query.get("source") ?? "probe" }
        : null,
    metric: query.get("metric") ?? "latency",
    hours: hours === 6 || hours === 24 ? hours : 1,
    rules: query.get("rules")?.split(",").filter(Boolean) ?? [],
    severity: severity === "critical" || severity === "warning" ? severity : "all",
    open: Number(query.get("violation")) || null,
  };
}

/** The address of a view, the shortest that says it. */
export function searchOf(view: View): string {
  const query = new URLSearchParams();
  if (view.series) {
    query.set("provider", view.series.provider);
    query.set("model", view.series.model);
    if (view.series.server) query.set("server", view.series.server);
    if (view.series.source !== "probe") query.set("source", view.series.source);
  }
  if (view.metric !== "latency") query.set("metric", view.metric);
  if (view.hours !== 1) query.set("hours", String(view.hours));
  if (view.rules.length) query.set("rules", view.rules.join(","));
  if (view.severity !== "all") query.set("severity", view.severity);
  if (view.open !== null) query.set("violation", String(view.open));
  const text = query.toString();
  return text ? `?${text}` : "";
}
