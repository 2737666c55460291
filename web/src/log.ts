// The marks that pass the log's filters, outside of React: a list of any length, loaded where it is looked at.

import { acknowledgeMany, getViolations, names, sameSeries, type Query, type SeriesName } from "./api/client";
import type { ViolationOut } from "./api/schema";
import { hoursOf, type Range, type View } from "./state";

export const PAGE = 200; // rows a request
const AHEAD = 60; // rows beyond those in view that are loaded too
const AT_ONCE = 2; // requests on their way together
const KEPT = 10_000; // rows held; what is furthest from the view goes first
const AGAIN = 3; // times that a page is asked for once more because rows came meanwhile
const MOST_MOVED = 20; // pages in a row that contradict those before
const IDS_AT_ONCE = 5_000; // of an acknowledgement

/** What the log lists: the part of a view that chooses marks. */
export interface LogQuery extends Pick<View, "metric" | "chart" | "rules" | "severity" | "standing" | "search"> {
  series: SeriesName | null; // null is every model
  range: Range;
}

/** The query of a view; null while there is no series to ask for. */
export function logQuery(view: View): LogQuery | null {
  const { series, metric, zoom, chart, rules, severity, standing, models, search } = view;
  if (series === null && models === "this") return null;
  const range = zoom ? { from: zoom[0], to: zoom[1] } : view.range;
  return { series: models === "this" ? series : null, metric, range, chart, rules, severity, standing, search: search.trim() };
}

/** A query as the API takes it, for pages and exports alike. */
export function parametersOf(query: LogQuery): Query {
  const { series, range, standing } = query;
  return {
    ...(series && names(series)),
    metric: query.metric,
    chart: query.chart,
    rule: query.rules.join(","),
    severity: query.severity === "all" ? null : query.severity,
    open: standing === "open" ? true : standing === "ended" ? false : null,
    acknowledged: standing === "seen" ? true : standing === "unseen" ? false : null,
    search: query.search,
    ...("hours" in range
      ? { hours: range.hours }
      : { from: new Date(range.from).toISOString(), to: new Date(range.to).toISOString() }),
  };
}

/** Whether a violation that was just heard of belongs to what the query lists. */
export function passes(query: LogQuery, violation: ViolationOut, now: number): boolean {
  const { series, range, rules, severity, standing } = query;
  const [began, ended] = [Date.parse(violation.first_signal), Date.parse(violation.last_signal)];
  const [from, to] = "hours" in range ? [now - hoursOf(range) * 3_600_000, Infinity] : [range.from, range.to];
  return (
    !violation.superseded &&
    (series === null || sameSeries(series, violation)) &&
    violation.metric === query.metric &&
    violation.chart === query.chart &&
    (rules.length === 0 || rules.includes(violation.rule)) &&
    (severity === "all" || violation.severity === severity) &&
    (standing === "all" || standing === standingOf(violation, standing)) &&
    ended >= from &&
    began <= to &&
    matches(violation, query.search)
  );
}

function standingOf(violation: ViolationOut, asked: View["standing"]): View["standing"] {
  if (asked === "open" || asked === "ended") return violation.open ? "open" : "ended";
  return violation.acknowledged_at === null ? "unseen" : "seen";
}

function matches(violation: ViolationOut, search: string): boolean {
  const { model, provider, server, rule, side, cause, acknowledged_by, note } = violation;
  const text = [model, provider, server, rule, side, cause?.part, acknowledged_by, note].join("\n").toLowerCase();
  return text.includes(search.toLowerCase());
}

/** What the API answers; counts are by rule, whatever rules were asked for. */
export interface LogPage {
  violations: ViolationOut[];
  total: number;
  counts?: Record<string, number>;
}

/**
 * A sparse list of the rows of one query, newest first. `version` rises with every change.
 *
 * Rows are kept by a place that does not change when another comes in at the top: the index, counted from `top`.
 */
export class LogRows {
  version = 0;
  generation = 0; // rises with every new query: the view begins at the top again
  total: number | null = null; // null until the first answer
  counts: Readonly<Record<string, number>> = {};
  loading = false; // what is shown is of the query before, if anything
  error: string | null = null;

  private query: LogQuery | null = null;
  private asked = 0; // which asking an answer is of
  private top = 0;
  private rows = new Map<number, ViolationOut>(); // by place
  private places = new Map<number, number>(); // by id
  private newest: ViolationOut | null = null; // the row at the top, once it was seen
  private counted = new Set<number>(); // heard of, counted, and not among the rows
  private late: ViolationOut[] = []; // heard of while the first page was on its way
  private moves = 0; // rises when rows change their index
  private moved = 0; // pages in a row that contradicted those before
  private underway = new Set<number>();
  private wanted: readonly [number, number] = [0, 0];
  private beside: number | null = null;
  private listeners = new Set<() => void>();

  constructor(private readonly fetchPage: (query: Query) => Promise<LogPage> = getViolations) {}

