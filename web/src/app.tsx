// The page: loads the window of the chosen series, follows the live stream, and shows the panels.

import { useCallback, useEffect, useReducer, useRef, useState } from "react";
import { getAbout, getSeries, getWindow, names, sameSeries, type SeriesName } from "./api/client";
import { Live } from "./api/live";
import type { ViolationOut } from "./api/schema";
import { valueOf } from "./chart/build";
import { ControlChart } from "./chart/ControlChart";
import { formatClock, formatNumber } from "./format";
import { Drilldown } from "./panels/Drilldown";
import { Failures } from "./panels/Failures";
import { HalfMinutes } from "./panels/HalfMinutes";
import { Help } from "./panels/Help";
import { Incidents, learningText } from "./panels/Incidents";
import { Log } from "./panels/Log";
import { BaselinePanel, Sidebar, SystemPanel, WindowPanel, standing, useNow } from "./panels/Sidebar";
import { pill, StatsBar } from "./panels/StatsBar";
import { Points } from "./points";
import { metricText } from "./rules";
import { admitted, emptyState, hoursOf, mostRecent, reduce, searchOf, viewOf, type State, type View } from "./state";
import { useTheme } from "./theme";

const LOOK_FOR_SERIES_MS = 5000;
const REFRESH_NUMBERS_MS = 5_000;
const SPEAK_EVERY_MS = 30_000;

