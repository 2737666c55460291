// The control chart: mounts uPlot once and feeds it; what it shows is built by pure functions.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { RollupOut, SpcOut, ViolationOut } from "../api/schema";
import { Glyph } from "../panels/icons";
import type { Points } from "../points";
import { RULE_TITLES, metricText } from "../rules";
import { LANE } from "./draw";
import { marksOf, type Mark } from "./marks";
import { readPalette, type Palette } from "./palette";
import { options, type Hover } from "./options";
import { pictureOf, type Kind, type Picture } from "./picture";
import { scheduled, visible } from "./redraw";
import { nearest, pan, spanOf, zoomTo, type Spanned } from "./span";
import { Summary, stepFor } from "./summary";

interface Props extends Spanned {
  kind: Kind;
  rollup: RollupOut | null;
  spc: SpcOut | null;
  violations: readonly ViolationOut[];
  metric: string;
  theme: string;
  fit: "limits" | "all";
  log: boolean;
  slo: number | null;
  selected: number | null;
  onOpen: (id: number) => void;
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
const KEPT_SUMMARIES = 4;

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
          <div className="tip-time">
            {readout.time}
            {AWAY_FROM_UTC && <span> · {readout.utc.slice(11, 19)} UTC</span>}
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

const AWAY_FROM_UTC = new Date().getTimezoneOffset() !== 0;
const ratio = (): number => window.devicePixelRatio || 1;

function tipPlace(left: number, width: number): React.CSSProperties {
  const wide = Math.min(248, width - 16);
  const beside = left > width / 2 ? left - wide - 14 : left + 14;
  return { left: Math.max(8, Math.min(beside, width - wide - 8)), top: LANE + 6, width: wide };
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
