// The chart with its tabs and switches, and what stands in its place when there is nothing to draw.

import { useCallback, useEffect, useState } from "react";
import { ControlChart } from "../chart/ControlChart";
import type { Picture } from "../chart/picture";
import { formatDuration } from "../format";
import type { Points } from "../points";
import { judgedMetric, admitted, isLive, sloOf, type State, type View } from "../state";
import { learningText } from "./Incidents";
import { Tabs } from "./Tabs";
import { reading } from "./reading";

const WAIT_TEXT_AFTER_MS = 300;

interface Props {
  state: State;
  points: Points;
  theme: string;
  fit: "limits" | "all";
  log: boolean;
  stale: boolean;
  onFit: (fit: "limits" | "all") => void;
  onLog: (log: boolean) => void;
  onPause: () => void;
  onView: (view: Partial<View>) => void;
  onOpen: (id: number) => void;
  onTable: () => void;
}

function Card(props: Props): React.JSX.Element {
  const { state, points, fit, log } = props;
  const { view, spc } = state;
  const [detail, setDetail] = useState<Detail>({ kind: "points", step: null });
  const onDetail = useCallback(
    (kind: Detail["kind"], step: number | null) =>
      setDetail((held) => (held.kind === kind && held.step === step ? held : { kind, step })),
    [],
  );
  const kind = view.metric === "failures" ? "failures" : view.chart;
  const live = isLive(view.range);
  const isEmpty = state.series !== null && state.series.length === 0;
  const told = state.series && view.series ? new Set(state.series.filter((s) => s.model === view.series?.model).map((s) => s.metric)) : null;
  const alarmed = new Set((spc?.incidents ?? []).filter((i) => i.state === "open").flatMap((i) => i.metrics));
  return (
    <section className="card chart" aria-label="Control chart">
      <Tabs metric={view.metric} told={told} alarmed={alarmed} onMetric={(metric) => props.onView({ metric })} />
      <div className="card-head">
        <span className="sub" data-testid="detail">
          {captionOf(detail, state)}
        </span>
        {spc && !state.loading && live && kind !== "failures" && (spc.alarms_in_s !== null || spc.state === "provisional") && (
          <span className="learning">
            {learningText(state)}
            {state.status?.learn_n && (
              <progress max={state.status.learn_n} value={state.status.learned} aria-label="Samples of the baseline" />
            )}
          </span>
        )}
        <div className="right">
          {view.zoom && (
            <button type="button" className="btn" onClick={() => props.onView({ zoom: null })}>
              Whole window
            </button>
          )}
          {kind !== "failures" && (
            <div className="seg" role="group" aria-label="Chart of">
              <button type="button" aria-pressed={kind === "points"} onClick={() => props.onView({ chart: "points", rules: [] })}>
                Requests
              </button>
              <button
                type="button"
                aria-pressed={kind === "buckets"}
                title="Scores of half minutes, standard normal while in control: what the alarms are raised from"
                onClick={() => props.onView({ chart: "buckets", rules: [] })}
              >
                Half minutes
              </button>
            </div>
          )}
          <div className="seg" role="group" aria-label="Vertical scale">
            <button type="button" aria-pressed={fit === "limits"} onClick={() => props.onFit("limits")}>
              Fit limits
            </button>
            <button type="button" aria-pressed={fit === "all"} onClick={() => props.onFit("all")}>
              Fit all
            </button>
          </div>
          {kind === "points" && (
            <button type="button" className="btn" aria-pressed={log} title="Logarithmic axis" onClick={() => props.onLog(!log)}>
              Log
            </button>
          )}
          <button type="button" className="btn" onClick={props.onTable} disabled={isEmpty}>
            Table
          </button>
          <button type="button" className="btn" aria-pressed={state.paused} onClick={props.onPause} disabled={!live}>
            {state.paused ? `Resume (${state.missed} new)` : "Pause"}
          </button>
        </div>
      </div>
      <div className="chart-panel" role="tabpanel" id="chart-panel" aria-labelledby={`tab-${view.metric}`}>
        {isEmpty ? (
          <Empty />
        ) : (
          <>
            <ControlChart
              kind={kind}
              points={points}
              rollup={state.rollup}
              spc={spc}
              violations={admitted(state.violations, view.rules, view.severity)}
              metric={judgedMetric(view.metric)}
              hours={live && "hours" in view.range ? view.range.hours : null}
              span={state.span}
              zoom={view.zoom}
              theme={props.theme}
              fit={fit}
              log={log}
              slo={kind === "points" ? sloOf(state.about, view.series?.model, view.metric) : null}
              frozen={state.paused}
              dimmed={props.stale}
              selected={view.open}
              onOpen={props.onOpen}
              onZoom={(zoom) => props.onView({ zoom })}
              onDetail={onDetail}
            />
            <Waiting loading={state.loading} />
            {kind === "buckets" && !state.loading && spc !== null && spc.buckets.times_ms.length === 0 && (
              <div className="over thin">No half minute of this span was judged. They are kept for a day.</div>
            )}
            {state.error && <div className="over problem">{state.error}</div>}
          </>
        )}
      </div>
    </section>
  );
}