export function App(): React.JSX.Element {
  const [state, dispatch] = useReducer(reduce, undefined, () => emptyState(viewOf(location.search)));
  const [points] = useState(() => new Points());
  const { chosen: theme, shown, next: nextTheme } = useTheme();
  const [fit, setFit] = useState<"limits" | "all">("limits");
  const [zoomed, setZoomed] = useState(false);
  const [unzoom, setUnzoom] = useState(0);
  const [summarised, setSummarised] = useState(false);
  const [help, setHelp] = useState(false);
  const [spoken, setSpoken] = useState("");
  const live = useRef<Live | null>(null);
  const now = useRef(state);
  now.current = state;
  const { view } = state;

  useSeries(state, dispatch);
  const hours = hoursOf(view.range);
  useLive(view.series, view.metric, hours, points, live, dispatch, setSpoken);

  useEffect(() => {
    history.replaceState(null, "", location.pathname + searchOf(view));
  }, [view]);
  useTitle(state);

  const change = useCallback((changed: Partial<View>) => dispatch({ type: "view", view: changed }), []);
  const open = useCallback((id: number | null) => change({ open: id }), [change]);
  const pause = useCallback(() => dispatch({ type: "pause", paused: !now.current.paused }), []);
  const choose = useCallback((series: SeriesName) => {
    const { provider, model, server, source } = series;
    dispatch({ type: "choose", series: { provider, model, server, source } });
  }, []);

  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      const { target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (target instanceof HTMLElement && target.closest("input, select, textarea")) return;
      const pressed = event.key.toLowerCase();
      if (pressed === "1" || pressed === "6" || pressed === "2") change({ range: { hours: { 1: 1, 6: 6, 2: 24 }[pressed] } });
      else if (pressed === " " && !(target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement)) pause();
      else if (pressed === "f") setFit((fitted) => (fitted === "limits" ? "all" : "limits"));
      else if (pressed === "t") nextTheme();
      else if (pressed === "?") setHelp(true);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, [change, pause, nextTheme]);

  const clock = useNow();
  const tone = standing(state, clock);
  const rows = admitted(state);
  const pointMarks = view.chart === "points" ? rows : admitted({ ...state, view: { ...view, chart: "points" } });
  const at = rows.findIndex((violation) => violation.id === view.open);
  const empty = state.series !== null && state.series.length === 0;
  const stale = tone.title === "Stale" || tone.title === "Disconnected";
  const lastValue = points.values.at(-1);
  return (
    <>
      <a className="skip" href="#log">
        Skip to the violations
      </a>
      <Banner state={state} />
      <div className="app">
        <Sidebar
          state={state}
          theme={theme}
          onTheme={nextTheme}
          onSeries={choose}
          onMetric={(metric) => change({ metric })}
          onHours={(chosen) => change({ range: { hours: chosen } })}
          onHelp={() => setHelp(true)}
          onRetry={() => live.current?.retry()}
        />
        <main className="main">
          <StatsBar state={state} value={lastValue === undefined || Number.isNaN(lastValue) ? null : lastValue} />
          <Incidents state={state} onChanged={(incident) => dispatch({ type: "incident", incident })} />
          <section className="card chart" aria-labelledby="chart-title">
            <div className="card-head">
              <h2 id="chart-title">{metricText(view.metric).title}</h2>
              <span className="sub">
                {summarised ? "Median, with lowest and highest of each stretch" : "Every sample, with the moving average in bold"}
              </span>
              {state.spc && !state.loading && (state.spc.alarms_in_s !== null || state.spc.state === "provisional") && (
                <span className="learning">
                  {learningText(state)}
                  {state.status?.learn_n && (
                    <progress max={state.status.learn_n} value={state.status.learned} aria-label="Samples of the baseline" />
                  )}
                </span>
              )}
              <div className="right">
                {zoomed && (
                  <button type="button" className="btn" onClick={() => setUnzoom(unzoom + 1)}>
                    Whole window
                  </button>
                )}
                <div className="seg" role="group" aria-label="Vertical scale">
                  <button type="button" aria-pressed={fit === "limits"} onClick={() => setFit("limits")}>
                    Fit limits
                  </button>
                  <button type="button" aria-pressed={fit === "all"} onClick={() => setFit("all")}>
                    Fit all
                  </button>
                </div>
                <button type="button" className="btn" aria-pressed={state.paused} onClick={pause}>
                  {state.paused ? `Resume (${state.missed} new)` : "Pause"}
                </button>
              </div>
            </div>
            {empty ? (
              <div className="over">
                <b>No observation yet</b>
                <span>Start the monitor, and the chart begins by itself.</span>
                <code>llmscope up --target http://localhost:11434</code>
              </div>
            ) : (
              <>
                <ControlChart
                  points={points}
                  spc={state.spc}
                  violations={pointMarks}
                  metric={view.metric}
                  hours={hours}
                  theme={shown}
                  fit={fit}
                  frozen={state.paused}
                  dimmed={stale}
                  selected={view.open}
                  onOpen={open}
                  onZoom={setZoomed}
                  onMode={setSummarised}
                  resetZoom={unzoom}
                />
                {state.error && <div className="over problem">{state.error}</div>}
              </>
            )}
          </section>
          <HalfMinutes spc={state.spc} hours={hours} />
          <Failures spc={state.spc} hours={hours} />
          <Log state={state} onView={change} onOpen={open} />
          <div className="below">
            <WindowPanel state={state} />
            <SystemPanel state={state} />
            <BaselinePanel state={state} />
          </div>
        </main>
      </div>
      {view.open !== null && (
        <Drilldown
          id={view.open}
          newer={at > 0 ? (rows[at - 1]?.id ?? null) : null}
          older={at >= 0 ? (rows[at + 1]?.id ?? null) : null}
          onOpen={open}
          onChanged={(violation) => dispatch({ type: "violation", violation })}
        />
      )}
      {help && <Help onClose={() => setHelp(false)} />}
      <div className="sr" aria-live="polite">
        {spoken}
      </div>
    </>
  );
}

/** What every page must say: that this is a simulation, or that a target is not there. */
function Banner(props: { state: State }): React.JSX.Element | null {
  const { about, view } = props.state;
  const text = about?.notice ?? (view.series?.source === "simulator" ? "These are measurements of a simulated server." : null);
  if (!text) return null;
  return (
    <div className="banner" role="note" data-testid="banner">
      {text}
    </div>
  );
}

type Dispatch = React.ActionDispatch<[Parameters<typeof reduce>[1]]>;

/** Knows which series there are, and chooses one when none is. */
function useSeries(state: State, dispatch: Dispatch): void {
  const known = useRef(state);
  known.current = state;
  useEffect(() => {
    let stopped = false;
    const look = async (): Promise<void> => {
      try {
        const [about, { series }] = await Promise.all([getAbout(), getSeries()]);
        if (stopped) return;
        dispatch({ type: "about", about });
        dispatch({ type: "series", series });
        const chosen = known.current.view.series;
        const best = mostRecent(series);
        if (!best) return;
        const gone = chosen === null || !series.some((s) => sameSeries(s, chosen));
        const realAppeared = chosen?.source === "simulator" && best.source !== "simulator" && best.status.state !== "stale";
        if (gone || realAppeared) {
          const { provider, model, server, source } = best;
          dispatch({ type: "choose", series: { provider, model, server, source } });
        }
      } catch {
        // the live connection says that the API is away, and counts down
      }
    };
    void look();
    const timer = setInterval(() => void look(), LOOK_FOR_SERIES_MS);
    return () => {
      stopped = true;
      clearInterval(timer);
    };
  }, [dispatch]);
}

