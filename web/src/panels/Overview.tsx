// All targets at a glance: one small card each, the worst first, followed live.

import { memo, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { SeriesName } from "../api/client";
import type { OverviewTargetOut } from "../api/schema";
import { readPalette, type Palette } from "../chart/palette";
import { ABSENT, decimalsFor, formatCount, formatNumber, formatSigma, formatUtc } from "../format";
import { Targets, STANDINGS, countsOf, keptInPlace, listed, standingText, type Order, type TargetStanding } from "../overview";
import { METRICS, metricText } from "../rules";
import { drawSpark } from "../spark";
import { searchOf, viewOf } from "../state";
import { LogOut } from "./LogOut";
import { useNow } from "./Sidebar";
import { Brand, SeverityIcon } from "./icons";

const SORT_EVERY_MS = 5000;
const SPANS = [1, 6, 24] as const;
const LOADING_CARDS = 6;

interface Props {
  theme: string;
  metric: string;
  onMetric: (metric: string) => void;
  onOpen: (series: SeriesName) => void;
  onHelp?: () => void;
}

export function Overview(props: Props): React.JSX.Element {
  const { theme, metric, onOpen } = props;
  const [targets] = useState(() => new Targets());
  const [hours, setHours] = useState<number>(1);
  const [standings, setStandings] = useState<ReadonlySet<TargetStanding>>(new Set());
  const [search, setSearch] = useState("");
  const [order, setOrder] = useState<Order>("worst");
  useEffect(() => {
    targets.open(metric, hours);
    return () => targets.close();
  }, [targets, metric, hours]);
  const version = useSyncExternalStore(
    useCallback((listener: () => void) => targets.subscribe(listener), [targets]),
    () => targets.version,
  );
  const choice = useMemo(() => ({ standings, search, order, metric }), [standings, search, order, metric]);
  const { shown, held } = useOrder(targets, version, choice);
  // oxlint-disable-next-line react/exhaustive-deps -- the theme changes what the tokens are
  const palette = useMemo(readPalette, [theme]);
  const counts = countsOf(targets.all.values());
  const away = targets.connection.kind === "retrying";
  return (
    <main className="overview" aria-labelledby="overview-title" id="overview" tabIndex={-1}>
      <header className="overview-head">
        <Brand />
        <h1 id="overview-title">All targets</h1>
        <div className="chips" role="group" aria-label="Filter by standing">
          {STANDINGS.filter(([standing]) => counts.has(standing) || standings.has(standing)).map(([standing, words]) => (
            <button
              type="button"
              key={standing}
              className={`chip ${TONES[standing]}`}
              aria-pressed={standings.has(standing)}
              onClick={() => setStandings(toggled(standings, standing))}
            >
              <StandingIcon standing={standing} />
              {counts.get(standing) ?? 0} {words}
            </button>
          ))}
        </div>
        <div className="overview-tools">
          <input
            className="input"
            type="search"
            placeholder="Search by name"
            aria-label="Search by name"
            value={search}
            onChange={(event) => setSearch(event.target.value)}
          />
          <select className="sel small" aria-label="Measure" value={metric} onChange={(event) => props.onMetric(event.target.value)}>
            {Object.keys(METRICS)
              .filter((name) => name !== "failures")
              .map((name) => (
                <option key={name} value={name}>
                  {metricText(name).title}
                </option>
              ))}
          </select>
          <select className="sel small" aria-label="Order" value={order} onChange={(event) => setOrder(event.target.value as Order)}>
            <option value="worst">Worst first</option>
            <option value="name">By name</option>
            <option value="slowest">Slowest first</option>
          </select>
          <div className="seg" role="group" aria-label="Span">
            {SPANS.map((span) => (
              <button type="button" key={span} aria-pressed={hours === span} onClick={() => setHours(span)}>
                {span}h
              </button>
            ))}
          </div>
          <LogOut className="btn" />
          {props.onHelp && (
            <button type="button" className="btn" onClick={props.onHelp} aria-label="Shortcuts">
              ?
            </button>
          )}
        </div>
      </header>
      {away && <Away targets={targets} />}
      {targets.error !== null && !away && (
        <p className="none problem" role="alert">
          {targets.error}
        </p>
      )}
      {!targets.loaded ? (
        <ul className="targets" aria-label="Loading" aria-busy="true">
          {Array.from({ length: LOADING_CARDS }, (_, i) => (
            <li key={i} className="target soon" />
          ))}
        </ul>
      ) : targets.all.size === 0 ? (
        <div className="over">
          <b>No target yet</b>
          <span>Start the monitor, and each model that it measures gets a card here.</span>
          <code>llmscope up --target http://localhost:11434</code>
        </div>
      ) : shown.length === 0 ? (
        <p className="none">
          No target passes these filters.
          <button
            type="button"
            className="btn"
            onClick={() => {
              setStandings(new Set());
              setSearch("");
            }}
          >
            Clear filters
          </button>
        </p>
      ) : (
        <ul className={`targets${away ? " away" : ""}`} aria-label="Targets" {...held}>
          {shown.map((key) => (
            <Card key={key} id={key} targets={targets} metric={metric} palette={palette} onOpen={onOpen} />
          ))}
        </ul>
      )}
    </main>
  );
}

function toggled<T>(set: ReadonlySet<T>, value: T): ReadonlySet<T> {
  const next = new Set(set);
  if (!next.delete(value)) next.add(value);
  return next;
}

/** The cards in order. What was chosen counts at once; what came live every 5 s, and not while somebody is at the cards. */
function useOrder(
  targets: Targets,
  version: number,
  choice: Parameters<typeof listed>[1],
): { shown: string[]; held: Pick<React.ComponentProps<"ul">, "onPointerEnter" | "onPointerLeave" | "onFocus" | "onBlur"> } {
  const at = useRef({ pointer: false, focus: false });
  const [sorts, setSorts] = useState(0);
  const shown = useRef<string[]>([]);
  const sorted = useRef<unknown>(null);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!at.current.pointer && !at.current.focus && !document.hidden) setSorts((n) => n + 1);
    }, SORT_EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const keys = useMemo(() => {
    const wanted = listed(targets.all, choice);
    const isNew = sorted.current !== choice || shown.current.length === 0;
    sorted.current = choice;
    return { wanted, isNew, sorts };
    // oxlint-disable-next-line react/exhaustive-deps -- the version stands for what the targets hold
  }, [targets, version, choice, sorts]);
  const last = useRef(sorts);
  const inOrder = keys.isNew || last.current !== sorts;
  last.current = sorts;
  shown.current = inOrder ? keys.wanted : keptInPlace(shown.current, keys.wanted);
  const held = {
    onPointerEnter: () => (at.current.pointer = true),
    onPointerLeave: () => (at.current.pointer = false),
    onFocus: () => (at.current.focus = true),
    onBlur: () => (at.current.focus = false),
  };
  return { shown: shown.current, held };
}

