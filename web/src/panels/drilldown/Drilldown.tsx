// One violation in full: what happened, around it, where the time went, and what people do about it.

import { memo, useCallback, useEffect, useRef, useState } from "react";
import { getContext } from "../../api/client";
import type { ContextOut, ViolationOut } from "../../api/schema";
import { decimalsFor, formatNumber, formatSigma, formatTime, formatUtc } from "../../format";
import { RULE_TITLES, metricText } from "../../rules";
import { CopyByHand, useCopy } from "../Copy";
import { Dialog, isTyping } from "../Dialog";
import { diagnose } from "../diagnosis";
import { Choice } from "../forms";
import { SeverityIcon } from "../icons";
import { Actions } from "./Actions";
import { Around } from "./Around";
import { ContextChart } from "./ContextChart";
import { Process } from "./Process";
import { Telemetry } from "./Telemetry";
import { TimeSpent } from "./TimeSpent";

interface Props {
  id: number;
  newer: number | null;
  older: number | null;
  onOpen: (id: number | null) => void;
  onChanged: (violation: ViolationOut) => void;
  onSeriesChanged?: () => void;
}

export function Drilldown(props: Props): React.JSX.Element {
  const { id, newer, older, onOpen } = props;
  const [points, setPoints] = useState(10);
  const [again, setAgain] = useState(0); // counts what was changed here, to ask anew
  const [context, setContext] = useState<ContextOut | null>(null);
  const [error, setError] = useState("");
  const link = useCopy(location.href);

  useEffect(() => {
    let current = true;
    getContext(id, points)
      .then((found) => {
        if (!current) return;
        setContext(found);
        setError("");
      })
      .catch((reason: Error) => current && setError(reason.message));
    return () => {
      current = false;
    };
  }, [id, points, again]);

  const keys = (event: React.KeyboardEvent): void => {
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft" && newer !== null) onOpen(newer);
    else if (event.key === "ArrowRight" && older !== null) onOpen(older);
    else return;
    event.preventDefault();
  };
  const latest = useRef(props);
  latest.current = props;
  const changed = useCallback((violation: ViolationOut): void => {
    setContext((held) => held && { ...held, violation });
    latest.current.onChanged(violation);
  }, []);
  const seriesChanged = useCallback((): void => {
    setAgain((times) => times + 1);
    latest.current.onSeriesChanged?.();
  }, []);
  const held = context?.violation.id === id ? context : null;
  const violation = held?.violation;
  const critical = violation?.severity === "critical";
  return (
    <Dialog
      id="violation-title"
      className="violation"
      title={violation ? `${violation.rule} ${RULE_TITLES[violation.rule] ?? ""}` : "Violation"}
      onClose={() => onOpen(null)}
      onKeyDown={keys}
      lead={
        <span className={`badge ${critical ? "crit" : "warn"}`}>
          <SeverityIcon severity={violation?.severity ?? "warning"} size={18} />
        </span>
      }
      detail={
        <p title={violation ? formatUtc(violation.first_signal) : ""}>
          {violation ? subtitle(violation) : error ? "" : "Loading"}
        </p>
      }
      tools={
        <>
          <button type="button" className="btn" onClick={link.copy} aria-label="Copy link" title="The address of this violation">
            <LinkIcon />
            <span className="wide-only" aria-live="polite">
              {link.said === "copied" ? "Copied" : "Copy link"}
            </span>
          </button>
          <button type="button" className="btn" aria-label="Newer" disabled={newer === null} onClick={() => newer !== null && onOpen(newer)}>
            <span aria-hidden="true">←</span> <span className="wide-only">Newer</span>
          </button>
          <button type="button" className="btn" aria-label="Older" disabled={older === null} onClick={() => older !== null && onOpen(older)}>
            <span className="wide-only">Older</span> <span aria-hidden="true">→</span>
          </button>
        </>
      }
    >
      {(error || link.said === "refused") && (
        <div className="dialog-note">
          {error && (
            <p className="problem" role="alert">
              {error}
            </p>
          )}
          {link.said === "refused" && <CopyByHand text={location.href} rows={2} />}
        </div>
      )}
      {held && (
        <div className="dialog-body" tabIndex={0} role="region" aria-label="Details">
          <Details
            key={id}
            context={held}
            asked={points}
            onAsk={setPoints}
            onChanged={changed}
            onSeriesChanged={seriesChanged}
          />
        </div>
      )}
    </Dialog>
  );
}

