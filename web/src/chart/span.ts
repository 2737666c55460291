// Which span of time the chart shows, and how keys zoom and move it.

import type { Points } from "../points";
import type { Picture } from "./picture";

export interface Span {
  from: number; // seconds since 1970
  to: number;
}

/** What of the chart's properties tells its span. */
export interface Spanned {
  points: Points;
  hours: number | null; // the window runs with the clock; null when `span` is what is shown
  span: Span | null;
  zoom: readonly [number, number] | null; // ms
  frozen: boolean; // paused: what is shown stays
  dimmed: boolean; // the data is old
  onZoom: (zoom: [number, number] | null) => void;
}

export const LEAST_SPAN_S = 10; // zoom

/** The span that is shown now. */
export function spanOf(now: Spanned, heldAt: React.RefObject<number | null>): Span {
  if (now.zoom) return { from: now.zoom[0] / 1000, to: now.zoom[1] / 1000 };
  if (now.span) return now.span;
  const { times } = now.points;
  const clock = Date.now() / 1000;
  const newest = times.at(-1) ?? clock;
  const to = heldAt.current ?? Math.max(newest, now.dimmed ? newest : clock);
  return { from: windowStart(times[0], to, now.hours ?? 1), to };
}

/** Where the view begins: the whole window, or for a young series a little before its first point. */
function windowStart(first: number | undefined, to: number, hours: number): number {
  const whole = to - hours * 3600;
  if (first === undefined || first <= whole + 60) return whole;
  return Math.max(whole, Math.min(first - 5, to - 120));
}

/** The outermost span that can be seen. */
function wholeOf(props: Spanned): Span {
  return spanOf({ ...props, zoom: null, frozen: false }, { current: null });
}

/** The span that was asked for last; the picture of it may be on its way. */
function current(props: Spanned, shown: Picture): readonly [number, number] {
  return props.zoom ? [props.zoom[0] / 1000, props.zoom[1] / 1000] : shown.x;
}

export function zoomTo(props: Spanned, shown: Picture, factor: number, around: number | null): void {
  const [from, to] = current(props, shown);
  const whole = wholeOf(props);
  const wide = Math.max(LEAST_SPAN_S, (to - from) * factor);
  if (wide >= whole.to - whole.from) {
    props.onZoom(null);
    return;
  }
  const middle = around ?? (from + to) / 2;
  move(props, whole, middle - wide / 2, wide);
}

export function pan(props: Spanned, shown: Picture, share: number): void {
  const [from, to] = current(props, shown);
  if (props.zoom) move(props, wholeOf(props), from + share * (to - from), to - from);
}

function move(props: Spanned, whole: Span, from: number, wide: number): void {
  const begin = Math.max(whole.from, Math.min(from, whole.to - wide));
  props.onZoom([Math.round(begin * 1000), Math.round((begin + wide) * 1000)]);
}

/** The position of the stop nearest to a moment. */
export function nearest(stops: ArrayLike<number>, time: number): number {
  let low = 0;
  let high = stops.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((stops[middle] ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low > 0 && time - (stops[low - 1] ?? 0) < (stops[low] ?? 0) - time ? low - 1 : low;
}
