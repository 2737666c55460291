// The geometry of the context chart: values, lines and ticks from the answer of the API. Pure.

import type { ContextOut, ObservationOut, ViolationOut } from "../../api/schema";

/** A point's value in the unit of the chart; null when it failed or did not tell. */
export function readValue(metric: string, point: ObservationOut): number | null {
  if (!point.ok) return null;
  const over = (ms: number | null, by: number | null): number | null => (ms === null || by === null || by < 2 ? null : ms / by);
  const inSeconds = (ms: number | null): number | null => (ms === null ? null : ms / 1000);
  switch (metric) {
    case "ttft":
      return inSeconds(point.ttft_ms);
    case "queue":
      return inSeconds(point.queue_ms);
    case "load":
      return inSeconds(point.load_duration_ms);
    case "ms_per_token":
      return over(point.eval_duration_ms, point.eval_count);
    case "prompt_ms_per_token":
      return over(point.prompt_eval_duration_ms, point.prompt_eval_count);
    case "tokens_per_second":
      return point.tokens_per_second;
    default:
      return inSeconds(point.latency_ms);
  }
}

/** The seven lines from LCL to UCL. Limits that are not as far above as below come from the log scale. */
export function zonesOf(limits: Pick<ViolationOut, "centre" | "ucl" | "lcl">): number[] {
  const { centre, ucl, lcl } = limits;
  const above = ucl - centre;
  const isLog = lcl > 0 && Math.abs(above - (centre - lcl)) > 1e-3 * above;
  const line = (limit: number, k: number): number =>
    isLog ? centre * (limit / centre) ** (k / 3) : centre + ((limit - centre) * k) / 3;
  return [lcl, line(lcl, 2), line(lcl, 1), centre, line(ucl, 1), line(ucl, 2), ucl];
}

/** In which zone a distance from the centre line lies. */
export function zoneName(z: number | null): string {
  if (z === null) return "";
  const far = Math.abs(z);
  return far < 1 ? "zone C" : far < 2 ? "zone B" : far <= 3 ? "zone A" : "beyond the limits";
}

/** Round numbers that cut a span into about `n` steps. */
export function ticks(low: number, high: number, n: number): number[] {
  const rough = (high - low) / n;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((k) => k * power >= rough) ?? 10) * power;
  const found: number[] = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

/** The smallest and the largest of what is drawn, with a little room. */
export function spanOf(context: ContextOut, values: readonly (number | null)[]): [number, number] {
  const { violation } = context;
  const known = values.filter((value) => value !== null);
  const all = [...known, violation.ucl, violation.lcl, violation.peak_value];
  const low = Math.min(...all);
  const high = Math.max(...all);
  const room = 0.08 * (high - low || high || 1);
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

/** A path through what is known, broken where a value is missing. */
export function pathOf(values: readonly (number | null)[], x: (i: number) => number, y: (value: number) => number): string {
  let path = "";
  values.forEach((value, i) => {
    if (value === null) return;
    path += `${(values[i - 1] ?? null) === null ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  return path;
}
