// How uPlot is set up: axes, series, hooks. What is drawn is in picture.ts and draw.ts.

import type uPlot from "uplot";
import { formatNumber } from "../format";
import { metricText } from "../rules";
import { LANE, drawOver, drawUnder } from "./draw";
import type { Palette } from "./palette";
import type { Kind, Picture } from "./picture";
import { LEAST_SPAN_S, nearest } from "./span";

/** The stop under the pointer or the keys. */
export interface Hover {
  time: number; // of the stop; which one that is changes as points come and go
  left: number;
}

interface Told {
  kind: Kind;
  metric: string;
  log: boolean;
  onZoom: (zoom: [number, number] | null) => void;
}

export function options(
  element: HTMLElement,
  latest: React.RefObject<Told>,
  picture: React.RefObject<Picture | null>,
  palette: React.RefObject<Palette | null>,
  setHover: (hover: Hover | null) => void,
): uPlot.Options {
  const colour = (name: keyof Palette) => (): string => palette.current?.[name] ?? "#888";
  const narrow = element.clientWidth < 560;
  const font = "500 11px Inter Variable, system-ui, sans-serif";
  const unit = (): string => {
    const { kind, metric } = latest.current;
    return kind === "buckets" ? "σ" : kind === "failures" ? "%" : metricText(metric).unit;
  };
  const logarithmic = latest.current.log && latest.current.kind === "points";
  return {
    width: element.clientWidth,
    height: element.clientHeight,
    padding: [LANE, narrow ? 78 : 84, 4, 0],
    legend: { show: false },
    scales: { x: { time: true, auto: false }, y: { auto: false, distr: logarithmic ? 3 : 1 } },
    cursor: { points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 8 }, y: false },
    series: [
      {},
      { stroke: colour("data-raw"), width: 1, points: { show: false }, spanGaps: false },
      { stroke: colour("data"), width: 2, points: { show: false }, spanGaps: false },
      { stroke: "transparent", width: 0, points: { show: false } },
      { stroke: "transparent", width: 0, points: { show: false } },
    ],
    bands: [{ series: [4, 3], fill: colour("data-raw") }],
    axes: [
      { stroke: colour("ink-3"), font, grid: { show: false }, ticks: { stroke: colour("line"), size: 4 }, size: 30, space: 74, values: timeTicks },
      {
        stroke: colour("ink-3"),
        font,
        size: (_u, values) => Math.max(narrow ? 46 : 52, 12 + 6.4 * Math.max(0, ...(values ?? []).map((value) => value?.length ?? 0))),
        grid: { stroke: colour("line"), width: 1 },
        ticks: { show: false },
        space: logarithmic ? 24 : 30,
        values: (_u, ticks) => valueTicks(ticks, unit(), logarithmic),
      },
    ],
    hooks: {
      drawAxes: [(u) => picture.current && palette.current && drawUnder(u, picture.current.scene, palette.current)],
      draw: [(u) => picture.current && palette.current && drawOver(u, picture.current.scene, palette.current)],
      setCursor: [
        (u) => {
          const left = u.cursor.left ?? -1;
          const shown = picture.current;
          if (left < 0 || !shown || shown.stops.length === 0) setHover(null);
          else {
            const time = shown.stops[nearest(shown.stops, u.posToVal(left, "x"))] ?? 0;
            setHover({ time, left: left + u.bbox.left / (window.devicePixelRatio || 1) });
          }
        },
      ],
      setSelect: [
        (u) => {
          if (u.select.width < 8) return;
          const from = u.posToVal(u.select.left, "x");
          const to = u.posToVal(u.select.left + u.select.width, "x");
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          latest.current.onZoom([Math.round(from * 1000), Math.round(Math.max(to, from + LEAST_SPAN_S) * 1000)]);
        },
      ],
      ready: [(u) => u.over.addEventListener("dblclick", () => latest.current.onZoom(null))],
    },
  };
}

export function valueTicks(ticks: readonly (number | null)[], unit: string, logarithmic: boolean): (string | null)[] {
  const step = ((ticks[1] ?? 1) as number) - ((ticks[0] ?? 0) as number);
  const even = [0, 1, 2, 3, 4].find((digits) => Math.abs(Math.round(step * 10 ** digits) - step * 10 ** digits) < 1e-6) ?? 4;
  return ticks.map((tick) => {
    if (tick === null) return null;
    const decimals = logarithmic ? Math.min(4, Math.max(0, -Math.floor(Math.log10(tick) + 1e-9))) : even;
    return `${formatNumber(tick, decimals)} ${unit}`;
  });
}

const ticksOf = (options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat => new Intl.DateTimeFormat(undefined, options);
const hourMinute = ticksOf({ hour: "2-digit", minute: "2-digit", hour12: false });
const withSeconds = ticksOf({ hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const days = ticksOf({ day: "numeric", month: "short" });

/** Local time of day; the date where a day begins, and alone when ticks are days apart. */
function timeTicks(_u: uPlot, ticks: number[]): string[] {
  const step = (ticks[1] ?? 60) - (ticks[0] ?? 0);
  return ticks.map((tick, i) => {
    const at = new Date(tick * 1000);
    if (step >= 86_400) return days.format(at);
    const before = ticks[i - 1];
    const newDay = before !== undefined && new Date(before * 1000).getDate() !== at.getDate();
    const clock = (step < 60 ? withSeconds : hourMinute).format(at);
    return newDay ? (clock === "00:00" ? days.format(at) : `${days.format(at)} ${clock}`) : clock;
  });
}
