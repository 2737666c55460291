// The baseline in the sidebar: which phase, learnt from what, and what it can see.

import { memo, useId } from "react";
import type { AboutOut, SpcOut } from "../../api/schema";
import { decimalsFor, formatCount, formatDuration, formatNumber, formatTime, formatUtc } from "../../format";
import { metricText } from "../../rules";
import { currentPhase, falseAlarmText, whyNotYet } from "./words";

interface Props {
  spc: SpcOut | null;
  about: AboutOut | null;
  onLearn: () => void;
  onPhases: () => void;
}

function Panel(props: Props): React.JSX.Element {
  const { spc } = props;
  const title = useId();
  const why = whyNotYet(spc, props.about?.provisional_n);
  const phase = spc && currentPhase(spc);
  return (
    <section className="panel baseline" aria-labelledby={title}>
      <h2 id={title}>
        Baseline <span>{spc ? spc.state : ""}</span>
      </h2>
      {phase && (
        <p className="phase-line" title={formatUtc(phase.start)}>
          <b>Phase {phase.number}</b>, since {formatTime(phase.start)}: {phase.cause}
        </p>
      )}
      {spc && <Numbers spc={spc} metric={phase?.metric ?? ""} />}
      <div className="panel-buttons">
        <button type="button" className="btn" disabled={!spc} onClick={props.onPhases}>
          Details
        </button>
        <button type="button" className="btn" disabled={why !== null} aria-describedby={why ? `${title}-why` : undefined} onClick={props.onLearn}>
          Learn a new baseline
        </button>
      </div>
      {why && (
        <p className="why" id={`${title}-why`}>
          {why}
        </p>
      )}
    </section>
  );
}

const READ = ["state", "phases", "calibration", "learned_n", "locks_in_s", "alarms_in_s", "scale", "sigma", "budget_per_day", "marks", "limits"] as const;

/** Drawn again when something was learnt; not with every point. */
export const BaselinePanel = memo(
  Panel,
  (before, now) => before.about === now.about && READ.every((name) => before.spc?.[name] === now.spc?.[name]),
);

function Numbers(props: { spc: SpcOut; metric: string }): React.JSX.Element {
  const { spc } = props;
  const seen = spc.calibration;
  const { unit } = metricText(props.metric);
  return (
    <dl className="kv">
      <dt>Learned from</dt>
      <dd>{formatCount(spc.learned_n)} samples</dd>
      <dt>Locks</dt>
      <dd>{spc.locks_in_s === null ? (spc.state === "locked" ? "locked" : "—") : `in ${formatDuration(spc.locks_in_s)}`}</dd>
      <dt>Scale</dt>
      <dd>{spc.scale === "log" ? "logarithmic" : "linear"}</dd>
      <dt>Sigma</dt>
      <dd>{spc.sigma === null ? "—" : `${formatNumber(spc.sigma, decimalsFor(spc.centre) + 1)} ${unit}`}</dd>
      <dt title="Correlation of one sample with the next">Autocorrelation</dt>
      <dd>{seen ? formatNumber(seen.autocorrelation, 2) : "—"}</dd>
      <dt title="False alarms of the detectors that chance brings">False alarms</dt>
      <dd>{falseAlarmText(spc)}</dd>
      <dt title="The smallest lasting shift of the level that is found within five minutes on average">Shift seen in 5 min</dt>
      <dd>{seen?.smallest_shift_percent ? `${formatNumber(seen.smallest_shift_percent, 1)} %` : "—"}</dd>
    </dl>
  );
}
