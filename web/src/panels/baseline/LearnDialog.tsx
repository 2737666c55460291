// Learning a new baseline: where it begins, why, and what it would say before it is accepted.

import { useEffect, useMemo, useState } from "react";
import { beginPhase, getWindow, type SeriesName } from "../../api/client";
import type { SpcOut, WindowOut } from "../../api/schema";
import { formatTime } from "../../format";
import { metricText } from "../../rules";
import { Dialog } from "../Dialog";
import { Choice, Field, localInput, momentOf, useSending, useWho, ZONE } from "../forms";
import { PreviewChart } from "./PreviewChart";
import { usePreview, type Previewing } from "./usePreview";
import { cautions, compareText, limitRows, presentTally, tallyOf, whyNotYet, type Preview } from "./words";

const HOUR_MS = 3_600_000;
const DAY_HOURS = 24;

interface Props {
  series: SeriesName;
  spc: SpcOut;
  metric: string;
  onClose: () => void;
  onDone: () => void;
}

type Begin = "now" | "1h" | "3h" | "incident" | "moment";

export function LearnDialog(props: Props): React.JSX.Element {
  const { series, spc, metric, onClose, onDone } = props;
  const [opened] = useState(Date.now);
  const incident = spc.incidents.find((one) => one.state === "open") ?? null;
  const [begin, setBegin] = useState<Begin>(incident ? "incident" : "1h");
  const [moment, setMoment] = useState(localInput(opened - HOUR_MS));
  const [which, setWhich] = useState<"this" | "all">("this");
  const [cause, setCause] = useState("");
  const [who, setWho] = useWho();
  const { busy, problem, send } = useSending();

  const since = sinceOf(begin, opened, incident?.change ?? null, moment);
  const wrong = whyWrong(begin, since, opened);
  const told = usePreview(spc.series_id, metric, wrong ? null : since);
  const window = useDay(series, metric);
  const why = whyNotYet(spc);

  const submit = (): void =>
    send(async () => {
      const at = since === null ? null : new Date(since).toISOString();
      await beginPhase(spc.series_id, { at, metric: which === "this" ? metric : null, cause, who, note: "" });
      onDone();
      onClose();
    });
  const choices: [Begin, string][] = [
    ["now", "Now"],
    ["1h", "1 h ago"],
    ["3h", "3 h ago"],
    ...(incident ? [["incident", "The open incident"] as [Begin, string]] : []),
    ["moment", "A moment"],
  ];
  return (
    <Dialog
      id="learn-title"
      title="Learn a new baseline"
      className="learn"
      detail={
        <p>
          {metricText(metric).title}, {series.provider} / {series.model}
        </p>
      }
      onClose={onClose}
    >
      <form
        className="dialog-body one"
        aria-label="Learn a new baseline"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <div className="learn-begin">
          <h3>Where it begins</h3>
          <Choice label="Where it begins" value={begin} of={choices} onChange={setBegin} />
          {begin === "moment" && (
            <Field
              label={`Moment of the last 24 hours (${ZONE})`}
              type="datetime-local"
              step="1"
              required
              min={localInput(opened - DAY_HOURS * HOUR_MS)}
              max={localInput(opened)}
              value={moment}
              onChange={(event) => setMoment(event.target.value)}
            />
          )}
          <p className={wrong ? "problem" : "soft"}>{wrong ?? beginText(since)}</p>
        </div>
        <Result told={told} spc={spc} metric={metric} since={since} window={window} />
        <div className="learn-why">
          <Field
            className="grow"
            label="Cause: the text of the flag on the chart"
            required
            maxLength={2000}
            placeholder="num_ctx 4096 → 2048"
            value={cause}
            onChange={(event) => setCause(event.target.value)}
          />
          <Field label="Your name (optional)" maxLength={200} value={who} onChange={(event) => setWho(event.target.value)} />
          <Choice
            label="Of which metrics"
            value={which}
            of={[
              ["this", metricText(metric).title],
              ["all", "Every judged metric"],
            ]}
            onChange={setWhich}
          />
        </div>
        <div className="form-end">
          <button type="submit" className="btn primary" disabled={busy || why !== null || wrong !== null}>
            {busy ? "Judging again" : "Accept"}
          </button>
          <button type="button" className="btn" onClick={onClose}>
            Cancel
          </button>
          {why && <p className="soft">{why}</p>}
          {problem && (
            <p className="problem" role="alert">
              {problem}
            </p>
          )}
        </div>
      </form>
    </Dialog>
  );
}

