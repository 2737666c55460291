// What is drawn around uPlot's lines: zones and limits under the data; the event lane, marks and labels over it.

import type uPlot from "uplot";
import { formatNumber } from "../format";
import { GLYPHS } from "../glyphs";
import { cluster, type Cluster, type Mark } from "./marks";
import type { Palette } from "./palette";
import type { Scene, Span } from "./picture";

const TRACED = 40; // points of a run that is drawn as a thicker line
export const LANE = 28; // px above the plot: phases, notes, incidents
const FONT = "Inter Variable, system-ui, sans-serif";
const ratio = (): number => window.devicePixelRatio || 1;

interface Frame {
  u: uPlot;
  context: CanvasRenderingContext2D;
  left: number;
  top: number;
  right: number;
  bottom: number;
  px: number; // device pixels of a CSS pixel
  palette: Palette;
}

function frameOf(u: uPlot, palette: Palette): Frame {
  const { left, top, width, height } = u.bbox;
  return { u, context: u.ctx, left, top, right: left + width, bottom: top + height, px: ratio(), palette };
}

function font(frame: Frame, pixels: number, weight = 500): void {
  frame.context.font = `${weight} ${pixels * frame.px}px ${FONT}`;
}

const xOf = (frame: Frame, time: number): number => frame.u.valToPos(time, "x", true);
const yOf = (frame: Frame, value: number): number => frame.u.valToPos(value, "y", true);

/** Under the data: what was excluded, zones, limits, dividers of phases, what is promised. */
export function drawUnder(u: uPlot, scene: Scene, palette: Palette): void {
  const frame = frameOf(u, palette);
  const { context, left, top, right, bottom } = frame;
  context.save(); // uPlot remembers which styles it has set
  context.save();
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  context.clip();
  for (const span of scene.spans) if (span.kind === "excluded") hatch(frame, span);
  drawLimits(frame, scene);
  if (scene.slo !== null) line(frame, left, right, yOf(frame, scene.slo), palette["info-f"], [10, 3, 2, 3], 1.5);
  drawBars(frame, scene);
  context.restore();
  drawLane(frame, scene);
  context.restore();
}

function line(frame: Frame, x0: number, x1: number, y: number, colour: string, dash: number[], thick: number): void {
  const { context, px } = frame;
  context.strokeStyle = colour;
  context.lineWidth = thick * px;
  context.setLineDash(dash.map((d) => d * px));
  context.beginPath();
  context.moveTo(x0, y);
  context.lineTo(x1, y);
  context.stroke();
  context.setLineDash([]);
}

const ZONES = ["zone-a", "zone-b", "zone-c", "zone-c", "zone-b", "zone-a"] as const;

/** Zones and limit lines: they step where the limits did; provisional ones are thin and pale. */
function drawLimits(frame: Frame, scene: Scene): void {
  const { context, palette } = frame;
  for (const { from, to, limits } of scene.stretches) {
    const x0 = xOf(frame, from);
    const x1 = xOf(frame, to);
    const lines = limits.zones.map((value) => yOf(frame, value));
    const provisional = limits.state === "provisional";
    context.globalAlpha = provisional ? 0.45 : 1;
    ZONES.forEach((zone, i) => {
      const low = lines[i] ?? 0;
      const high = lines[i + 1] ?? 0;
      context.fillStyle = palette[zone];
      context.fillRect(x0, high, x1 - x0, low - high);
    });
    context.globalAlpha = provisional ? 0.65 : 1;
    line(frame, x0, x1, lines[3] ?? 0, palette.cl, provisional ? [2, 4] : [], 1.25);
    line(frame, x0, x1, lines[6] ?? 0, palette.ucl, provisional ? [2, 4] : [7, 4], 1.5);
    if (limits.lcl >= 0 || scene.signed) line(frame, x0, x1, lines[0] ?? 0, palette.lcl, provisional ? [2, 4] : [2, 3], 1.5);
    context.globalAlpha = 1;
  }
}

function hatch(frame: Frame, span: Span): void {
  const { context, top, bottom, px, palette } = frame;
  const x0 = xOf(frame, span.from);
  const x1 = Math.max(xOf(frame, span.to), x0 + 2 * px);
  context.save();
  context.beginPath();
  context.rect(x0, top, x1 - x0, bottom - top);
  context.clip();
  context.strokeStyle = palette["ink-3"];
  context.globalAlpha = 0.35;
  context.lineWidth = px;
  context.beginPath();
  for (let x = x0 - (bottom - top); x < x1; x += 7 * px) {
    context.moveTo(x, bottom);
    context.lineTo(x + (bottom - top), top);
  }
  context.stroke();
  context.restore();
}