function subtitle(violation: ViolationOut): string {
  const severity = violation.severity === "critical" ? "Critical" : "Warning";
  const what = violation.chart === "buckets" ? `${metricText(violation.metric).title} by half minute` : metricText(violation.metric).title;
  return `${severity}, ${formatTime(violation.first_signal)}, ${what}, ${violation.provider} / ${violation.model}`;
}

interface DetailsProps {
  context: ContextOut;
  asked: number;
  onAsk: (points: number) => void;
  onChanged: (violation: ViolationOut) => void;
  onSeriesChanged: () => void;
}

/** Drawn again only when something of the violation changes, not with each live point behind it. */
const Details = memo(function Details(props: DetailsProps): React.JSX.Element {
  const { context } = props;
  const { violation, points, index } = context;
  const [selectedId, setSelectedId] = useState<number | null>(null);
  const found = points.findIndex((point) => point.id === selectedId);
  const selected = found < 0 ? index : found;
  const point = points[selected];
  const worst = points[index];
  if (context.given_up) {
    return (
      <>
        <Finding context={context} />
        <Actions violation={violation} time={violation.first_signal} onChanged={props.onChanged} onSeriesChanged={props.onSeriesChanged} />
        <p className="note column">
          The observations around this mark are no longer kept. Those of incidents and of acknowledged marks stay; how long the others
          do is set by --keep-raw.
        </p>
        <div className="column">
          <Process violation={violation} />
        </div>
      </>
    );
  }
  return (
    <>
      <Finding context={context} />
      <Actions violation={violation} time={worst?.timestamp} onChanged={props.onChanged} onSeriesChanged={props.onSeriesChanged} />
      <div className="column">
        <h3>
          Context{" "}
          <span>
            {countText(context, props.asked)}
            {violation.chart === "buckets" && "; limits of half minutes"}
          </span>
          <Choice
            label="Samples before and after"
            value={props.asked}
            of={[10, 25, 50, 100].map((n) => [n, `±${n}`] as const)}
            onChange={props.onAsk}
          />
        </h3>
        <ContextChart context={context} selected={selected} onSelect={(i) => setSelectedId(points[i]?.id ?? null)} />
        <h3>
          Where the time went
          {selected !== index && (
            <span className="selected">
              the sample of {formatTime(point?.timestamp)}
              <button type="button" className="btn small" onClick={() => setSelectedId(null)}>
                Back to the worst
              </button>
            </span>
          )}
        </h3>
        {point && <TimeSpent point={point} context={context} />}
      </div>
      <div className="column">
        <Process violation={violation} />
        {point && (
          <Telemetry point={point} prompt={point.prompt_hash === worst?.prompt_hash ? context.prompt_text : null} />
        )}
      </div>
      <Around context={context} selected={selected} />
    </>
  );
});

function Finding(props: { context: ContextOut }): React.JSX.Element {
  const { violation } = props.context;
  const { unit } = metricText(violation.metric);
  const { headline, advice } = diagnose(props.context);
  return (
    <div className="finding">
      <div className={`finding-value ${violation.severity === "critical" ? "crit" : "warn"}`}>
        {formatNumber(violation.peak_value, decimalsFor(violation.centre))} {unit}
        <small>
          {violation.chart === "buckets"
            ? `half-minute score ${formatSigma(violation.peak_z)}`
            : `${formatSigma(violation.peak_z)} from centre line`}
        </small>
      </div>
      <p>
        {props.context.given_up || (
          <>
            <b>{headline}</b> {advice}
          </>
        )}
        {violation.provisional && " The limits were provisional."}
        {violation.superseded && " This mark is of a judgement that was made again since."}
      </p>
    </div>
  );
}

/** How many samples are shown, and that there are no more where fewer are than was asked for. */
export function countText(context: Pick<ContextOut, "before" | "after">, asked: number): string {
  const text = `${context.before} samples before and ${context.after} after`;
  return Math.min(context.before, context.after) < asked ? `${text}, there are no more` : text;
}

function LinkIcon(): React.JSX.Element {
  return (
    <svg width="14" height="14" viewBox="0 0 14 14" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" aria-hidden="true">
      <path d="M5.8 8.2a2.4 2.4 0 0 0 3.4 0l2.4-2.4a2.4 2.4 0 0 0-3.4-3.4l-.9.9M8.2 5.8a2.4 2.4 0 0 0-3.4 0L2.4 8.2a2.4 2.4 0 0 0 3.4 3.4l.9-.9" />
    </svg>
  );
}
