// Everything about the baseline: what chance alone brings, what was learnt, and what people decided.

import { withdrawExclusion } from "../../api/client";
import type { MarkOut, PhaseOut, SpcOut } from "../../api/schema";
import { decimalsFor, formatCount, formatDuration, formatNumber, formatTime } from "../../format";
import { RULE_TITLES, metricText } from "../../rules";
import { Dialog } from "../Dialog";
import { useSending } from "../forms";
import { currentPhase, falseAlarmText, lockText, phaseText } from "./words";

interface Props {
  spc: SpcOut;
  metric: string;
  onClose: () => void;
  onSeriesChanged: () => void;
}

export function BaselineDialog(props: Props): React.JSX.Element {
  const { spc, metric } = props;
  const phase = currentPhase(spc, metric);
  return (
    <Dialog
      id="baseline-title"
      title={`Baseline of ${metricText(metric).title.toLowerCase()}`}
      className="baseline"
      detail={<p>{phase ? phaseText(phase) : lockText(spc)}</p>}
      onClose={props.onClose}
    >
      <div className="dialog-body" tabIndex={0} role="region" aria-label="Details">
        <div className="column">
          <Marks spc={spc} />
        </div>
        <div className="column">
          <Learnt spc={spc} metric={metric} />
        </div>
        <div className="whole">
          <Phases phases={spc.phases.filter((one) => one.metric === metric)} metric={metric} />
          <Exclusions spc={spc} onSeriesChanged={props.onSeriesChanged} />
          <Annotations spc={spc} />
        </div>
      </div>
    </Dialog>
  );
}

const CHARTS = [
  ["points", "Single samples"],
  ["buckets", "Half minutes"],
] as const;

function Marks(props: { spc: SpcOut }): React.JSX.Element {
  const { spc } = props;
  return (
    <>
      <h3>
        Marks of the last 24 hours <span>beside what chance alone brings</span>
      </h3>
      <p className="explain">
        A mark is not an alarm: each rule is broken by chance now and then. Single samples are skewed and depend on each other, so
        what chance brings there is what the samples showed that the limits were learnt from. Half minutes are scored so that theory
        holds. Only a rule in bold was broken more often than chance explains.
      </p>
      {CHARTS.map(([chart, title]) => {
        const marks = spc.marks.filter((mark) => mark.chart === chart);
        return marks.length > 0 && <MarkTable key={chart} title={title} marks={marks} />;
      })}
      {spc.marks.length === 0 && <p className="note">Nothing is judged yet.</p>}
    </>
  );
}