  /** Hears of every change; returns how to stop hearing. */
  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** List what a query admits. The same query again changes nothing. */
  ask(query: LogQuery | null): void {
    if (this.generation > 0 && JSON.stringify(query) === JSON.stringify(this.query)) return;
    const before = this.query;
    this.query = query;
    this.generation++;
    const alike =
      before && query && before.metric === query.metric && before.chart === query.chart && sameSource(before.series, query.series);
    if (!alike) {
      this.forget();
      this.total = null;
      this.counts = {};
    }
    this.wanted = [0, 0];
    this.begin();
  }

  /** Ask again for what is in view; what is shown stays until the answer is there. */
  refresh(): void {
    if (this.query) this.begin();
  }

  /** Go on after an error. */
  retry(): void {
    this.begin();
  }

  /** The rows from `start` to before `stop` are looked at. */
  need(start: number, stop: number): void {
    this.wanted = [Math.max(0, start - AHEAD), stop + AHEAD];
    this.pump();
  }

  /** The row at an index; null when it is not here (yet). */
  row(index: number): ViolationOut | null {
    return this.rows.get(this.top + index) ?? null;
  }

  /** Where a violation stands; -1 when that is not known. */
  indexOf(id: number): number {
    const place = this.places.get(id);
    return place === undefined ? -1 : place - this.top;
  }

  /** The id of the next newer (-1) or older (1) row; null at the end, and while it has yet to be loaded. */
  neighbour(id: number, step: -1 | 1): number | null {
    const index = this.indexOf(id);
    const next = index + step;
    if (index < 0 || next < 0 || next >= (this.total ?? 0)) return null;
    const row = this.row(next);
    if (row === null) {
      this.beside = next;
      this.pump();
    }
    return row?.id ?? null;
  }

  /** The ids of the loaded rows from one index to another, both included. */
  idsBetween(from: number, to: number): number[] {
    const ids: number[] = [];
    for (let i = Math.min(from, to); i <= Math.max(from, to); i++) {
      const row = this.row(i);
      if (row) ids.push(row.id);
    }
    return ids;
  }

  /** All rows that are here, in no order. */
  get loaded(): ReadonlyMap<number, number> {
    return this.places;
  }

  /** A violation began, went on or was changed: put it where it belongs. */
  apply(violation: ViolationOut): void {
    const { query } = this;
    if (!query) return;
    if (this.loading) this.late.push(violation);
    const place = this.places.get(violation.id);
    if (place !== undefined) {
      if (violation.superseded) this.remove(place, violation.rule);
      else this.rows.set(place, violation);
      this.changed();
      return;
    }
    if (this.loading || !passes({ ...query, rules: [] }, violation, Date.now())) return;
    if (query.rules.length && !query.rules.includes(violation.rule)) {
      if (violation.count > 1 || this.counted.has(violation.id)) return;
      this.counted.add(violation.id);
      this.count(violation.rule, 1);
      this.changed();
      return;
    }
    const index = this.placeOf(violation);
    if (index === null) return;
    this.insert(index, violation);
    this.changed();
  }

  /** Note that somebody has seen these. Rejects with a sentence. */
  async acknowledge(ids: readonly number[], who: string, note: string): Promise<void> {
    for (let i = 0; i < ids.length; i += IDS_AT_ONCE) await acknowledgeMany(ids.slice(i, i + IDS_AT_ONCE), who, note);
    const at = new Date().toISOString();
    for (const id of ids) {
      const place = this.places.get(id);
      const row = place === undefined ? undefined : this.rows.get(place);
      if (place === undefined || !row) continue;
      this.rows.set(place, { ...row, acknowledged_at: at, acknowledged_by: who, note: note || null });
    }
    this.changed();
    if (this.query?.standing === "unseen" || this.query?.standing === "seen") this.refresh();
  }

  private begin(): void {
    this.asked++;
    this.underway.clear();
    this.late = [];
    this.error = null;
    this.loading = this.query !== null;
    this.moved = 0;
    this.pump();
    this.changed();
  }

  private forget(): void {
    this.top = 0;
    this.moves++;
    this.rows.clear();
    this.places.clear();
    this.newest = null;
    this.counted.clear();
    this.beside = null;
  }

  /** Ask for the next page that is wanted and not here. */
  private pump(): void {
    if (!this.query || this.error !== null) return;
    while (this.underway.size < (this.loading ? 1 : AT_ONCE)) {
      const offset = this.loading ? startOfPage(this.wanted[0]) : this.missing();
      if (offset === null) return;
      this.underway.add(offset);
      void this.load(offset);
    }
  }

  private missing(): number | null {
    const spans = [this.wanted, this.beside === null ? ([0, 0] as const) : ([this.beside, this.beside + 1] as const)];
    for (const [start, stop] of spans) {
      for (let i = start; i < Math.min(stop, this.total ?? 0); i++) {
        if (this.rows.has(this.top + i)) continue;
        const offset = startOfPage(i);
        if (!this.underway.has(offset)) return offset;
        i = offset + PAGE - 1;
      }
    }
    return null;
  }

