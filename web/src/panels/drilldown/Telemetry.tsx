// Everything that was measured of one request, under the API's names.

import type { ObservationOut } from "../../api/schema";
import { CopyByHand, useCopy } from "../Copy";

const SHOWN = [
  "timestamp",
  "server",
  "latency_ms",
  "ttft_ms",
  "connect_ms",
  "network_ms",
  "total_duration_ms",
  "load_duration_ms",
  "queue_ms",
  "prompt_eval_duration_ms",
  "eval_duration_ms",
  "gap_mean_ms",
  "gap_max_ms",
  "prompt_eval_count",
  "eval_count",
  "tokens_per_second",
  "host",
  "error_kind",
  "error",
  "prompt_hash",
] as const;

const isTold = (value: unknown): boolean => value !== null && value !== undefined && value !== "";

export function Telemetry(props: { point: ObservationOut; prompt: string | null }): React.JSX.Element {
  const { point, prompt } = props;
  const text = JSON.stringify({ ...point, prompt_text: prompt }, null, 2);
  const { said, copy } = useCopy(text);
  const told = SHOWN.filter((name) => isTold(point[name]));
  const untold = SHOWN.filter((name) => !isTold(point[name]) && (!point.ok || !name.startsWith("error")));
  return (
    <>
      <h3>
        Telemetry
        <button type="button" className="btn small" onClick={copy} aria-live="polite">
          {said === "copied" ? "Copied" : "Copy JSON"}
        </button>
      </h3>
      {said === "refused" && <CopyByHand text={text} rows={6} />}
      <dl className="telemetry" data-testid="telemetry">
        {told.map((name) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd title={String(point[name])}>{String(point[name])}</dd>
          </div>
        ))}
      </dl>
      {untold.length > 0 && <p className="untold">Not told: {untold.join(", ")}</p>}
      {prompt && <p className="prompt">{prompt}</p>}
    </>
  );
}
