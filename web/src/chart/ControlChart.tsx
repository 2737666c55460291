// The control chart: mounts uPlot once and feeds it; what it shows is built by pure functions.

import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { SpcOut, ViolationOut } from "../api/schema";
import { decimalsFor, formatClock, formatNumber, formatSigma, formatUtc } from "../format";
import type { Points } from "../points";
import { RULE_TITLES, metricText } from "../rules";
import { Glyph } from "../panels/icons";
import {
  POINTS_PER_PIXEL,
  distance,
  limitsAt,
  markers,
  movingAverage,
  stretches,
  summarise,
  verticalRange,
  zoneOf,
} from "./build";
import { drawOver, drawUnder, type Scene } from "./draw";
import { readPalette } from "./palette";

interface Props {
  points: Points;
  spc: SpcOut | null;
  violations: readonly ViolationOut[];
  metric: string;
  hours: number;
  theme: string;
  fit: "limits" | "all";
  frozen: boolean; // paused: what is shown stays
  dimmed: boolean; // the data is old
  selected: number | null;
  onOpen: (id: number) => void;
  onZoom: (zoomed: boolean) => void;
  onMode: (summarised: boolean) => void;
  resetZoom: number; // changes when the zoom is to be undone
}

declare global {
  interface Window {
    __llmscope?: {
      count: number;
      lastId: number;
      lastX: number;
      yRange: [number, number];
      markers: { id: number; rule: string; x: number; y: number }[];
    };
  }
}

interface Hover {
  index: number;
  left: number;
  top: number;
}