const TONES: Record<TargetStanding, string> = {
  out: "crit",
  failing: "crit",
  stale: "warn",
  learning: "info",
  in_control: "ok",
  not_judged: "info",
};

interface CardProps {
  id: string;
  targets: Targets;
  metric: string;
  palette: Palette;
  onOpen: (series: SeriesName) => void;
}

const Card = memo(function Card(props: CardProps): React.JSX.Element | null {
  const { id, targets, metric, palette, onOpen } = props;
  const box = useRef<HTMLLIElement>(null);
  const isVisible = useVisible(box);
  const target = useSyncExternalStore(
    useCallback((listener: () => void) => (isVisible ? targets.subscribeTo(id, listener) : () => undefined), [targets, id, isVisible]),
    () => targets.all.get(id),
  );
  if (!target) return null;
  const { provider, model, server, source } = target;
  const series = { provider, model, server, source };
  const { unit } = metricText(metric);
  const decimals = decimalsFor(target.centre ?? target.last);
  const words = standingText(target);
  const failed = target.failed_percent ?? 0;
  return (
    <li ref={box} className={`target ${TONES[target.standing]}`} data-standing={target.standing}>
      <a
        href={searchOf({ ...viewOf(""), series, metric })}
        onClick={(event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return;
          event.preventDefault();
          onOpen(series);
        }}
      >
        <span className="target-top">
          <span className="target-name">
            <b title={model}>{model}</b>
            <small title={server || provider}>
              {server || provider}
              {source === "probe" ? "" : `, ${source}`}
            </small>
          </span>
          <span className="target-value">
            <b>
              {target.last === null ? ABSENT : formatNumber(target.last, decimals)}
              {target.last !== null && <small> {unit}</small>}
            </b>
            <small>{target.last_z !== null ? formatSigma(target.last_z) : target.centre === null ? "no limits" : ABSENT}</small>
          </span>
        </span>
        <span className={`state ${TONES[target.standing]}`} title={target.since ? `Since ${formatUtc(target.since)}` : undefined}>
          <StandingIcon standing={target.standing} />
          {words}
        </span>
        {target.headline && target.open_incidents > 0 && (
          <span className="target-headline" title={target.headline}>
            {target.headline}
          </span>
        )}
        <Spark target={target} stepMs={targets.stepMs} palette={palette} isVisible={isVisible} />
        <span className="target-foot">
          <span className={target.open_incidents ? "loud" : ""}>
            {target.open_incidents ? counted(target.open_incidents, "open incident") : "No incident"}
          </span>
          <span title={counted(target.open_marks, "open mark")}>{counted(target.marks, "mark")}</span>
          <span className={failed > 0 ? "some" : ""}>{failedText(target)}</span>
        </span>
      </a>
    </li>
  );
});

