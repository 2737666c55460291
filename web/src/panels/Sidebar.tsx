// What is watched, how it stands, and the numbers of the window and of the host.

import { memo, useEffect, useId, useRef, useState } from "react";
import { sameSeries, type SeriesName } from "../api/client";
import type { SeriesOut } from "../api/schema";
import { decimalsFor, formatClock, formatCount, formatDuration, formatNumber, formatPercent } from "../format";
import { metricText } from "../rules";
import { judgedMetric, type Connection, type Range, type State } from "../state";
import { LogOut } from "./LogOut";
import { Ranges } from "./Ranges";
import { reading } from "./reading";
import { Brand, Sparkline, ThemeIcon } from "./icons";

export interface Standing {
  tone: "ok" | "warn" | "crit" | "info";
  title: string;
  detail: string;
}

/** What the status card says; the worst news first. */
export function standing(state: State, now: number): Standing {
  const { connection, status, series } = state;
  if (connection.kind === "retrying") {
    const left = Math.max(0, Math.ceil((connection.at - now) / 1000));
    return { tone: "crit", title: "Disconnected", detail: left > 0 ? `Retrying in ${left} s` : "Retrying now" };
  }
  if (series !== null && series.length === 0) {
    return { tone: "info", title: "Waiting for data", detail: "No observation yet" };
  }
  if (status === null || connection.kind === "connecting") {
    return { tone: "info", title: "Connecting", detail: "Asking for the window" };
  }
  const age = status.last === null ? null : Math.max(0, (now - Date.parse(status.last)) / 1000);
  const last = `last sample ${age === null ? "never" : age < 1.5 ? "just now" : `${formatDuration(age)} ago`}`;
  const step = status.interval_s ?? 2;
  if (status.state === "failing" && (age ?? 0) <= 3 * step + 3) {
    const why = (status.error_kind ?? "failed").replaceAll("_", " ");
    return { tone: "warn", title: `Probes fail: ${why}`, detail: `Since ${formatClock(status.since)}, ${last}` };
  }
  if (age !== null && age > 3 * step + 1.5) {
    return { tone: "warn", title: "Stale", detail: `No sample for ${formatDuration(age)}` };
  }
  if (status.learn_left_s !== null) {
    return { tone: "ok", title: "Live, learning", detail: `Alarms begin in ${formatDuration(status.learn_left_s)}` };
  }
  return { tone: "ok", title: "Live", detail: last[0]?.toUpperCase() + last.slice(1) };
}

interface Props {
  state: State;
  theme: string;
  onTheme: () => void;
  onSeries: (series: SeriesName) => void;
  onRange: (range: Range) => void;
  onOverview: () => void;
  onHelp: () => void;
  onStorage: () => void;
  onRetry: () => void;
  children: React.ReactNode; // more panels
}

export function Sidebar(props: Props): React.JSX.Element {
  const { state } = props;
  const { view } = state;
  const first = state.series?.find((s) => view.series && sameSeries(s, view.series))?.first ?? null;
  const targets = state.targets.length;
  return (
    <aside className="side" aria-label="What is watched">
      <div className="brand">
        <Brand />
        <h1>LLMscope</h1>
        <button
          type="button"
          className="icon"
          onClick={props.onTheme}
          aria-label={`Theme: ${props.theme}. Change`}
          title={`Theme: ${props.theme}`}
        >
          <ThemeIcon theme={props.theme} />
        </button>
        <LogOut className="icon" />
      </div>
      <StatusCard state={state} onRetry={props.onRetry} />
      {targets > 1 && (
        <button type="button" className="btn wide all" onClick={props.onOverview}>
          <span aria-hidden="true">←</span> All {formatCount(targets)} targets
        </button>
      )}
      <Picker targets={state.targets} series={view.series} onSeries={props.onSeries} />
      <Ranges range={view.range} first={first} onRange={props.onRange} />
      <WindowPanel state={state} />
      <SystemPanel state={state} onStorage={props.onStorage} />
      {props.children}
      <div className="foot">
        <span>{state.about?.interval_s ? `A probe every ${state.about.interval_s} s` : `LLMscope ${state.about?.version ?? ""}`}</span>
        <button type="button" className="linkish" onClick={props.onHelp}>
          <kbd>?</kbd> shortcuts
        </button>
      </div>
    </aside>
  );
}

/** Which provider and which of its models. */
const Picker = memo(function Picker(props: {
  targets: readonly SeriesOut[];
  series: SeriesName | null;
  onSeries: (series: SeriesName) => void;
}): React.JSX.Element {
  const { targets, series } = props;
  const providers = [...new Set(targets.map((s) => s.provider))];
  const provider = series?.provider ?? providers[0] ?? "";
  const models = targets.filter((s) => s.provider === provider);
  const alike = new Map<string, number>();
  for (const s of models) alike.set(s.model, (alike.get(s.model) ?? 0) + 1);
  const modelName = (s: SeriesName): string => {
    const extra = (alike.get(s.model) ?? 0) > 1 ? [s.server, s.source === "probe" ? "" : s.source].filter(Boolean).join(", ") : "";
    return extra ? `${s.model} (${extra})` : s.model;
  };
  const chosen = series ? models.findIndex((s) => sameSeries(s, series)) : -1;
  return (
    <>
      <label className="field">
        <span className="lab">Provider</span>
        <select
          className="sel"
          value={provider}
          disabled={providers.length === 0}
          onChange={(event) => {
            const first = targets.find((s) => s.provider === event.target.value);
            if (first) props.onSeries(first);
          }}
        >
          {providers.length === 0 && <option value="">none yet</option>}
          {providers.map((name) => (
            <option key={name} value={name}>
              {name === "ollama" ? "Ollama" : name}
            </option>
          ))}
        </select>
      </label>
      <label className="field">
        <span className="lab">Model</span>
        <select
          className="sel"
          value={chosen}
          disabled={models.length === 0}
          onChange={(event) => {
            const one = models[Number(event.target.value)];
            if (one) props.onSeries(one);
          }}
        >
          {chosen < 0 && <option value={-1}>none yet</option>}
          {models.map((s, i) => (
            <option key={modelName(s)} value={i}>
              {modelName(s)}
            </option>
          ))}
        </select>
      </label>
    </>
  );
});

