// The small picture of a target: band and median of each stretch between its limits. What is drawn where is pure.

import type { OverviewTargetOut } from "./api/schema";
import type { Palette } from "./chart/palette";
import { GLYPHS } from "./glyphs";

type Pictured = Pick<OverviewTargetOut, "times_ms" | "low" | "middle" | "high" | "centre" | "ucl" | "lcl">;

const BEYOND = 1.2; // of the distance between centre and limit that is shown outside of it: one outlier flattens nothing
const MARK_EVERY_PX = 9; // marks nearer than this are one

/** The values at the bottom and the top; null when nothing is known. */
export function rangeOf(target: Pictured): readonly [number, number] | null {
  const { centre, ucl, lcl } = target;
  const known = (column: readonly (number | null)[]): number[] => column.filter((value) => value !== null);
  const lows = known(target.low);
  const highs = known(target.high);
  const limits = [centre, ucl, lcl].filter((value) => value !== null);
  if (lows.length + limits.length === 0) return null;
  let bottom = Math.min(...lows, ...limits);
  let top = Math.max(...highs, ...limits);
  if (centre !== null && ucl !== null) {
    top = Math.min(top, ucl + BEYOND * (ucl - centre));
    bottom = Math.max(bottom, (lcl ?? 2 * centre - ucl) - BEYOND * (ucl - centre));
  }
  const middles = known(target.middle);
  if (limits.length === 0 && middles.length > 0) {
    const [least, most] = [Math.min(...middles), Math.max(...middles)];
    const spread = most - least || 0.1 * Math.abs(most);
    top = Math.min(top, most + BEYOND * spread);
    bottom = Math.max(bottom, least - BEYOND * spread);
  }
  const room = 0.06 * (top - bottom) || Math.abs(top) * 0.1 || 1;
  return [bottom - room, top + room];
}

/** A run of stretches with points beyond a limit, at its furthest. */
export interface Outside {
  at: number; // position of the stretch
  value: number;
}

/** Where points lie beyond a limit; runs of neighbours at most `apart` stretches from each other are one. */
export function outside(target: Pictured, apart: number): Outside[] {
  const { ucl, lcl } = target;
  const found: (Outside & { far: number; last: number })[] = [];
  target.times_ms.forEach((_time, at) => {
    const high = target.high[at] ?? null;
    const low = target.low[at] ?? null;
    const above = high !== null && ucl !== null ? high - ucl : -1;
    const below = low !== null && lcl !== null ? lcl - low : -1;
    const far = Math.max(above, below);
    const value = above >= below ? high : low;
    if (far <= 0 || value === null) return;
    const run = found.at(-1);
    if (!run || at - run.last > apart) found.push({ at, value, far, last: at });
    else {
      run.last = at;
      if (far > run.far) Object.assign(run, { at, value, far });
    }
  });
  return found.map(({ at, value }) => ({ at, value }));
}

/** Draw onto a cleared context whose unit is one CSS pixel. */
export function drawSpark(context: CanvasRenderingContext2D, width: number, height: number, target: Pictured, stepMs: number, palette: Palette): void {
  const range = rangeOf(target);
  const { times_ms: times, low, middle, high } = target;
  const first = times[0];
  if (!range || first === undefined || width < 10) return;
  const [bottom, top] = range;
  const span = (times.at(-1) ?? first) + stepMs - first;
  const x = (at: number): number => (((times[at] ?? first) + stepMs / 2 - first) / span) * width;
  const y = (value: number): number => Math.min(height - 3, Math.max(3, height - ((value - bottom) / (top - bottom)) * height));
  const limit = (value: number | null, colour: string, dash: number[], thick: number): void => {
    if (value === null || value < bottom) return;
    context.beginPath();
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.setLineDash(dash);
    context.moveTo(0, Math.round(y(value)) + 0.5);
    context.lineTo(width, Math.round(y(value)) + 0.5);
    context.stroke();
    context.setLineDash([]);
  };
  limit(target.centre, palette.cl, [], 1);
  limit(target.ucl, palette.ucl, [5, 3], 1.2);
  limit(target.lcl, palette.lcl, [1.5, 2.5], 1.2);

  for (const [start, stop] of runsOf(middle)) {
    if (stop - start === 1) {
      const value = middle[start] ?? 0;
      context.fillStyle = palette.data;
      context.fillRect(x(start) - 1, Math.min(y(high[start] ?? value), y(value) - 1), 2, Math.max(2, y(low[start] ?? value) - y(high[start] ?? value)));
      continue;
    }
    context.beginPath();
    for (let i = start; i < stop; i++) context.lineTo(x(i), y(high[i] ?? middle[i] ?? 0));
    for (let i = stop - 1; i >= start; i--) context.lineTo(x(i), y(low[i] ?? middle[i] ?? 0));
    context.closePath();
    context.globalAlpha = 0.6;
    context.fillStyle = palette["data-raw"];
    context.fill();
    context.globalAlpha = 1;
    context.beginPath();
    for (let i = start; i < stop; i++) context.lineTo(x(i), y(middle[i] ?? 0));
    context.strokeStyle = palette.data;
    context.lineWidth = 1.6;
    context.lineJoin = "round";
    context.stroke();
  }

  const sign = new Path2D(GLYPHS["R1"]);
  const apart = Math.max(1, Math.round((MARK_EVERY_PX / width) * times.length));
  for (const { at, value } of outside(target, apart)) {
    context.save();
    context.translate(Math.min(width - 5, Math.max(5, x(at))), Math.min(height - 5, Math.max(5, y(value))));
    context.scale(0.72, 0.72);
    context.translate(-6, -6);
    context.strokeStyle = palette.surface;
    context.lineWidth = 3;
    context.stroke(sign);
    context.fillStyle = palette["crit-f"];
    context.fill(sign);
    context.restore();
  }
}

/** From where to before where values follow each other without a gap. */
export function runsOf(column: readonly (number | null)[]): [number, number][] {
  const runs: [number, number][] = [];
  column.forEach((value, at) => {
    const run = runs.at(-1);
    if (value === null) return;
    if (run && run[1] === at) run[1]++;
    else runs.push([at, at + 1]);
  });
  return runs;
}
