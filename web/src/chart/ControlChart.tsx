// The control chart: mounts uPlot once and feeds it; what it shows is built by pure functions.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { RollupOut, SpcOut, ViolationOut } from "../api/schema";
import { formatNumber } from "../format";
import { Glyph } from "../panels/icons";
import type { Points } from "../points";
import { RULE_TITLES, metricText } from "../rules";
import { LANE, drawOver, drawUnder } from "./draw";
import { marksOf, type Mark } from "./marks";
import { readPalette, type Palette } from "./palette";
import { pictureOf, type Kind, type Picture } from "./picture";
import { Summary, stepFor } from "./summary";

export interface Span {
  from: number; // seconds since 1970
  to: number;
}

interface Props {
  kind: Kind;
  points: Points;
  rollup: RollupOut | null;
  spc: SpcOut | null;
  violations: readonly ViolationOut[];
  metric: string;
  hours: number | null; // the window runs with the clock; null when `span` is what is shown
  span: Span | null;
  zoom: readonly [number, number] | null; // ms
  theme: string;
  fit: "limits" | "all";
  log: boolean;
  slo: number | null;
  frozen: boolean; // paused: what is shown stays
  dimmed: boolean; // the data is old
  selected: number | null;
  onOpen: (id: number) => void;
  onZoom: (zoom: [number, number] | null) => void;
  onDetail: (detail: Picture["detail"], step: number | null) => void;
}

declare global {
  interface Window {
    __llmscope?: {
      count: number;
      lastId: number;
      lastX: number;
      yRange: [number, number];
      xRange: [number, number];
      detail: string;
      draws: number;
      firstMs: number; // since the navigation, of the first picture with points
      markers: { id: number; rule: string; x: number; y: number }[];
    };
  }
}

const LEAST_BETWEEN_MS = 80; // redraws
const LEAST_SPAN_S = 10; // zoom
const KEPT_SUMMARIES = 4;

interface Hover {
  time: number; // of the stop; which one that is changes as points come and go
  left: number;
}

