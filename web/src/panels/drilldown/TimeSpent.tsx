// Where the time of one request went, beside what its parts usually take, on one scale.

import type { ContextOut, ObservationOut } from "../../api/schema";
import { formatChange, formatNumber } from "../../format";
import { partsOf, type Part } from "../diagnosis";

export function TimeSpent(props: { point: ObservationOut; context: ContextOut }): React.JSX.Element {
  const { point, context } = props;
  const parts = partsOf(point, context.baseline);
  const total = point.latency_ms ?? 0;
  const usual = context.baseline.latency_ms ?? 0;
  const scale = Math.max(total, usual, 1);
  if (!point.ok) return <p className="note">This request failed: {point.error ?? (point.error_kind ?? "").replaceAll("_", " ")}.</p>;
  if (parts.every((part) => part.ms === null)) {
    return <p className="note">This server does not tell where the time goes.</p>;
  }
  return (
    <>
      <div className="phase">
        <span>This request</span>
        <Bar parts={parts} of="ms" scale={scale} />
        <b>{formatNumber(total / 1000, 2)} s</b>
        <span>Usually</span>
        <Bar parts={parts} of="usualMs" scale={scale} />
        <span>{formatNumber(usual / 1000, 2)} s</span>
      </div>
      <table className="parts">
        <thead>
          <tr>
            <th scope="col">Phase</th>
            <th scope="col" className="num">
              This request
            </th>
            <th scope="col" className="num">
              Usually<span className="wide-only"> (median)</span>
            </th>
            <th scope="col" className="num">
              Change
            </th>
          </tr>
        </thead>
        <tbody>
          {parts.map((part) => (
            <Row key={part.key} part={part} usual={usual} />
          ))}
        </tbody>
      </table>
    </>
  );
}

function Bar(props: { parts: readonly Part[]; of: "ms" | "usualMs"; scale: number }): React.JSX.Element {
  return (
    <div className={props.of === "ms" ? "stack" : "stack thin"} aria-hidden="true">
      {props.parts.map((part) => {
        const ms = part[props.of] ?? 0;
        if (ms <= 0) return null;
        return <i key={part.key} style={{ width: `${(100 * ms) / props.scale}%`, background: `var(--ph-${part.key})` }} />;
      })}
    </div>
  );
}

function Row(props: { part: Part; usual: number }): React.JSX.Element {
  const { part, usual } = props;
  const change = part.ms === null || part.usualMs === null ? null : (part.ms - part.usualMs) / 1000;
  const times = part.ms !== null && part.usualMs ? part.ms / part.usualMs : null;
  const loud = change !== null && change > 0.1 * (usual / 1000);
  const show = (ms: number | null): string => (ms === null ? "—" : `${formatNumber(ms / 1000, 3)} s`);
  return (
    <tr>
      <th scope="row">
        <span className="square" style={{ background: `var(--ph-${part.key})` }} />
        {part.name}
      </th>
      <td className="num">{show(part.ms)}</td>
      <td className="num soft">{show(part.usualMs)}</td>
      <td className={loud ? "num loud" : "num soft"}>
        {change === null ? "—" : `${formatChange(change, 3)} s`}
        {loud && times !== null && times >= 1.5 ? ` (${formatNumber(times, times < 10 ? 1 : 0)}×)` : ""}
      </td>
    </tr>
  );
}
