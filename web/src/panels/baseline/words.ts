// What the baseline panel and its dialogs say, as pure functions of what the API told.

import type { AlarmOut, LimitsOut, PhaseOut, SpcOut, ViolationOut } from "../../api/schema";
import { decimalsFor, formatCount, formatDuration, formatNumber, formatTime } from "../../format";
import { budgetText, metricText } from "../../rules";

export const FEWEST = 20; // good samples before the first limits, if the server does not tell

/** The phase that a metric is in. */
export function currentPhase(spc: Pick<SpcOut, "phases">, metric?: string): PhaseOut | null {
  return spc.phases.filter((phase) => metric === undefined || phase.metric === metric).at(-1) ?? null;
}

/** "Phase 2, since 12:16:00: num_ctx 4096 → 2048". */
export function phaseText(phase: Pick<PhaseOut, "number" | "start" | "cause">): string {
  return `Phase ${phase.number}, since ${formatTime(phase.start)}: ${phase.cause}`;
}

/** When the limits stop changing. */
export function lockText(spc: Pick<LimitsOut, "state" | "locks_in_s">): string {
  if (spc.state === "locked" || spc.locks_in_s === null) return "locked";
  return `${spc.state}, locks in ${formatDuration(spc.locks_in_s)}`;
}

export const count = (n: number, one: string, many = `${one}s`): string => `${n === 0 ? "no" : formatCount(n)} ${n <= 1 ? one : many}`;

/** Why nothing new can be learnt yet; null when it can. */
export function whyNotYet(spc: SpcOut | null, provisionalN = FEWEST): string | null {
  if (!spc) return "The limits are being asked for.";
  if (spc.state === "none") return "This measure is shown, not judged.";
  if (spc.centre === null) return `Nothing is learnt yet: ${spc.learned_n} of the ${provisionalN} samples that the first limits need.`;
  return null;
}

/** False alarms of the detectors that are expected in a day, in words. */
export function falseAlarmText(spc: Pick<LimitsOut, "calibration" | "budget_per_day">): string {
  const perDay = spc.calibration ? spc.calibration.expected_false_alarms_per_day : spc.budget_per_day;
  return budgetText(perDay);
}

// -- the preview of a new baseline

/** What `limits`, `marks` and `alarms` of a finished backtest hold. */
export interface Preview {
  observations: number;
  limits: LimitsOut;
  marks: { chart: string; rule: string; count: number }[];
  alarms_total: number;
}

export interface Tally {
  marks: number;
  alarms: number;
}

/** What the baseline in force found since a moment. */
export function presentTally(violations: readonly ViolationOut[], alarms: readonly AlarmOut[], metric: string, since: number): Tally {
  const still = (closed: string | null): boolean => closed === null || Date.parse(closed) >= since;
  return {
    marks: violations.filter((v) => v.metric === metric && !v.superseded && Date.parse(v.first_signal) >= since).length,
    alarms: alarms.filter(
      (a) => a.metric === metric && !a.superseded && a.state !== "below_min_change" && (Date.parse(a.opened) >= since || still(a.closed)),
    ).length,
  };
}

export const tallyOf = (preview: Preview): Tally => ({
  marks: preview.marks.reduce((sum, mark) => sum + mark.count, 0),
  alarms: preview.alarms_total,
});

/** "With the new baseline: 3 marks and no alarm since 12:16; with the present one: 41 marks and 1 alarm." */
export function compareText(fresh: Tally, present: Tally, since: number): string {
  const tally = ({ marks, alarms }: Tally): string => `${count(marks, "mark")} and ${count(alarms, "alarm")}`;
  return `With the new baseline: ${tally(fresh)} since ${formatTime(since)}; with the present one: ${tally(present)}.`;
}

/** What is not certain about a preview, one sentence each; the first says whether there are limits at all. */
export function cautions(preview: Preview, provisionalN = FEWEST): string[] {
  const { limits } = preview;
  if (limits.centre === null) {
    return [
      `There are too few samples to learn from: ${limits.learned_n} good ones since then, and the first limits need ${provisionalN}.`,
      "Until then nothing would be judged.",
    ];
  }
  const said: string[] = [];
  if (limits.state === "provisional") {
    said.push(`The new limits come from ${formatCount(limits.learned_n)} samples and may still change${limits.locks_in_s === null ? "" : ` until they lock in ${formatDuration(limits.locks_in_s)}`}.`);
  }
  if (limits.alarms_in_s !== null) said.push(`The detectors would begin after ${formatDuration(limits.alarms_in_s)} more, so there can be no alarm yet.`);
  return said;
}

export interface LimitRow {
  name: string;
  present: string;
  fresh: string;
  change: string;
}

/** The limits now and then, and by how much each moves. */
export function limitRows(present: LimitsOut, fresh: LimitsOut, metric: string): LimitRow[] {
  const { unit } = metricText(metric);
  const decimals = decimalsFor(fresh.centre ?? present.centre);
  const row = (name: string, before: number | null, after: number | null, more = 0): LimitRow => {
    const show = (value: number | null): string => (value === null ? "—" : `${formatNumber(value, decimals + more)} ${unit}`);
    const percent = before && after !== null ? (100 * (after - before)) / Math.abs(before) : null;
    const sign = percent !== null && Math.round(percent) > 0 ? "+" : "";
    return { name, present: show(before), fresh: show(after), change: percent === null ? "—" : `${sign}${formatNumber(percent, 0)} %` };
  };
  return [
    row("UCL", present.ucl, fresh.ucl),
    row("Centre line", present.centre, fresh.centre),
    row("LCL", present.lcl, fresh.lcl),
    row("Sigma", present.sigma, fresh.sigma, 1),
  ];
}

/** The lowest and highest value in each of `n` stretches, so that a day is a few hundred points. Nulls are passed over. */
export function thinned(
  times: readonly number[],
  values: readonly (number | null)[],
  from: number,
  to: number,
  n: number,
): { time: number; low: number; high: number }[] {
  const step = (to - from) / n || 1;
  const found: { time: number; low: number; high: number }[] = [];
  let at = -1;
  times.forEach((time, i) => {
    const value = values[i] ?? null;
    if (value === null || time < from || time > to) return;
    const k = Math.min(n - 1, Math.floor((time - from) / step));
    const last = found.at(-1);
    if (k === at && last) {
      last.low = Math.min(last.low, value);
      last.high = Math.max(last.high, value);
    } else {
      at = k;
      found.push({ time, low: value, high: value });
    }
  });
  return found;
}
