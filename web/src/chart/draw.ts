// What is drawn around uPlot's lines: zones and limits under the data, markers and labels over it.

import type uPlot from "uplot";
import { formatNumber } from "../format";
import { LABELLED, type Marker, type Stretch } from "./build";
import type { Palette } from "./palette";

const ratio = (): number => window.devicePixelRatio || 1;
const FONT = "Inter Variable, system-ui, sans-serif";

export interface Scene {
  stretches: readonly Stretch[];
  markers: readonly Marker[];
  failures: readonly number[]; // seconds since 1970
  selected: number | null; // a violation's id
  decimals: number;
  palette: Palette;
}

function font(context: CanvasRenderingContext2D, pixels: number, weight = 500): void {
  context.font = `${weight} ${pixels * ratio()}px ${FONT}`;
}

/** Zones and limit lines: they step where the limits did; provisional ones are thin and pale. */
export function drawUnder(u: uPlot, scene: Scene): void {
  const { ctx: context } = u;
  const { left, top, width, height } = u.bbox;
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  for (const stretch of scene.stretches) {
    const x0 = u.valToPos(stretch.from, "x", true);
    const x1 = u.valToPos(stretch.to, "x", true);
    const lines = stretch.limits.zones.map((value) => u.valToPos(value, "y", true));
    const provisional = stretch.limits.state === "provisional";
    context.globalAlpha = provisional ? 0.45 : 1;
    const zones = ["zone-a", "zone-b", "zone-c", "zone-c", "zone-b", "zone-a"] as const;
    zones.forEach((zone, i) => {
      const low = lines[i] ?? 0;
      const high = lines[i + 1] ?? 0;
      context.fillStyle = scene.palette[zone];
      context.fillRect(x0, high, x1 - x0, low - high);
    });
    const rule = (y: number | undefined, colour: string, dash: number[], thick: number): void => {
      if (y === undefined) return;
      context.strokeStyle = colour;
      context.lineWidth = thick * ratio();
      context.setLineDash(dash.map((d) => d * ratio()));
      context.beginPath();
      context.moveTo(x0, y);
      context.lineTo(x1, y);
      context.stroke();
    };
    context.globalAlpha = provisional ? 0.6 : 1;
    rule(lines[3], scene.palette.cl, provisional ? [2, 4] : [], 1.25);
    rule(lines[6], scene.palette.ucl, provisional ? [2, 4] : [7, 4], 1.5);
    rule(lines[0], scene.palette.lcl, provisional ? [2, 4] : [2, 3], 1.5);
  }
  context.globalAlpha = 1;
  context.setLineDash([]);
  context.restore();
  drawPhases(u, scene);
}

/** A divider and a flag where limits began. */
function drawPhases(u: uPlot, scene: Scene): void {
  const { ctx: context } = u;
  const { left, top, height, width } = u.bbox;
  font(context, 10.5, 600);
  context.textBaseline = "middle";
  let free = left;
  for (const { from, limits } of scene.stretches) {
    const x = u.valToPos(from, "x", true);
    if (x <= left + 2) continue;
    context.strokeStyle = scene.palette["ink-3"];
    context.lineWidth = ratio();
    context.setLineDash([3 * ratio(), 3 * ratio()]);
    context.beginPath();
    context.moveTo(x, top - 16 * ratio());
    context.lineTo(x, top + height);
    context.stroke();
    context.setLineDash([]);
    const label = limits.state === "locked" ? `baseline, n ${limits.n}` : `provisional, n ${limits.n}`;
    const wide = context.measureText(label).width;
    if (x < free || x + wide > left + width + 60 * ratio()) continue;
    context.fillStyle = scene.palette["ink-2"];
    context.textAlign = "left";
    context.fillText(label, x + 5 * ratio(), top - 10 * ratio());
    free = x + wide + 14 * ratio();
  }
}

/** Failed probes, run highlights, markers, and the names of the lines at the right. */
export function drawOver(u: uPlot, scene: Scene): void {
  drawFailures(u, scene);
  drawMarkers(u, scene);
  drawLineLabels(u, scene);
}

function drawFailures(u: uPlot, scene: Scene): void {
  const { ctx: context } = u;
  const bottom = u.bbox.top + u.bbox.height;
  context.strokeStyle = scene.palette["crit-f"];
  context.lineWidth = 1.5 * ratio();
  context.beginPath();
  for (const time of scene.failures) {
    const x = u.valToPos(time, "x", true);
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
    context.moveTo(x, bottom);
    context.lineTo(x, bottom - 9 * ratio());
  }
  context.stroke();
}

interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

const overlap = (a: Box, b: Box): boolean =>
  a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

