// One violation in full: what happened, around it, where the time went, and what people say of it.

import { useCallback, useEffect, useRef, useState } from "react";
import { acknowledge, getContext, unacknowledge } from "../api/client";
import type { ContextOut, ObservationOut, ViolationOut } from "../api/schema";
import { decimalsFor, formatChange, formatNumber, formatSigma, formatTime, formatUtc } from "../format";
import { RULE_TITLES, metricText } from "../rules";
import { diagnose, partsOf } from "./diagnosis";
import { Glyph, SeverityIcon, Sparkline } from "./icons";

interface Props {
  id: number;
  newer: number | null;
  older: number | null;
  onOpen: (id: number | null) => void;
  onChanged: (violation: ViolationOut) => void;
}

export function Drilldown(props: Props): React.JSX.Element {
  const { id, newer, older, onOpen, onChanged } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const [context, setContext] = useState<ContextOut | null>(null);
  const [error, setError] = useState<string | null>(null);

  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);

  const load = useCallback(() => {
    let current = true;
    getContext(id)
      .then((found) => {
        if (!current) return;
        setContext(found);
        setError(null);
      })
      .catch((reason: Error) => current && setError(reason.message));
    return () => {
      current = false;
    };
  }, [id]);
  useEffect(() => {
    setContext(null);
    heading.current?.focus();
    return load();
  }, [load]);

  const keys = (event: React.KeyboardEvent): void => {
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement) return;
    if (event.key === "ArrowLeft" && newer !== null) onOpen(newer);
    if (event.key === "ArrowRight" && older !== null) onOpen(older);
  };
  const violation = context?.violation;
  const tone = violation?.severity === "critical" ? "crit" : "warn";
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- the arrows move between violations
    <dialog
      ref={dialog}
      aria-labelledby="violation-title"
      onClose={() => onOpen(null)}
      onKeyDown={keys}
      onClick={(event) => event.target === dialog.current && dialog.current.close()}
    >
      <header className="dialog-head">
        <span className={`badge ${tone}`}>
          <SeverityIcon severity={violation?.severity ?? "warning"} size={18} />
        </span>
        <div>
          <h2 id="violation-title" ref={heading} tabIndex={-1}>
            {violation ? `${violation.rule} ${RULE_TITLES[violation.rule] ?? ""}` : "Violation"}
          </h2>
          <p title={violation ? formatUtc(violation.first_signal) : ""}>
            {violation
              ? `${tone === "crit" ? "Critical" : "Warning"}, ${formatTime(violation.first_signal)}, ${violation.provider} / ${violation.model}`
              : (error ?? "Loading")}
          </p>
        </div>
        <div className="right">
          <button type="button" className="btn" disabled={newer === null} onClick={() => newer !== null && onOpen(newer)}>
            <span aria-hidden="true">←</span> Newer
          </button>
          <button type="button" className="btn" disabled={older === null} onClick={() => older !== null && onOpen(older)}>
            Older <span aria-hidden="true">→</span>
          </button>
          <button type="button" className="icon" aria-label="Close" onClick={() => dialog.current?.close()}>
            <svg width="14" height="14" viewBox="0 0 14 14" stroke="currentColor" strokeWidth="1.7" aria-hidden="true">
              <path d="m2 2 10 10M12 2 2 12" />
            </svg>
          </button>
        </div>
      </header>
      {error && <p className="none">{error}</p>}
      {context && (
        <div className="dialog-body" tabIndex={0} role="region" aria-label="Details">
          <Details context={context} onChanged={onChanged} reload={load} />
        </div>
      )}
    </dialog>
  );
}

