// Every series at a glance, outside of React: loaded as a whole, then kept up to date by the live stream.

import { getOverview, type SeriesName } from "./api/client";
import { Live } from "./api/live";
import type { IncidentOut, LiveObservationOut, OverviewTargetOut, StatusOut, ViolationOut } from "./api/schema";
import { distance, valueOf } from "./chart/lines";
import { formatDuration, formatTime } from "./format";
import type { Connection } from "./state";

export type TargetStanding = OverviewTargetOut["standing"];
export type Order = "worst" | "name" | "slowest";

const REFETCH_MS = 60_000;
const SOON_MS = 1000; // after news that only the server can put into words
const TELL_MS = 1000; // a card is drawn at most so often
const TICK_MS = 250; // so that not all are drawn in one frame
const AWAY_MS = 10_000; // between asking while the stream is away

/** In the order of the chips; the worst first. */
export const STANDINGS: readonly [TargetStanding, string][] = [
  ["out", "out of control"],
  ["failing", "not answering"],
  ["stale", "stale"],
  ["learning", "learning"],
  ["in_control", "in control"],
  ["not_judged", "not judged"],
];

export const keyOf = (series: SeriesName): string =>
  JSON.stringify([series.provider, series.model, series.server, series.source]);

/** The targets of one metric and span. `version` rises when the list or a standing changes, not with every value. */
export class Targets {
  version = 0;
  loaded = false;
  error: string | null = null;
  connection: Connection = { kind: "connecting" };
  stepMs = 0;

  private metric = "";
  private hours = 0;
  private opened = 0; // which opening an answer is of
  private held = new Map<string, OverviewTargetOut>();
  private newest = new Map<string, number[]>(); // values heard in the newest stretch
  private marked = new Set<number>(); // open marks that were counted here
  private live: Live | null = null;
  private timers: ReturnType<typeof setInterval>[] = [];
  private soon: ReturnType<typeof setTimeout> | undefined;
  private askedAt = 0;
  private dirty = new Set<string>();
  private toldAt = new Map<string, number>();
  private listeners = new Set<() => void>();
  private cards = new Map<string, Set<() => void>>();

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Hears of one target, at most once a second. */
  subscribeTo(key: string, listener: () => void): () => void {
    const card = this.cards.get(key) ?? new Set();
    this.cards.set(key, card.add(listener));
    return () => card.delete(listener);
  }

  get all(): ReadonlyMap<string, OverviewTargetOut> {
    return this.held;
  }

  /** Show a metric over the last hours, until `close` or the next `open`. */
  open(metric: string, hours: number): void {
    this.close();
    if (metric !== this.metric) {
      this.held.clear();
      this.loaded = false;
    }
    this.metric = metric;
    this.hours = hours;
    this.timers = [setInterval(() => void this.fetch(), REFETCH_MS), setInterval(() => this.tell(), TICK_MS)];
    void this.fetch();
    this.changed();
  }

  close(): void {
    this.opened++;
    this.live?.close();
    this.live = null;
    for (const timer of this.timers) clearInterval(timer);
    clearTimeout(this.soon);
    this.soon = undefined;
  }

  /** Try again now. */
  retry(): void {
    if (this.live) this.live.retry();
    else void this.fetch();
  }

  private async fetch(): Promise<void> {
    const { opened } = this;
    this.askedAt = Date.now();
    try {
      const found = await getOverview(this.metric, this.hours);
      if (opened !== this.opened) return;
      this.load(found.targets, found.step_s * 1000);
      if (this.live) this.live.cursor = found.cursor;
      else this.follow(found.cursor);
    } catch (error) {
      if (opened !== this.opened) return;
      this.error = (error as Error).message;
      if (!this.live) {
        this.connection = { kind: "retrying", at: Date.now() + 2 * SOON_MS };
        this.fetchSoon(2 * SOON_MS);
      }
      this.changed();
    }
  }

  /** Replace everything by what the server says. */
  load(targets: readonly OverviewTargetOut[], stepMs: number): void {
    this.held = new Map(targets.map((target) => [keyOf(target), target]));
    this.stepMs = stepMs;
    this.newest.clear();
    this.marked.clear();
    this.loaded = true;
    this.error = null;
    for (const key of this.held.keys()) this.dirty.add(key);
    this.changed();
  }

