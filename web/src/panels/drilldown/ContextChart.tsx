// The points around the worst one, with the limits and zones of that time. Read by pointer and by keyboard.

import { useEffect, useState } from "react";
import type { ContextOut, ObservationOut } from "../../api/schema";
import { decimalsFor, formatClock, formatNumber, formatSigma } from "../../format";
import { metricText } from "../../rules";
import { useWidth } from "../../useWidth";
import { Glyph } from "../icons";
import { pathOf, readValue, spanOf, ticks, zoneName, zonesOf } from "./context";

const HIGH = 244;
const HIGH_NARROW = 188;
const NARROW = 500;
const LEFT = 46;
const RIGHT = 74;
const TOP = 12;
const BOTTOM = 24;
const FILLS = ["a", "b", "c", "c", "b", "a"] as const;
const HALF_MINUTE_MS = 30_000;

interface Props {
  context: ContextOut;
  selected: number;
  onSelect: (i: number) => void;
}

export function ContextChart(props: Props): React.JSX.Element {
  const { context, selected, onSelect } = props;
  const { violation, points, index } = context;
  const [box, width] = useWidth<HTMLDivElement>(630);
  const [at, setAt] = useState<number | null>(null);
  const [spoken, setSpoken] = useState("");
  useEffect(() => setAt(null), [context]);

  const right = width - RIGHT;
  const last = Math.max(1, points.length - 1);
  const x = (i: number): number => LEFT + 8 + ((right - LEFT - 16) * i) / last;
  const read = (i: number): string => {
    const point = points[i];
    return point ? readOut(point, violation.metric, decimalsFor(violation.centre)) : "";
  };

  const move = (to: number): void => {
    const next = Math.min(points.length - 1, Math.max(0, to));
    setAt(next);
    setSpoken(read(next));
  };
  const keys = (event: React.KeyboardEvent): void => {
    const from = at ?? selected;
    if (event.key === "ArrowLeft") move(from - (event.shiftKey ? 10 : 1));
    else if (event.key === "ArrowRight") move(from + (event.shiftKey ? 10 : 1));
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(points.length - 1);
    else if (event.key === "Enter" || event.key === " ") onSelect(from);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the arrows of the dialog go to other violations
  };
  const nearest = (event: React.MouseEvent): number => {
    const left = event.currentTarget.getBoundingClientRect().left;
    return Math.min(points.length - 1, Math.max(0, Math.round(((event.clientX - left - x(0)) / (x(last) - x(0) || 1)) * last)));
  };
  const name = `${points.length} samples around the violation. Arrow keys read them, Enter selects one`;
  return (
    <div
      ref={box}
      className="context"
      role="group"
      aria-roledescription="control chart"
      aria-label={name}
      tabIndex={0}
      onKeyDown={keys}
      onBlur={() => setAt(null)}
      onMouseMove={(event) => setAt(nearest(event))}
      onMouseLeave={() => setAt(null)}
      onClick={(event) => onSelect(nearest(event))}
    >
      <Drawing context={context} width={width} x={x} at={at} selected={selected} />
      {at !== null && (
        <div className={x(at) > width / 2 ? "read-out left" : "read-out"} aria-hidden="true">
          {read(at)}
        </div>
      )}
      <span className="sr" role="status">
        {spoken}
      </span>
      <span className="sr">The worst sample: {read(index)}</span>
    </div>
  );
}

/** A point in words: "12:37:04: 4.95 s, +24.4 σ, beyond the limits". */
function readOut(point: ObservationOut, metric: string, decimals: number): string {
  const time = formatClock(point.timestamp);
  if (!point.ok) return `${time}: failed, ${(point.error_kind ?? "error").replaceAll("_", " ")}`;
  const value = readValue(metric, point);
  if (value === null) return `${time}: no value`;
  const place = point.z === null ? "not judged" : `${formatSigma(point.z)}, ${zoneName(point.z)}`;
  return `${time}: ${formatNumber(value, decimals)} ${metricText(metric).unit}, ${place}`;
}

interface DrawingProps {
  context: ContextOut;
  width: number;
  x: (i: number) => number;
  at: number | null;
  selected: number;
}