/** The chosen moment; null for now, and for one that is not complete. */
function sinceOf(begin: Begin, opened: number, change: string | null, moment: string): number | null {
  if (begin === "incident") return change === null ? null : Date.parse(change);
  if (begin === "moment") return momentOf(moment);
  return begin === "now" ? null : opened - (begin === "1h" ? 1 : 3) * HOUR_MS;
}

function whyWrong(begin: Begin, since: number | null, opened: number): string | null {
  if (begin !== "moment") return null;
  if (since === null) return "Name a moment.";
  if (since > opened) return "That moment lies in the future.";
  return since < opened - DAY_HOURS * HOUR_MS ? "Only the last 24 hours can be judged again." : null;
}

const beginText = (since: number | null): string =>
  since === null
    ? "From the next sample on. There is nothing to preview: limits come after the first good samples, the detectors after half an hour."
    : `From ${formatTime(since)} on, limits are learnt anew and everything since is judged by them.`;

/** The last day of the series, for the picture and for what the present baseline found. */
function useDay(series: SeriesName, metric: string): WindowOut | null {
  const [window, setWindow] = useState<WindowOut | null>(null);
  useEffect(() => {
    let stopped = false;
    getWindow(series, metric, DAY_HOURS, undefined, "times_ms,values")
      .then((found) => !stopped && setWindow(found))
      .catch(() => undefined); // the words and the limits do without the picture
    return () => {
      stopped = true;
    };
  }, [series, metric]);
  return window;
}

interface ResultProps {
  told: Previewing;
  spc: SpcOut;
  metric: string;
  since: number | null;
  window: WindowOut | null;
}

function Result(props: ResultProps): React.JSX.Element | null {
  const { told, spc, metric, since, window } = props;
  if (since === null || told.state === "none") return null;
  const fresh = told.preview?.limits.centre === null ? null : (told.preview?.limits ?? null);
  return (
    <section className="preview" aria-label="Preview">
      <h3>
        What it would say <span>nothing is changed yet</span>
      </h3>
      <div aria-live="polite">
        {told.state === "running" && (
          <p className="judging">
            Judging what is stored
            <progress max={1} value={told.share ?? undefined} aria-label="Judged so far" />
          </p>
        )}
        {told.state === "failed" && <p className="problem">No preview: {told.problem}.</p>}
        {told.preview && <Words preview={told.preview} spc={spc} metric={metric} since={since} window={window} />}
      </div>
      {window && <PreviewChart window={window} since={since} present={spc} fresh={fresh} metric={metric} />}
    </section>
  );
}

function Words(props: { preview: Preview; spc: SpcOut; metric: string; since: number; window: WindowOut | null }): React.JSX.Element {
  const { preview, spc, metric, since, window } = props;
  const present = useMemo(() => {
    const alarms = (window?.spc ?? spc).incidents.flatMap((incident) => incident.alarms);
    return window ? presentTally(window.violations, alarms, metric, since) : null;
  }, [window, spc, metric, since]);
  const hasLimits = preview.limits.centre !== null;
  const excluded = spc.exclusions.some((one) => !one.withdrawn && Date.parse(one.to) >= since);
  return (
    <>
      {hasLimits && present && <p className="compare">{compareText(tallyOf(preview), present, since)}</p>}
      {cautions(preview).map((said) => (
        <p key={said} className={hasLimits ? "soft" : "compare"}>
          {said}
        </p>
      ))}
      {excluded && <p className="soft">The preview counts the excluded samples; the phase itself will not.</p>}
      {hasLimits && (
        <table className="plain">
          <thead>
            <tr>
              <th scope="col">Limits</th>
              <th scope="col" className="num">
                Present
              </th>
              <th scope="col" className="num">
                New
              </th>
              <th scope="col" className="num">
                Change
              </th>
            </tr>
          </thead>
          <tbody>
            {limitRows(spc, preview.limits, metric).map((row) => (
              <tr key={row.name}>
                <th scope="row">{row.name}</th>
                <td className="num">{row.present}</td>
                <td className="num">{row.fresh}</td>
                <td className="num soft">{row.change}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
