// The last hours with the limits in force and those that would come.

import type { LimitsOut, WindowOut } from "../../api/schema";
import { decimalsFor, formatNumber, formatTime } from "../../format";
import { metricText } from "../../rules";
import { useWidth } from "../../useWidth";
import { ticks } from "../drilldown/context";
import { thinned } from "./words";

const HIGH = 190;
const LEFT = 50;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;

interface Props {
  window: WindowOut;
  since: number;
  present: LimitsOut;
  fresh: LimitsOut | null;
  metric: string;
}

export function PreviewChart(props: Props): React.JSX.Element {
  const { window, since, present, fresh, metric } = props;
  const [box, width] = useWidth<HTMLDivElement>(600);
  const times = window.times_ms ?? [];
  const to = Math.max(Date.now(), times.at(-1) ?? 0);
  const from = Math.max(times[0] ?? since, since - (to - since)); // as much before as after
  const right = width - RIGHT;
  const columns = thinned(times, window.values ?? [], from, to, Math.max(1, Math.floor((right - LEFT) / 2)));
  const limits = [present, fresh].flatMap((one) => (one ? [one.ucl, one.lcl] : [])).filter((value) => value !== null);
  const top = Math.max(...limits, 0);
  const bottom = Math.min(...limits);
  const room = 0.35 * (top - bottom || top);
  const [low, high] = [Math.max(0, bottom - room), top + room];
  const x = (time: number): number => LEFT + ((right - LEFT) * (time - from)) / (to - from || 1);
  const y = (value: number): number => TOP + (HIGH - TOP - BOTTOM) * (1 - (Math.min(high, Math.max(low, value)) - low) / (high - low || 1));
  let line = "";
  for (const { time, low: least, high: most } of columns) line += `M${x(time).toFixed(1)} ${y(least).toFixed(1)}V${(y(most) - 0.8).toFixed(1)}`;
  const { unit } = metricText(metric);
  const decimals = decimalsFor(present.centre);
  return (
    <figure className="preview-chart">
      <div ref={box}>
        <svg width={width} height={HIGH} role="img" aria-label={pictureText(props)}>
          {fresh && fresh.ucl !== null && fresh.lcl !== null && (
            <rect x={x(since)} width={Math.max(0, right - x(since))} y={y(fresh.ucl)} height={Math.max(0, y(fresh.lcl) - y(fresh.ucl))} fill="var(--accent-soft)" />
          )}
          {ticks(low, high, 4).map((value) => (
            <text key={value} x={LEFT - 8} y={y(value) + 4} textAnchor="end" className="axis">
              {formatNumber(value, Math.max(0, decimals - 1))} {unit === "s" ? "s" : ""}
            </text>
          ))}
          <path d={line} stroke="var(--data)" strokeWidth="1.6" fill="none" />
          {limitLines(present, x(from), right, y, "var(--ink-3)", 1.2)}
          {fresh && limitLines(fresh, x(since), right, y, "var(--accent)", 2)}
          <path d={`M${x(since)} ${TOP}V${HIGH - BOTTOM}`} stroke="var(--accent)" strokeDasharray="3 3" />
          {[from, since, to].map(
            (time, i) =>
              (i !== 1 || (x(since) - LEFT > 90 && right - x(since) > 90)) && (
                <text key={time} x={x(time)} y={HIGH - 6} textAnchor={i === 0 ? "start" : i === 1 ? "middle" : "end"} className="axis">
                  {i === 2 ? "now" : formatTime(time)}
                </text>
              ),
          )}
        </svg>
      </div>
      <figcaption>
        <span>
          <i className="swatch" style={{ borderTop: "2px solid var(--ink-3)" }} /> present limits
        </span>
        {fresh && (
          <span>
            <i className="swatch" style={{ borderTop: "2px solid var(--accent)" }} /> new limits
          </span>
        )}
        <span>UCL dashed, centre line solid, LCL dotted; values beyond the scale stand at its edge</span>
      </figcaption>
    </figure>
  );
}

function limitLines(
  limits: LimitsOut,
  from: number,
  to: number,
  y: (value: number) => number,
  colour: string,
  thick: number,
): React.JSX.Element[] {
  const lines = [
    ["UCL", limits.ucl, "7 4"],
    ["CL", limits.centre, ""],
    ["LCL", limits.lcl, "2 3"],
  ] as const;
  return lines.flatMap(([name, value, dash]) =>
    value === null ? [] : [<path key={name} d={`M${from} ${y(value)}H${to}`} stroke={colour} strokeWidth={thick} strokeDasharray={dash} />],
  );
}

function pictureText(props: Props): string {
  const { unit } = metricText(props.metric);
  const decimals = decimalsFor(props.present.centre);
  const span = (limits: LimitsOut): string => `${formatNumber(limits.lcl, decimals)} to ${formatNumber(limits.ucl, decimals)} ${unit}`;
  const fresh = props.fresh ? `; new limits ${span(props.fresh)} since ${formatTime(props.since)}` : "";
  return `The samples with the present limits, ${span(props.present)}${fresh}`;
}
