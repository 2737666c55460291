// The violations log: filters, rows that open the drill-down, export of what the filters show.

import { useState } from "react";
import { apiUrl, names } from "../api/client";
import type { MarkOut, ViolationOut } from "../api/schema";
import { decimalsFor, formatDuration, formatNumber, formatSigma, formatTime, formatUtc } from "../format";
import { RULES, RULE_TITLES, metricText } from "../rules";
import { admitted, hoursOf, type State, type View } from "../state";
import { Glyph, SeverityIcon } from "./icons";

const STEP = 200; // rows shown at once; more on request

interface Props {
  state: State;
  onView: (view: Partial<View>) => void;
  onOpen: (id: number) => void;
}

export function Log(props: Props): React.JSX.Element {
  const { state } = props;
  const { view, violations } = state;
  const [shown, setShown] = useState(STEP);
  const rows = admitted(violations, view.rules, view.severity).filter((v) => v.chart === view.chart);
  const counts = new Map<string, number>();
  for (const violation of violations) {
    if (violation.chart === view.chart) counts.set(violation.rule, (counts.get(violation.rule) ?? 0) + 1);
  }
  const marks = (state.spc?.marks ?? []).filter((mark) => mark.chart === view.chart);
  const judged = new Set([...marks.map((mark) => mark.rule), ...counts.keys()]);
  const listed = RULES.filter((rule) => judged.has(rule) || (judged.size === 0 && rule <= "R3"));
  const toggle = (rule: string): void => {
    const rules = view.rules.includes(rule) ? view.rules.filter((r) => r !== rule) : [...view.rules, rule];
    props.onView({ rules });
  };
  const exported = view.series
    ? apiUrl("api/violations.csv", {
        ...names(view.series),
        metric: view.metric,
        hours: hoursOf(view.range),
        rule: exportedRules(view),
        chart: view.chart,
      })
    : undefined;
  return (
    <section className="card log" id="log" aria-labelledby="log-title" tabIndex={-1}>
      <div className="card-head">
        <h2 id="log-title">Marks</h2>
        <div className="chips" role="group" aria-label="Filter by rule">
          {listed.map((rule) => (
            <button
              type="button"
              key={rule}
              className="chip"
              aria-pressed={view.rules.includes(rule)}
              onClick={() => toggle(rule)}
            >
              <Glyph rule={rule} severity={rule === "R1" ? "critical" : "warning"} />
              {rule} <span className="chip-name">{RULE_TITLES[rule]}</span> <i>{counts.get(rule) ?? 0}</i>
              <Expected mark={marks.find((mark) => mark.rule === rule)} />
            </button>
          ))}
        </div>
        <div className="right">
          <div className="seg" role="group" aria-label="Marks of">
            <button type="button" aria-pressed={view.chart === "points"} onClick={() => props.onView({ chart: "points", rules: [] })}>
              Points
            </button>
            <button type="button" aria-pressed={view.chart === "buckets"} onClick={() => props.onView({ chart: "buckets", rules: [] })}>
              Half minutes
            </button>
          </div>
          <select
            className="sel small"
            aria-label="Severity"
            value={view.severity}
            onChange={(event) => props.onView({ severity: event.target.value as View["severity"] })}
          >
            <option value="all">All severities</option>
            <option value="critical">Critical</option>
            <option value="warning">Warning</option>
          </select>
          <a className="btn" href={exported} download aria-disabled={!exported}>
            Export CSV
          </a>
        </div>
      </div>
      <div className="rows" role="region" aria-label="Violations table" tabIndex={0}>
        {rows.length === 0 ? (
          <p className="none">{emptyText(state)}</p>
        ) : (
          <table>
            <thead>
              <tr>
                <th scope="col">Severity</th>
                <th scope="col">Started</th>
                <th scope="col">Rule</th>
                <th scope="col" className="num">
                  {metricText(view.metric).short}
                </th>
                <th scope="col" className="num">
                  Distance
                </th>
                <th scope="col" className="num">
                  Lasted
                </th>
                <th scope="col">Seen by</th>
              </tr>
            </thead>
            <tbody>
              {rows.slice(0, shown).map((violation) => (
                <Row key={violation.id} violation={violation} onOpen={props.onOpen} />
              ))}
            </tbody>
          </table>
        )}
        {rows.length > shown && (
          <button type="button" className="btn more" onClick={() => setShown(shown + STEP)}>
            Show {Math.min(STEP, rows.length - shown)} more of {rows.length.toLocaleString()}
          </button>
        )}
      </div>
    </section>
  );
}