const counted = (n: number, what: string): string => `${n === 0 ? "No" : formatCount(n)} ${what}${n === 1 ? "" : "s"}`;

function failedText(target: OverviewTargetOut): string {
  const { failed_percent: failed } = target;
  if (failed === null) return ABSENT;
  return `${formatNumber(failed, failed > 0 && failed < 10 ? 1 : 0)} % failed`;
}

function useVisible(box: React.RefObject<Element | null>): boolean {
  const [isVisible, setVisible] = useState(false);
  useEffect(() => {
    if (!box.current) return undefined;
    const observer = new IntersectionObserver((entries) => setVisible(entries.at(-1)?.isIntersecting ?? false), { rootMargin: "120px" });
    observer.observe(box.current);
    return () => observer.disconnect();
  }, [box]);
  return isVisible;
}

interface SparkProps {
  target: OverviewTargetOut;
  stepMs: number;
  palette: Palette;
  isVisible: boolean;
}

/** The picture; the words of the card say what it shows. */
function Spark(props: SparkProps): React.JSX.Element {
  const { target, stepMs, palette, isVisible } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setSize({ width: element.clientWidth, height: element.clientHeight }));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || !isVisible || size.width === 0) return;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
    if (element.width !== width) element.width = width;
    if (element.height !== height) element.height = height;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    drawSpark(context, size.width, size.height, target, stepMs, palette);
  }, [target, stepMs, palette, isVisible, size]);
  return <canvas ref={canvas} aria-hidden="true" />;
}

function Away(props: { targets: Targets }): React.JSX.Element {
  const { connection } = props.targets;
  const now = useNow();
  const left = connection.kind === "retrying" ? Math.max(0, Math.ceil((connection.at - now) / 1000)) : 0;
  return (
    <div className="overview-away" role="status" aria-live="off">
      <SeverityIcon severity="critical" />
      <span>
        <b>Disconnected</b>, {left > 0 ? `retrying in ${left} s` : "retrying now"}. What is shown is from before.
      </span>
      <button type="button" className="btn" onClick={() => props.targets.retry()}>
        Retry
      </button>
    </div>
  );
}

const STROKES: Partial<Record<TargetStanding, string>> = {
  failing: "M3 3l8 8M11 3l-8 8",
  stale: "M7 3v4.2l2.8 1.6",
  learning: "M3.4 8.8 6 6.2l2 2 3-3.6",
  in_control: "m3.8 7.2 2.2 2.2 4.2-4.6",
  not_judged: "M3.8 7h6.4",
};

/** Each standing has its own sign: colour never tells it alone. */
function StandingIcon(props: { standing: TargetStanding }): React.JSX.Element {
  const { standing } = props;
  if (standing === "out") return <SeverityIcon severity="critical" />;
  return (
    <svg width="13" height="13" viewBox="0 0 14 14" aria-hidden="true" fill="none" stroke="currentColor" strokeWidth="1.6">
      {standing === "failing" ? <rect x="0.8" y="0.8" width="12.4" height="12.4" rx="3" /> : <circle cx="7" cy="7" r="6.2" />}
      <path d={STROKES[standing]} strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
