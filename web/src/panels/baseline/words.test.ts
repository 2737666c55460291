import { expect, test } from "vitest";
import type { AlarmOut, LimitsOut, SpcOut, ViolationOut } from "../../api/schema";
import { cautions, compareText, count, limitRows, lockText, presentTally, tallyOf, thinned, whyNotYet, type Preview } from "./words";

const SINCE = Date.parse("2026-11-25T12:16:00Z");
const at = (minutes: number): string => new Date(SINCE + 60_000 * minutes).toISOString();
const limits = (changed: Partial<LimitsOut> = {}): LimitsOut =>
  ({
    centre: 1.66,
    sigma: 0.08,
    ucl: 1.91,
    lcl: 1.44,
    state: "provisional",
    learned_n: 600,
    locks_in_s: 82_800,
    alarms_in_s: null,
    ...changed,
  }) as LimitsOut;
const preview = (changed: Partial<LimitsOut> = {}): Preview => ({
  observations: 600,
  limits: limits(changed),
  marks: [
    { chart: "points", rule: "R1", count: 2 },
    { chart: "buckets", rule: "R2", count: 1 },
  ],
  alarms_total: 0,
});

test("counts are words that people use", () => {
  expect([count(0, "alarm"), count(1, "alarm"), count(3, "mark")]).toEqual(["no alarm", "1 alarm", "3 marks"]);
});

test("what the new baseline finds is told beside what the present one found", () => {
  const text = compareText(tallyOf(preview()), { marks: 41, alarms: 1 }, SINCE);

  expect(text).toMatch(/^With the new baseline: 3 marks and no alarm since .*; with the present one: 41 marks and 1 alarm\.$/);
});

test("the present one is counted from the moment on, with alarms that were open then", () => {
  const mark = (minutes: number, changed = {}): ViolationOut =>
    ({ metric: "latency", superseded: false, first_signal: at(minutes), ...changed }) as ViolationOut;
  const alarm = (opened: number, closed: number | null, changed = {}): AlarmOut =>
    ({
      metric: "latency",
      superseded: false,
      state: "open",
      opened: at(opened),
      closed: closed === null ? null : at(closed),
      ...changed,
    }) as AlarmOut;
  const marks = [mark(-1), mark(1), mark(2, { metric: "ttft" }), mark(3, { superseded: true })];
  const alarms = [alarm(-20, -5), alarm(-20, 5), alarm(-2, null), alarm(4, 9), alarm(4, 9, { state: "below_min_change" })];

  expect(presentTally(marks, alarms, "latency", SINCE)).toEqual({ marks: 1, alarms: 3 });
});

test("too few samples are said to be too few", () => {
  const [few] = cautions(preview({ centre: null, learned_n: 12 }));

  expect(few).toBe("There are too few samples to learn from: 12 good ones since then, and the first limits need 20.");
});

test("limits that may change, and detectors that do not run yet, are told", () => {
  expect(cautions(preview({ alarms_in_s: 600 }))).toEqual([
    "The new limits come from 600 samples and may still change until they lock in 23.0 h.",
    "The detectors would begin after 10 min more, so there can be no alarm yet.",
  ]);
  expect(cautions(preview({ state: "locked" }))).toEqual([]);
});

test("each limit is told before and after", () => {
  const rows = limitRows(limits(), limits({ centre: 1.9, ucl: 2.35, lcl: null }), "latency");

  expect(rows.slice(0, 3)).toEqual([
    { name: "UCL", present: "1.91 s", fresh: "2.35 s", change: "+23 %" },
    { name: "Centre line", present: "1.66 s", fresh: "1.90 s", change: "+14 %" },
    { name: "LCL", present: "1.44 s", fresh: "—", change: "—" },
  ]);
});

test("nothing new can be learnt before something is", () => {
  expect(whyNotYet(null)).not.toBeNull();
  expect(whyNotYet({ ...limits(), centre: null, learned_n: 7 } as SpcOut)).toBe("Nothing is learnt yet: 7 of the 20 samples that the first limits need.");
  expect(whyNotYet({ ...limits(), state: "none" } as SpcOut)).toBe("This measure is shown, not judged.");
  expect(whyNotYet(limits() as SpcOut)).toBeNull();
});

test("the lock is told only while it is to come", () => {
  expect(lockText({ state: "provisional", locks_in_s: 7200 })).toBe("provisional, locks in 2.0 h");
  expect(lockText({ state: "locked", locks_in_s: null })).toBe("locked");
});

test("a day is thinned to its lowest and highest, and no spike is lost", () => {
  const times = Array.from({ length: 1000 }, (_, i) => i);
  const values = times.map((i) => (i === 577 ? 9 : i === 3 ? null : 1));
  const columns = thinned(times, values, 0, 1000, 50);

  expect(columns).toHaveLength(50);
  expect(Math.max(...columns.map((column) => column.high))).toBe(9);
  expect(Math.min(...columns.map((column) => column.low))).toBe(1);
});
