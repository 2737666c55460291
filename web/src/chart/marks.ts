// Marks of broken rules on the chart: where each stands, and what is done when there are too many.

import type { ViolationOut } from "../api/schema";
import type { Points } from "../points";

export const LABELLED = 60; // more marks than this in view are gathered by column
const COLUMN_PX = 24;

/** A mark at its worst point; times in seconds since 1970. */
export interface Mark {
  violation: ViolationOut;
  time: number;
  value: number;
  start: number; // of the pattern
  end: number;
}

const seconds = (time: string): number => Date.parse(time) / 1000;

/** The marks of a chart in order of time; each at its worst point when that is known here, else at its first signal. */
export function marksOf(violations: readonly ViolationOut[], chart: "points" | "buckets", points: Points | null): Mark[] {
  const marks: Mark[] = [];
  for (const violation of violations) {
    if (violation.chart !== chart) continue;
    const at = chart === "points" && points ? points.indexOf(violation.peak_id) : -1;
    marks.push({
      violation,
      time: (at >= 0 ? points?.times[at] : undefined) ?? seconds(violation.first_signal),
      value: chart === "points" ? violation.peak_value : violation.peak_z,
      start: seconds(violation.pattern_start),
      end: seconds(violation.last_signal),
    });
  }
  return marks.sort((a, b) => a.time - b.time);
}

/** Those whose worst point lies in a span. */
export function inView(marks: readonly Mark[], from: number, to: number): Mark[] {
  return marks.filter((mark) => mark.time >= from && mark.time <= to);
}

/** Marks that share a column of the chart: the worst of them, and how many there are. */
export interface Cluster {
  worst: Mark;
  count: number;
}

const severity = (mark: Mark): number => (mark.violation.severity === "critical" ? 1e6 : 0) + Math.abs(mark.violation.peak_z);

/** Each mark by itself, or one a column of 24 px when they are many; `selected` always stands by itself. */
export function cluster(marks: readonly Mark[], xOf: (time: number) => number, selected: number | null): Cluster[] {
  if (marks.length <= LABELLED) return marks.map((worst) => ({ worst, count: 1 }));
  const columns = new Map<number, Cluster>();
  let alone: Cluster | null = null;
  for (const mark of marks) {
    if (mark.violation.id === selected) {
      alone = { worst: mark, count: 1 };
      continue;
    }
    const column = Math.floor(xOf(mark.time) / COLUMN_PX);
    const held = columns.get(column);
    if (!held) columns.set(column, { worst: mark, count: 1 });
    else {
      held.count++;
      if (severity(mark) > severity(held.worst)) held.worst = mark;
    }
  }
  const gathered = [...columns.values()];
  return alone ? [...gathered, alone] : gathered;
}
