// The forms under the buttons of a violation.

import { useEffect, useRef, useState } from "react";
import { acknowledge, annotate, beginPhase, exclude } from "../../api/client";
import type { ViolationOut } from "../../api/schema";
import { formatTime } from "../../format";
import { metricText } from "../../rules";
import { Choice, Field, localInput, momentOf, useSending, useWho, ZONE } from "../forms";
import { seriesIdOf, type FormProps } from "./Actions";

const LONGEST_TEXT = 2000;

interface ShellProps {
  title: string;
  button: string;
  busy: boolean;
  problem: string;
  wait: string;
  onSubmit: () => void;
  onCancel: () => void;
  children: React.ReactNode;
}

/** A form that begins at its first field. */
function Shell(props: ShellProps): React.JSX.Element {
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.querySelector<HTMLInputElement>("input:not([data-later])")?.focus(), []);
  return (
    <form
      ref={form}
      className="action-form"
      aria-label={props.title}
      onSubmit={(event) => {
        event.preventDefault();
        props.onSubmit();
      }}
    >
      {props.children}
      <div className="form-end">
        <button type="submit" className="btn primary" disabled={props.busy}>
          {props.busy ? props.wait : props.button}
        </button>
        <button type="button" className="btn" onClick={props.onCancel}>
          Cancel
        </button>
        {props.problem && (
          <p className="problem" role="alert">
            {props.problem}
          </p>
        )}
      </div>
    </form>
  );
}

export function AcknowledgeForm(props: FormProps & { onChanged: (violation: ViolationOut) => void }): React.JSX.Element {
  const [who, setWho] = useWho();
  const [note, setNote] = useState("");
  const { busy, problem, send } = useSending();
  const submit = (): void =>
    send(async () => {
      props.onChanged(await acknowledge(props.violation.id, who, note));
      props.onDone("");
    });
  return (
    <Shell title="Acknowledge" button="Acknowledge" wait="Sending" busy={busy} problem={problem} onSubmit={submit} onCancel={props.onCancel}>
      <Field label="Your name" required maxLength={100} value={who} onChange={(event) => setWho(event.target.value)} />
      <Field
        className="grow"
        label="What it was (optional)"
        maxLength={LONGEST_TEXT}
        value={note}
        onChange={(event) => setNote(event.target.value)}
      />
    </Shell>
  );
}

export function ExcludeForm(props: FormProps): React.JSX.Element {
  const { violation } = props;
  const [who, setWho] = useWho();
  // whole seconds that take in the first and the last point
  const [from, setFrom] = useState(localInput(Date.parse(violation.pattern_start)));
  const [to, setTo] = useState(localInput(Date.parse(violation.last_signal) + 999));
  const [reason, setReason] = useState("");
  const { busy, problem, send } = useSending();
  const submit = (): void =>
    send(async () => {
      const [first, last] = [momentOf(from), momentOf(to)];
      if (first === null || last === null) throw new Error("Name both moments.");
      const id = await seriesIdOf(violation);
      await exclude(id, new Date(first).toISOString(), new Date(last).toISOString(), reason, who);
      props.onDone(`Excluded from ${formatTime(first)} to ${formatTime(last)}: limits and marks were judged again.`);
    });
  return (
    <Shell
      title="Exclude these points"
      button="Exclude"
      wait="Judging again"
      busy={busy}
      problem={problem}
      onSubmit={submit}
      onCancel={props.onCancel}
    >
      <p className="consequence">They stay visible; limits and marks are judged again without them.</p>
      <Field
        label={`From (${ZONE})`}
        type="datetime-local"
        step="1"
        required
        data-later
        value={from}
        onChange={(event) => setFrom(event.target.value)}
      />
      <Field label="To" type="datetime-local" step="1" required data-later min={from} value={to} onChange={(event) => setTo(event.target.value)} />
      <Field
        className="grow"
        label="Reason"
        required
        maxLength={LONGEST_TEXT}
        placeholder="backup job on the host"
        value={reason}
        onChange={(event) => setReason(event.target.value)}
      />
      <Field label="Your name (optional)" maxLength={200} value={who} onChange={(event) => setWho(event.target.value)} />
    </Shell>
  );
}

export function PhaseForm(props: FormProps): React.JSX.Element {
  const { violation } = props;
  const [who, setWho] = useWho();
  const [cause, setCause] = useState("");
  const [note, setNote] = useState("");
  const [which, setWhich] = useState<"this" | "all">("this");
  const { busy, problem, send } = useSending();
  const submit = (): void =>
    send(async () => {
      const id = await seriesIdOf(violation);
      const metric = which === "this" ? violation.metric : null;
      const { phases } = await beginPhase(id, { at: violation.pattern_start, metric, cause, who, note });
      const number = phases.find((phase) => phase.metric === violation.metric)?.number;
      props.onDone(`Phase ${number ?? ""} begins at ${formatTime(violation.pattern_start)}: its limits are learnt anew.`);
    });
  return (
    <Shell
      title="Start a new phase here"
      button="Start the phase"
      wait="Judging again"
      busy={busy}
      problem={problem}
      onSubmit={submit}
      onCancel={props.onCancel}
    >
      <p className="consequence">
        From {formatTime(violation.pattern_start)} on, limits are learnt anew and everything since is judged by them. What was found
        since is kept as superseded.
      </p>
      <Field
        className="grow wide"
        label="Cause: the text of the flag on the chart"
        required
        maxLength={LONGEST_TEXT}
        placeholder="num_ctx 4096 → 2048"
        value={cause}
        onChange={(event) => setCause(event.target.value)}
      />
      <Choice
        label="Of which metrics"
        value={which}
        of={[
          ["this", metricText(violation.metric).title],
          ["all", "Every judged metric"],
        ]}
        onChange={setWhich}
      />
      <Field
        className="grow"
        label="Note (optional)"
        maxLength={LONGEST_TEXT}
        value={note}
        onChange={(event) => setNote(event.target.value)}
      />
      <Field label="Your name (optional)" maxLength={200} value={who} onChange={(event) => setWho(event.target.value)} />
    </Shell>
  );
}

export function AnnotateForm(props: FormProps & { time?: string }): React.JSX.Element {
  const { violation } = props;
  const [who, setWho] = useWho();
  const [text, setText] = useState("");
  const { busy, problem, send } = useSending();
  const time = props.time ?? violation.first_signal;
  const submit = (): void =>
    send(async () => {
      await annotate(await seriesIdOf(violation), time, text, who);
      props.onDone(`Noted at ${formatTime(time)}: ${text}`);
    });
  return (
    <Shell title="Annotate" button="Annotate" wait="Sending" busy={busy} problem={problem} onSubmit={submit} onCancel={props.onCancel}>
      <p className="consequence">The text is shown on the chart at {formatTime(time)}.</p>
      <Field className="grow" label="Text" required maxLength={LONGEST_TEXT} value={text} onChange={(event) => setText(event.target.value)} />
      <Field label="Your name (optional)" maxLength={200} value={who} onChange={(event) => setWho(event.target.value)} />
    </Shell>
  );
}