/** The rules that the export asks for: those pressed that the severity admits. R1 alone is critical. */
function exportedRules(view: View): string | undefined {
  const bySeverity = RULES.filter(
    (rule) => view.severity === "all" || (rule === "R1") === (view.severity === "critical"),
  );
  const chosen = bySeverity.filter((rule) => view.rules.length === 0 || view.rules.includes(rule));
  if (chosen.length === RULES.length) return undefined;
  return (chosen.length ? chosen : view.rules).join(",");
}

/** "6 today, 7.8 by chance", in bold where that is more or less than chance would have it. */
function Expected(props: { mark: MarkOut | undefined }): React.JSX.Element | null {
  const { mark } = props;
  if (!mark || mark.expected === null) return null;
  const text = `${mark.today} today, ${mark.expected.toFixed(1)} by chance`;
  return <span className={`chance${mark.beyond_chance ? " loud" : ""}`}>{text}</span>;
}

function emptyText(state: State): string {
  if (state.violations.length > 0) return "No violation passes these filters.";
  if (state.spc?.state === "none" && state.spc.n > 0) return notWatched(state.view.metric);
  if (state.spc && state.spc.centre === null) return "Rules are off until 20 good samples have set provisional limits.";
  return state.loading ? "Loading" : "No violation in this window.";
}

/** How a measure gets a control chart. */
export function notWatched(metric: string): string {
  return `This measure is shown, not judged. To judge it: llmscope up --watched latency,ttft,ms_per_token,${metric}`;
}

function lasted(violation: ViolationOut): string {
  if (violation.open) return violation.count === 1 ? "open, 1 sample" : `open, ${violation.count} samples`;
  if (violation.count === 1 && violation.rule === "R1") return "1 sample";
  return formatDuration((Date.parse(violation.last_signal) - Date.parse(violation.pattern_start)) / 1000);
}

function Row(props: { violation: ViolationOut; onOpen: (id: number) => void }): React.JSX.Element {
  const { violation } = props;
  const tone = violation.severity === "critical" ? "crit" : "warn";
  const { unit } = metricText(violation.metric);
  const far = Math.min(100, (Math.abs(violation.peak_z) / 6) * 100);
  return (
    <tr onClick={() => props.onOpen(violation.id)} data-violation={violation.id}>
      <td>
        <span className={`sev ${tone}`}>
          <SeverityIcon severity={violation.severity} />
          {tone === "crit" ? "Critical" : "Warning"}
        </span>
      </td>
      <td>
        <button
          type="button"
          className="row-link"
          title={formatUtc(violation.first_signal)}
          onClick={(event) => {
            event.stopPropagation();
            props.onOpen(violation.id);
          }}
        >
          {formatTime(violation.first_signal)}
        </button>
      </td>
      <td>
        <span className="rule">
          <Glyph rule={violation.rule} side={violation.side} severity={violation.severity} />
          {violation.rule} <span className="rule-name">{RULE_TITLES[violation.rule]}</span>
          {violation.provisional && <span className="tag">provisional limits</span>}
        </span>
      </td>
      <td className="num">
        {formatNumber(violation.peak_value, decimalsFor(violation.centre))} {unit}
      </td>
      <td className="num">
        <span className={`far ${tone}`}>
          <b style={{ "--w": `${far}%` } as React.CSSProperties} />
          {formatSigma(violation.peak_z)}
        </span>
      </td>
      <td className="num">{lasted(violation)}</td>
      <td className="seen">{violation.acknowledged_by ?? ""}</td>
    </tr>
  );
}
