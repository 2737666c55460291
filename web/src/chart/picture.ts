// What the chart shows, as pure functions of points, limits and marks. The component only mounts and feeds it.

import type { AnnotationOut, ExclusionOut, FailuresOut, IncidentOut, LimitsVersionOut, PhaseOut, RollupOut, SpcOut } from "../api/schema";
import { decimalsFor, formatClock, formatNumber, formatSigma, formatTime, formatUtc } from "../format";
import { metricText } from "../rules";
import type { Points } from "../points";
import { distance, limitsAt, movingAverage, stretches, verticalRange, zoneOf, type Stretch } from "./lines";
import { inView, type Mark } from "./marks";
import { envelopeOf, type Envelope, type Summary } from "./summary";

export type Kind = "points" | "buckets" | "failures";
export const POINTS_PER_PIXEL = 2; // above this the window is drawn in stretches
const SLOT_S = 30; // a half minute
const GAP_S = 95; // half minutes further apart are not joined
const TOP_SCORE = 5.6;

/** Above the plot: where a phase begins, what somebody noted. */
export interface Flag {
  time: number;
  label: string;
  short: string;
  kind: "phase" | "note";
}

/** A stretch of time that is marked: an incident, or points that were left out. */
export interface Span {
  from: number;
  to: number;
  kind: "incident" | "excluded";
  open: boolean;
  text: string;
}

export interface Bar {
  from: number;
  to: number;
  value: number;
  limit: number | null;
}

/** Everything that is drawn beside uPlot's lines. */
export interface Scene {
  stretches: readonly Stretch[];
  marks: readonly Mark[];
  failures: readonly number[];
  flags: readonly Flag[];
  spans: readonly Span[];
  bars: readonly Bar[];
  dots: readonly { x: number; y: number }[]; // points of a chart that has few
  run: { times: ArrayLike<number>; values: ArrayLike<number | null> } | null; // where a run can be traced
  slo: number | null;
  selected: number | null;
  decimals: number;
  signed: boolean; // values may lie below zero: scores, not durations
}

export interface Readout {
  time: string;
  utc: string;
  value: string;
  rows: readonly (readonly [string, string])[];
  marks: readonly Mark[];
}

export interface Picture {
  x: [number, number];
  y: [number, number];
  /** Times, single values, the bold line, lowest, highest. */
  columns: [ArrayLike<number>, ...ArrayLike<number | null>[]];
  detail: "points" | "stretches" | "half minutes" | "failures";
  step: number | null; // seconds of a stretch
  scene: Scene;
  stops: ArrayLike<number>; // what the read-out stops at
  read(index: number): Readout;
}

export interface Inputs {
  kind: Kind;
  points: Points;
  rollup: RollupOut | null; // instead of points
  summary: (from: number, to: number) => Summary;
  spc: SpcOut | null;
  marks: readonly Mark[];
  metric: string;
  fit: "limits" | "all";
  log: boolean;
  slo: number | null;
  selected: number | null;
  from: number;
  to: number;
  now: number;
  width: number; // px
}

/** What is to be drawn of a span. */
export function pictureOf(inputs: Inputs): Picture {
  if (inputs.kind === "buckets") return halfMinutes(inputs);
  if (inputs.kind === "failures") return failures(inputs);
  return values(inputs);
}

function values(inputs: Inputs): Picture {
  const { points, spc, metric, fit, from, to } = inputs;
  const versions = spc?.limits ?? [];
  const shown = stretches(versions, from, to);
  const first = Math.max(0, points.at(from)); // one before, so that the line enters at the edge
  const last = points.at(to) + 1;
  const dense = inputs.rollup === null && last - first > POINTS_PER_PIXEL * inputs.width;
  const scene: Scene = { ...around(inputs), stretches: shown, failures: inputs.rollup ? [] : points.failures(from, to) };
  if (inputs.rollup || dense) {
    const summary = inputs.rollup ? null : inputs.summary(from, to);
    const envelope = inputs.rollup ? envelopeOf(inputs.rollup) : (summary?.of(from, to) ?? envelopeOf(NOTHING));
    const step = inputs.rollup?.step_s ?? summary?.step ?? 0;
    const none = envelope.times.map(() => null);
    return {
      x: [from, to],
      y: positive(verticalRange([...envelope.low, ...envelope.high], shown, fit, inputs.slo), inputs, shown),
      columns: [envelope.times, none, envelope.middle, envelope.low, envelope.high],
      detail: "stretches",
      step,
      scene,
      stops: envelope.times,
      read: (i) => readStretch(inputs, envelope, step, i),
    };
  }
  const x = points.times.subarray(first, last);
  const y = points.values.subarray(first, last);
  const raw = nullable(y);
  const none = raw.map(() => null);
  return {
    x: [from, to],
    y: positive(verticalRange(y, shown, fit, inputs.slo), inputs, shown),
    columns: [x, raw, movingAverage(x, y, versions), none, none],
    detail: "points",
    step: null,
    scene: { ...scene, run: { times: x, values: raw } },
    stops: x,
    read: (i) => readPoint(inputs, metric, first + i),
  };
}