function Drawing(props: DrawingProps): React.JSX.Element {
  const { context, width, x, at, selected } = props;
  const { violation, points, index } = context;
  const right = width - RIGHT;
  const foot = (width < NARROW ? HIGH_NARROW : HIGH) - BOTTOM;
  const values = points.map((point) => readValue(violation.metric, point));
  const [low, high] = spanOf(context, values);
  const y = (value: number): number => TOP + (foot - TOP) * (1 - (value - low) / (high - low));
  const decimals = decimalsFor(violation.centre);
  const { unit } = metricText(violation.metric);
  const marks = ticks(low, high, 4);
  const step = (marks[1] ?? 1) - (marks[0] ?? 0);
  const tickDecimals = Math.min(4, Math.max(unit === "s" ? 1 : 0, Math.ceil(-Math.log10(step || 1) - 1e-9)));
  const zones = zonesOf(violation);
  const isHalfMinute = violation.chart === "buckets";
  const dots = points.length <= 60;
  return (
    <svg width={width} height={foot + BOTTOM} aria-hidden="true">
      {FILLS.map((fill, i) => (
        <rect
          key={zones[i]}
          x={LEFT}
          width={Math.max(0, right - LEFT)}
          y={y(zones[i + 1] ?? 0)}
          height={Math.max(0, y(zones[i] ?? 0) - y(zones[i + 1] ?? 0))}
          fill={`var(--zone-${fill})`}
        />
      ))}
      {marks.map((value) => (
        <g key={value}>
          <path d={`M${LEFT} ${y(value)}H${right}`} stroke="var(--line)" />
          <text x={LEFT - 8} y={y(value) + 4} textAnchor="end" className="axis">
            {formatNumber(value, tickDecimals)} {unit === "s" ? "s" : ""}
          </text>
        </g>
      ))}
      <Limits context={context} y={y} right={right} foot={foot} decimals={decimals} />
      <path d={pathOf(values, x, y)} fill="none" stroke={isHalfMinute ? "var(--data-raw)" : "var(--data)"} strokeWidth="1.8" strokeLinejoin="round" />
      {dots &&
        values.map(
          (value, i) => value !== null && <circle key={points[i]?.id} cx={x(i)} cy={y(value)} r="2.4" fill="var(--data)" />,
        )}
      {points.map(
        (point, i) => !point.ok && <path key={point.id} d={`M${x(i)} ${foot}v-9`} stroke="var(--crit-f)" strokeWidth="2" />,
      )}
      {[selected, at].map(
        (i, which) =>
          i !== null && (
            <path
              key={which === 0 ? "selected" : "at"}
              d={`M${x(i)} ${TOP}V${foot}`}
              stroke={which === 0 ? "var(--accent)" : "var(--ink-3)"}
              strokeDasharray={which === 0 ? "2 3" : ""}
            />
          ),
      )}
      {values[selected] !== null && values[selected] !== undefined && selected !== index && (
        <circle cx={x(selected)} cy={y(values[selected])} r="5.5" fill="none" stroke="var(--accent)" strokeWidth="2" />
      )}
      <Worst context={context} x={x} y={y} value={values[index] ?? null} />
      <Times points={points} x={x} y={foot + BOTTOM - 7} />
    </svg>
  );
}

function Limits(props: {
  context: ContextOut;
  y: (value: number) => number;
  right: number;
  foot: number;
  decimals: number;
}): React.JSX.Element {
  const { violation } = props.context;
  const lines = [
    ["UCL", violation.ucl, "var(--ucl)", "7 4"],
    ["CL", violation.centre, "var(--cl)", ""],
    ["LCL", violation.lcl, "var(--lcl)", "2 3"],
  ] as const;
  const gap = 13;
  const middle = props.y(violation.centre) + 4;
  const labels = [
    Math.min(middle - gap, props.y(violation.ucl) + 4),
    middle,
    Math.max(middle + gap, props.y(violation.lcl) + 4),
  ];
  const low = Math.min(0, props.foot + 4 - (labels[2] ?? 0)); // three labels that would stand on the times
  return (
    <>
      {lines.map(([name, value, colour, dash], i) => (
        <g key={name}>
          <path d={`M${LEFT} ${props.y(value)}H${props.right}`} stroke={colour} strokeWidth="1.4" strokeDasharray={dash} />
          <text x={props.right + 6} y={(labels[i] ?? 0) + low} fill={colour} fontSize="11" fontWeight="640">
            {name} {formatNumber(value, props.decimals)}
          </text>
        </g>
      ))}
    </>
  );
}

/** The glyph of the rule on the worst point; on the level of the half minute that ended with it for its chart. */
function Worst(props: {
  context: ContextOut;
  x: (i: number) => number;
  y: (value: number) => number;
  value: number | null;
}): React.JSX.Element | null {
  const { violation, points, index } = props.context;
  const isHalfMinute = violation.chart === "buckets";
  const value = isHalfMinute ? violation.peak_value : props.value;
  if (value === null) return null;
  const end = Date.parse(points[index]?.timestamp ?? "");
  const first = points.findIndex((point) => Date.parse(point.timestamp) > end - HALF_MINUTE_MS);
  const from = props.x(Math.max(0, first));
  const to = props.x(index);
  const middle = isHalfMinute ? (from + to) / 2 : to;
  const tone = violation.severity === "critical" ? "var(--crit)" : "var(--warn)";
  return (
    <>
      {isHalfMinute && <path d={`M${from} ${props.y(value)}H${to}`} stroke={tone} strokeWidth="3" />}
      <g transform={`translate(${middle - 7} ${props.y(value) - 7})`}>
        <circle cx="7" cy="7" r="9" fill="var(--surface)" />
        <g transform="scale(1.17)">
          <Glyph rule={violation.rule} side={violation.side} severity={violation.severity} />
        </g>
      </g>
      <text x={middle - 13} y={props.y(value) + (isHalfMinute ? -6 : 4)} textAnchor="end" fontSize="11" fontWeight="640" fill={tone}>
        {violation.rule}
      </text>
    </>
  );
}

function Times(props: { points: readonly ObservationOut[]; x: (i: number) => number; y: number }): React.JSX.Element {
  const { points, x, y } = props;
  const last = points.length - 1;
  const room = x(last) - x(0);
  const n = Math.max(1, Math.min(4, Math.floor(room / 110)));
  const shown = [...new Set(Array.from({ length: n + 1 }, (_, k) => Math.round((k * last) / n)))];
  return (
    <>
      {shown.map((i) => (
        <text key={i} x={x(i)} y={y} textAnchor={i === 0 ? "start" : i === last ? "end" : "middle"} className="axis">
          {formatClock(points[i]?.timestamp)}
        </text>
      ))}
    </>
  );
}
