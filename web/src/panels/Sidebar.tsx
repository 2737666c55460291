// What is watched, how it stands, and the numbers of the window and of the host.

import { useEffect, useId, useState } from "react";
import { sameSeries, type SeriesName } from "../api/client";
import { decimalsFor, formatClock, formatDuration, formatNumber, formatPercent } from "../format";
import { budgetText, metricText } from "../rules";
import { hoursOf, type Connection, type State } from "../state";
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
  onMetric: (metric: string) => void;
  onHours: (hours: number) => void;
  onHelp: () => void;
  onRetry: () => void;
}

export function Sidebar(props: Props): React.JSX.Element {
  const { state } = props;
  const { view } = state;
  const all = state.series ?? [];
  const providers = [...new Set(all.map((s) => s.provider))];
  const provider = view.series?.provider ?? providers[0] ?? "";
  const models = all.filter((s, i) => s.provider === provider && all.findIndex((t) => sameSeries(s, t)) === i);
  const metrics = view.series ? all.filter((s) => view.series && sameSeries(s, view.series)).map((s) => s.metric) : [];
  const modelName = (s: SeriesName): string => {
    const alike = models.filter((t) => t.model === s.model);
    const extra = alike.length > 1 ? [s.server, s.source === "probe" ? "" : s.source].filter(Boolean).join(", ") : "";
    return extra ? `${s.model} (${extra})` : s.model;
  };
  const chosen = view.series ? models.findIndex((s) => view.series && sameSeries(s, view.series)) : -1;
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
      </div>
      <StatusCard state={state} onRetry={props.onRetry} />
      <label className="field">
        <span className="lab">Provider</span>
        <select
          className="sel"
          value={provider}
          disabled={providers.length === 0}
          onChange={(event) => {
            const first = all.find((s) => s.provider === event.target.value);
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
            const series = models[Number(event.target.value)];
            if (series) props.onSeries(series);
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
      <label className="field wide">
        <span className="lab">Measure</span>
        <select className="sel" value={view.metric} onChange={(event) => props.onMetric(event.target.value)}>
          {[...new Set([...metrics, view.metric])].map((metric) => (
            <option key={metric} value={metric}>
              {metricText(metric).title}
            </option>
          ))}
        </select>
      </label>
      <div className="field wide">
        <span className="lab" id="window-label">
          Time window
        </span>
        <div className="seg" role="group" aria-labelledby="window-label">
          {([1, 6, 24] as const).map((hours) => (
            <button
              type="button"
              key={hours}
              aria-pressed={hoursOf(view.range) === hours}
              onClick={() => props.onHours(hours)}
            >
              {hours}h
            </button>
          ))}
        </div>
      </div>
      <WindowPanel state={state} />
      <SystemPanel state={state} />
      <BaselinePanel state={state} />
      <div className="foot">
        <span>{state.about?.interval_s ? `A probe every ${state.about.interval_s} s` : `LLMscope ${state.about?.version ?? ""}`}</span>
        <button type="button" className="linkish" onClick={props.onHelp}>
          <kbd>?</kbd> shortcuts
        </button>
      </div>
    </aside>
  );
}

/** Renders once a second by itself, so that ages run. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

function StatusCard(props: { state: State; onRetry: () => void }): React.JSX.Element {
  const now = useNow();
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

export function WindowPanel(props: { state: State }): React.JSX.Element {
  const title = useId();
  const { spc, view, violations } = props.state;
  const { unit } = metricText(view.metric);
  const decimals = decimalsFor(spc?.mean);
  const show = (value: number | null | undefined, more = 0): string =>
    value === null || value === undefined ? "—" : `${formatNumber(value, decimals + more)} ${unit}`;
  return (
    <section className="panel" aria-labelledby={title}>
      <h2 id={title}>
        In this window <span>{spc ? `${spc.n.toLocaleString()} samples` : ""}</span>
      </h2>
      <dl className="kv" data-testid="window">
        <dt>Mean</dt>
        <dd>{show(spc?.mean)}</dd>
        <dt>Std dev</dt>
        <dd>{show(spc?.std, spc?.std && spc.mean && spc.std < spc.mean / 10 ? 1 : 0)}</dd>
        <dt>P95</dt>
        <dd>{show(spc?.p95)}</dd>
        <dt>Violations</dt>
        <dd>{violations.length.toLocaleString()}</dd>
      </dl>
    </section>
  );
}

const METERS = [
  ["CPU", "cpu_percent"],
  ["GPU", "gpu_percent"],
  ["Memory", "memory_percent"],
  ["VRAM", "gpu_memory_percent"],
] as const;

export function SystemPanel(props: { state: State }): React.JSX.Element {
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
      </div>
    </section>
  );
}

export function BaselinePanel(props: { state: State }): React.JSX.Element {
  const title = useId();
  const { spc } = props.state;
  const words = { none: "none", learning: "learning", provisional: "provisional", locked: "locked" };
  const seen = spc?.calibration ?? null;
  return (
    <section className="panel" aria-labelledby={title}>
      <h2 id={title}>
        Baseline <span>{spc ? words[spc.state] : ""}</span>
      </h2>
      <dl className="kv">
        <dt>Learned from</dt>
        <dd>{spc ? `${spc.learned_n.toLocaleString()} samples` : "—"}</dd>
        <dt>Locks</dt>
        <dd>{spc ? (spc.locks_in_s === null ? "locked" : `in ${formatDuration(spc.locks_in_s)}`) : "—"}</dd>
        <dt>Limits since</dt>
        <dd>{formatClock(spc?.baseline_at)}</dd>
        <dt>Scale</dt>
        <dd>{spc ? (spc.scale === "log" ? "logarithmic" : "linear") : "—"}</dd>
        <dt title="False alarms that chance brings, by the budget">False alarms</dt>
        <dd>{spc ? budgetText(spc.budget_per_day) : "—"}</dd>
        <dt title="The smallest lasting change of the level that is found within five minutes on average">Seen in 5 min</dt>
        <dd>{seen?.smallest_shift_percent ? `${formatNumber(seen.smallest_shift_percent, 0)} % and more` : "—"}</dd>
        <dt title="Correlation of one half minute with the next">Autocorrelation</dt>
        <dd>{seen ? formatNumber(seen.bucket_autocorrelation, 2) : "—"}</dd>
      </dl>
    </section>
  );
}
