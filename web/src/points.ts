// The points on the chart, in typed arrays outside of React: append at the right, drop at the left, no copies a tick.

import type { LiveObservationOut } from "./api/schema";

const ROOM = 1024;
const REMEMBERED = 512; // changes; whoever looks less often is told that anything may have changed

/** Points as the API tells them. */
export interface Columns {
  ids?: number[] | null;
  times_ms?: number[] | null;
  values?: (number | null)[] | null;
  oks?: number[] | null;
  eval_counts?: (number | null)[] | null;
}

/** Growable columns of one window; `version` rises with every change. Values are NaN for failed probes. */
export class Points {
  version = 0;
  private start = 0;
  private stop = 0;
  private idColumn = new Float64Array(ROOM);
  private timeColumn = new Float64Array(ROOM); // seconds since 1970
  private valueColumn = new Float64Array(ROOM);
  private tokenColumn = new Float64Array(ROOM);
  private failed: number[] = []; // times of failed probes, in order of arrival
  private changes: number[] = []; // the earliest moment that each of the newest changes touched
  private listeners = new Set<() => void>();

  get length(): number {
    return this.stop - this.start;
  }
  get ids(): Float64Array {
    return this.idColumn.subarray(this.start, this.stop);
  }
  get times(): Float64Array {
    return this.timeColumn.subarray(this.start, this.stop);
  }
  get values(): Float64Array {
    return this.valueColumn.subarray(this.start, this.stop);
  }
  get tokens(): Float64Array {
    return this.tokenColumn.subarray(this.start, this.stop);
  }
  get lastId(): number {
    return this.length ? (this.idColumn[this.stop - 1] ?? 0) : 0;
  }

  /** Hears of every change; returns how to stop hearing. */
  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Times of the failed probes in a span. */
  failures(from: number, to: number): number[] {
    return this.failed.filter((time) => time >= from && time <= to);
  }

  /** The earliest moment that has changed since a version, in seconds; infinity when nothing has. */
  changedSince(version: number): number {
    const missed = this.version - version;
    if (version < 0 || missed > this.changes.length) return -Infinity;
    return missed === 0 ? Infinity : Math.min(...this.changes.slice(-missed));
  }

  clear(): void {
    this.start = this.stop = 0;
    this.failed = [];
    this.changed(-Infinity);
  }

  /** Replace everything by a loaded window. */
  load(window: Columns): void {
    this.start = this.stop = 0;
    this.failed = [];
    this.append(window);
    this.changed(-Infinity);
  }

  /** Add a delta of the API; points that are here already are passed over. */
  append(window: Columns): void {
    const ids = window.ids ?? [];
    const times = window.times_ms ?? [];
    let earliest = Infinity;
    for (let i = 0; i < ids.length; i++) {
      const time = (times[i] ?? 0) / 1000;
      if (!this.push(ids[i] ?? 0, time, window.values?.[i] ?? NaN, window.eval_counts?.[i] ?? NaN)) continue;
      if (window.oks?.[i] === 0) this.failed.push(time);
      earliest = Math.min(earliest, time);
    }
    if (earliest < Infinity) this.changed(earliest);
  }

  /** Add one live point; false when it was here already. */
  add(point: LiveObservationOut, value: number | null): boolean {
    const added = this.push(point.id, point.time_ms / 1000, value ?? NaN, point.eval_count ?? NaN);
    if (added && !point.ok) this.failed.push(point.time_ms / 1000);
    if (added) this.changed(point.time_ms / 1000);
    return added;
  }

  /** Drop what is older than a moment, in seconds since 1970. */
  dropBefore(seconds: number): void {
    let { start } = this;
    while (start < this.stop && (this.timeColumn[start] ?? 0) < seconds) start++;
    if (start !== this.start) {
      this.start = start; // the stretches that are drawn lie after it: nothing to tell
      let gone = 0;
      while ((this.failed[gone] ?? Infinity) < seconds) gone++;
      if (gone) this.failed = this.failed.slice(gone);
    }
  }

  /** The position of the last point at or before a moment; -1 when there is none. */
  at(seconds: number): number {
    return this.search((time) => time <= seconds) - 1;
  }

  /** The position of the first point at or after a moment; the length when there is none. */
  from(seconds: number): number {
    return this.search((time) => time < seconds);
  }

  /** The position of the point with that id; -1 when it is not here. */
  indexOf(id: number): number {
    const { ids } = this;
    let low = 0;
    let high = ids.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((ids[middle] ?? 0) < id) low = middle + 1;
      else high = middle;
    }
    return ids[low] === id ? low : ids.indexOf(id); // late points stand out of the order of ids
  }

  private search(isBefore: (time: number) => boolean): number {
    let low = this.start;
    let high = this.stop;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.timeColumn[middle] ?? 0)) low = middle + 1;
      else high = middle;
    }
    return low - this.start;
  }

  private push(id: number, time: number, value: number, tokens: number): boolean {
    const last = this.stop - 1;
    if (last >= this.start) {
      if (id <= (this.idColumn[last] ?? 0) && this.holds(id)) return false;
      if (time < (this.timeColumn[last] ?? 0)) return this.insert(id, time, value, tokens);
    }
    this.makeRoom();
    this.write(this.stop++, id, time, value, tokens);
    return true;
  }

  private holds(id: number): boolean {
    for (let i = this.stop - 1; i >= this.start; i--) if (this.idColumn[i] === id) return true;
    return false;
  }

  /** A late point goes where its time belongs: the chart's x must rise. */
  private insert(id: number, time: number, value: number, tokens: number): boolean {
    this.makeRoom();
    let i = this.stop++;
    while (i > this.start && (this.timeColumn[i - 1] ?? 0) > time) {
      this.write(
        i,
        this.idColumn[i - 1] ?? 0,
        this.timeColumn[i - 1] ?? 0,
        this.valueColumn[i - 1] ?? NaN,
        this.tokenColumn[i - 1] ?? NaN,
      );
      i--;
    }
    this.write(i, id, time, value, tokens);
    return true;
  }

  private write(i: number, id: number, time: number, value: number, tokens: number): void {
    this.idColumn[i] = id;
    this.timeColumn[i] = time;
    this.valueColumn[i] = value;
    this.tokenColumn[i] = tokens;
  }

  private makeRoom(): void {
    if (this.stop < this.idColumn.length) return;
    const held = this.length;
    const size = Math.max(this.idColumn.length, 2 * held + ROOM);
    for (const name of ["idColumn", "timeColumn", "valueColumn", "tokenColumn"] as const) {
      const column = new Float64Array(size);
      column.set(this[name].subarray(this.start, this.stop));
      this[name] = column;
    }
    this.start = 0;
    this.stop = held;
  }

  private changed(from: number): void {
    this.version++;
    this.changes.push(from);
    if (this.changes.length > 2 * REMEMBERED) this.changes = this.changes.slice(-REMEMBERED);
    for (const listener of this.listeners) listener();
  }
}
