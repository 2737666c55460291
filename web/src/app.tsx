// The page: what is watched at the left, its chart and marks at the right, or all targets at a glance.

import { lazy, memo, Suspense, useCallback, useEffect, useMemo, useReducer, useRef, useState, useSyncExternalStore } from "react";
import type { SeriesName } from "./api/client";
import type { Live } from "./api/live";
import type { IncidentOut, ViolationOut } from "./api/schema";
import { useFollow, useSeries, type Hears } from "./follow";
import { LogRows, logQuery } from "./log";
import { ChartCard } from "./panels/ChartCard";
import { Incidents } from "./panels/Incidents";
import { Log } from "./panels/Log";
import { BaselinePanel } from "./panels/baseline/BaselinePanel";
import { Sidebar, SystemPanel, WindowPanel, useStale } from "./panels/Sidebar";
import { pill, StatsBar } from "./panels/StatsBar";
import { Points } from "./points";
import { emptyState, judgedMetric, reduce, searchOf, viewOf, type Range, type State, type View } from "./state";
import { useTheme } from "./theme";

const Drilldown = lazy(async () => ({ default: (await import("./panels/Drilldown")).Drilldown }));
const Overview = lazy(async () => ({ default: (await import("./panels/Overview")).Overview }));
const Help = lazy(async () => ({ default: (await import("./panels/Help")).Help }));
const BaselineDialog = lazy(async () => ({ default: (await import("./panels/baseline/BaselineDialog")).BaselineDialog }));
const LearnDialog = lazy(async () => ({ default: (await import("./panels/baseline/LearnDialog")).LearnDialog }));
const Storage = lazy(async () => ({ default: (await import("./panels/Storage")).Storage }));
const Table = lazy(async () => ({ default: (await import("./panels/Table")).Table }));

const OTHERS_EVERY_MS = 10_000;
const WINDOWS: Readonly<Record<string, number>> = { 1: 1, 6: 6, 2: 24, 7: 168, 3: 720 };

export function App(): React.JSX.Element {
  const [state, dispatch] = useReducer(reduce, undefined, () => emptyState(viewOf(location.search)));
  const [points] = useState(() => new Points());
  const { chosen: theme, shown, next: nextTheme } = useTheme();
  const [fit, setFit] = useState<"limits" | "all">("limits");
  const [log, setLog] = useState(false);
  const [dialog, setDialog] = useState<"help" | "table" | "baseline" | "learn" | "storage" | null>(null);
  const [spoken, setSpoken] = useState("");
  const live = useRef<Live | null>(null);
  const now = useRef(state);
  now.current = state;
  const { view } = state;
  const [marks] = useState(() => new LogRows());
  const hears = useMemo<Hears>(
    () => ({ violation: (violation) => marks.apply(violation), changed: () => void marks.refresh() }),
    [marks],
  );
  const listed = useMemo(() => ({ ...view, metric: judgedMetric(view.metric) }), [view]);
  useEffect(() => void marks.ask(view.screen === "series" ? logQuery(listed) : null), [marks, listed, view.screen]);

  useSeries(state, dispatch);
  useEffect(() => {
    if (view.models === "this") return undefined;
    const timer = setInterval(() => void marks.refresh(), OTHERS_EVERY_MS); // the stream tells of one series
    return () => clearInterval(timer);
  }, [marks, view.models]);
  const follower = useFollow(view, points, live, dispatch, setSpoken, hears);
  useAddress(view, dispatch);
  useTitle(state);

  const change = useCallback((changed: Partial<View>) => dispatch({ type: "view", view: changed }), []);
  const open = useCallback((id: number | null) => change({ open: id }), [change]);
  const pause = useCallback(() => dispatch({ type: "pause", paused: !now.current.paused }), []);
  const choose = useCallback((series: SeriesName) => {
    const { provider, model, server, source } = series;
    dispatch({ type: "choose", series: { provider, model, server, source } });
  }, []);
  const setRange = useCallback((range: Range) => change({ range }), [change]);
  const changed = useCallback((incident: IncidentOut) => dispatch({ type: "incident", incident }), []);
  useKeys(now, { change, pause, nextTheme, setFit, setLog, setDialog });

  const stale = useStale(state);
  const lastValue = points.values.at(-1);
  const again = useCallback(() => void follower.current?.again(), [follower]);
  const visit = useCallback(
    (series: SeriesName) => {
      choose(series);
      change({ screen: "series" });
    },
    [choose, change],
  );
  const setMetric = useCallback((metric: string) => change({ metric }), [change]);
  const help = useCallback(() => setDialog("help"), []);
  const storage = useCallback(() => setDialog("storage"), []);
  const table = useCallback(() => setDialog("table"), []);
  const close = useCallback(() => setDialog(null), []);
  const baseline = (
    <BaselinePanel spc={state.spc} about={state.about} onLearn={() => setDialog("learn")} onPhases={() => setDialog("baseline")} />
  );
  const dialogs = (
    <Suspense>
      {view.open !== null && (
        <Violation
          marks={marks}
          id={view.open}
          onOpen={open}
          onSeriesChanged={again}
          onChanged={(violation) => {
            marks.apply(violation);
            dispatch({ type: "violation", violation });
          }}
        />
      )}
      {dialog === "help" && <Help onClose={close} />}
      {dialog === "storage" && <Storage onClose={close} />}
      {dialog === "baseline" && state.spc && (
        <BaselineDialog spc={state.spc} metric={listed.metric} onClose={close} onSeriesChanged={again} />
      )}
      {dialog === "learn" && state.spc && view.series && (
        <LearnDialog series={view.series} spc={state.spc} metric={listed.metric} onClose={close} onDone={again} />
      )}
      {dialog === "table" && <Table state={state} points={points} onClose={close} />}
    </Suspense>
  );
  if (view.screen === "overview") {
    return (
      <>
        <a className="skip" href="#overview">
          Skip to the targets
        </a>
        <Banner state={state} />
        <Suspense>
          <Overview theme={shown} metric={judgedMetric(view.metric)} onMetric={setMetric} onOpen={visit} onHelp={help} />
        </Suspense>
        {dialogs}
      </>
    );
  }
  return (
    <>
      <a className="skip" href="#log">
        Skip to the marks
      </a>
      <Banner state={state} />
      <div className="app">
        <Sidebar
          state={state}
          theme={theme}
          onTheme={nextTheme}
          onSeries={choose}
          onRange={setRange}
          onOverview={() => change({ screen: "overview", open: null })}
          onHelp={() => setDialog("help")}
          onStorage={storage}
          onRetry={() => live.current?.retry()}
        >
          {baseline}
        </Sidebar>
        <main className="main">
          <StatsBar state={state} value={lastValue === undefined || Number.isNaN(lastValue) ? null : lastValue} />
          <Incidents state={state} onChanged={changed} />
          <ChartCard
            state={state}
            points={points}
            theme={shown}
            fit={fit}
            log={log}
            stale={stale}
            onFit={setFit}
            onLog={setLog}
            onPause={pause}
            onView={change}
            onOpen={open}
            onTable={table}
          />
          <Log log={marks} view={listed} spc={state.spc} onView={change} onOpen={open} />
          <div className="below">
            <WindowPanel state={state} />
            <SystemPanel state={state} onStorage={storage} />
            {baseline}
          </div>
        </main>
      </div>
      {dialogs}
      <div className="sr" aria-live="polite">
        {spoken}
      </div>
    </>
  );
}

