// A span of time from one moment to another, back to the first observation.

import { useState } from "react";
import { formatDuration } from "../format";
import type { Range } from "../state";
import { Dialog } from "./Dialog";
import { Field, localInput, momentOf, ZONE } from "./forms";

interface Props {
  range: Range;
  first: string | null; // the first observation
  onRange: (range: Range) => void;
  onClose: () => void;
}

export function CustomRange(props: Props): React.JSX.Element {
  const { range, first } = props;
  const [now] = useState(() => Date.now());
  const [from, setFrom] = useState(localInput("hours" in range ? now - range.hours * 3_600_000 : range.from));
  const [to, setTo] = useState(localInput("hours" in range ? now : range.to));
  const start = momentOf(from);
  const end = momentOf(to);
  const problem = start === null || end === null ? "Give both moments." : end <= start ? "The end must lie after the beginning." : "";
  const whole = (): void => {
    if (first === null) return;
    setFrom(localInput(Date.parse(first)));
    setTo(localInput(Date.now()));
  };
  return (
    <Dialog id="range-title" title="Time window" className="help" onClose={props.onClose}>
      <form
        className="range-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (start === null || end === null || problem) return;
          props.onRange({ from: start, to: end });
          props.onClose();
        }}
      >
        <Field label={`From (${ZONE})`} type="datetime-local" step="1" required value={from} onChange={(event) => setFrom(event.target.value)} />
        <Field label={`To (${ZONE})`} type="datetime-local" step="1" required value={to} onChange={(event) => setTo(event.target.value)} />
        <p className={problem ? "problem" : "hint"}>{problem || (start !== null && end !== null ? formatDuration((end - start) / 1000) : "")}</p>
        <div className="range-actions">
          {first !== null && (
            <button type="button" className="btn" onClick={whole}>
              From the first observation
            </button>
          )}
          <button type="submit" className="btn primary" disabled={problem !== ""}>
            Show
          </button>
        </div>
      </form>
    </Dialog>
  );
}
