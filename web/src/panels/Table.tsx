// What the chart shows as a table, for whoever cannot or does not want to read a picture.

import { distance, limitsAt } from "../chart/lines";
import { decimalsFor, formatNumber, formatSigma, formatTime, formatUtc } from "../format";
import type { Points } from "../points";
import { metricText } from "../rules";
import type { State } from "../state";
import { Dialog } from "./Dialog";

const SHOWN = 500;

interface Line {
  ms: number;
  value: string;
  more: string;
}

/** The newest stretches or samples that are shown, newest first. */
function linesOf(state: State, points: Points): Line[] {
  const { view, spc, rollup } = state;
  const [from, to] = view.zoom ?? [-Infinity, Infinity];
  const { unit } = metricText(view.metric);
  const decimals = decimalsFor(spc?.centre);
  if (view.metric === "failures" && spc) {
    const { times_ms, seen, failed } = spc.failures;
    return times_ms
      .map((ms, i): Line => ({ ms, value: `${failed[i] ?? 0} of ${seen[i] ?? 0} failed`, more: "" }))
      .filter(({ ms }) => ms >= from && ms <= to)
      .reverse();
  }
  if (view.chart === "buckets" && spc) {
    const { times_ms, levels, scores, rules } = spc.buckets;
    return times_ms
      .map((ms, i): Line => ({
        ms,
        value: `${formatNumber(levels[i], decimals)} ${unit}`,
        more: `${formatSigma(scores[i])}${rules[String(i)] ? `, ${rules[String(i)]?.join(", ")}` : ""}`,
      }))
      .filter(({ ms }) => ms >= from && ms <= to)
      .reverse();
  }
  if (rollup) {
    return rollup.times_ms
      .map((ms, i): Line => ({
        ms,
        value: `${formatNumber(rollup.median[i], decimals)} ${unit}`,
        more: `${formatNumber(rollup.min[i], decimals)} to ${formatNumber(rollup.max[i], decimals)}, ${rollup.seen[i] ?? 0} requests`,
      }))
      .reverse();
  }
  const lines: Line[] = [];
  for (let i = points.length - 1; i >= 0 && lines.length < SHOWN; i--) {
    const ms = (points.times[i] ?? 0) * 1000;
    if (ms < from || ms > to) continue;
    const value = points.values[i] ?? NaN;
    const limits = limitsAt(spc?.limits ?? [], ms / 1000);
    const z = limits && !Number.isNaN(value) ? distance(value, limits, spc?.scale ?? "log") : null;
    lines.push({ ms, value: Number.isNaN(value) ? "failed" : `${formatNumber(value, decimals)} ${unit}`, more: formatSigma(z) });
  }
  return lines;
}

export function Table(props: { state: State; points: Points; onClose: () => void }): React.JSX.Element {
  const lines = linesOf(props.state, props.points);
  const shown = lines.slice(0, SHOWN);
  return (
    <Dialog id="table-title" title={`${metricText(props.state.view.metric).title} as a table`} className="help" onClose={props.onClose}>
      <div className="table-body" tabIndex={0} role="region" aria-label="Values, the newest first">
        {lines.length > shown.length && <p className="hint">The newest {SHOWN}. Zoom in to see others.</p>}
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Value</th>
              <th scope="col">Beside it</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((line, i) => (
              <tr key={`${line.ms}-${String(i)}`}>
                <td title={formatUtc(line.ms)}>{formatTime(line.ms)}</td>
                <td>{line.value}</td>
                <td>{line.more}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Dialog>
  );
}