/** The drill-down with the marks before and after in the log. */
function Violation(props: {
  marks: LogRows;
  id: number;
  onOpen: (id: number | null) => void;
  onChanged: (violation: ViolationOut) => void;
  onSeriesChanged: () => void;
}): React.JSX.Element {
  const { marks, id } = props;
  useSyncExternalStore(
    useCallback((listener: () => void) => marks.subscribe(listener), [marks]),
    () => marks.version,
  );
  return (
    <Drilldown id={id} newer={marks.neighbour(id, -1)} older={marks.neighbour(id, 1)} onOpen={props.onOpen} onChanged={props.onChanged} onSeriesChanged={props.onSeriesChanged} />
  );
}

/** What every page must say: that this is a simulation, or that a target is not there. */
const Banner = memo(function Banner(props: { state: State }): React.JSX.Element | null {
  const { about, view } = props.state;
  const text = about?.notice ?? (view.series?.source === "simulator" ? "These are measurements of a simulated server." : null);
  if (!text) return null;
  return (
    <section className="banner" aria-label="Notice" data-testid="banner">
      {text}
    </section>
  );
});

/** The view is in the address; going back goes to the view before. */
function useAddress(view: View, dispatch: React.ActionDispatch<[Parameters<typeof reduce>[1]]>): void {
  const before = useRef(view);
  useEffect(() => {
    const search = searchOf(view);
    if (search === location.search || (search === "" && location.search === "")) return;
    const { screen, series } = before.current;
    const elsewhere = screen !== view.screen || (series !== null && series !== view.series);
    before.current = view;
    const address = location.pathname + search;
    if (elsewhere) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  }, [view]);
  useEffect(() => {
    const back = (): void => dispatch({ type: "view", view: viewOf(location.search) });
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, [dispatch]);
}

interface Doers {
  change: (view: Partial<View>) => void;
  pause: () => void;
  nextTheme: () => void;
  setFit: React.Dispatch<React.SetStateAction<"limits" | "all">>;
  setLog: React.Dispatch<React.SetStateAction<boolean>>;
  setDialog: (dialog: "help" | null) => void;
}

/** The shortcuts that work everywhere but in inputs and dialogs. */
function useKeys(now: React.RefObject<State>, doers: Doers): void {
  const held = useRef(doers);
  held.current = doers;
  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      const { target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (target instanceof HTMLElement && target.closest("input, select, textarea")) return;
      const { change, pause, nextTheme, setFit, setLog, setDialog } = held.current;
      const pressed = event.key.toLowerCase();
      const hours = WINDOWS[pressed];
      const onButton = target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement;
      if (hours) change({ range: { hours } });
      else if (pressed === " " && !onButton) pause();
      else if (pressed === "f") setFit((fitted) => (fitted === "limits" ? "all" : "limits"));
      else if (pressed === "l") setLog((logarithmic) => !logarithmic);
      else if (pressed === "t") nextTheme();
      else if (pressed === "o") change({ screen: now.current.view.screen === "overview" ? "series" : "overview" });
      else if (pressed === "/") document.getElementById("log-search")?.focus();
      else if (pressed === "?") setDialog("help");
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, [now]);
}

function useTitle(state: State): void {
  const { view, connection, status } = state;
  const { text } = pill(state);
  const model = view.series?.model ?? "no data";
  const said = connection.kind === "retrying" ? "disconnected" : status?.state === "stale" ? "stale" : text.toLowerCase();
  useEffect(() => {
    document.title = view.series ? `LLMscope — ${model} ${said}` : "LLMscope — waiting for data";
  }, [view.series, model, said]);
}