/** The bars of the p chart, with the limit of each. */
function drawBars(frame: Frame, scene: Scene): void {
  const { context, bottom, px, palette } = frame;
  for (const bar of scene.bars) {
    const x0 = xOf(frame, bar.from);
    const wide = Math.max(xOf(frame, bar.to) - x0 - px, 2 * px);
    const outside = bar.limit !== null && bar.value > bar.limit;
    context.fillStyle = outside ? palette["crit-f"] : palette.data;
    const y = bar.value > 0 ? Math.min(yOf(frame, bar.value), bottom - 2 * px) : bottom;
    context.fillRect(x0, y, wide, bottom - y);
  }
  context.strokeStyle = palette.ucl;
  context.lineWidth = 1.5 * px;
  context.setLineDash([7 * px, 4 * px]);
  context.beginPath();
  let last: number | null = null;
  let end = 0;
  for (const { from, to, limit } of scene.bars) {
    if (limit === null) continue;
    const y = yOf(frame, limit);
    if (last === null || xOf(frame, from) > end + 2 * px) context.moveTo(xOf(frame, from), y);
    else if (y !== last) context.lineTo(xOf(frame, from), y);
    end = xOf(frame, to);
    context.lineTo(end, y);
    last = y;
  }
  context.stroke();
  context.setLineDash([]);
}

