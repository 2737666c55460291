// Too many points to draw one by one: lowest, median and highest of equal stretches of time. The extremes are kept,
// so no point out of control is averaged away. Stretches are computed once and kept; a new point touches only its own.

import type { RollupOut } from "../api/schema";
import type { Points } from "../points";

export const BUCKETS = 480; // about so many stretches are drawn

/** Stretches as columns of equal length, in order of time; null where nothing good was measured. */
export interface Envelope {
  times: number[]; // their middles, seconds since 1970
  low: (number | null)[];
  middle: (number | null)[];
  high: (number | null)[];
}

const STEPS = [1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/** How many seconds a stretch has when a span is drawn in about `BUCKETS` of them. */
export function stepFor(seconds: number): number {
  return STEPS.find((step) => step >= (0.99 * seconds) / BUCKETS) ?? 86_400;
}

interface Stretch {
  low: number;
  middle: number;
  high: number;
}

/** The stretches of one window of points. */
export class Summary {
  private readonly stretches = new Map<number, Stretch | null>();
  private seen = -1; // the version of the points that the stretches are of

  constructor(
    private readonly points: Points,
    readonly step: number, // seconds
  ) {}

  /** The stretches of a span in seconds; one that is touched by a changed point is computed anew. */
  of(from: number, to: number): Envelope {
    const changed = this.points.changedSince(this.seen);
    this.seen = this.points.version;
    if (changed < Infinity) this.forgetFrom(changed);
    const found: Envelope = { times: [], low: [], middle: [], high: [] };
    const last = Math.floor(to / this.step);
    for (let slot = Math.floor(from / this.step); slot <= last; slot++) {
      let stretch = this.stretches.get(slot);
      if (stretch === undefined) {
        stretch = this.compute(slot);
        this.stretches.set(slot, stretch);
      }
      found.times.push((slot + 0.5) * this.step);
      found.low.push(stretch?.low ?? null);
      found.middle.push(stretch?.middle ?? null);
      found.high.push(stretch?.high ?? null);
    }
    return found;
  }

  private forgetFrom(seconds: number): void {
    const from = Math.floor(seconds / this.step);
    for (const slot of this.stretches.keys()) if (slot >= from) this.stretches.delete(slot);
  }

  private compute(slot: number): Stretch | null {
    const { points, step } = this;
    const begin = points.from(slot * step);
    const end = points.from((slot + 1) * step);
    const held = points.values.slice(begin, end);
    let n = 0;
    for (const value of held) if (!Number.isNaN(value)) held[n++] = value;
    if (n === 0) return null;
    const good = held.subarray(0, n).sort();
    return { low: good[0] ?? 0, middle: good[n >> 1] ?? 0, high: good[n - 1] ?? 0 };
  }
}

/** What the server made of a longer span, in the same form. */
export function envelopeOf(rollup: RollupOut): Envelope {
  const half = rollup.step_s / 2;
  return {
    times: rollup.times_ms.map((ms) => ms / 1000 + half),
    low: rollup.min,
    middle: rollup.median,
    high: rollup.max,
  };
}