  private follow(cursor: string): void {
    const { metric } = this;
    let away = false;
    this.live = new Live({ metric }, cursor, {
      observation: (event) => this.observation(event),
      violation: (event) => this.violation(event),
      incident: (event) => this.incident(event),
      limits: (event) => event.metric === metric && this.fetchSoon(),
      status: (event) => event.metric === metric && this.status(event.series, event.status),
      system: () => undefined,
      about: () => undefined,
      reset: () => void this.fetch(),
      connected: () => {
        if (away) void this.fetch();
        away = false;
        this.connection = { kind: "live" };
        this.changed();
      },
      disconnected: (at) => {
        away = true;
        this.connection = { kind: "retrying", at };
        this.changed();
      },
      poll: () => {
        if (Date.now() - this.askedAt > AWAY_MS) void this.fetch();
      },
    });
  }

  private fetchSoon(after = SOON_MS): void {
    this.soon ??= setTimeout(() => {
      this.soon = undefined;
      void this.fetch();
    }, after);
  }

  observation(event: LiveObservationOut): void {
    const key = keyOf(event);
    const target = this.held.get(key);
    if (!target) return this.fetchSoon();
    const value = valueOf(this.metric, event);
    const verdict = event.verdicts[this.metric] as { z: number | null } | undefined;
    const told = { ...afterPoint(target, event), ...(value !== null && { last: value, last_z: verdict?.z ?? zOf(target, value) }) };
    const last = target.times_ms.at(-1);
    const isBegun = last !== undefined && event.time_ms < last + this.stepMs;
    const counted = target.middle.at(-1) ?? null; // what the server had seen in this stretch weighs as one value
    const heard = isBegun ? (this.newest.get(key) ?? (counted === null ? [] : [counted])) : [];
    if (value !== null) this.newest.set(key, [...heard, value]);
    this.set(key, this.stepMs > 0 ? withValue(told, event.time_ms, value, heard, this.stepMs, this.hours) : told);
  }

  violation(event: ViolationOut): void {
    const key = keyOf(event);
    const target = this.held.get(key);
    if (!target || event.metric !== this.metric || event.superseded) return;
    if (event.open && event.count === 1 && !this.marked.has(event.id)) {
      this.marked.add(event.id);
      this.set(key, { ...target, marks: target.marks + 1, open_marks: target.open_marks + 1 });
    } else if (!event.open && this.marked.delete(event.id)) {
      this.set(key, { ...target, open_marks: Math.max(0, target.open_marks - 1) });
    }
  }

  incident(event: IncidentOut): void {
    const key = keyOf(event);
    const target = this.held.get(key);
    if (target && event.state === "open" && !event.superseded && target.open_incidents === 0) {
      this.set(key, restanding({ ...target, open_incidents: 1, headline: event.headline, since: event.change }));
    }
    this.fetchSoon();
  }

  status(series: SeriesName, status: StatusOut): void {
    const target = this.held.get(keyOf(series));
    if (target) this.set(keyOf(series), restanding({ ...target, status }));
  }

  private set(key: string, target: OverviewTargetOut): void {
    const before = this.held.get(key);
    this.held.set(key, target);
    this.dirty.add(key);
    if (before?.standing !== target.standing) this.changed();
  }

  /** Tell the cards that changed and were not told within the last second. */
  private tell(): void {
    if (document.hidden) return;
    const now = Date.now();
    for (const key of this.dirty) {
      if (now - (this.toldAt.get(key) ?? 0) < TELL_MS) continue;
      this.dirty.delete(key);
      this.toldAt.set(key, now);
      for (const listener of this.cards.get(key) ?? []) listener();
    }
  }

  private changed(): void {
    this.version++;
    for (const listener of this.listeners) listener();
  }
}

/** What one request tells of the status before the server does. */
export function afterPoint(target: OverviewTargetOut, event: LiveObservationOut): OverviewTargetOut {
  const { status } = target;
  const common = { ...status, last: event.timestamp, age_s: 0 };
  if (!event.ok) {
    const since = status.failed_in_row ? status.since : event.timestamp;
    const { error, error_kind } = event;
    const failed_in_row = status.failed_in_row + 1;
    return restanding({ ...target, status: { ...common, state: "failing", since, failed_in_row, error, error_kind } });
  }
  const state = status.learn_left_s === null ? "live" : "learning";
  return restanding({ ...target, status: { ...common, state, failed_in_row: 0, error: null, error_kind: null } });
}

/** A target with the standing that its status and incidents give, and since when. */
export function restanding(target: OverviewTargetOut): OverviewTargetOut {
  const standing = standingOf(target);
  if (standing === target.standing) return target;
  const since = standing === "out" ? target.since : standing === "failing" || standing === "stale" ? target.status.since : null;
  return { ...target, standing, since };
}