function Details(props: {
  context: ContextOut;
  onChanged: (violation: ViolationOut) => void;
  reload: () => void;
}): React.JSX.Element {
  const { context } = props;
  const { violation, points, index } = context;
  const point = points[index];
  const { unit } = metricText(violation.metric);
  const decimals = decimalsFor(violation.centre);
  const { headline, advice } = diagnose(context);
  const tone = violation.severity === "critical" ? "crit" : "warn";
  const show = (value: number | null, more = 0): string =>
    value === null ? "—" : `${formatNumber(value, decimals + more)} ${unit}`;
  return (
    <>
      <div className="finding">
        <div className={`finding-value ${tone}`}>
          {show(violation.peak_value)}
          <small>{formatSigma(violation.peak_z)} from centre line</small>
        </div>
        <p>
          <b>{headline}</b> {advice}
          {violation.provisional && " The limits were provisional."}
        </p>
      </div>
      <div className="column">
        <h3>
          Context{" "}
          <span>
            {context.before} samples before and {context.after} after
          </span>
        </h3>
        <ContextChart context={context} />
        <h3>Where the time went</h3>
        {point && <TimeSpent point={point} context={context} />}
        <SystemAround points={points} index={index} />
        <Acknowledge violation={violation} onChanged={props.onChanged} reload={props.reload} />
      </div>
      <div className="column">
        <h3>
          Process at the time <span>{violation.provisional ? "provisional limits" : "frozen limits"}</span>
        </h3>
        <dl className="kv">
          <dt>Centre line</dt>
          <dd>{show(violation.centre)}</dd>
          <dt>Sigma</dt>
          <dd>{show(violation.sigma, 1)}</dd>
          <dt>UCL / LCL</dt>
          <dd>
            {formatNumber(violation.ucl, decimals)} / {formatNumber(violation.lcl, decimals)} {unit}
          </dd>
          <dt>Baseline samples</dt>
          <dd>{violation.n}</dd>
          <dt>Mean of last 60</dt>
          <dd>{show(violation.mean)}</dd>
          <dt>Std dev of last 60</dt>
          <dd>{show(violation.std)}</dd>
          <dt>Samples that signalled</dt>
          <dd>{violation.count}</dd>
        </dl>
        {point && <Telemetry point={point} prompt={context.prompt_text} />}
      </div>
    </>
  );
}

const WIDE = 640;
const HIGH = 190;

