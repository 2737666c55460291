// The latest value with the state in words, and the limits it is judged by.

import { distance, valueOf } from "../chart/lines";
import { decimalsFor, formatCount, formatNumber, formatSigma, formatTime } from "../format";
import { inWords, metricText } from "../rules";
import type { State } from "../state";
import { SeverityIcon } from "./icons";

/** The state in words: an open incident, else an open mark, else that all is well. */
export function pill(state: State): { tone: "ok" | "warn" | "crit" | "info"; text: string } {
  if (state.connection.kind === "retrying") return { tone: "info", text: "Not known" };
  if (state.status?.state === "failing") return { tone: "crit", text: "Not answering" };
  if (state.spc?.incidents.some((incident) => incident.state === "open")) return { tone: "crit", text: "Out of control" };
  if (state.status?.state === "stale") return { tone: "info", text: "No news" };
  const open = state.violations.filter((violation) => violation.open && violation.chart === "points");
  const worst = open.find((violation) => violation.severity === "critical") ?? open[0];
  if (worst) return { tone: "warn", text: inWords(worst.rule, worst.side) };
  if (state.spc?.state === "none" && state.spc.n > 0) return { tone: "info", text: "Not judged" };
  if (!state.spc || state.spc.centre === null) return { tone: "info", text: "No limits yet" };
  return { tone: "ok", text: state.spc.alarms_in_s === null ? "In control" : "In control, learning" };
}

export function StatsBar(props: { state: State; value: number | null }): React.JSX.Element {
  return props.state.view.metric === "failures" ? <FailuresBar state={props.state} /> : <ValuesBar {...props} />;
}

function ValuesBar(props: { state: State; value: number | null }): React.JSX.Element {
  const { state } = props;
  const { spc, latest, view } = state;
  const { unit } = metricText(view.metric);
  const live = latest ? valueOf(view.metric, latest) : null;
  const failed = latest ? !latest.ok : state.status?.state === "failing";
  const why = latest ?? state.status;
  const value = latest ? live : props.value;
  const current = spc?.limits.at(-1) ?? null;
  const z = value !== null && current ? distance(value, current, spc?.scale ?? "log") : null;
  const decimals = decimalsFor(spc?.centre ?? value);
  const missing =
    spc?.state === "none" ? "not judged" : spc && spc.centre === null ? `after ${20 - Math.min(19, spc.learned_n)} more samples` : "";
  const provisional = spc?.state === "provisional";
  const phase = spc?.phases.at(-1);
  const n = current ? formatCount(current.n) : "";
  const since = phase && phase.number > 1 ? `Phase ${phase.number}, since ${formatTime(phase.start)}` : n ? `From ${n} samples` : "";
  return (
    <section className="bar" aria-label="Limits">
      <Latest state={state} note={z === null ? (failed ? (why?.error ?? "") : "") : `${formatSigma(z)} from centre line`}>
        {failed ? (
          <span className="failed">{(why?.error_kind ?? "failed").replaceAll("_", " ")}</span>
        ) : (
          <>
            {formatNumber(value, decimals)}
            <small>{unit}</small>
          </>
        )}
      </Latest>
      <Tile name="Centre line" swatch="solid" colour="--cl" value={spc?.centre} unit={unit} decimals={decimals}>
        {missing || (provisional ? `Provisional, n ${n}` : since)}
      </Tile>
      <Tile name="Sigma" value={spc?.sigma} unit={unit} decimals={decimals + 1}>
        {missing || "(UCL − LCL) / 6"}
      </Tile>
      <Tile name="UCL" swatch="dashed" colour="--ucl" value={spc?.ucl} unit={unit} decimals={decimals}>
        {missing || "Centre line + 3σ"}
      </Tile>
      <Tile
        name="LCL"
        swatch="dotted"
        colour="--lcl"
        value={spc?.lcl != null && spc.lcl < 0 ? null : spc?.lcl}
        unit={unit}
        decimals={decimals}
      >
        {missing || (spc?.lcl != null && spc.lcl < 0 ? "None: it would lie below 0" : "Centre line − 3σ")}
      </Tile>
    </section>
  );
}

/** Of failures: the share of the last half minute, what is usual, and the limit of so many requests. */
function FailuresBar(props: { state: State }): React.JSX.Element {
  const { state } = props;
  const failures = state.spc?.failures;
  const seen = failures?.seen.at(-1) ?? 0;
  const failed = failures?.failed.at(-1) ?? 0;
  const all = failures?.seen.reduce((sum, n) => sum + n, 0) ?? 0;
  const bad = failures?.failed.reduce((sum, n) => sum + n, 0) ?? 0;
  const share = (part: number | null | undefined): number | null => (part === null || part === undefined ? null : 100 * part);
  return (
    <section className="bar" aria-label="Limits">
      <Latest state={state} note={`${failed} of ${seen} in the last half minute`}>
        {seen ? formatNumber((100 * failed) / seen, 0) : "—"}
        <small>% failed</small>
      </Latest>
      <Tile name="Centre line" swatch="solid" colour="--cl" value={share(failures?.centre)} unit="%" decimals={2}>
        Usually fails
      </Tile>
      <Tile name="In this window" value={all ? (100 * bad) / all : null} unit="%" decimals={2}>
        {`${formatCount(bad)} of ${formatCount(all)}`}
      </Tile>
      <Tile name="UCL" swatch="dashed" colour="--ucl" value={share(failures?.ucl.at(-1))} unit="%" decimals={1}>
        Of a half minute
      </Tile>
      <Tile name="LCL" value={null} unit="%" decimals={1}>
        None: fewer is better
      </Tile>
    </section>
  );
}

function Latest(props: { state: State; note: string; children: React.ReactNode }): React.JSX.Element {
  const { tone, text } = pill(props.state);
  const { title } = metricText(props.state.view.metric);
  return (
    <div className="tile">
      <div className="tile-key">
        <span title={`Latest ${title.toLowerCase()}`}>Latest</span>
        <span className={`state ${tone}`} data-testid="state">
          {tone === "crit" || tone === "warn" ? <SeverityIcon severity={tone === "crit" ? "critical" : "warning"} size={12} /> : null}
          {text}
        </span>
      </div>
      <div className="tile-value" data-testid="latest">
        {props.children}
      </div>
      <div className="tile-note">{props.note}</div>
    </div>
  );
}

function Tile(props: {
  name: string;
  value: number | null | undefined;
  unit: string;
  decimals: number;
  swatch?: string;
  colour?: string;
  children: React.ReactNode;
}): React.JSX.Element {
  return (
    <div className="tile">
      <div className="tile-key">
        {props.swatch && (
          <span className="swatch" style={{ borderTopStyle: props.swatch as "solid", borderTopColor: `var(${props.colour})` }} />
        )}
        {props.name}
      </div>
      <div className="tile-value">
        {formatNumber(props.value, props.decimals)}
        {props.value !== null && props.value !== undefined && <small>{props.unit}</small>}
      </div>
      <div className="tile-note">{props.children}</div>
    </div>
  );
}