const NOTHING: RollupOut = { step_s: 1, times_ms: [], seen: [], failed: [], mean: [], min: [], p5: [], median: [], p95: [], max: [] };

function nullable(column: Float64Array): (number | null)[] {
  return Array.from(column, (value) => (Number.isNaN(value) ? null : value));
}

/** A range that a logarithmic axis can show. */
function positive(range: [number, number], inputs: Inputs, shown: readonly Stretch[]): [number, number] {
  if (!inputs.log || range[0] > 0) return range;
  const lines = shown.flatMap(({ limits }) => limits.zones.filter((value) => value > 0));
  const least = lines.length ? Math.min(...lines) / 2 : range[1] / 1000;
  return [Math.max(least, 1e-9), Math.max(range[1], 1e-8)];
}

/** The chart of half minutes: scores that are standard normal while in control, with lines at whole sigma. */
function halfMinutes(inputs: Inputs): Picture {
  const { spc, from, to, metric } = inputs;
  const buckets = spc?.buckets;
  const times: number[] = [];
  const scores: (number | null)[] = [];
  const levels: number[] = [];
  const places: number[] = [];
  let before = NaN;
  (buckets?.times_ms ?? []).forEach((ms, i) => {
    const time = ms / 1000 + SLOT_S / 2;
    if (time < from - SLOT_S || time > to) return;
    if (time - before > GAP_S) {
      times.push(time - SLOT_S);
      scores.push(null);
      levels.push(NaN);
      places.push(-1);
    }
    before = time;
    times.push(time);
    scores.push(buckets?.scores[i] ?? null);
    levels.push(buckets?.levels[i] ?? NaN);
    places.push(i);
  });
  const begin = times.find((_, i) => scores[i] !== null) ?? to;
  const limits = { ...SCORE_LIMITS, from: new Date(begin * 1000).toISOString() };
  const shown: Stretch[] = begin < to ? [{ from: Math.max(from, begin), to, limits }] : [];
  const furthest = scores.reduce<number>((far, score) => Math.max(far, Math.abs(score ?? 0)), TOP_SCORE);
  const top = inputs.fit === "all" ? furthest * 1.05 : TOP_SCORE;
  const none = times.map(() => null);
  const dots = times.flatMap((x, i) => (typeof scores[i] === "number" ? [{ x, y: scores[i] }] : []));
  return {
    x: [from, to],
    y: [-top, top],
    columns: [times, none, scores, none, none],
    detail: "half minutes",
    step: SLOT_S,
    scene: {
      ...around(inputs),
      stretches: shown,
      slo: null,
      decimals: 0,
      signed: true,
      dots: dots.length * 6 < inputs.width ? dots : [],
      run: { times, values: scores },
    },
    stops: times,
    read: (i) => {
      const time = (times[i] ?? 0) - SLOT_S / 2;
      const score = scores[i] ?? null;
      const level = levels[i] ?? NaN;
      const { unit } = metricText(metric);
      const broken = buckets?.rules[String(places[i])] ?? [];
      return {
        ...moments(time),
        value: score === null ? "not scored" : formatSigma(score),
        rows: [
          ["Level", Number.isNaN(level) ? "—" : `${formatNumber(level, decimalsFor(level))} ${unit}`],
          ["Zone", score === null ? "—" : zoneOf(score)],
          ["Rules", broken.length ? broken.join(", ") : "none"],
          ...incidentRows(spc, time),
        ],
        marks: at(inputs.marks, time + SLOT_S / 2, SLOT_S),
      };
    },
  };
}

const SCORE_LIMITS: LimitsVersionOut = {
  from: "",
  state: "locked",
  phase: 1,
  centre: 0,
  sigma: 1,
  ucl: 3,
  lcl: -3,
  zones: [-3, -2, -1, 0, 1, 2, 3],
  n: 0,
};

