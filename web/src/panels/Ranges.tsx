// Which span of time is shown: the usual windows, and any other back to the first observation.

import { memo, useEffect, useId, useRef, useState } from "react";
import { formatDuration, formatRange } from "../format";
import type { Range } from "../state";

const WINDOWS: readonly (readonly [number, string, string])[] = [
  [1, "1h", "1 hour"],
  [6, "6h", "6 hours"],
  [24, "24h", "24 hours"],
  [168, "7d", "7 days"],
  [720, "30d", "30 days"],
];

export const Ranges = memo(function Ranges(props: { range: Range; first: string | null; onRange: (range: Range) => void }): React.JSX.Element {
  const { range } = props;
  const [asking, setAsking] = useState(false);
  const label = useId();
  const own = !("hours" in range) || !WINDOWS.some(([hours]) => hours === range.hours);
  return (
    <div className="field wide">
      <span className="lab" id={label}>
        Time window
      </span>
      <div className="seg ranges" role="group" aria-labelledby={label}>
        {WINDOWS.map(([hours, text, title]) => (
          <button
            type="button"
            key={hours}
            aria-pressed={"hours" in range && range.hours === hours}
            title={title}
            onClick={() => props.onRange({ hours })}
          >
            {text}
          </button>
        ))}
        <button type="button" aria-pressed={own} aria-haspopup="dialog" title="From one moment to another" onClick={() => setAsking(true)}>
          <span aria-hidden="true">…</span>
          <span className="sr">Custom</span>
        </button>
      </div>
      {own && (
        <span className="range-text">{"hours" in range ? formatDuration(range.hours * 3600) : formatRange(range.from, range.to)}</span>
      )}
      {asking && <Custom {...props} onClose={() => setAsking(false)} />}
    </div>
  );
});

/** A moment as `datetime-local` takes it: local time, to the minute. */
export function localText(ms: number): string {
  const at = new Date(ms);
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

function Custom(props: { range: Range; first: string | null; onRange: (range: Range) => void; onClose: () => void }): React.JSX.Element {
  const { range, first } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  const now = Date.now();
  const [from, setFrom] = useState(localText("hours" in range ? now - range.hours * 3_600_000 : range.from));
  const [to, setTo] = useState(localText("hours" in range ? now : range.to));
  const start = Date.parse(from);
  const end = Date.parse(to);
  const problem = Number.isNaN(start) || Number.isNaN(end) ? "Give both moments." : end <= start ? "The end must lie after the beginning." : "";
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return (
    <dialog ref={dialog} className="help" aria-labelledby="range-title" onClose={props.onClose}>
      <header className="dialog-head">
        <h2 id="range-title">Time window</h2>
        <div className="right">
          <button type="button" className="btn" onClick={() => dialog.current?.close()}>
            Close
          </button>
        </div>
      </header>
      <form
        className="range-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (problem) return;
          props.onRange({ from: start, to: end });
          dialog.current?.close();
        }}
      >
        <label>
          From
          <input className="input" type="datetime-local" value={from} onChange={(event) => setFrom(event.target.value)} />
        </label>
        <label>
          To
          <input className="input" type="datetime-local" value={to} onChange={(event) => setTo(event.target.value)} />
        </label>
        <p className={problem ? "problem" : "hint"}>
          {problem || `${formatDuration((end - start) / 1000)}, in the time zone ${zone}.`}
        </p>
        <div className="range-actions">
          {first && (
            <button type="button" className="btn" onClick={() => (setFrom(localText(Date.parse(first))), setTo(localText(Date.now())))}>
              From the first observation
            </button>
          )}
          <button type="submit" className="btn primary" disabled={problem !== ""}>
            Show
          </button>
        </div>
      </form>
    </dialog>
  );
}