export function ControlChart(props: Props): React.JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef(props);
  latest.current = props;
  const chart = useRef<uPlot | null>(null);
  const scene = useRef<Scene | null>(null);
  const zoom = useRef<[number, number] | null>(null);
  const heldAt = useRef<number | null>(null); // while paused, the newest point that is shown
  const redraw = useRef<() => void>(() => {});
  const [hover, setHover] = useState<Hover | null>(null);
  const cursor = useRef<number | null>(null);
  const [spoken, setSpoken] = useState("");

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    let queued = 0;

    const build = (): void => {
      queued = 0;
      const u = chart.current;
      if (!u || document.hidden) return;
      const { points, spc, violations, hours, fit, metric, selected } = latest.current;
      const { times, values, ids } = points;
      const now = Date.now() / 1000;
      const newest = times.at(-1) ?? now;
      if (!latest.current.frozen) heldAt.current = null;
      else heldAt.current ??= newest;
      const to = heldAt.current ?? Math.max(newest, latest.current.dimmed ? newest : now);
      const [from, until] = zoom.current ?? [windowStart(times, to, hours), to];
      const versions = spc?.limits ?? [];
      const shown = stretches(versions, from, until);
      const first = Math.max(0, points.at(from));
      const last = points.at(until) + 1;
      const width = Math.max(1, u.bbox.width / (window.devicePixelRatio || 1));
      const summarised = last - first > POINTS_PER_PIXEL * width;
      const range = verticalRange(values.subarray(first, last), shown, fit);
      scene.current = {
        stretches: shown,
        markers: markers(violations, ids, times, from, until),
        failures: points.failures(from, until),
        selected,
        decimals: decimalsFor(spc?.centre ?? values.at(-1)),
        palette: scene.current?.palette ?? readPalette(),
      };
      let data: uPlot.AlignedData;
      if (summarised) {
        const summary = summarise(times.subarray(first, last), values.subarray(first, last), from, until);
        const none = summary.times.map(() => null);
        data = [summary.times, none, summary.middle, summary.low, summary.high];
      } else {
        const x = times.subarray(first, last);
        const y = values.subarray(first, last);
        const raw = Array.from(y, (value) => (Number.isNaN(value) ? null : value));
        const none = raw.map(() => null);
        data = [x, raw, movingAverage(x, y, versions), none, none];
      }
      u.setData(data, false);
      u.batch(() => {
        u.setScale("x", { min: from, max: until });
        u.setScale("y", { min: range[0], max: range[1] });
      });
      latest.current.onMode(summarised);
      window.__llmscope = {
        count: points.length,
        lastId: ids[last - 1] ?? 0,
        lastX: times[last - 1] ?? 0,
        yRange: range,
        markers: scene.current.markers.map((m) => ({
          id: m.violation.id,
          rule: m.violation.rule,
          x: u.valToPos(m.time, "x"),
          y: u.valToPos(m.value, "y"),
        })),
      };
      element.dataset.metric = metric;
    };
    redraw.current = () => {
      if (!queued) queued = requestAnimationFrame(build);
    };

    const u = new uPlot(options(element, latest, scene, zoom, setHover, redraw), [[], [], [], [], []], element);
    chart.current = u;
    const resize = new ResizeObserver(() => {
      u.setSize({ width: element.clientWidth, height: element.clientHeight });
      redraw.current();
    });
    resize.observe(element);
    const stop = latest.current.points.subscribe(() => {
      if (!latest.current.frozen) redraw.current();
    });
    const tick = setInterval(() => {
      if (!latest.current.frozen && !zoom.current) redraw.current();
    }, 1000);
    const visible = (): void => redraw.current();
    document.addEventListener("visibilitychange", visible);
    redraw.current();
    return () => {
      cancelAnimationFrame(queued);
      clearInterval(tick);
      document.removeEventListener("visibilitychange", visible);
      stop();
      resize.disconnect();
      u.destroy();
      chart.current = null;
    };
  }, []);

  useEffect(() => {
    if (scene.current) scene.current = { ...scene.current, palette: readPalette() };
    redraw.current();
  }, [props.theme]);
  useEffect(
    () => redraw.current(),
    [props.spc, props.violations, props.fit, props.frozen, props.dimmed, props.selected],
  );
  useEffect(() => {
    zoom.current = null;
    cursor.current = null;
    setHover(null);
    latest.current.onZoom(false);
    redraw.current();
  }, [props.hours, props.metric, props.resetZoom]);

  const readout = useMemo(() => (hover ? describe(props, hover.index) : null), [hover, props]);

  /** Move the read-out to a point and say it aloud: only on keys, so that live points stay silent. */
  const point = (index: number): void => {
    const u = chart.current;
    const { points } = latest.current;
    if (!u || points.length === 0) return;
    const at = Math.min(points.length - 1, Math.max(0, index));
    cursor.current = at;
    const left = u.valToPos(points.times[at] ?? 0, "x");
    const value = points.values[at] ?? NaN;
    const top = Number.isNaN(value) ? 0 : u.valToPos(value, "y");
    setHover({ index: at, left: left + u.bbox.left / (window.devicePixelRatio || 1), top });
    const told = describe(latest.current, at);
    setSpoken(`${told.time}, ${told.value}, ${told.sigma}${told.rules.map((v) => `, ${v.rule}`).join("")}`);
  };

  const keys = (event: React.KeyboardEvent): void => {
    const { points, violations, onOpen } = latest.current;
    const at = cursor.current ?? points.length - 1;
    const ids = points.ids;
    const spots = violations
      .map((violation) => ({ violation, index: ids.indexOf(violation.peak_id) }))
      .filter((spot) => spot.index >= 0)
      .sort((a, b) => a.index - b.index);
    if (event.key === "ArrowLeft") point(at - (event.shiftKey ? 10 : 1));
    else if (event.key === "ArrowRight") point(at + (event.shiftKey ? 10 : 1));
    else if (event.key === "Home") point(0);
    else if (event.key === "End") point(points.length - 1);
    else if (event.key === "n") point(spots.find((spot) => spot.index > at)?.index ?? at);
    else if (event.key === "p") point(spots.findLast((spot) => spot.index < at)?.index ?? at);
    else if (event.key === "Enter") {
      const found = violationAt(latest.current, at);
      if (found) onOpen(found.id);
      else return;
    } else if (event.key === "Escape") {
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
    const ratio = window.devicePixelRatio || 1;
    const x = event.clientX - rect.left - u.bbox.left / ratio;
    const y = event.clientY - rect.top - u.bbox.top / ratio;
    const height = u.bbox.height / ratio;
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
      aria-label={`Control chart of ${metricText(props.metric).title.toLowerCase()}. Arrow keys move from point to point, n and p between violations, Enter opens one.`}
      tabIndex={0}
      onKeyDown={keys}
      onClick={click}
      style={{ opacity: props.dimmed ? 0.55 : 1 }}
    >
      <div ref={box} className="plot-canvas" />
      {hover && readout && (
        <div
          className="tip"
          style={{
            left: hover.left > (box.current?.clientWidth ?? 0) / 2 ? hover.left - 226 : hover.left + 14,
            top: 34,
          }}
        >
          <div className="tip-time" title={readout.utc}>
            {readout.time}
          </div>
          <div className="tip-value">{readout.value}</div>
          <dl>
            <dt>From centre line</dt>
            <dd>{readout.sigma}</dd>
            <dt>Zone</dt>
            <dd>{readout.zone}</dd>
            <dt>Tokens</dt>
            <dd>{readout.tokens}</dd>
          </dl>
          {readout.rules.map((violation) => (
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

/** Where the view begins: the whole window, or for a young series a little before its first point. */
function windowStart(times: Float64Array, to: number, hours: number): number {
  const whole = to - hours * 3600;
  const first = times[0];
  if (first === undefined || first <= whole + 60) return whole;
  return Math.max(whole, Math.min(first - 5, to - 120));
}

function violationAt(props: Props, index: number): ViolationOut | undefined {
  const id = props.points.ids[index] ?? -1;
  return (
    props.violations.find((violation) => violation.peak_id === id) ??
    props.violations.find((violation) => violation.first_signal_id <= id && id <= violation.last_signal_id)
  );
}

interface Readout {
  time: string;
  utc: string;
  value: string;
  sigma: string;
  zone: string;
  tokens: string;
  rules: ViolationOut[];
}

function describe(props: Props, index: number): Readout {
  const { points, spc, violations, metric } = props;
  const time = points.times[index] ?? 0;
  const value = points.values[index] ?? NaN;
  const id = points.ids[index] ?? -1;
  const limits = limitsAt(spc?.limits ?? [], time - 1e-6);
  const z = limits && !Number.isNaN(value) ? distance(value, limits, spc?.scale ?? "log") : null;
  const tokens = points.tokens[index] ?? NaN;
  return {
    time: formatClock(time * 1000),
    utc: formatUtc(time * 1000),
    value: Number.isNaN(value)
      ? "failed"
      : `${formatNumber(value, decimalsFor(spc?.centre ?? value))} ${metricText(metric).unit}`,
    sigma: formatSigma(z),
    zone: z === null ? "no limits then" : zoneOf(z),
    tokens: Number.isNaN(tokens) ? "—" : String(tokens),
    rules: violations.filter((v) => v.first_signal_id <= id && id <= v.last_signal_id).slice(0, 4),
  };
}

function options(
  element: HTMLElement,
  latest: React.RefObject<Props>,
  scene: React.RefObject<Scene | null>,
  zoom: React.RefObject<[number, number] | null>,
  setHover: (hover: Hover | null) => void,
  redraw: React.RefObject<() => void>,
): uPlot.Options {
  const ink = (): string => scene.current?.palette["ink-3"] ?? "#888";
  const grid = (): string => scene.current?.palette.line ?? "#ddd";
  const narrow = element.clientWidth < 560;
  const font = "500 11px Inter Variable, system-ui, sans-serif";
  const colour = (name: "data" | "data-raw"): (() => string) => {
    return () => scene.current?.palette[name] ?? "teal";
  };
  return {
    width: element.clientWidth,
    height: element.clientHeight,
    padding: [28, narrow ? 76 : 84, 4, 0],
    legend: { show: false },
    scales: { x: { time: true, auto: false }, y: { auto: false } },
    cursor: {
      points: { show: false },
      drag: { x: true, y: false, setScale: false, dist: 8 },
      y: false,
    },
    series: [
      {},
      { stroke: colour("data-raw"), width: 1, points: { show: false }, spanGaps: false },
      { stroke: colour("data"), width: 2, points: { show: false }, spanGaps: false },
      { stroke: "transparent", width: 0, points: { show: false } },
      { stroke: "transparent", width: 0, points: { show: false } },
    ],
    bands: [{ series: [4, 3], fill: colour("data-raw") }],
    axes: [
      { stroke: ink, font, grid: { show: false }, ticks: { stroke: grid, size: 4 }, size: 30, space: 74, values: clockTicks },
      {
        stroke: ink,
        font,
        size: 52,
        grid: { stroke: grid, width: 1 },
        ticks: { show: false },
        values: (_u, ticks) => {
          const { unit } = metricText(latest.current.metric);
          const step = (ticks[1] ?? 1) - (ticks[0] ?? 0);
          const decimals = Math.min(4, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
          return ticks.map((tick) => `${formatNumber(tick, decimals)} ${unit}`);
        },
      },
    ],
    hooks: {
      drawAxes: [(u) => scene.current && drawUnder(u, scene.current)],
      draw: [(u) => scene.current && drawOver(u, scene.current)],
      setCursor: [
        (u) => {
          const left = u.cursor.left ?? -1;
          if (left < 0) {
            setHover(null);
            return;
          }
          const { points } = latest.current;
          const time = u.posToVal(left, "x");
          const below = points.at(time);
          const next = points.times[below + 1] ?? Infinity;
          const index = Math.abs(next - time) < Math.abs((points.times[below] ?? -Infinity) - time) ? below + 1 : below;
          if (index < 0) return;
          setHover({ index, left: left + u.bbox.left / (window.devicePixelRatio || 1), top: u.cursor.top ?? 0 });
        },
      ],
      setSelect: [
        (u) => {
          if (u.select.width < 8) return;
          const from = u.posToVal(u.select.left, "x");
          const to = u.posToVal(u.select.left + u.select.width, "x");
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          zoom.current = [from, to];
          latest.current.onZoom(true);
          redraw.current();
        },
      ],
      ready: [
        (u) =>
          u.over.addEventListener("dblclick", () => {
            zoom.current = null;
            latest.current.onZoom(false);
            redraw.current();
          }),
      ],
    },
  };
}

const hourMinute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const withSeconds = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

function clockTicks(_u: uPlot, ticks: number[]): string[] {
  const step = (ticks[1] ?? 60) - (ticks[0] ?? 0);
  const format = step < 60 ? withSeconds : hourMinute;
  return ticks.map((tick) => format.format(new Date(tick * 1000)));
}