/** The p chart: the share of requests that failed in each stretch, with its limit. */
function failures(inputs: Inputs): Picture {
  const { spc, from, to } = inputs;
  const found: FailuresOut | null = spc?.failures ?? null;
  const starts = (found?.times_ms ?? []).map((ms) => ms / 1000);
  const width = stepOf(starts);
  const bars: Bar[] = [];
  const places: number[] = [];
  starts.forEach((start, i) => {
    if (start + width < from || start > to || !(found?.seen[i] ?? 0)) return;
    bars.push({
      from: start,
      to: start + width,
      value: (100 * (found?.failed[i] ?? 0)) / (found?.seen[i] ?? 1),
      limit: percent(found?.ucl[i]),
    });
    places.push(i);
  });
  const centre = percent(found?.centre);
  const high = bars.reduce((top, bar) => Math.max(top, bar.value, inputs.fit === "limits" ? (bar.limit ?? 0) : 0), 1);
  const stops = bars.map((bar) => (bar.from + bar.to) / 2);
  const none = stops.map(() => null);
  return {
    x: [from, to],
    y: [0, Math.min(105, high * 1.1)],
    columns: [stops, none, none, none, none],
    detail: "failures",
    step: width,
    scene: { ...around(inputs), stretches: [], bars, marks: [], decimals: 1 },
    stops,
    read: (i) => {
      const place = places[i] ?? 0;
      const bar = bars[i];
      return {
        ...moments(bar?.from ?? 0),
        value: `${formatNumber(bar?.value, 1)} % failed`,
        rows: [
          ["Failed", `${found?.failed[place] ?? 0} of ${found?.seen[place] ?? 0}`],
          ["Usually", centre === null ? "—" : `${formatNumber(centre, 2)} %`],
          ["UCL", bar?.limit === null || bar === undefined ? "—" : `${formatNumber(bar.limit, 1)} %`],
          ...incidentRows(spc, bar?.from ?? 0),
        ],
        marks: [],
      };
    },
  };
}

const percent = (share: number | null | undefined): number | null => (share === null || share === undefined ? null : 100 * share);

/** How wide the stretches are: the least distance between two, a half minute when there is one. */
function stepOf(starts: readonly number[]): number {
  let least = Infinity;
  for (let i = 1; i < starts.length; i++) least = Math.min(least, (starts[i] ?? 0) - (starts[i - 1] ?? 0));
  return Number.isFinite(least) && least > 0 ? least : SLOT_S;
}

/** What every kind of chart has around its lines. */
function around(inputs: Inputs): Scene {
  const { spc, from, to, metric } = inputs;
  return {
    stretches: [],
    marks: inView(inputs.marks, from, to),
    failures: [],
    flags: spc ? flagsOf(spc, metric, from, to) : [],
    spans: spc ? spansOf(spc, metric, from, to, inputs.now) : [],
    bars: [],
    dots: [],
    run: null,
    slo: inputs.slo,
    selected: inputs.selected,
    signed: false,
    decimals: decimalsFor(spc?.centre ?? inputs.points.values.at(-1)),
  };
}

const at_s = (time: string): number => Date.parse(time) / 1000;

/** The flags of a span: phases that somebody or something began, and notes. */
export function flagsOf(spc: { phases: PhaseOut[]; annotations: AnnotationOut[] }, metric: string, from: number, to: number): Flag[] {
  const phases = spc.phases
    .filter((phase) => phase.metric === metric && phase.number > 1)
    .map((phase): Flag => ({ time: at_s(phase.start), label: `P${phase.number}  ${phase.cause}`, short: `P${phase.number}`, kind: "phase" }));
  const notes = spc.annotations.map((note): Flag => ({ time: at_s(note.time), label: note.text, short: "", kind: "note" }));
  return [...phases, ...notes].filter((flag) => flag.time > from && flag.time < to).sort((a, b) => a.time - b.time);
}

