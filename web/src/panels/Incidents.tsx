// What a person is told: incidents first, with what can be done about each.

import { useId, useState } from "react";
import { acceptIncident, acknowledgeIncident } from "../api/client";
import type { AlarmOut, CauseOut, IncidentOut } from "../api/schema";
import { decimalsFor, formatDuration, formatNumber, formatTime, formatUtc } from "../format";
import { budgetText, metricText } from "../rules";
import type { State } from "../state";
import { reading } from "./reading";
import { OkIcon, SeverityIcon } from "./icons";

const STATES: Record<IncidentOut["state"], string> = {
  open: "Open",
  recovered: "Recovered",
  accepted: "Accepted",
  ended: "Ended",
};

/** "learning, 12 min left", or that the limits may still change. */
export function learningText(state: State): string {
  const left = state.status?.learn_left_s ?? state.spc?.alarms_in_s ?? null;
  if (left !== null) return `Learning, ${formatDuration(left)} left`;
  const locks = state.spc?.locks_in_s ?? null;
  return locks === null ? "Provisional limits" : `Provisional, locked in ${formatDuration(locks)}`;
}

/** How large a change is, with its interval: "+19 % (15 to 23)". */
export function sizeText(alarm: Pick<AlarmOut, "size_percent" | "size_low" | "size_high">): string {
  const signed = (value: number): string => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(0)}`;
  const sign = alarm.size_percent > 0 ? "+" : "";
  return `${sign}${signed(alarm.size_percent)} % (${signed(alarm.size_low)} to ${signed(alarm.size_high)})`;
}

const PARTS: Record<CauseOut["part"], string> = {
  network: "network",
  load: "model load",
  queue: "queue",
  prompt: "prompt evaluation",
  generation: "generation",
};

/** Where the time went: "Mostly generation: 1.87 s, usually 1.53 s". */
export function causeText(cause: CauseOut): string {
  const decimals = decimalsFor(Math.max(cause.ms, cause.usual_ms) / 1000);
  const seconds = (ms: number): string => `${formatNumber(ms / 1000, Math.max(2, decimals))} s`;
  return `Mostly ${PARTS[cause.part]}: ${seconds(cause.ms)}, usually ${seconds(cause.usual_ms)}`;
}

/** What is promised when there is no incident. */
export function quietText(state: State): string {
  const { spc } = state;
  if (!spc) return "Nothing to judge yet.";
  if (spc.state === "none" && spc.n > 0) return "No incident. This measure is shown, not judged.";
  if (spc.alarms_in_s !== null) return `No incident yet. Alarms begin after ${formatDuration(spc.alarms_in_s)} of observation.`;
  const change = spc.min_change_percent ? `; changes of a level under ${spc.min_change_percent} % are only marked` : "";
  if (spc.budget_per_day === null) return "No incident. This measure raises no alarm of its own; rules it breaks are marked.";
  return `No incident. Chance alone would bring ${budgetText(spc.budget_per_day)}${change}.`;
}

/** One line that says whether the process is in control; the incidents of the window on request. */
function IncidentList(props: { state: State; onChanged: (incident: IncidentOut) => void }): React.JSX.Element {
  const { state } = props;
  const [all, setAll] = useState(false);
  const list = useId();
  const incidents = state.spc?.incidents ?? [];
  const open = incidents.filter((incident) => incident.state === "open");
  const first = open[0] ?? incidents[0];
  const marks = (state.spc?.level_marks ?? []).slice(-3);
  const more = incidents.length - (first ? 1 : 0) + marks.length;
  return (
    <section className={`card incidents${open.length ? " alarm" : ""}`} aria-labelledby="incidents-title" data-testid="incidents">
      <h2 id="incidents-title" className="sr">
        Incidents
      </h2>
      {first ? (
        <ul aria-label="The newest incident">
          <Incident incident={first} onChanged={props.onChanged}>
            {more > 0 && (
              <button type="button" className="btn" aria-expanded={all} aria-controls={list} onClick={() => setAll(!all)}>
                {all ? "Fewer" : `${more} more`}
              </button>
            )}
          </Incident>
        </ul>
      ) : (
        <p className="quiet">
          {state.spc && state.spc.alarms_in_s === null && state.spc.state !== "none" && <OkIcon />}
          {quietText(state)}
          {more > 0 && (
            <button type="button" className="btn" aria-expanded={all} aria-controls={list} onClick={() => setAll(!all)}>
              {all ? "Fewer" : `${more} small ${more === 1 ? "change" : "changes"}`}
            </button>
          )}
        </p>
      )}
      {all && (
        <ul id={list} className="others" aria-label="Earlier incidents, the newest first" tabIndex={0}>
          {incidents
            .filter((incident) => incident !== first)
            .map((incident) => (
              <Incident key={incident.id} incident={incident} onChanged={props.onChanged} />
            ))}
          {marks.map((mark) => (
            <li key={`mark-${mark.id}`}>{mark.sentence}</li>
          ))}
        </ul>
      )}
    </section>
  );
}

export const Incidents = reading(IncidentList, ({ spc, status }) => [
  spc?.incidents,
  spc?.level_marks,
  spc?.state,
  spc?.alarms_in_s,
  spc?.budget_per_day,
  spc?.min_change_percent,
  (spc?.n ?? 0) > 0,
  status === null,
]);

function Incident(props: {
  incident: IncidentOut;
  onChanged: (incident: IncidentOut) => void;
  children?: React.ReactNode;
}): React.JSX.Element {
  const { incident } = props;
  const [asked, setAsked] = useState(false);
  const [problem, setProblem] = useState("");
  const isOpen = incident.state === "open";
  const level = incident.alarms.find((alarm) => alarm.detector === "SHIFT" && alarm.state === "open");
  const run = (doing: Promise<unknown>): void => {
    doing.catch((error: Error) => setProblem(error.message));
  };
  return (
    <li className={isOpen ? "open" : ""}>
      <div className="incident-head">
        <span className={`sev ${isOpen ? "crit" : ""}`}>
          {isOpen && <SeverityIcon severity="critical" />}
          {STATES[incident.state]}
        </span>
        <span title={formatUtc(incident.change)}>since {formatTime(incident.change)}</span>
        {incident.closed && <span title={formatUtc(incident.closed)}>until {formatTime(incident.closed)}</span>}
        {incident.acknowledged_at && <span>seen by {incident.acknowledged_by ?? "somebody"}</span>}
        {!incident.acknowledged_at && (
          <button
            type="button"
            className="btn"
            onClick={() => run(acknowledgeIncident(incident.id, "", "").then(props.onChanged))}
          >
            Acknowledge
          </button>
        )}
        {level && !asked && (
          <button type="button" className="btn" onClick={() => setAsked(true)}>
            Accept as new normal
          </button>
        )}
        {level && asked && (
          <>
            <span>Judge from {formatTime(level.change)} on by the new level?</span>
            <button
              type="button"
              className="btn"
              onClick={() => {
                setAsked(false);
                run(acceptIncident(incident.id, ""));
              }}
            >
              Yes, accept
            </button>
            <button type="button" className="btn" onClick={() => setAsked(false)}>
              No
            </button>
          </>
        )}
        {problem && <span role="alert">{problem}</span>}
        {props.children}
      </div>
      <p>{incident.headline}</p>
      <ul className="alarms">
        {incident.cause && <li className="cause">{causeText(incident.cause)}</li>}
        {(isOpen || incident.alarms.length > 1) &&
          incident.alarms.map((alarm) => (
            <li key={alarm.id}>
              {alarmTitle(alarm)}: {sizeText(alarm)}
              {alarm.detector === "FAILURES" ? " points" : ""}
              {alarm.provisional ? ", by provisional limits" : ""}
              {isOpen && alarm.state !== "open" ? ", over" : ""}
            </li>
          ))}
      </ul>
    </li>
  );
}

/** What moved: "Response latency, shift". */
function alarmTitle(alarm: AlarmOut): string {
  const { title } = metricText(alarm.metric);
  return alarm.detector === "FAILURES" ? title : `${title}, ${alarm.detector.toLowerCase()}`;
}