function MarkTable(props: { title: string; marks: readonly MarkOut[] }): React.JSX.Element {
  return (
    <table className="plain">
      <thead>
        <tr>
          <th scope="col">{props.title}</th>
          <th scope="col" className="num">
            Today
          </th>
          <th scope="col" className="num">
            Expected
          </th>
        </tr>
      </thead>
      <tbody>
        {props.marks.map((mark) => (
          <tr key={mark.rule} className={mark.beyond_chance ? "loud" : ""}>
            <th scope="row">
              {mark.rule} {RULE_TITLES[mark.rule] ?? ""}
              {mark.beyond_chance && <em> more than chance</em>}
            </th>
            <td className="num">{formatCount(mark.today)}</td>
            <td className="num">{mark.expected === null ? "—" : formatNumber(mark.expected, mark.expected < 10 ? 1 : 0)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const DETECTORS: Record<string, string> = { SHIFT: "shifts", SPREAD: "spread", SPIKE: "spikes", FAILURES: "failures" };

function Learnt(props: { spc: SpcOut; metric: string }): React.JSX.Element {
  const { spc } = props;
  const { unit } = metricText(props.metric);
  const decimals = decimalsFor(spc.centre);
  const seen = spc.calibration;
  const show = (value: number | null, more = 0): string => (value === null ? "—" : `${formatNumber(value, decimals + more)} ${unit}`);
  const rows: [string, string][] = [
    ["State", spc.state],
    ["Locks", spc.locks_in_s === null ? "—" : `in ${formatDuration(spc.locks_in_s)}`],
    ["Learned from", `${formatCount(spc.learned_n)} samples`],
    ["Centre line", show(spc.centre)],
    ["Sigma", show(spc.sigma, 1)],
    ["UCL / LCL", `${formatNumber(spc.ucl, decimals)} / ${formatNumber(spc.lcl, decimals)} ${unit}`],
    ["Scale", spc.scale === "log" ? "logarithmic" : "linear"],
  ];
  if (seen) {
    rows.push(
      ["Level of half minutes", show(seen.level)],
      ["Samples, half minutes", `${formatCount(seen.n)}, ${formatCount(seen.buckets)}`],
      [
        "A half minute holds",
        seen.is_traffic ? `what arrives in ${formatDuration(seen.bucket_s)}` : `${seen.points_per_bucket} samples, ${formatDuration(seen.bucket_s)}`,
      ],
      ["Autocorrelation of samples", formatNumber(seen.autocorrelation, 2)],
      ["Of half minutes", formatNumber(seen.bucket_autocorrelation, 2)],
      ["Scores widened by", `${formatNumber(seen.inflation, 2)}×`],
      ["Detectors of", seen.detectors.map((name) => DETECTORS[name] ?? name).join(", ") || "none"],
    );
  }
  rows.push(["False alarms expected", falseAlarmText(spc)]);
  if (seen) rows.push(["Shift seen in 5 min", seen.smallest_shift_percent === null ? "none so soon" : `${formatNumber(seen.smallest_shift_percent, 1)} %`]);
  if (spc.min_change_percent) rows.push(["Alarm from a change of", `${formatNumber(spc.min_change_percent, 0)} %`]);
  return (
    <>
      <h3>What was learnt</h3>
      <dl className="kv">
        {rows.map(([name, value]) => (
          <div key={name} className="kv-row">
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {!seen && spc.alarms_in_s !== null && <p className="note">The detectors begin in {formatDuration(spc.alarms_in_s)}.</p>}
    </>
  );
}

function Phases(props: { phases: readonly PhaseOut[]; metric: string }): React.JSX.Element {
  const { unit } = metricText(props.metric);
  return (
    <>
      <h3>
        Phases <span>the newest first, with the last limits of each</span>
      </h3>
      <ul className="cards">
        {props.phases.toReversed().map((phase) => {
          const last = phase.limits.at(-1);
          const decimals = decimalsFor(last?.centre);
          return (
            <li key={phase.number}>
              <p>
                <b>{phaseText(phase)}</b>
                {phase.who ? `, by ${phase.who}` : ""}
              </p>
              {phase.note && <p>{phase.note}</p>}
              <p className="soft">
                {last
                  ? `CL ${formatNumber(last.centre, decimals)}, UCL ${formatNumber(last.ucl, decimals)}, LCL ${formatNumber(last.lcl, decimals)} ${unit}; ${last.state}, from ${formatCount(last.n)} samples`
                  : "No limits yet"}
                {phase.made !== phase.start && `; begun ${formatTime(phase.made)}`}
              </p>
            </li>
          );
        })}
      </ul>
    </>
  );
}

function Exclusions(props: { spc: SpcOut; onSeriesChanged: () => void }): React.JSX.Element {
  const { spc } = props;
  const { busy, problem, send } = useSending();
  return (
    <>
      <h3>
        Exclusions <span>left out of learning and judging</span>
      </h3>
      {spc.exclusions.length === 0 && <p className="note">Nothing is excluded.</p>}
      <ul className="cards">
        {spc.exclusions.toReversed().map((one) => (
          <li key={one.id} className="with-button">
            <p>
              <b>
                {formatTime(one.from)} to {formatTime(one.to)}
              </b>
              : {one.reason}
              {one.who ? `, by ${one.who}` : ""}
              <span className="soft">
                {" "}
                {formatTime(one.made)}
                {one.withdrawn ? `, taken back ${formatTime(one.withdrawn)}` : ""}
              </span>
            </p>
            {!one.withdrawn && (
              <button
                type="button"
                className="btn small"
                disabled={busy}
                onClick={() =>
                  send(async () => {
                    await withdrawExclusion(spc.series_id, one.id);
                    props.onSeriesChanged();
                  })
                }
              >
                {busy ? "Judging again" : "Take back"}
              </button>
            )}
          </li>
        ))}
      </ul>
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}

function Annotations(props: { spc: SpcOut }): React.JSX.Element {
  const { annotations } = props.spc;
  return (
    <>
      <h3>Annotations</h3>
      {annotations.length === 0 && <p className="note">Nothing is noted.</p>}
      <ul className="cards">
        {annotations.toReversed().map((one) => (
          <li key={one.id}>
            <p>
              <b>{formatTime(one.time)}</b>: {one.text}
              {one.who ? `, by ${one.who}` : ""}
            </p>
          </li>
        ))}
      </ul>
    </>
  );
}
