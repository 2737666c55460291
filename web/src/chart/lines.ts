// Values, limits and averages of the chart as pure functions: tested without a canvas.

import type { LimitsVersionOut, LiveObservationOut } from "../api/schema";

export const AVERAGE_OF = 31; // points of the moving average

/** The metric of a live observation in the unit of the chart (seconds for durations); null when it has none. */
export function valueOf(metric: string, point: LiveObservationOut): number | null {
  if (!point.ok) return null;
  const seconds = (ms: number | null): number | null => (ms === null ? null : ms / 1000);
  switch (metric) {
    case "latency":
      return seconds(point.latency_ms);
    case "ttft":
      return seconds(point.ttft_ms);
    case "queue":
      return seconds(point.queue_ms);
    case "load":
      return seconds(point.load_ms);
    case "ms_per_token":
      return point.eval_ms === null || point.eval_count === null || point.eval_count < 2
        ? null
        : point.eval_ms / point.eval_count;
    case "tokens_per_second":
      return !point.eval_ms || point.eval_count === null ? null : (1000 * point.eval_count) / point.eval_ms;
    case "prompt_ms_per_token":
      return point.prompt_ms === null || !point.prompt_eval_count ? null : point.prompt_ms / point.prompt_eval_count;
    default:
      return null;
  }
}

/** A stretch of time with its limits. */
export interface Stretch {
  from: number; // seconds since 1970
  to: number;
  limits: LimitsVersionOut;
}

/** The limits in force over a span, stepped at each version; nothing before the first. */
export function stretches(versions: readonly LimitsVersionOut[], from: number, to: number): Stretch[] {
  const starts = versions.map((version) => Date.parse(version.from) / 1000);
  return versions
    .map((limits, i) => ({
      from: Math.max(from, starts[i] ?? from),
      to: Math.min(to, starts[i + 1] ?? to),
      limits,
    }))
    .filter((stretch) => stretch.to > stretch.from);
}

/** The limits at a moment; null before there were any. */
export function limitsAt(versions: readonly LimitsVersionOut[], seconds: number): LimitsVersionOut | null {
  return versions.findLast((version) => Date.parse(version.from) / 1000 <= seconds) ?? null;
}

/** How many sigma a value is from the centre line, read off the lines that the server gave. */
export function distance(
  value: number,
  limits: Pick<LimitsVersionOut, "centre" | "ucl" | "lcl">,
  scale: "log" | "linear",
): number | null {
  const of = scale === "log" ? Math.log : (x: number): number => x;
  const sigma = (of(limits.ucl) - of(limits.lcl)) / 6;
  const z = (of(value) - of(limits.centre)) / sigma;
  return Number.isFinite(z) ? z : null;
}

/** Zone A, B or C of the chart, or "beyond the limit". */
export function zoneOf(z: number): string {
  const far = Math.abs(z);
  if (far > 3) return "beyond the limit";
  return far > 2 ? "A" : far > 1 ? "B" : "C";
}

/** Mean of the points up to AVERAGE_OF around each, outliers held at six sigma, so that one makes no hump; broken where
 * the limits step. */
export function movingAverage(
  times: Float64Array,
  values: Float64Array,
  versions: readonly LimitsVersionOut[],
): (number | null)[] {
  const result: (number | null)[] = Array.from({ length: values.length }, () => null);
  const starts = versions.map((version) => Date.parse(version.from) / 1000);
  const half = (AVERAGE_OF - 1) / 2;
  let begin = 0;
  while (begin < values.length) {
    const time = times[begin] ?? 0;
    const next = starts.find((start) => start > time) ?? Infinity;
    let end = begin;
    while (end < values.length && (times[end] ?? 0) < next) end++;
    const limits = limitsAt(versions, time);
    const room = limits ? (limits.ucl - limits.lcl) / 2 : 0; // from three sigma to six
    const clip = (x: number): number => (limits ? Math.min(limits.ucl + room, Math.max(limits.lcl - room, x)) : x);
    let sum = 0;
    let n = 0;
    const add = (i: number, sign: number): void => {
      const value = values[i] ?? NaN;
      if (Number.isNaN(value)) return;
      sum += sign * clip(value);
      n += sign;
    };
    for (let i = begin; i < Math.min(end, begin + half); i++) add(i, 1);
    for (let i = begin; i < end; i++) {
      if (i + half < end) add(i + half, 1);
      if (i - half - 1 >= begin) add(i - half - 1, -1);
      result[i] = n > 0 && !Number.isNaN(values[i] ?? NaN) ? sum / n : null;
    }
    begin = end;
  }
  return result;
}

/** The vertical span: around the limits, or around everything. `slo` is kept in view when everything is. */
export function verticalRange(
  values: ArrayLike<number | null>,
  shown: readonly Stretch[],
  fit: "limits" | "all",
  slo: number | null = null,
): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const { limits } of shown) {
    const sigma = (limits.ucl - limits.lcl) / 6;
    low = Math.min(low, limits.lcl - 1.2 * sigma);
    high = Math.max(high, limits.centre + 5.6 * sigma);
  }
  if (fit === "all" || shown.length === 0) {
    for (let i = 0; i < values.length; i++) {
      const value = values[i] ?? NaN;
      if (Number.isNaN(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (slo !== null) high = Math.max(high, slo);
    if (low === Infinity) return [0, 1];
    const room = Math.max((high - low) * 0.06, Math.abs(high) * 0.01, 1e-6);
    return [Math.max(0, low - room), high + room];
  }
  return [Math.max(0, low), high];
}
