// The violations log: filters, rows that open the drill-down, acknowledgement of many, export of what the filters show.

import { memo, useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { apiUrl } from "../api/client";
import type { MarkOut, SpcOut } from "../api/schema";
import { logQuery, parametersOf, type LogRows } from "../log";
import { RULES, RULE_TITLES } from "../rules";
import type { View } from "../state";
import { LogGrid } from "./LogGrid";
import { Glyph } from "./icons";
import { formatCount } from "../format";

const SEARCH_AFTER_MS = 250;
const NAMED_CHIPS = 4; // more rules than this are told by their signs alone
const NONE: ReadonlySet<number> = new Set();
const ALL_SHOWN: Partial<View> = { rules: [], severity: "all", standing: "all", search: "" };

interface Props {
  log: LogRows;
  view: View;
  spc: SpcOut | null; // for what chance alone would bring
  onView: (view: Partial<View>) => void;
  onOpen: (id: number) => void;
}

function Marks(props: Props): React.JSX.Element {
  const { log, view, spc, onView } = props;
  useSyncExternalStore(
    useCallback((listener: () => void) => log.subscribe(listener), [log]),
    () => log.version,
  );
  const [selection, setSelection] = useState({ generation: -1, ids: NONE });
  const chosen = selection.generation === log.generation ? selection.ids : NONE;
  const choose = (ids: ReadonlySet<number>): void => setSelection({ generation: log.generation, ids });
  const section = useRef<HTMLElement>(null);
  const done = (): void => {
    choose(NONE);
    section.current?.querySelector<HTMLElement>('[role="row"][tabindex="0"]')?.focus({ preventScroll: true });
  };
  return (
    <section ref={section} className="card log" id="log" aria-labelledby="log-title" tabIndex={-1}>
      <div className="card-head">
        <h2 id="log-title">Marks</h2>
        <span className="sub" data-testid="log-total">
          {log.total === null ? "" : formatCount(log.total)}
          {view.chart === "buckets" ? " of half minutes" : ""}
        </span>
        <Chips log={log} view={view} spc={spc} onView={onView} />
      </div>
      {chosen.size > 0 ? (
        <Bulk log={log} chosen={chosen} onDone={done} />
      ) : (
        <Filters view={view} onView={onView} />
      )}
      {log.error !== null && (
        <p className="none problem" role="alert">
          {log.error}{" "}
          <button type="button" className="btn" onClick={() => log.retry()}>
            Retry
          </button>
        </p>
      )}
      {log.total ? (
        <LogGrid
          log={log}
          metric={view.metric}
          allModels={view.models === "all"}
          open={view.open}
          chosen={chosen}
          onChosen={choose}
          onOpen={props.onOpen}
        />
      ) : (
        log.error === null && <Empty log={log} view={view} spc={spc} onView={onView} />
      )}
    </section>
  );
}

/** Drawn again when its rows or filters change, or what chance would bring; not with every point. */
export const Log = memo(Marks, (before, now) => {
  const [old, spc] = [before.spc, now.spc];
  return (
    before.log === now.log &&
    before.view === now.view &&
    before.onView === now.onView &&
    before.onOpen === now.onOpen &&
    old?.marks === spc?.marks &&
    old?.state === spc?.state &&
    (old?.centre ?? null) === (spc?.centre ?? null) &&
    old?.n === spc?.n
  );
});

type Part = Pick<Props, "log" | "view" | "spc" | "onView">;

function Chips(props: Part): React.JSX.Element {
  const { log, view, spc } = props;
  const marks = (view.models === "this" ? (spc?.marks ?? []) : []).filter((mark) => mark.chart === view.chart);
  const judged = new Set([...marks.map((mark) => mark.rule), ...Object.keys(log.counts), ...view.rules]);
  const listed = RULES.filter((rule) => judged.has(rule) || (judged.size === 0 && rule <= "R3"));
  const toggle = (rule: string): void => {
    props.onView({ rules: view.rules.includes(rule) ? view.rules.filter((r) => r !== rule) : [...view.rules, rule] });
  };
  return (
    <div className={`chips${listed.length > NAMED_CHIPS ? " short" : ""}`} role="group" aria-label="Filter by rule">
      {listed.map((rule) => (
        <button
          type="button"
          key={rule}
          className="chip"
          title={RULE_TITLES[rule]}
          aria-pressed={view.rules.includes(rule)}
          onClick={() => toggle(rule)}
        >
          <Glyph rule={rule} severity={rule === "R1" ? "critical" : "warning"} />
          {rule} <span className="chip-name">{RULE_TITLES[rule]}</span> <i>{formatCount(log.counts[rule] ?? 0)}</i>
          <Expected mark={marks.find((mark) => mark.rule === rule)} />
        </button>
      ))}
    </div>
  );
}

/** "6 today, 7.8 by chance", in bold where that is more or less than chance would have it. */
function Expected(props: { mark: MarkOut | undefined }): React.JSX.Element | null {
  const { mark } = props;
  if (!mark || mark.expected === null) return null;
  const text = `${mark.today} today, ${mark.expected.toFixed(1)} by chance`;
  return <span className={`chance${mark.beyond_chance ? " loud" : ""}`}>{text}</span>;
}

function Filters(props: Pick<Props, "view" | "onView">): React.JSX.Element {
  const { view, onView } = props;
  const query = logQuery(view);
  const file = (kind: string): string | undefined => (query ? apiUrl(`api/violations.${kind}`, parametersOf(query)) : undefined);
  return (
    <div className="log-bar">
      <select
        className="sel small"
        aria-label="Severity"
        value={view.severity}
        onChange={(event) => onView({ severity: event.target.value as View["severity"] })}
      >
        <option value="all">All severities</option>
        <option value="critical">Critical</option>
        <option value="warning">Warning</option>
      </select>
      <select
        className="sel small"
        aria-label="Standing"
        value={view.standing}
        onChange={(event) => onView({ standing: event.target.value as View["standing"] })}
      >
        <option value="all">All marks</option>
        <option value="open">Open</option>
        <option value="ended">Ended</option>
        <option value="unseen">Not seen</option>
        <option value="seen">Seen</option>
      </select>
      <select
        className="sel small"
        aria-label="Whose marks"
        value={view.models}
        onChange={(event) => onView({ models: event.target.value as View["models"] })}
      >
        <option value="this">This model</option>
        <option value="all">All models</option>
      </select>
      <Search search={view.search} onSearch={(search) => onView({ search })} />
      <div className="pair">
        <a className="btn" href={file("csv")} download aria-disabled={!query}>
          Export CSV
        </a>
        <a className="btn" href={file("json")} download aria-disabled={!query} aria-label="Export JSON">
          JSON
        </a>
      </div>
    </div>
  );
}

/** Asks when typing has paused; shows a search that comes from elsewhere. */
function Search(props: { search: string; onSearch: (search: string) => void }): React.JSX.Element {
  const { search, onSearch } = props;
  const [text, setText] = useState(search);
  const sent = useRef(search);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  useEffect(() => {
    if (search === sent.current) return;
    sent.current = search;
    setText(search);
  }, [search]);
  return (
    <input
      id="log-search"
      className="input"
      type="search"
      placeholder="Search the marks"
      aria-label="Search the marks"
      value={text}
      onChange={(event) => {
        const typed = event.target.value;
        setText(typed);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => {
          sent.current = typed.trim();
          onSearch(sent.current);
        }, SEARCH_AFTER_MS);
      }}
    />
  );
}