/** Loads the window of a series and follows it: over the stream, and by polling while that is away. */
function useLive(
  series: SeriesName | null,
  metric: string,
  hours: number,
  points: Points,
  held: React.RefObject<Live | null>,
  dispatch: Dispatch,
  speak: (text: string) => void,
): void {
  useEffect(() => {
    if (!series) return undefined;
    let stopped = false;
    let cursor = "";
    let spokeAt = 0;
    let live: Live | null = null;

    const load = async (): Promise<boolean> => {
      try {
        const window = await getWindow(series, metric, hours);
        if (stopped) return false;
        points.load(window);
        cursor = window.cursor;
        dispatch({ type: "window", window });
        return true;
      } catch (error) {
        if (!stopped) dispatch({ type: "failed", error: (error as Error).message });
        return false;
      }
    };
    const poll = async (): Promise<void> => {
      try {
        const window = await getWindow(series, metric, hours, cursor);
        if (stopped) return;
        points.append(window);
        cursor = window.cursor;
        if (live) live.cursor = window.cursor;
        dispatch({ type: "delta", window });
      } catch {
        // still away: the countdown goes on
      }
    };
    const announce = (violation: ViolationOut): void => {
      if (violation.severity !== "critical" || violation.count > 1 || Date.now() - spokeAt < SPEAK_EVERY_MS) return;
      spokeAt = Date.now();
      const { unit } = metricText(violation.metric);
      speak(`Critical: ${violation.rule} at ${formatClock(violation.first_signal)}, ${formatNumber(violation.value, 2)} ${unit}`);
    };
    const start = async (): Promise<void> => {
      while (!(await load())) {
        if (stopped) return;
        dispatch({ type: "connection", connection: { kind: "retrying", at: Date.now() + 2000 } });
        await new Promise((resolve) => setTimeout(resolve, 2000));
        if (stopped) return;
      }
      live = new Live({ ...names(series), metric }, cursor, {
        observation(observation) {
          if (!points.add(observation, valueOf(metric, observation))) return;
          points.dropBefore(Date.now() / 1000 - hours * 3600);
          dispatch({ type: "observation", observation });
        },
        violation(violation) {
          dispatch({ type: "violation", violation });
          announce(violation);
        },
        incident: (incident) => dispatch({ type: "incident", incident }),
        limits: (limits) => dispatch({ type: "limits", limits }),
        system: (system) => dispatch({ type: "system", system }),
        status: (event) => dispatch({ type: "status", status: event.status }),
        about: (about) => dispatch({ type: "about", about }),
        reset: () => void load(),
        connected: () => dispatch({ type: "connection", connection: { kind: "live" } }),
        disconnected: (at) => dispatch({ type: "connection", connection: { kind: "retrying", at } }),
        poll: () => void poll(),
      });
      held.current = live;
    };
    points.clear();
    void start();
    const numbers = setInterval(() => {
      getWindow(series, metric, hours, undefined, "none")
        .then((window) => !stopped && dispatch({ type: "numbers", window }))
        .catch(() => undefined);
    }, REFRESH_NUMBERS_MS);
    return () => {
      stopped = true;
      clearInterval(numbers);
      live?.close();
      held.current = null;
    };
  }, [series, metric, hours, points, held, dispatch, speak]);
}

function useTitle(state: State): void {
  const { view, connection, status } = state;
  const { text } = pill(state);
  const model = view.series?.model ?? "no data";
  const said =
    connection.kind === "retrying" ? "disconnected" : status?.state === "stale" ? "stale" : text.toLowerCase();
  useEffect(() => {
    document.title = view.series ? `LLMscope — ${model} ${said}` : "LLMscope — waiting for data";
  }, [view.series, model, said]);
}