/** Whether what is shown is old: the series is silent, or the server away. Drawn again only when that changes. */
export function useStale(state: State): boolean {
  const held = useRef(state);
  held.current = state;
  const isStale = (): boolean => ["Stale", "Disconnected"].includes(standing(held.current, Date.now()).title);
  const [stale, setStale] = useState(isStale);
  useEffect(() => {
    const timer = setInterval(() => setStale(isStale()), 1000);
    return () => clearInterval(timer);
  }, []);
  return stale;
}

/** Renders once a second by itself, so that ages run; the second begins anew when `fresh` changes, which renders too. */
export function useNow(fresh: unknown = null): number {
  const [, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((tick) => tick + 1), 1100);
    return () => clearInterval(timer);
  }, [fresh]);
  return Date.now();
}

function StatusCard(props: { state: State; onRetry: () => void }): React.JSX.Element {
  const now = useNow(props.state.status?.last);
  const { tone, title, detail } = standing(props.state, now);
  const connection: Connection = props.state.connection;
  return (
    <div className={`live ${tone}`} role="status" aria-live="off" data-testid="status">
      <span className={tone === "ok" ? "pulse" : "dot"} />
      <div>
        <b>{title}</b>
        <small>{detail}</small>
      </div>
      {connection.kind === "retrying" && (
        <button type="button" className="btn" onClick={props.onRetry}>
          Retry
        </button>
      )}
    </div>
  );
}

function WindowNumbers(props: { state: State }): React.JSX.Element {
  const title = useId();
  const { spc, view } = props.state;
  const { unit, title: name } = metricText(judgedMetric(view.metric));
  const decimals = decimalsFor(spc?.mean);
  const show = (value: number | null | undefined, more = 0): string =>
    value === null || value === undefined ? "—" : `${formatNumber(value, decimals + more)} ${unit}`;
  return (
    <section className="panel" aria-labelledby={title}>
      <h2 id={title}>
        {view.metric === "failures" ? name : "In this window"} <span>{spc ? `${formatCount(spc.n)} samples` : ""}</span>
      </h2>
      <dl className="kv" data-testid="window">
        <dt>Mean</dt>
        <dd>{show(spc?.mean)}</dd>
        <dt>Std dev</dt>
        <dd>{show(spc?.std, spc?.std && spc.mean && spc.std < spc.mean / 10 ? 1 : 0)}</dd>
        <dt>P95</dt>
        <dd>{show(spc?.p95)}</dd>
        <dt>Marks</dt>
        <dd>{formatCount(marksOf(props.state))}</dd>
      </dl>
    </section>
  );
}

/** How many marks the chart that is shown has; of a long span with very many, those of both charts. */
function marksOf(state: State): number {
  const { violations, total, view } = state;
  return total > violations.length ? total : violations.filter((violation) => violation.chart === view.chart).length;
}

/** The statistics of what is shown. */
export const WindowPanel = reading(WindowNumbers, ({ spc, view, violations }) => [
  spc?.n,
  spc?.mean,
  spc?.std,
  spc?.p95,
  view.metric,
  view.chart,
  violations,
]);

const METERS = [
  ["CPU", "cpu_percent"],
  ["GPU", "gpu_percent"],
  ["Memory", "memory_percent"],
  ["VRAM", "gpu_memory_percent"],
] as const;

function SystemMeters(props: { state: State; onStorage: () => void }): React.JSX.Element {
  const title = useId();
  const { system } = props.state;
  const newest = system.at(-1);
  return (
    <section className="panel" aria-labelledby={title}>
      <h2 id={title}>
        System <span title={newest?.host ?? ""}>last 5 min</span>
      </h2>
      <div className="sys">
        {METERS.map(([name, field]) => {
          const value = newest?.[field] ?? null;
          return (
            <div className="sys-row" key={name}>
              <span className="sys-name">{name}</span>
              {value === null ? (
                <span className="sys-none">not available</span>
              ) : (
                <>
                  <span
                    className="meter"
                    role="meter"
                    aria-label={name}
                    aria-valuenow={Math.round(value)}
                    aria-valuemin={0}
                    aria-valuemax={100}
                  >
                    <Sparkline values={system.map((reading) => reading[field])} area />
                  </span>
                  <span className="sys-value">{formatPercent(value)}</span>
                </>
              )}
            </div>
          );
        })}
        <div className="sys-row">
          <span className="sys-name">Data</span>
          <button type="button" className="linkish" onClick={props.onStorage}>
            size on disk
          </button>
        </div>
      </div>
    </section>
  );
}

/** The load of the host, now and in the last minutes. */
export const SystemPanel = reading(SystemMeters, ({ system }) => [system]);
