// What the small forms share: a labelled field, who says it, and a request that is under way.

import { useId, useState } from "react";

const WHO = "llmscope.who";

/** The name that was given last on this browser. */
export function useWho(): [string, (who: string) => void] {
  const [who, setWho] = useState(() => localStorage.getItem(WHO) ?? "");
  return [
    who,
    (name) => {
      localStorage.setItem(WHO, name);
      setWho(name);
    },
  ];
}

export interface Sending {
  busy: boolean;
  problem: string;
  send: (ask: () => Promise<void>) => void;
}

/** One request at a time; what went wrong is a sentence of the API. */
export function useSending(): Sending {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const send = (ask: () => Promise<void>): void => {
    if (busy) return;
    setBusy(true);
    setProblem("");
    ask()
      .catch((reason: Error) => setProblem(reason.message))
      .finally(() => setBusy(false));
  };
  return { busy, problem, send };
}

interface FieldProps extends React.ComponentProps<"input"> {
  label: string;
  hint?: string;
}

export function Field(props: FieldProps): React.JSX.Element {
  const { label, hint, className, ...input } = props;
  const id = useId();
  return (
    <div className={`form-field ${className ?? ""}`}>
      <label htmlFor={id}>{label}</label>
      <input id={id} className="input" aria-describedby={hint ? `${id}-hint` : undefined} {...input} />
      {hint && <small id={`${id}-hint`}>{hint}</small>}
    </div>
  );
}

/** A choice of one among few, as buttons. */
export function Choice<T extends string | number>(props: {
  label: string;
  value: T;
  of: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}): React.JSX.Element {
  return (
    <div className="seg" role="group" aria-label={props.label}>
      {props.of.map(([value, text]) => (
        <button type="button" key={value} aria-pressed={value === props.value} onClick={() => props.onChange(value)}>
          {text}
        </button>
      ))}
    </div>
  );
}

/** What a datetime-local field shows for a moment: local time, to the second. */
export function localInput(ms: number): string {
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** The moment that a datetime-local field names; null while it is incomplete. */
export function momentOf(text: string): number | null {
  const ms = text ? new Date(text).getTime() : NaN;
  return Number.isNaN(ms) ? null : ms;
}

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