  private async load(offset: number, tries = 0): Promise<void> {
    const { asked, moves, query } = this;
    if (!query) return;
    try {
      const page = await this.fetchPage({ ...parametersOf(query), limit: PAGE, offset });
      if (asked !== this.asked) return;
      if (!this.loading && moves !== this.moves && tries < AGAIN) {
        void this.load(offset, tries + 1); // a row came in while this was on its way: before or after it was answered?
        return;
      }
      this.store(offset, page);
    } catch (error) {
      if (asked !== this.asked) return;
      this.error = (error as Error).message;
      this.loading = false;
    }
    this.underway.delete(offset);
    this.pump();
    this.changed();
  }

  private store(offset: number, page: LogPage): void {
    const first = this.loading;
    const contradicts = !first && this.contradicts(offset, page.violations);
    if (first || contradicts) this.forget();
    this.moved = contradicts ? this.moved + 1 : 0;
    if (this.moved > MOST_MOVED) this.error = "The log does not hold still long enough to be read.";
    page.violations.forEach((violation, i) => this.put(this.top + offset + i, violation));
    if (offset === 0) this.newest = page.violations[0] ?? null;
    // A short page is the end, whatever the total says: the window may have moved on between the two.
    const end = offset + page.violations.length;
    this.total = page.violations.length < PAGE ? Math.min(page.total, end) : page.total;
    this.counts = page.counts ?? {};
    this.loading = false;
    this.trim();
    const late = first ? this.late : [];
    this.late = [];
    for (const violation of late) {
      const place = this.places.get(violation.id);
      const row = place === undefined ? undefined : this.rows.get(place);
      if (!row || (row.count <= violation.count && (row.open || !violation.open))) this.apply(violation);
    }
  }

  /** Whether a page says other than the rows here: then something came or went unheard. */
  private contradicts(offset: number, violations: readonly ViolationOut[]): boolean {
    return violations.some((violation, i) => {
      const place = this.top + offset + i;
      const here = this.rows.get(place);
      const known = this.places.get(violation.id);
      return (known !== undefined && known !== place) || (here !== undefined && here.id !== violation.id);
    });
  }

  private put(place: number, violation: ViolationOut): void {
    this.rows.set(place, violation);
    this.places.set(violation.id, place);
  }

  /** The index at which a new violation belongs; null when that is among rows that are not here: then it is not new. */
  private placeOf(violation: ViolationOut): number | null {
    const total = this.total ?? 0;
    for (let i = 0; i < total; i++) {
      const row = this.row(i);
      if (row === null) return i === 0 && this.newest && isNewer(violation, this.newest) ? 0 : null;
      if (isNewer(violation, row)) return i;
    }
    return total;
  }

  private insert(index: number, violation: ViolationOut): void {
    this.top--;
    for (let i = 0; i < index; i++) {
      const row = this.rows.get(this.top + i + 1);
      if (row) this.put(this.top + i, row);
    }
    this.put(this.top + index, violation);
    if (index === 0) this.newest = violation;
    this.total = (this.total ?? 0) + 1;
    this.count(violation.rule, 1);
    this.moves++;
  }

  /** What was judged again and superseded goes; the rows above it move down by one. */
  private remove(place: number, rule: string): void {
    const gone = this.rows.get(place);
    if (gone) this.places.delete(gone.id);
    for (let at = place; at > this.top; at--) {
      const row = this.rows.get(at - 1);
      if (row) this.put(at, row);
      else this.rows.delete(at);
    }
    this.rows.delete(this.top);
    this.top++;
    if (gone?.id === this.newest?.id) this.newest = this.row(0);
    this.total = Math.max(0, (this.total ?? 0) - 1);
    this.count(rule, -1);
    this.moves++;
  }

  private count(rule: string, by: number): void {
    this.counts = { ...this.counts, [rule]: Math.max(0, (this.counts[rule] ?? 0) + by) };
  }

  private trim(): void {
    if (this.rows.size <= KEPT) return;
    const middle = this.top + (this.wanted[0] + this.wanted[1]) / 2;
    for (const [place, row] of this.rows) {
      if (Math.abs(place - middle) <= KEPT / 4) continue;
      this.rows.delete(place);
      this.places.delete(row.id);
    }
  }

  private changed(): void {
    this.version++;
    for (const listener of this.listeners) listener();
  }
}

const startOfPage = (index: number): number => index - (index % PAGE);

function sameSource(a: SeriesName | null, b: SeriesName | null): boolean {
  return a === b || (a !== null && b !== null && sameSeries(a, b));
}

/** Whether one violation stands above another in the log. */
function isNewer(one: ViolationOut, other: ViolationOut): boolean {
  const order = one.first_signal.localeCompare(other.first_signal);
  return order > 0 || (order === 0 && one.id > other.id);
}