/** The worst first, as the server has it: silence and failure weigh more than what was found. */
export function standingOf(target: OverviewTargetOut): TargetStanding {
  const { status, open_incidents, standing } = target;
  if (status.state === "failing") return "failing";
  if (open_incidents > 0) return "out";
  if (status.state === "stale") return "stale";
  if (standing === "not_judged" && target.centre === null) return "not_judged";
  return status.state === "learning" || status.state === "empty" ? "learning" : "in_control";
}

/** The picture with one more value in its newest stretch; `heard` are those that are in it already. */
export function withValue(
  target: OverviewTargetOut,
  time: number,
  value: number | null,
  heard: readonly number[],
  stepMs: number,
  hours: number,
): OverviewTargetOut {
  const times = [...target.times_ms];
  const [low, middle, high] = [[...target.low], [...target.middle], [...target.high]];
  const last = times.at(-1) ?? Math.floor(time / stepMs) * stepMs - stepMs;
  if (time < last) return target;
  for (let start = last + stepMs; start <= time; start += stepMs) {
    times.push(start);
    for (const column of [low, middle, high]) column.push(null);
  }
  const drop = times.findIndex((start) => start + stepMs > time - hours * 3_600_000);
  for (const column of [times, low, middle, high]) column.splice(0, Math.max(0, drop));
  const at = times.length - 1;
  if (value !== null && at >= 0) {
    low[at] = Math.min(low[at] ?? value, value);
    high[at] = Math.max(high[at] ?? value, value);
    middle[at] = median([...heard, value]);
  }
  return { ...target, times_ms: times, low, middle, high };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? NaN;
  return sorted.length % 2 ? upper : 0.5 * (upper + (sorted[half - 1] ?? NaN));
}

/** How many targets stand how. */
export function countsOf(targets: Iterable<OverviewTargetOut>): Map<TargetStanding, number> {
  const counts = new Map<TargetStanding, number>();
  for (const { standing } of targets) counts.set(standing, (counts.get(standing) ?? 0) + 1);
  return counts;
}

export interface Choice {
  standings: ReadonlySet<TargetStanding>; // none is all
  search: string;
  order: Order;
  metric: string;
}

/** The keys of the targets to show, in order. */
export function listed(targets: ReadonlyMap<string, OverviewTargetOut>, choice: Choice): string[] {
  const { standings, search, order, metric } = choice;
  const wanted = search.trim().toLowerCase();
  const found = [...targets.values()].filter(
    (one) =>
      (standings.size === 0 || standings.has(one.standing)) &&
      `${one.model}\n${one.server}\n${one.provider}`.toLowerCase().includes(wanted),
  );
  const rank = (one: OverviewTargetOut): number => STANDINGS.findIndex(([standing]) => standing === one.standing);
  const byName = (a: OverviewTargetOut, b: OverviewTargetOut): number =>
    a.model.localeCompare(b.model) || a.server.localeCompare(b.server) || a.id - b.id;
  const slow = (one: OverviewTargetOut): number => {
    if (one.last === null) return -Infinity;
    return metric === "tokens_per_second" ? -one.last : one.last; // of a rate, little is slow
  };
  const orders: Record<Order, typeof byName> = {
    name: byName,
    slowest: (a, b) => (slow(a) === slow(b) ? 0 : slow(b) - slow(a)) || byName(a, b),
    worst: (a, b) => rank(a) - rank(b) || b.open_incidents - a.open_incidents || b.open_marks - a.open_marks || byName(a, b),
  };
  return found.toSorted(orders[order]).map(keyOf);
}

/** The same cards in the place where they are: those gone are left out, new ones come last. */
export function keptInPlace(shown: readonly string[], wanted: readonly string[]): string[] {
  const [now, before] = [new Set(wanted), new Set(shown)];
  return [...shown.filter((key) => now.has(key)), ...wanted.filter((key) => !before.has(key))];
}

/** How a target stands, in words: "Out of control since 12:37". */
export function standingText(target: OverviewTargetOut, now = Date.now()): string {
  const since = target.since === null ? "" : ` since ${formatTime(target.since, now).replace(/:\d\d$/, "")}`;
  switch (target.standing) {
    case "out":
      return `Out of control${since}`;
    case "failing":
      return `Not answering${since}`;
    case "stale":
      return `Stale${since}`;
    case "learning":
      return target.status.learn_left_s === null ? "Learning" : `Learning, ${formatDuration(target.status.learn_left_s)} left`;
    case "in_control":
      return "In control";
    case "not_judged":
      return "Not judged";
  }
}

/** Where a value sits by the limits that the target was shown with; null when it has none. */
function zOf(target: OverviewTargetOut, value: number): number | null {
  const { centre, ucl, lcl, scale } = target;
  return centre === null || ucl === null || lcl === null ? null : distance(value, { centre, ucl, lcl }, scale);
}