/** The points around the worst one with the limits of that time; a picture, the table has the numbers. */
function ContextChart(props: { context: ContextOut }): React.JSX.Element {
  const { violation, points, index } = props.context;
  const values = points.map((point) => readValue(violation.metric, point));
  const known = [...values.filter((value) => value !== null), violation.ucl, violation.lcl];
  const low = Math.min(...known);
  const high = Math.max(...known);
  const room = (high - low || high || 1) * 0.1;
  const x = (i: number): number => 14 + ((WIDE - 100) * i) / Math.max(1, points.length - 1);
  const y = (value: number): number => 12 + (HIGH - 34) * (1 - (value - low + room) / (high - low + 2 * room));
  let line = "";
  values.forEach((value, i) => {
    if (value === null) return;
    line += `${i === 0 || values[i - 1] === null ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  const decimals = decimalsFor(violation.centre);
  const worst = values[index] ?? null;
  const lines = [
    ["UCL", violation.ucl, "var(--ucl)", "7 4"],
    ["CL", violation.centre, "var(--cl)", ""],
    ["LCL", violation.lcl, "var(--lcl)", "2 3"],
  ] as const;
  const first = points[0];
  const last = points.at(-1);
  let labelAt = -Infinity;
  return (
    <svg
      className="context"
      viewBox={`0 0 ${WIDE} ${HIGH}`}
      role="img"
      aria-label={`The ${points.length} samples around the violation, limits from ${formatNumber(violation.lcl, decimals)} to ${formatNumber(violation.ucl, decimals)}`}
    >
      {lines.map(([name, value, colour, dash]) => {
        labelAt = Math.max(y(value) + 4, labelAt + 13);
        return (
          <g key={name}>
            <path d={`M14 ${y(value)}H${WIDE - 86}`} stroke={colour} strokeWidth="1.4" strokeDasharray={dash} />
            <text x={WIDE - 80} y={labelAt} fill={colour} fontSize="11" fontWeight="640">
              {name} {formatNumber(value, decimals)}
            </text>
          </g>
        );
      })}
      <path d={line} fill="none" stroke="var(--data)" strokeWidth="1.8" />
      {values.map(
        (value, i) =>
          value !== null && <circle key={points[i]?.id} cx={x(i)} cy={y(value)} r="2.4" fill="var(--data)" />,
      )}
      {points.map(
        (point, i) =>
          !point.ok && <path key={point.id} d={`M${x(i)} ${HIGH - 24}v-9`} stroke="var(--crit-f)" strokeWidth="2" />,
      )}
      {worst !== null && (
        <g transform={`translate(${x(index) - 7} ${y(worst) - 7}) scale(1.17)`}>
          <Glyph rule={violation.rule} side={violation.side} severity={violation.severity} />
        </g>
      )}
      {first && last && (
        <>
          <text x="14" y={HIGH - 6} fill="var(--ink-3)" fontSize="11">
            {formatTime(first.timestamp)}
          </text>
          <text x={WIDE - 86} y={HIGH - 6} fill="var(--ink-3)" fontSize="11" textAnchor="end">
            {formatTime(last.timestamp)}
          </text>
        </>
      )}
    </svg>
  );
}

function readValue(metric: string, point: ObservationOut): number | null {
  if (!point.ok) return null;
  if (metric === "ttft") return point.ttft_ms === null ? null : point.ttft_ms / 1000;
  if (metric === "ms_per_token") {
    const { eval_duration_ms: ms, eval_count: tokens } = point;
    return ms === null || tokens === null || tokens < 2 ? null : ms / tokens;
  }
  return point.latency_ms === null ? null : point.latency_ms / 1000;
}

function TimeSpent(props: { point: ObservationOut; context: ContextOut }): React.JSX.Element {
  const { point, context } = props;
  const parts = partsOf(point, context.baseline);
  const total = point.latency_ms ?? 0;
  const usual = context.baseline.latency_ms ?? 0;
  const scale = Math.max(total, usual, 1);
  if (parts.every((part) => part.ms === null)) {
    return <p className="none">This server does not tell where the time goes.</p>;
  }
  const bar = (of: "ms" | "usualMs", thin: boolean): React.JSX.Element => (
    <div className={thin ? "stack thin" : "stack"} aria-hidden="true">
      {parts.map((part) => {
        const ms = part[of] ?? 0;
        return ms > 0 ? (
          <i key={part.key} style={{ width: `${(100 * ms) / scale}%`, background: `var(--ph-${part.key})` }} />
        ) : null;
      })}
    </div>
  );
  return (
    <>
      <div className="phase">
        <span>This request</span>
        {bar("ms", false)}
        <b>{formatNumber(total / 1000, 2)} s</b>
        <span>Usually</span>
        {bar("usualMs", true)}
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
              Usually (median)
            </th>
            <th scope="col" className="num">
              Change
            </th>
          </tr>
        </thead>
        <tbody>
          {parts.map((part) => {
            const change = part.ms === null || part.usualMs === null ? null : (part.ms - part.usualMs) / 1000;
            const times = part.ms !== null && part.usualMs ? part.ms / part.usualMs : null;
            const loud = change !== null && change > 0.1 * (usual / 1000);
            return (
              <tr key={part.key}>
                <td>
                  <span className="square" style={{ background: `var(--ph-${part.key})` }} />
                  {part.name}
                </td>
                <td className="num">{part.ms === null ? "—" : `${formatNumber(part.ms / 1000, 3)} s`}</td>
                <td className="num soft">{part.usualMs === null ? "—" : `${formatNumber(part.usualMs / 1000, 3)} s`}</td>
                <td className={loud ? "num loud" : "num soft"}>
                  {change === null ? "—" : `${formatChange(change, 3)} s`}
                  {loud && times !== null && times >= 1.5 ? ` (${formatNumber(times, times < 10 ? 1 : 0)}×)` : ""}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </>
  );
}

const SHOWN = [
  "timestamp",
  "server",
  "latency_ms",
  "ttft_ms",
  "connect_ms",
  "gap_mean_ms",
  "gap_max_ms",
  "total_duration_ms",
  "load_duration_ms",
  "prompt_eval_duration_ms",
  "eval_duration_ms",
  "queue_ms",
  "prompt_eval_count",
  "eval_count",
  "tokens_per_second",
  "host",
  "prompt_hash",
] as const;

function Telemetry(props: { point: ObservationOut; prompt: string | null }): React.JSX.Element {
  const [copied, setCopied] = useState("");
  const text = JSON.stringify({ ...props.point, prompt_text: props.prompt }, null, 2);
  const copy = (): void => {
    navigator.clipboard
      .writeText(text)
      .then(() => setCopied("Copied"))
      .catch(() => setCopied("Not allowed"));
  };
  return (
    <>
      <h3>
        Telemetry
        <button type="button" className="btn" onClick={copy}>
          {copied || "Copy JSON"}
        </button>
      </h3>
      <dl className="telemetry" data-testid="telemetry">
        {SHOWN.map((name) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{props.point[name] === null || props.point[name] === "" ? "—" : String(props.point[name])}</dd>
          </div>
        ))}
      </dl>
      {props.prompt && <p className="prompt">{props.prompt}</p>}
    </>
  );
}

const AROUND = [
  ["CPU", "cpu_percent"],
  ["GPU", "gpu_percent"],
  ["Memory", "memory_percent"],
  ["VRAM", "gpu_memory_percent"],
] as const;

function SystemAround(props: { points: readonly ObservationOut[]; index: number }): React.JSX.Element {
  const { points, index } = props;
  const whose = points[index]?.host === "llm_host" ? "of the LLM's host" : "of the monitor's host";
  return (
    <div className="around">
      <h3>
        System around the violation <span>{points[index]?.host ? `${whose}; ` : ""}the dashed line marks the sample</span>
      </h3>
      <div className="minis">
        {AROUND.map(([name, field]) => {
          const value = points[index]?.[field] ?? null;
          return (
            <div key={name} className="mini">
              <span>
                {name} <b>{value === null ? "not available" : `${Math.round(value)}%`}</b>
              </span>
              {value !== null && <Sparkline values={points.map((point) => point[field])} mark={index} />}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function Acknowledge(props: {
  violation: ViolationOut;
  onChanged: (violation: ViolationOut) => void;
  reload: () => void;
}): React.JSX.Element {
  const { violation, onChanged, reload } = props;
  const [who, setWho] = useState(() => localStorage.getItem("llmscope.who") ?? "");
  const [note, setNote] = useState("");
  const [error, setError] = useState("");
  const settle = (asked: Promise<ViolationOut>): void => {
    asked
      .then((changed) => {
        onChanged(changed);
        reload();
        setError("");
      })
      .catch((reason: Error) => setError(reason.message));
  };
  if (violation.acknowledged_at) {
    return (
      <div className="ack">
        <h3>Acknowledged</h3>
        <p>
          <b>{violation.acknowledged_by}</b>, {formatTime(violation.acknowledged_at)}
          {violation.note ? `: ${violation.note}` : ""}
        </p>
        <button type="button" className="btn" onClick={() => settle(unacknowledge(violation.id))}>
          Take back
        </button>
      </div>
    );
  }
  return (
    <form
      className="ack"
      onSubmit={(event) => {
        event.preventDefault();
        localStorage.setItem("llmscope.who", who);
        settle(acknowledge(violation.id, who, note));
      }}
    >
      <h3>Acknowledge</h3>
      <div className="ack-fields">
        <label>
          <span className="sr">Your name</span>
          <input className="input" placeholder="Your name" required maxLength={100} value={who} onChange={(e) => setWho(e.target.value)} />
        </label>
        <label className="grow">
          <span className="sr">Note</span>
          <input className="input" placeholder="What it was (optional)" maxLength={2000} value={note} onChange={(e) => setNote(e.target.value)} />
        </label>
        <button type="submit" className="btn">
          Acknowledge
        </button>
      </div>
      {error && <p className="problem">{error}</p>}
    </form>
  );
}