function Bulk(props: { log: LogRows; chosen: ReadonlySet<number>; onDone: () => void }): React.JSX.Element {
  const { log, chosen, onDone } = props;
  const [who, setWho] = useState(() => localStorage.getItem("llmscope.who") ?? "");
  const [note, setNote] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  return (
    <form
      className="log-bar bulk"
      aria-label="Acknowledge what is selected"
      onSubmit={(event) => {
        event.preventDefault();
        localStorage.setItem("llmscope.who", who);
        setBusy(true);
        log
          .acknowledge([...chosen], who, note)
          .then(onDone)
          .catch((reason: Error) => setError(reason.message))
          .finally(() => setBusy(false));
      }}
    >
      <b role="status">{formatCount(chosen.size)} selected</b>
      <input
        className="input name"
        placeholder="Your name"
        aria-label="Your name"
        required
        maxLength={100}
        value={who}
        onChange={(event) => setWho(event.target.value)}
      />
      <input
        className="input"
        placeholder="What it was (optional)"
        aria-label="Note"
        maxLength={2000}
        value={note}
        onChange={(event) => setNote(event.target.value)}
      />
      <button type="submit" className="btn" disabled={busy}>
        Acknowledge
      </button>
      <button type="button" className="btn" onClick={onDone}>
        Clear
      </button>
      {error && (
        <span className="problem" role="alert">
          {error}
        </span>
      )}
    </form>
  );
}

function Empty(props: Part): React.JSX.Element {
  const { log, view, spc } = props;
  const filtered = view.rules.length > 0 || view.severity !== "all" || view.standing !== "all" || view.search !== "";
  if (log.loading) return <p className="none soon">Loading</p>;
  return (
    <p className="none">
      {emptyText(view, spc, filtered)}{" "}
      {filtered && (
        <button type="button" className="btn" onClick={() => props.onView(ALL_SHOWN)}>
          Clear filters
        </button>
      )}
    </p>
  );
}

/** Why there is nothing to list. */
export function emptyText(view: View, spc: SpcOut | null, filtered: boolean): string {
  if (filtered) return "No mark passes these filters.";
  if (view.series === null && view.models === "this") return "No observation yet.";
  if (view.models === "this" && spc?.state === "none" && spc.n > 0) return notWatched(view.metric);
  if (view.models === "this" && spc && spc.centre === null) return "Rules are off until 20 good samples have set provisional limits.";
  return "No mark in this window.";
}

/** How a measure gets a control chart. */
export function notWatched(metric: string): string {
  return `This measure is shown, not judged. To judge it: llmscope up --watched latency,ttft,ms_per_token,${metric}`;
}
