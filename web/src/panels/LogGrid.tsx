// The rows of the log: drawn where they are in view, one stop for the Tab key, moved through by the arrows.

import { memo, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import type { ViolationOut } from "../api/schema";
import { ABSENT, decimalsFor, formatDuration, formatNumber, formatSigma, formatTime, formatUtc } from "../format";
import type { LogRows } from "../log";
import { RULE_TITLES, metricText } from "../rules";
import { Glyph, SeverityIcon } from "./icons";
import { drawn, led, revealed } from "./rows";

const ROW = 38; // px
const CARD = 64;
const CARDS_BELOW = 800; // px of the list; a phone has cards in any case
const NOWHERE = { id: null, index: -1, generation: 0 };
const PHONE = "(max-width: 860px)";

interface Props {
  log: LogRows;
  metric: string;
  allModels: boolean;
  open: number | null;
  chosen: ReadonlySet<number>;
  onChosen: (chosen: ReadonlySet<number>) => void;
  onOpen: (id: number) => void;
}

/** A list of any length. Read `log.version` above it: it is drawn again with every change. */
export function LogGrid(props: Props): React.JSX.Element {
  const { log, chosen, allModels, open } = props;
  const total = log.total ?? 0;
  const scroller = useRef<HTMLDivElement>(null);
  const size = useSize(scroller);
  const cards = size.phone || (size.width > 0 && size.width < CARDS_BELOW);
  const rowHeight = cards ? CARD : ROW;
  const head = cards ? 0 : 31;
  const inView = Math.max(1, Math.floor((size.height - head) / rowHeight));
  const [first, setFirst] = useState(0);
  const [active, setActive] = useState<{ id: number | null; index: number; generation: number }>(NOWHERE);
  const activate = useCallback(
    (index: number) => setActive({ id: log.row(index)?.id ?? null, index, generation: log.generation }),
    [log],
  );
  const held = active.generation === log.generation ? active : NOWHERE;
  const known = held.id === null ? -1 : log.indexOf(held.id);
  const at = known >= 0 ? known : Math.min(held.index, total - 1); // the row that has, or had, the keyboard
  const stop = at >= 0 ? at : Math.min(first, total - 1); // the row that Tab leads to
  const focusAt = useRef<number | null>(null);
  const inside = useRef(false); // the keyboard is on a row
  const lastChosen = useRef(-1);
  const anchor = useRef({ generation: -1, id: null as number | null, index: 0 });

  useEffect(() => log.need(first, first + inView), [log, log.version, first, inView]);

  // Rows that come in above must not move what is being read; a new query begins at the top.
  useLayoutEffect(() => {
    const box = scroller.current;
    if (!box) return;
    const before = anchor.current;
    if (before.generation !== log.generation) {
      box.scrollTop = 0;
      lastChosen.current = -1;
    } else if (before.id !== null && box.scrollTop > 0) {
      const now = log.indexOf(before.id);
      if (now >= 0 && now !== before.index) box.scrollTop += (now - before.index) * rowHeight;
    }
    const top = Math.floor(box.scrollTop / rowHeight);
    anchor.current = { generation: log.generation, id: log.row(top)?.id ?? null, index: top };
    // A row that was drawn anew, because it has come or moved, has lost the keyboard: it gets it back.
    const lost = inside.current && document.activeElement === document.body ? stop : null;
    const index = focusAt.current ?? lost;
    focusAt.current = null;
    if (index !== null) box.querySelector<HTMLElement>(`[data-index="${index}"]`)?.focus({ preventScroll: true });
  });

  const reveal = useCallback(
    (index: number) => {
      const box = scroller.current;
      if (box) box.scrollTop = revealed(index, rowHeight, box.scrollTop, box.clientHeight - head);
    },
    [rowHeight, head],
  );
  // The list follows the dialog, and has the keyboard back when the row that opened it is gone.
  const shown = useRef<number | null>(null);
  useEffect(() => {
    const index = open === null ? -1 : log.indexOf(open);
    if (index >= 0 && open !== shown.current) {
      activate(index);
      reveal(index);
    }
    if (open === null && shown.current !== null && document.activeElement === document.body) {
      scroller.current?.querySelector<HTMLElement>('[role="row"][tabindex="0"]')?.focus({ preventScroll: true });
    }
    shown.current = open;
  }, [open, log, reveal, activate]);

  const choose = (index: number, range: boolean): void => {
    const id = log.row(index)?.id;
    if (id === undefined) return;
    const next = new Set(chosen);
    const on = !next.has(id);
    const ids = range && lastChosen.current >= 0 ? log.idsBetween(lastChosen.current, index) : [id];
    for (const one of ids) if (on) next.add(one);
    else next.delete(one);
    lastChosen.current = index;
    props.onChosen(next);
  };
  const keys = (event: React.KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const from = indexUnder(event.target);
    if (from === null) return;
    const to = led(event.key, from, inView, total);
    const onControl = event.target instanceof HTMLInputElement || event.target instanceof HTMLButtonElement;
    if (to !== null) {
      reveal(to);
      focusAt.current = to;
      activate(to);
    } else if (event.key === "x" || event.key === "X" || (event.key === " " && !onControl)) choose(from, event.shiftKey);
    else if (event.key === "Enter" && !onControl) {
      const id = log.row(from)?.id;
      if (id !== undefined) props.onOpen(id);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const clicked = (event: React.MouseEvent): void => {
    const index = indexUnder(event.target);
    if (index === null) return;
    if (event.target instanceof Element && event.target.closest(".c-check")) return choose(index, event.shiftKey);
    const id = log.row(index)?.id;
    if (id !== undefined) props.onOpen(id);
  };
  const all = log.loaded.size > 0 && [...log.loaded.keys()].every((id) => chosen.has(id));
  const column = metricText(props.metric).short;
  return (
    <div
      className={`rows${cards ? " cards" : ""}${allModels ? " models" : ""}`}
      ref={scroller}
      style={{ "--row": `${rowHeight}px` } as React.CSSProperties}
      onScroll={(event) => setFirst(Math.floor(event.currentTarget.scrollTop / rowHeight))}
    >
      <div
        role="grid"
        aria-label="Marks, the newest first"
        aria-rowcount={total + 1}
        aria-multiselectable="true"
        aria-busy={log.loading}
        tabIndex={-1}
        onKeyDown={keys}
        onClick={clicked}
        onFocus={(event) => {
          const index = indexUnder(event.target);
          inside.current = index !== null;
          if (index !== null && index !== at) activate(index);
        }}
        onBlur={() => (inside.current = false)}
      >
        <div role="rowgroup" className="row-head">
          <div role="row" aria-rowindex={1} className="row">
            <div role="columnheader" className="c-check">
              <input
                type="checkbox"
                aria-label="Select the rows that are loaded"
                title="Select the rows that are loaded"
                checked={all}
                onChange={() => props.onChosen(new Set(all ? [] : log.loaded.keys()))}
              />
            </div>
            <div role="columnheader" className="c-sev">
              <span className="word">Severity</span>
            </div>
            <div role="columnheader">Started</div>
            {allModels && <div role="columnheader">Model</div>}
            <div role="columnheader">Rule</div>
            <div role="columnheader" className="num">
              {column}
            </div>
            <div role="columnheader" className="num">
              Distance
            </div>
            <div role="columnheader" className="num">
              Lasted
            </div>
            <div role="columnheader">Where the time went</div>
            <div role="columnheader" className="c-seen">
              Seen by
            </div>
          </div>
        </div>
        <div
          role="rowgroup"
          className="row-body"
          style={{ height: total * rowHeight }}
        >
          {drawn(first, inView, total, at).map((index) => {
            const violation = log.row(index);
            return (
              <Row
                key={violation?.id ?? -1 - index}
                violation={violation}
                index={index}
                top={index * rowHeight}
                model={allModels}
                tabbed={index === stop}
                chosen={violation !== null && chosen.has(violation.id)}
                open={violation !== null && violation.id === open}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** The index of the row around an element of it. */
function indexUnder(target: EventTarget): number | null {
  const row = target instanceof Element ? target.closest<HTMLElement>("[data-index]") : null;
  return row ? Number(row.dataset.index) : null;
}

function useSize(box: React.RefObject<HTMLDivElement | null>): { width: number; height: number; phone: boolean } {
  const [size, setSize] = useState(() => ({ width: 0, height: 0, phone: matchMedia(PHONE).matches }));
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const measure = (): void => {
      const found = { width: element.clientWidth, height: element.clientHeight, phone: matchMedia(PHONE).matches };
      setSize((held) => (Object.keys(found).every((k) => held[k as "width"] === found[k as "width"]) ? held : found));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [box]);
  return size;
}

interface RowProps {
  violation: ViolationOut | null;
  index: number;
  top: number;
  model: boolean;
  tabbed: boolean;
  chosen: boolean;
  open: boolean;
}

const Row = memo(function Row(props: RowProps): React.JSX.Element {
  const { violation, index } = props;
  const place = {
    role: "row",
    "aria-rowindex": index + 2,
    "data-index": index,
    tabIndex: props.tabbed ? 0 : -1,
    style: { transform: `translateY(${props.top}px)` },
  };
  if (!violation) {
    return (
      <div {...place} className="row waiting">
        <div role="gridcell">Loading</div>
      </div>
    );
  }
  const tone = violation.severity === "critical" ? "crit" : "warn";
  const { unit } = metricText(violation.metric);
  const started = formatTime(violation.first_signal);
  const seen = [violation.acknowledged_by, violation.note].filter(Boolean).join(": ");
  return (
    <div
      {...place}
      className={`row${props.chosen ? " chosen" : ""}${props.open ? " open" : ""}`}
      aria-selected={props.chosen}
      data-violation={violation.id}
    >
      <div role="gridcell" className="c-check">
        <input type="checkbox" tabIndex={-1} checked={props.chosen} readOnly aria-label={`Select ${violation.rule} at ${started}`} />
      </div>
      <div className="line">
        <div role="gridcell" className={`c-sev sev ${tone}`}>
          <SeverityIcon severity={violation.severity} />
          <span className="word">{tone === "crit" ? "Critical" : "Warning"}</span>
        </div>
        <div role="gridcell" className="c-started">
          <button type="button" className="row-link" tabIndex={-1} title={formatUtc(violation.first_signal)}>
            {started}
          </button>
        </div>
        {props.model && (
          <div role="gridcell" className="c-model" title={[violation.model, violation.server].filter(Boolean).join(" on ")}>
            {violation.model}
          </div>
        )}
        <div role="gridcell" className="c-rule rule" title={RULE_TITLES[violation.rule]}>
          <Glyph rule={violation.rule} side={violation.side} severity={violation.severity} />
          {violation.rule} <span className="rule-name">{RULE_TITLES[violation.rule]}</span>
          {violation.provisional && (
            <abbr className="tag" title="Judged by provisional limits">
              prov.
            </abbr>
          )}
        </div>
      </div>
      <div className="line">
        <div role="gridcell" className="num c-value">
          {formatNumber(violation.peak_value, decimalsFor(violation.centre))} {unit}
        </div>
        <div role="gridcell" className={`num far ${tone}`}>
          <b style={{ "--w": `${Math.min(100, (Math.abs(violation.peak_z) / 6) * 100)}%` } as React.CSSProperties} />
          {formatSigma(violation.peak_z)}
        </div>
        <div role="gridcell" className="num c-lasted">
          {lasted(violation)}
        </div>
        <Cause violation={violation} />
        <div role="gridcell" className="c-seen" title={seen || undefined}>
          {seen}
        </div>
      </div>
    </div>
  );
});

const PARTS = {
  network: ["Network", "net"],
  load: ["Model load", "load"],
  queue: ["Queue", "queue"],
  prompt: ["Prompt evaluation", "prompt"],
  generation: ["Generation", "eval"],
} as const;

function Cause(props: { violation: ViolationOut }): React.JSX.Element {
  const { cause } = props.violation;
  if (!cause) {
    return (
      <div role="gridcell" className="c-where absent">
        {ABSENT}
      </div>
    );
  }
  const [what, usual] = causeText(cause);
  return (
    <div role="gridcell" className="c-where" title={`${what} ${usual}`}>
      <span className="part" style={{ background: `var(--ph-${PARTS[cause.part][1]})` }} />
      {what} <span className="usual">{usual}</span>
    </div>
  );
}

/** Where the time went, and what is usual: "Model load 3.02 s", "(usually 0.05 s)". */
export function causeText(cause: NonNullable<ViolationOut["cause"]>): [string, string] {
  const seconds = (ms: number): string => `${formatNumber(ms / 1000, 2)} s`;
  return [`${PARTS[cause.part][0]} ${seconds(cause.ms)}`, `(usually ${seconds(cause.usual_ms)})`];
}

/** How long an episode went on: "1 sample", "14 s"; one that goes on, until its last signal: "open", "open, 11 min". */
export function lasted(violation: ViolationOut): string {
  if (violation.count === 1 && (violation.open || violation.rule === "R1")) return violation.open ? "open" : "1 sample";
  const long = formatDuration((Date.parse(violation.last_signal) - Date.parse(violation.pattern_start)) / 1000);
  return violation.open ? `open, ${long}` : long;
}