/** Above the plot: incidents as bars, phases and notes as flags. Labels that would overlap are shortened or left out. */
function drawLane(frame: Frame, scene: Scene): void {
  const { context, left, top, right, bottom, px, palette } = frame;
  for (const span of scene.spans) {
    if (span.kind !== "incident") continue;
    const x0 = Math.max(left, xOf(frame, span.from));
    const x1 = Math.min(right, Math.max(xOf(frame, span.to), x0 + 3 * px));
    context.fillStyle = palette["crit-f"];
    context.globalAlpha = span.open ? 1 : 0.55;
    context.fillRect(x0, top - 5 * px, x1 - x0, 4 * px);
    context.globalAlpha = 1;
  }
  font(frame, 11, 600);
  context.textBaseline = "middle";
  context.textAlign = "left";
  const y = top - 17 * px;
  let free = left;
  for (const flag of scene.flags) {
    const x = xOf(frame, flag.time);
    context.strokeStyle = flag.kind === "phase" ? palette["ink-2"] : palette["ink-3"];
    context.lineWidth = px;
    context.setLineDash(flag.kind === "phase" ? [3 * px, 3 * px] : [1 * px, 3 * px]);
    context.beginPath();
    context.moveTo(x, top - 8 * px);
    context.lineTo(x, bottom);
    context.stroke();
    context.setLineDash([]);
    const text = fitting(context, [flag.label, flag.short], Math.min(right + 60 * px, x + 320 * px) - x - 16 * px);
    const wide = context.measureText(text).width;
    const at = x;
    if (at < free) continue;
    if (flag.kind === "note") {
      context.fillStyle = palette["info-f"];
      context.beginPath();
      context.arc(at, y, 4 * px, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = palette["ink-2"];
      context.fillText(text, at + 8 * px, y);
    } else {
      context.fillStyle = palette["surface-3"];
      context.beginPath();
      context.roundRect(at, y - 9 * px, wide + 12 * px, 18 * px, 4 * px);
      context.fill();
      context.fillStyle = palette["ink-2"];
      context.fillText(text, at + 6 * px, y);
    }
    free = at + wide + 18 * px;
  }
}

/** The first text that fits, the first shortened otherwise. */
function fitting(context: CanvasRenderingContext2D, texts: readonly string[], wide: number): string {
  const found = texts.find((text) => context.measureText(text).width <= wide);
  if (found !== undefined && found !== "") return found;
  let text = texts[0] ?? "";
  while (text.length > 1 && context.measureText(`${text}…`).width > wide) text = text.slice(0, -1);
  return text.length > 1 ? `${text}…` : "";
}

/** Over the data: failed probes, runs, marks, and the names of the lines at the right. */
export function drawOver(u: uPlot, scene: Scene, palette: Palette): void {
  const frame = frameOf(u, palette);
  frame.context.save();
  drawFailures(frame, scene);
  drawDots(frame, scene);
  drawMarks(frame, scene);
  drawLineLabels(frame, scene);
  frame.context.restore();
}

function drawFailures(frame: Frame, scene: Scene): void {
  const { context, left, right, bottom, px, palette } = frame;
  context.strokeStyle = palette["crit-f"];
  context.lineWidth = 1.5 * px;
  context.beginPath();
  for (const time of scene.failures) {
    const x = xOf(frame, time);
    if (x < left || x > right) continue;
    context.moveTo(x, bottom);
    context.lineTo(x, bottom - 9 * px);
  }
  context.stroke();
}

function drawDots(frame: Frame, scene: Scene): void {
  const { context, px, palette } = frame;
  context.fillStyle = palette.data;
  for (const { x, y } of scene.dots) {
    context.beginPath();
    context.arc(xOf(frame, x), yOf(frame, y), 2.2 * px, 0, 2 * Math.PI);
    context.fill();
  }
}

interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

const overlap = (a: Box, b: Box): boolean => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

function drawMarks(frame: Frame, scene: Scene): void {
  const clusters = cluster(scene.marks, (time) => frame.u.valToPos(time, "x"), scene.selected);
  for (const mark of scene.marks) if (mark.end > mark.start) drawRun(frame, scene, mark);
  const taken: Box[] = [];
  for (const one of clusters) drawCluster(frame, scene, one, taken);
}

function drawCluster(frame: Frame, scene: Scene, one: Cluster, taken: Box[]): void {
  const { context, left, top, right, bottom, px, palette } = frame;
  const { worst: mark, count } = one;
  const { violation } = mark;
  const size = 5.5 * px;
  const colour = palette[violation.severity === "critical" ? "crit-f" : "warn-f"];
  const x = xOf(frame, mark.time);
  const y = yOf(frame, mark.value);
  const above = y < top + size;
  const below = y > bottom - size;
  const shown = above ? top + size : below ? bottom - size : y;
  if (above) {
    context.strokeStyle = colour;
    context.lineWidth = 1.5 * px;
    context.beginPath();
    context.moveTo(x, shown + size);
    context.lineTo(x, shown + 3.4 * size);
    context.stroke();
  }
  glyph(frame, violation.rule, violation.side, x, shown, colour);
  if (violation.id === scene.selected) ring(frame, x, shown, size);
  taken.push({ x: x - size, y: shown - size, w: 2 * size, h: 2 * size });
  font(frame, 10.5, 650);
  const label =
    count > 1 ? String(count) : above ? `${violation.rule} ↑ ${formatNumber(mark.value, scene.decimals)}` : violation.rule;
  const wide = context.measureText(label).width;
  const high = 12 * px;
  const gap = 3 * px;
  const places: Box[] = [
    { x: x - wide / 2, y: shown - size - gap - high, w: wide, h: high },
    { x: x - wide / 2, y: shown + size + gap, w: wide, h: high },
    { x: x + size + gap, y: shown - high / 2, w: wide, h: high },
    { x: x - size - gap - wide, y: shown - high / 2, w: wide, h: high },
  ];
  const place = places.find(
    (box) =>
      box.x >= left &&
      box.x + box.w <= right &&
      box.y >= top &&
      box.y + box.h <= bottom &&
      !taken.some((other) => overlap(box, other)),
  );
  if (!place) return;
  taken.push(place);
  context.textAlign = "left";
  context.textBaseline = "top";
  context.lineWidth = 3 * px;
  context.strokeStyle = palette.surface;
  context.strokeText(label, place.x, place.y);
  context.fillStyle = colour;
  context.fillText(label, place.x, place.y);
}

/** The stretch of a run or trend: its own line, thicker; a bar at the bottom where it is long or not single points. */
function drawRun(frame: Frame, scene: Scene, mark: Mark): void {
  const { context, left, right, bottom, px, palette } = frame;
  const colour = palette[mark.violation.severity === "critical" ? "crit-f" : "warn-f"];
  const first = scene.run ? lowerBound(scene.run.times, mark.start - 0.001) : 0;
  const last = scene.run ? lowerBound(scene.run.times, mark.end + 0.001) : 0;
  if (scene.run === null || last - first > TRACED) {
    const x0 = Math.max(left, xOf(frame, mark.start));
    const x1 = Math.min(right, xOf(frame, mark.end));
    context.fillStyle = colour;
    context.globalAlpha = 0.8;
    context.fillRect(x0, bottom - 3 * px, Math.max(x1 - x0, px), 3 * px);
    context.globalAlpha = 1;
    return;
  }
  const { times, values } = scene.run;
  context.save();
  context.beginPath();
  context.rect(left, frame.top, right - left, bottom - frame.top);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 2.2 * px;
  context.lineJoin = "round";
  context.beginPath();
  let down = false;
  for (let i = first; i < last; i++) {
    const value = values[i] ?? null;
    if (value === null) {
      down = false;
      continue;
    }
    const x = xOf(frame, times[i] ?? 0);
    if (down) context.lineTo(x, yOf(frame, value));
    else context.moveTo(x, yOf(frame, value));
    down = true;
  }
  context.stroke();
  context.restore();
}

function lowerBound(times: ArrayLike<number>, time: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function ring(frame: Frame, x: number, y: number, size: number): void {
  const { context, px, palette } = frame;
  context.strokeStyle = palette.ink;
  context.lineWidth = 1.5 * px;
  context.beginPath();
  context.arc(x, y, size * 1.8, 0, 2 * Math.PI);
  context.stroke();
}

const paths = new Map<string, Path2D>();

function glyph(frame: Frame, rule: string, side: string, x: number, y: number, fill: string): void {
  const { context, px, palette } = frame;
  let path = paths.get(rule);
  if (!path) paths.set(rule, (path = new Path2D(GLYPHS[rule] ?? GLYPHS["R5"])));
  context.save();
  context.translate(x, y);
  context.scale(px, side === "down" ? -px : px);
  context.translate(-6, -6);
  context.lineWidth = 4.4;
  context.lineJoin = "round";
  context.strokeStyle = palette.surface;
  context.stroke(path);
  context.fillStyle = fill;
  context.fill(path);
  context.restore();
}

/** "UCL 2.06" and so on, and the zone letters, for the limits in force at the right edge. */
function drawLineLabels(frame: Frame, scene: Scene): void {
  const { context, top, right, bottom, px, palette } = frame;
  const inside = (y: number): boolean => y >= top - 1 && y <= bottom + 1;
  const labels: { text: string; y: number; colour: string }[] = [];
  const limits = scene.stretches.at(-1)?.limits;
  if (limits) {
    const lines = limits.zones.map((value) => yOf(frame, value));
    font(frame, 10, 500);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = palette["ink-3"];
    ["A", "B", "C", "C", "B", "A"].forEach((letter, i) => {
      const low = lines[i] ?? 0;
      const high = lines[i + 1] ?? 0;
      if (low - high > 12 * px && inside((low + high) / 2)) context.fillText(letter, right + 9 * px, (low + high) / 2);
    });
    const show = (value: number): string => formatNumber(value, scene.decimals);
    const lcl = limits.lcl < 0 && !scene.signed ? "LCL none" : `LCL ${show(limits.lcl)}`;
    labels.push({ text: `UCL ${show(limits.ucl)}`, y: lines[6] ?? 0, colour: palette.ucl });
    labels.push({ text: `CL ${show(limits.centre)}`, y: lines[3] ?? 0, colour: palette.cl });
    labels.push({ text: lcl, y: Math.min(lines[0] ?? 0, bottom), colour: palette.lcl });
  }
  if (scene.slo !== null) labels.push({ text: `SLO ${formatNumber(scene.slo, scene.decimals)}`, y: yOf(frame, scene.slo), colour: palette["info-f"] });
  const limit = scene.bars.findLast((bar) => bar.limit !== null)?.limit ?? null;
  if (limit !== null) labels.push({ text: `UCL ${formatNumber(limit, 1)} %`, y: yOf(frame, limit), colour: palette.ucl });
  font(frame, 10.5, 640);
  context.textAlign = "left";
  context.textBaseline = "middle";
  let last = -Infinity;
  for (const label of labels.filter(({ y }) => inside(y)).sort((a, b) => a.y - b.y)) {
    const y = Math.max(label.y, last + 13 * px);
    context.fillStyle = label.colour;
    context.fillText(label.text, right + 18 * px, y);
    last = y;
  }
}
