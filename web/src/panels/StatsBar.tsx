// The latest value with the state in words, and the limits it is judged by.

import { distance, valueOf } from "../chart/build";
import { decimalsFor, formatNumber, formatSigma } from "../format";
import { inWords, metricText } from "../rules";
import type { State } from "../state";
import { SeverityIcon } from "./icons";

/** The state in words: an open incident, else an open mark, else that all is well. */
export function pill(state: State): { tone: "ok" | "warn" | "crit" | "info"; text: string } {
  if (state.status?.state === "failing") return { tone: "crit", text: "Not answering" };
  if (state.spc?.incidents.some((incident) => incident.state === "open")) return { tone: "crit", text: "Out of control" };
  const open = state.violations.filter((violation) => violation.open && violation.chart === "points");
  const worst = open.find((violation) => violation.severity === "critical") ?? open[0];
  if (worst) return { tone: "warn", text: inWords(worst.rule, worst.side) };
  if (state.spc?.state === "none" && state.spc.n > 0) return { tone: "info", text: "Not judged" };
  if (!state.spc || state.spc.centre === null) return { tone: "info", text: "No limits yet" };
  return { tone: "ok", text: state.spc.alarms_in_s === null ? "In control" : "In control, learning" };
}

export function StatsBar(props: { state: State; value: number | null }): React.JSX.Element {
  const { state } = props;
  const { spc, latest, view } = state;
  const { title, unit } = metricText(view.metric);
  const live = latest ? valueOf(view.metric, latest) : null;
  const failed = latest !== null && !latest.ok;
  const value = latest ? live : props.value;
  const current = spc?.limits.at(-1) ?? null;
  const z = value !== null && current ? distance(value, current, spc?.scale ?? "log") : null;
  const decimals = decimalsFor(spc?.centre ?? value);
  const { tone, text } = pill(state);
  const after =
    spc?.state === "none"
      ? "not judged"
      : spc && spc.centre === null
        ? `after ${20 - Math.min(19, spc.learned_n)} more samples`
        : "";
  const provisional = spc?.state === "provisional";
  return (
    <section className="bar" aria-label="Limits">
      <div className="tile">
        <div className="tile-key">
          <span title={`Latest ${title.toLowerCase()}`}>Latest</span>
          <span className={`state ${tone}`} data-testid="state">
            {tone === "crit" || tone === "warn" ? (
              <SeverityIcon severity={tone === "crit" ? "critical" : "warning"} size={12} />
            ) : null}
            {text}
          </span>
        </div>
        <div className="tile-value" data-testid="latest">
          {failed ? (
            <span className="failed">{(latest.error_kind ?? "failed").replaceAll("_", " ")}</span>
          ) : (
            <>
              {formatNumber(value, decimals)}
              <small>{unit}</small>
            </>
          )}
        </div>
        <div className="tile-note">{z === null ? (failed ? (latest.error ?? "") : "") : `${formatSigma(z)} from centre line`}</div>
      </div>
      <Tile name="Centre line" swatch="solid" colour="--cl" value={spc?.centre} unit={unit} decimals={decimals}>
        {after || (provisional ? `Provisional, n ${current?.n.toLocaleString() ?? ""}` : `From ${current?.n.toLocaleString() ?? ""} samples`)}
      </Tile>
      <Tile name="Sigma" value={spc?.sigma} unit={unit} decimals={decimals + 1}>
        {after || "(UCL − LCL) / 6"}
      </Tile>
      <Tile name="UCL" swatch="dashed" colour="--ucl" value={spc?.ucl} unit={unit} decimals={decimals}>
        {after || "Centre line + 3σ"}
      </Tile>
      <Tile name="LCL" swatch="dotted" colour="--lcl" value={spc?.lcl} unit={unit} decimals={decimals}>
        {after || "Centre line − 3σ"}
      </Tile>
    </section>
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