function drawMarkers(u: uPlot, scene: Scene): void {
  const { ctx: context } = u;
  const { left, top, width, height } = u.bbox;
  const crowded = scene.markers.length > LABELLED;
  const size = (crowded ? 4 : 5.5) * ratio();
  const taken: Box[] = [];
  for (const marker of scene.markers) {
    const { violation } = marker;
    const colour = scene.palette[violation.severity === "critical" ? "crit-f" : "warn-f"];
    const x = u.valToPos(marker.time, "x", true);
    const y = u.valToPos(marker.value, "y", true);
    const above = y < top + size;
    const below = y > top + height - size;
    const shown = above ? top + size : below ? top + height - size : y;
    if (marker.end > marker.start) drawRun(u, marker, colour);
    if (above) {
      context.strokeStyle = colour;
      context.lineWidth = 1.5 * ratio();
      context.beginPath();
      context.moveTo(x, shown + size);
      context.lineTo(x, shown + 3.4 * size);
      context.stroke();
    }
    glyph(context, violation.rule, violation.side, x, shown, size, colour, scene.palette.surface);
    if (violation.id === scene.selected) ring(context, x, shown, size, scene.palette.ink);
    taken.push({ x: x - size, y: shown - size, w: 2 * size, h: 2 * size });
    if (crowded) continue;
    font(context, 10.5, 650);
    const label = above ? `${violation.rule} ↑ ${formatNumber(marker.value, scene.decimals)}` : violation.rule;
    const wide = context.measureText(label).width;
    const high = 12 * ratio();
    const gap = 3 * ratio();
    const places: Box[] = [
      { x: x - wide / 2, y: shown - size - gap - high, w: wide, h: high },
      { x: x - wide / 2, y: shown + size + gap, w: wide, h: high },
      { x: x + size + gap, y: shown - high / 2, w: wide, h: high },
      { x: x - size - gap - wide, y: shown - high / 2, w: wide, h: high },
    ];
    const place = places.find(
      (box) =>
        box.x >= left &&
        box.x + box.w <= left + width &&
        box.y >= top - 14 * ratio() &&
        box.y + box.h <= top + height &&
        !taken.some((other) => overlap(box, other)),
    );
    if (!place) continue;
    taken.push(place);
    context.textAlign = "left";
    context.textBaseline = "top";
    context.lineWidth = 3 * ratio();
    context.strokeStyle = scene.palette.surface;
    context.strokeText(label, place.x, place.y);
    context.fillStyle = colour;
    context.fillText(label, place.x, place.y);
  }
}

/** The stretch of a run or trend, as a bar along the bottom edge. */
function drawRun(u: uPlot, marker: Marker, colour: string): void {
  const { ctx: context } = u;
  const { left, top, width, height } = u.bbox;
  const x0 = Math.max(left, u.valToPos(marker.start, "x", true));
  const x1 = Math.min(left + width, u.valToPos(marker.end, "x", true));
  context.fillStyle = colour;
  context.globalAlpha = 0.8;
  context.fillRect(x0, top + height - 3 * ratio(), Math.max(x1 - x0, ratio()), 3 * ratio());
  context.globalAlpha = 1;
}

function ring(context: CanvasRenderingContext2D, x: number, y: number, size: number, colour: string): void {
  context.strokeStyle = colour;
  context.lineWidth = 1.5 * ratio();
  context.beginPath();
  context.arc(x, y, size * 1.7, 0, 2 * Math.PI);
  context.stroke();
}

/** Diamond for R1, square for R2, block arrow for R3: shape tells the rule, colour the severity. */
function glyph(
  context: CanvasRenderingContext2D,
  rule: string,
  side: string,
  x: number,
  y: number,
  s: number,
  fill: string,
  halo: string,
): void {
  context.beginPath();
  if (rule === "R1") {
    context.moveTo(x, y - s * 1.15);
    context.lineTo(x + s * 1.15, y);
    context.lineTo(x, y + s * 1.15);
    context.lineTo(x - s * 1.15, y);
  } else if (rule === "R2") {
    context.rect(x - s * 0.85, y - s * 0.85, s * 1.7, s * 1.7);
  } else {
    const d = side === "down" ? -1 : 1;
    context.moveTo(x, y - d * s * 1.2);
    context.lineTo(x + s * 1.1, y);
    context.lineTo(x + s * 0.5, y);
    context.lineTo(x + s * 0.5, y + d * s);
    context.lineTo(x - s * 0.5, y + d * s);
    context.lineTo(x - s * 0.5, y);
    context.lineTo(x - s * 1.1, y);
  }
  context.closePath();
  context.lineWidth = 4.4 * ratio();
  context.strokeStyle = halo;
  context.stroke();
  context.fillStyle = fill;
  context.fill();
}

/** "UCL 2.06" and so on, and the zone letters, for the limits in force at the right edge. */
function drawLineLabels(u: uPlot, scene: Scene): void {
  const stretch = scene.stretches.at(-1);
  if (!stretch) return;
  const { ctx: context } = u;
  const { left, top, width, height } = u.bbox;
  const right = left + width;
  const { limits } = stretch;
  const lines = limits.zones.map((value) => u.valToPos(value, "y", true));
  const inside = (y: number): boolean => y >= top - 1 && y <= top + height + 1;
  font(context, 10, 500);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = scene.palette["ink-3"];
  ["A", "B", "C", "C", "B", "A"].forEach((letter, i) => {
    const low = lines[i] ?? 0;
    const high = lines[i + 1] ?? 0;
    if (low - high > 12 * ratio() && inside((low + high) / 2)) {
      context.fillText(letter, right + 9 * ratio(), (low + high) / 2);
    }
  });
  font(context, 10.5, 640);
  context.textAlign = "left";
  const labels = [
    { name: "UCL", value: limits.ucl, y: lines[6] ?? 0, colour: scene.palette.ucl },
    { name: "CL", value: limits.centre, y: lines[3] ?? 0, colour: scene.palette.cl },
    { name: "LCL", value: limits.lcl, y: lines[0] ?? 0, colour: scene.palette.lcl },
  ].filter((label) => inside(label.y));
  let last = -Infinity;
  for (const label of labels) {
    const y = Math.max(label.y, last + 13 * ratio());
    context.fillStyle = label.colour;
    context.fillText(`${label.name} ${formatNumber(label.value, scene.decimals)}`, right + 18 * ratio(), y);
    last = y;
  }
}