/** What of the chart's state it shows: a point alone goes to the canvas, not through here. */
function shownOf(state: State): readonly unknown[] {
  const { view, spc, status } = state;
  const kind = view.metric === "failures" ? spc?.failures : view.chart === "buckets" ? spc?.buckets : spc?.cold_ids;
  const learning = status?.learn_n ? [status.learn_n, status.learned, status.learn_left_s] : [];
  return [
    view,
    state.violations,
    state.series,
    state.about,
    state.rollup,
    state.span,
    state.loading,
    state.error,
    state.paused,
    state.missed,
    spc === null,
    spc?.limits,
    spc?.phases,
    spc?.incidents,
    spc?.exclusions,
    spc?.annotations,
    spc?.state,
    spc?.alarms_in_s,
    spc?.locks_in_s,
    kind,
    ...learning,
  ];
}

export const ChartCard = reading(Card, shownOf);

interface Detail {
  kind: Picture["detail"];
  step: number | null;
}

/** What is drawn, in words. */
function captionOf(detail: Detail, state: State): string {
  const { view } = state;
  const zoomed = view.zoom ? `Zoomed${isLive(view.range) ? ", new samples are kept" : ""}. ` : "";
  switch (detail.kind) {
    case "half minutes":
      return `${zoomed}Half minutes as scores, standard normal while in control`;
    case "failures":
      return `${zoomed}Share of requests that failed, each ${formatDuration(detail.step)}`;
    case "points":
      return `${zoomed}Every sample, with the moving average in bold`;
    case "stretches":
      return `${zoomed}Median, with lowest and highest of each ${formatDuration(detail.step)}`;
  }
}

/** A word about waiting, when it takes long enough to be noticed. */
function Waiting(props: { loading: boolean }): React.JSX.Element | null {
  const [said, setSaid] = useState(false);
  useEffect(() => {
    if (!props.loading) return undefined;
    const timer = setTimeout(() => setSaid(true), WAIT_TEXT_AFTER_MS);
    return () => {
      clearTimeout(timer);
      setSaid(false);
    };
  }, [props.loading]);
  return said && props.loading ? <div className="over thin">Loading</div> : null;
}

function Empty(): React.JSX.Element {
  const command = "llmscope up --target http://localhost:11434";
  const [copied, setCopied] = useState(false);
  const copy = (): void => {
    navigator.clipboard.writeText(command).then(
      () => setCopied(true),
      () => setCopied(false),
    );
  };
  return (
    <div className="over" data-testid="empty">
      <b>No observation yet</b>
      <span>Start the monitor, and the chart begins by itself.</span>
      <code>{command}</code>
      <button type="button" className="btn" onClick={copy}>
        {copied ? "Copied" : "Copy the command"}
      </button>
      <span>
        No model at hand? <code>llmscope up --demo</code> plays one.
      </span>
    </div>
  );
}