/** Incidents that concern a metric, and what was excluded, in a span. */
export function spansOf(
  spc: { incidents: IncidentOut[]; exclusions: ExclusionOut[] },
  metric: string,
  from: number,
  to: number,
  now: number,
): Span[] {
  const concerned = (incident: IncidentOut): boolean => incident.metrics.includes(metric);
  const incidents = spc.incidents.filter(concerned).map((incident): Span => ({
    from: at_s(incident.change),
    to: incident.closed ? at_s(incident.closed) : now,
    kind: "incident",
    open: incident.state === "open",
    text: incident.headline,
  }));
  const excluded = spc.exclusions.map((exclusion): Span => ({
    from: at_s(exclusion.from),
    to: at_s(exclusion.to),
    kind: "excluded",
    open: false,
    text: exclusion.reason,
  }));
  return [...excluded, ...incidents].filter((span) => span.to >= from && span.from <= to);
}

function incidentRows(spc: SpcOut | null, time: number): [string, string][] {
  const over = (spc?.incidents ?? []).filter(
    (incident) => at_s(incident.change) <= time && (incident.closed === null || time <= at_s(incident.closed)),
  );
  return over.length ? [["Incident", over[0]?.state ?? ""]] : [];
}

function moments(seconds: number): { time: string; utc: string } {
  return { time: formatTime(seconds * 1000), utc: formatUtc(seconds * 1000) };
}

/** Marks whose pattern covers a moment, or that stand at it. */
function at(marks: readonly Mark[], time: number, slack: number): Mark[] {
  const near = marks.filter((mark) => (mark.start <= time && time <= mark.end) || Math.abs(mark.time - time) <= slack);
  return near.slice(0, 4);
}

function readPoint(inputs: Inputs, metric: string, index: number): Readout {
  const { points, spc, marks } = inputs;
  const time = points.times[index] ?? 0;
  const value = points.values[index] ?? NaN;
  const id = points.ids[index] ?? -1;
  const tokens = points.tokens[index] ?? NaN;
  const limits = limitsAt(spc?.limits ?? [], time - 1e-6);
  const z = limits && !Number.isNaN(value) ? distance(value, limits, spc?.scale ?? "log") : null;
  const rows: [string, string][] = [
    ["From centre line", formatSigma(z)],
    ["Zone", z === null ? "no limits then" : zoneOf(z)],
    ["Tokens", Number.isNaN(tokens) ? "—" : String(tokens)],
  ];
  if (limits) rows.push(["Limits", `phase ${limits.phase}${limits.state === "provisional" ? ", provisional" : ""}`]);
  if (spc?.cold_ids.includes(id)) rows.push(["Cold start", "model loaded"]);
  return {
    ...moments(time),
    value: Number.isNaN(value) ? "failed, or not told" : `${formatNumber(value, decimalsFor(spc?.centre ?? value))} ${metricText(metric).unit}`,
    rows: [...rows, ...incidentRows(spc, time)],
    marks: marks
      .filter(({ violation: v }) => v.peak_id === id || (v.first_signal_id <= id && id <= v.last_signal_id))
      .slice(0, 4),
  };
}

function readStretch(inputs: Inputs, envelope: Envelope, step: number, index: number): Readout {
  const { spc, metric } = inputs;
  const middle = envelope.times[index] ?? 0;
  const from = middle - step / 2;
  const { unit } = metricText(metric);
  const value = envelope.middle[index] ?? null;
  const decimals = decimalsFor(spc?.centre ?? value);
  const show = (x: number | null | undefined): string => (x === null || x === undefined ? "—" : `${formatNumber(x, decimals)} ${unit}`);
  const limits = limitsAt(spc?.limits ?? [], middle);
  const z = limits && value !== null ? distance(value, limits, spc?.scale ?? "log") : null;
  const rows: [string, string][] = [
    ["Lowest to highest", value === null ? "—" : `${formatNumber(envelope.low[index], decimals)} to ${show(envelope.high[index])}`],
    ["Median from centre line", formatSigma(z)],
  ];
  const { rollup } = inputs;
  if (rollup) rows.push(["Requests", `${rollup.seen[index] ?? 0}${rollup.failed[index] ? `, ${rollup.failed[index]} failed` : ""}`]);
  const marks = inputs.marks.filter((mark) => mark.time >= from && mark.time < from + step);
  if (marks.length) rows.push(["Marks", String(marks.length)]);
  return {
    time: `${formatTime(from * 1000)} to ${formatClock((from + step) * 1000)}`,
    utc: formatUtc(from * 1000),
    value: value === null ? "nothing measured" : show(value),
    rows: [...rows, ...incidentRows(spc, middle)],
    marks: marks.toSorted((a, b) => Math.abs(b.violation.peak_z) - Math.abs(a.violation.peak_z)).slice(0, 3),
  };
}
