// What people do about a violation: a row of buttons, each with a form below, one at a time.

import { useRef, useState } from "react";
import { getSeries, sameSeries, unacknowledge } from "../../api/client";
import type { ViolationOut } from "../../api/schema";
import { formatTime } from "../../format";
import { useSending } from "../forms";
import { AcknowledgeForm, AnnotateForm, ExcludeForm, PhaseForm } from "./ActionForms";

type Name = "acknowledge" | "exclude" | "phase" | "annotate";

const TITLES: readonly (readonly [Name, string])[] = [
  ["acknowledge", "Acknowledge"],
  ["exclude", "Exclude these points"],
  ["phase", "Start a new phase here"],
  ["annotate", "Annotate"],
];

export interface FormProps {
  violation: ViolationOut;
  onDone: (said: string) => void;
  onCancel: () => void;
}

interface Props {
  violation: ViolationOut;
  time: string | undefined; // of the worst point
  onChanged: (violation: ViolationOut) => void;
  onSeriesChanged: () => void;
}

/** The id under which the API knows the series of a violation. Rejects with a sentence. */
export async function seriesIdOf(violation: ViolationOut): Promise<number> {
  const found = (await getSeries()).series.find((series) => sameSeries(series, violation));
  if (!found) throw new Error("The series of this violation is not stored any more.");
  return found.id;
}

export function Actions(props: Props): React.JSX.Element {
  const { violation, onChanged, onSeriesChanged } = props;
  const [shown, setShown] = useState<Name | null>(null);
  const [said, setSaid] = useState("");
  const row = useRef<HTMLDivElement>(null);
  const { busy, problem, send } = useSending();

  const close = (): void => {
    row.current?.querySelector<HTMLButtonElement>(`[data-action="${shown}"]`)?.focus();
    setShown(null);
  };
  const done = (what: string): void => {
    close();
    setSaid(what);
    onSeriesChanged();
  };
  const form: FormProps = { violation, onDone: done, onCancel: close };
  const buttons = violation.acknowledged_at ? TITLES.slice(1) : TITLES;
  return (
    <div className="actions" ref={row}>
      {violation.acknowledged_at && (
        <p className="seen-by">
          <span>
            Acknowledged by <b>{violation.acknowledged_by}</b>, {formatTime(violation.acknowledged_at)}
            {violation.note ? `: ${violation.note}` : ""}
          </span>
          <button
            type="button"
            className="btn small"
            disabled={busy}
            onClick={() => send(async () => onChanged(await unacknowledge(violation.id)))}
          >
            Take back
          </button>
        </p>
      )}
      <div className="action-row" role="group" aria-label="What to do about it">
        {buttons.map(([name, title]) => (
          <button
            key={name}
            type="button"
            className="btn"
            data-action={name}
            aria-expanded={shown === name}
            onClick={() => {
              setSaid("");
              setShown(shown === name ? null : name);
            }}
          >
            {title}
          </button>
        ))}
      </div>
      {/* oxlint-disable-next-line jsx-a11y/no-static-element-interactions -- Esc belongs to the form that is open */}
      <div
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault(); // else the browser closes the dialog
          event.stopPropagation();
          close();
        }}
      >
        {shown === "acknowledge" && <AcknowledgeForm {...form} onChanged={onChanged} />}
        {shown === "exclude" && <ExcludeForm {...form} />}
        {shown === "phase" && <PhaseForm {...form} />}
        {shown === "annotate" && <AnnotateForm {...form} time={props.time} />}
      </div>
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <p className="done" role="status">
        {said}
      </p>
    </div>
  );
}