export function ControlChart(props: Props): React.JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef(props);
  latest.current = props;
  const chart = useRef<uPlot | null>(null);
  const picture = useRef<Picture | null>(null);
  const palette = useRef<Palette | null>(null);
  const heldAt = useRef<number | null>(null); // while paused, the newest moment that is shown
  const redraw = useRef<() => void>(() => {});
  const drawn = useRef(""); // what can be seen of the newest picture; empty when it must be drawn again
  const [hover, setHover] = useState<Hover | null>(null);
  const cursor = useRef<number | null>(null); // where the keys are, a moment
  const [spoken, setSpoken] = useState("");

  const marks = useMemo(
    () => (props.kind === "failures" ? [] : marksOf(props.violations, props.kind, props.rollup ? null : props.points)),
    [props.violations, props.kind, props.rollup, props.points],
  );
  const held = useRef<readonly Mark[]>(marks);
  held.current = marks;

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const summaries = new Map<number, Summary>();
    const summary = (from: number, to: number): Summary => {
      const step = stepFor(to - from);
      let found = summaries.get(step);
      if (!found) {
        if (summaries.size >= KEPT_SUMMARIES) summaries.clear();
        summaries.set(step, (found = new Summary(latest.current.points, step)));
      }
      return found;
    };

    const build = (): void => {
      const u = chart.current;
      if (!u || document.hidden) return;
      const now = latest.current;
      const span = spanOf(now, heldAt);
      const width = Math.max(1, u.bbox.width / ratio());
      const shown = pictureOf({ ...now, ...span, marks: held.current, summary, now: Date.now() / 1000, width });
      picture.current = shown;
      tell(u, shown, now.points);
      const seen = visible(u, shown, width);
      if (seen !== "" && seen === drawn.current) return;
      drawn.current = seen;
      palette.current ??= readPalette();
      u.setData(shown.columns as uPlot.AlignedData, false);
      u.batch(() => {
        u.setScale("x", { min: shown.x[0], max: shown.x[1] });
        u.setScale("y", { min: shown.y[0], max: shown.y[1] });
      });
      now.onDetail(shown.detail, shown.step);
      tell(u, shown, now.points); // again: the scales are those of this picture now
      element.dataset.metric = now.metric;
    };

    const schedule = scheduled(build, LEAST_BETWEEN_MS);
    redraw.current = () => {
      drawn.current = "";
      schedule.ask();
    };
    const u = new uPlot(options(element, latest, picture, palette, setHover), [[], [], [], [], []], element);
    chart.current = u;
    const resize = new ResizeObserver(() => {
      u.setSize({ width: element.clientWidth, height: element.clientHeight });
      redraw.current();
    });
    resize.observe(element);
    const stop = latest.current.points.subscribe(() => {
      if (!latest.current.frozen) schedule.ask();
    });
    const tick = setInterval(() => {
      const { frozen, zoom, hours } = latest.current;
      const drawn = picture.current;
      if (frozen || zoom || hours === null || !drawn) return;
      const pixel = (drawn.x[1] - drawn.x[0]) / Math.max(1, u.bbox.width / ratio());
      if (Date.now() / 1000 - drawn.x[1] > pixel / 2) redraw.current();
    }, 1000);
    const shownAgain = (): void => redraw.current();
    document.addEventListener("visibilitychange", shownAgain);
    redraw.current();
    return () => {
      schedule.cancel();
      clearInterval(tick);
      document.removeEventListener("visibilitychange", shownAgain);
      stop();
      resize.disconnect();
      u.destroy();
      chart.current = null;
    };
  }, [props.points, props.log]);

  useLayoutEffect(() => {
    heldAt.current = props.frozen ? (latest.current.points.times.at(-1) ?? null) : null;
  }, [props.frozen]);
  useEffect(() => {
    palette.current = null;
    redraw.current();
  }, [props.theme]);
  const { spc, kind } = props;
  const beside = kind === "buckets" ? spc?.buckets : kind === "failures" ? spc?.failures : spc?.cold_ids;
  useEffect(
    () => redraw.current(),
    [spc?.limits, spc?.phases, spc?.incidents, spc?.exclusions, spc?.annotations, beside, marks, props.rollup],
  );
  useEffect(
    () => redraw.current(),
    [props.fit, props.frozen, props.dimmed, props.selected, props.slo, props.span, props.zoom],
  );
  useEffect(() => {
    cursor.current = null;
    setHover(null);
    redraw.current();
  }, [props.hours, props.metric, props.kind]);

  const readout = hover && picture.current?.stops.length ? picture.current.read(nearest(picture.current.stops, hover.time)) : null;

  /** Move the read-out to a stop and say it aloud: only on keys, so that live points stay silent. */
  const point = (index: number): void => {
    const u = chart.current;
    const shown = picture.current;
    if (!u || !shown || shown.stops.length === 0) return;
    const at = Math.min(shown.stops.length - 1, Math.max(0, index));
    const moment = shown.stops[at] ?? 0;
    cursor.current = moment;
    setHover({ time: moment, left: u.valToPos(moment, "x") + u.bbox.left / ratio() });
    const told = shown.read(at);
    setSpoken([told.time, told.value, ...told.rows.slice(0, 2).map((row) => row.join(" ")), ...told.marks.map((m) => m.violation.rule)].join(", "));
  };

  const keys = (event: React.KeyboardEvent): void => {
    const shown = picture.current;
    if (!shown || event.ctrlKey || event.metaKey || event.altKey) return;
    const { onOpen, onZoom } = latest.current;
    const at = cursor.current === null ? shown.stops.length - 1 : nearest(shown.stops, cursor.current);
    const moment = shown.stops[at] ?? 0;
    const { marks: seen } = shown.scene;
    const stopOf = (mark: Mark | undefined): number => (mark ? nearest(shown.stops, mark.time) : at);
    const step = shown.step ?? 0.5;
    if (event.key === "ArrowLeft") point(at - (event.shiftKey ? 10 : 1));
    else if (event.key === "ArrowRight") point(at + (event.shiftKey ? 10 : 1));
    else if (event.key === "Home") point(0);
    else if (event.key === "End") point(shown.stops.length - 1);
    else if (event.key === "n") point(stopOf(seen.find((mark) => mark.time > moment + step / 2)));
    else if (event.key === "p") point(stopOf(seen.findLast((mark) => mark.time < moment - step / 2)));
    else if (event.key === "+" || event.key === "=") zoomTo(latest.current, shown, 0.5, cursor.current === null ? null : moment);
    else if (event.key === "-") zoomTo(latest.current, shown, 2, null);
    else if (event.key === "[") pan(latest.current, shown, -0.25);
    else if (event.key === "]") pan(latest.current, shown, 0.25);
    else if (event.key === "0") onZoom(null);
    else if (event.key === "Enter") {
      const found = shown.read(at).marks[0];
      if (!found) return;
      onOpen(found.violation.id);
    } else if (event.key === "Escape" && hover) {
      setHover(null);
      cursor.current = null;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const click = (event: React.MouseEvent): void => {
    const rect = box.current?.getBoundingClientRect();
    const u = chart.current;
    if (!rect || !u || !window.__llmscope) return;
    const x = event.clientX - rect.left - u.bbox.left / ratio();
    const y = event.clientY - rect.top - u.bbox.top / ratio();
    const height = u.bbox.height / ratio();
    const near = window.__llmscope.markers
      .map((m) => ({ ...m, far: Math.hypot(m.x - x, Math.min(height, Math.max(0, m.y)) - y) }))
      .sort((a, b) => a.far - b.far)[0];
    if (near && near.far < 14) props.onOpen(near.id);
  };

  return (
    <div
      className="plot"
      role="group"
      aria-roledescription="control chart"
      aria-label={`Control chart of ${metricText(props.metric).title.toLowerCase()}. Arrow keys move from point to point, n and p between marks, Enter opens one, plus and minus zoom.`}
      tabIndex={0}
      onKeyDown={keys}
      onClick={click}
      style={{ opacity: props.dimmed ? 0.55 : 1 }}
    >
      <div ref={box} className="plot-canvas" />
      {hover && readout && (
        <div className="tip" style={tipPlace(hover.left, box.current?.clientWidth ?? 0)}>
          <div className="tip-time" title={readout.utc}>
            {readout.time}
          </div>
          <div className="tip-value">{readout.value}</div>
          <dl>
            {readout.rows.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          {readout.marks.map(({ violation }) => (
            <div className="tip-rule" key={violation.id}>
              <Glyph rule={violation.rule} side={violation.side} severity={violation.severity} />
              {violation.rule} {RULE_TITLES[violation.rule]}
            </div>
          ))}
        </div>
      )}
      <div className="sr" role="status">
        {spoken}
      </div>
    </div>
  );
}

const ratio = (): number => window.devicePixelRatio || 1;

function tipPlace(left: number, width: number): React.CSSProperties {
  const wide = Math.min(248, width - 16);
  const beside = left > width / 2 ? left - wide - 14 : left + 14;
  return { left: Math.max(8, Math.min(beside, width - wide - 8)), top: LANE + 6, width: wide };
}

/** The span that is shown now. */
function spanOf(now: Props, heldAt: React.RefObject<number | null>): Span {
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
function wholeOf(props: Props): Span {
  return spanOf({ ...props, zoom: null, frozen: false }, { current: null });
}

/** The span that was asked for last; the picture of it may be on its way. */
function current(props: Props, shown: Picture): readonly [number, number] {
  return props.zoom ? [props.zoom[0] / 1000, props.zoom[1] / 1000] : shown.x;
}

function zoomTo(props: Props, shown: Picture, factor: number, around: number | null): void {
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

function pan(props: Props, shown: Picture, share: number): void {
  const [from, to] = current(props, shown);
  if (props.zoom) move(props, wholeOf(props), from + share * (to - from), to - from);
}

function move(props: Props, whole: Span, from: number, wide: number): void {
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

/** Runs `build` in an animation frame after it was asked for, never more often than once in `least` ms. */
function scheduled(build: () => void, least: number): { ask: () => void; cancel: () => void } {
  let frame = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let last = -Infinity;
  const run = (): void => {
    frame = 0;
    last = performance.now();
    build();
  };
  const ask = (): void => {
    if (frame || timer !== undefined) return;
    const wait = last + least - performance.now();
    if (wait <= 0) frame = requestAnimationFrame(run);
    else {
      timer = setTimeout(() => {
        timer = undefined;
        frame = requestAnimationFrame(run);
      }, wait);
    }
  };
  const cancel = (): void => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
  return { ask, cancel };
}

/** What can be told apart of a picture of many stretches: to half a pixel. Empty for a picture that is always drawn. */
function visible(u: uPlot, shown: Picture, width: number): string {
  if (shown.detail !== "stretches") return "";
  const [from, to] = shown.x;
  const high = u.bbox.height / ratio() / (shown.y[1] - shown.y[0]);
  const ends = shown.columns.slice(1).flatMap((column) => {
    const last = column[column.length - 1] ?? null;
    return last === null ? [] : [Math.round(2 * high * last)];
  });
  return [Math.floor((2 * width * to) / (to - from)), shown.columns[0].length, ...shown.y, shown.scene.failures.length, ...ends].join();
}

/** Facts of the chart for tests and measurements: a canvas cannot be asked. */
function tell(u: uPlot, shown: Picture, points: Points): void {
  window.__llmscope = {
    count: points.length,
    lastId: points.ids[points.at(shown.x[1])] ?? 0,
    lastX: points.times[points.at(shown.x[1])] ?? 0,
    yRange: shown.y,
    xRange: shown.x,
    detail: shown.detail,
    draws: (window.__llmscope?.draws ?? 0) + 1,
    firstMs: window.__llmscope?.firstMs || (points.length > 0 || shown.detail === "stretches" ? performance.now() : 0),
    markers: shown.scene.marks.map((mark) => ({
      id: mark.violation.id,
      rule: mark.violation.rule,
      x: u.valToPos(mark.time, "x"),
      y: u.valToPos(mark.value, "y"),
    })),
  };
}

function options(
  element: HTMLElement,
  latest: React.RefObject<Props>,
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
            setHover({ time, left: left + u.bbox.left / ratio() });
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

function valueTicks(ticks: readonly (number | null)[], unit: string, logarithmic: boolean): (string | null)[] {
  const step = ((ticks[1] ?? 1) as number) - ((ticks[0] ?? 0) as number);
  const even = Math.min(4, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  const apart = unit === "%" || unit === "σ" ? " " : " ";
  return ticks.map((tick) => {
    if (tick === null) return null;
    const decimals = logarithmic ? Math.min(4, Math.max(0, -Math.floor(Math.log10(tick) + 1e-9))) : even;
    return `${formatNumber(tick, decimals)}${apart}${unit}`;
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
