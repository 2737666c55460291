// The host and the answers around the moment, as small lines.

import type { ContextOut, ObservationOut } from "../../api/schema";
import { formatNumber } from "../../format";
import { Sparkline } from "../icons";

interface Mini {
  name: string;
  field: "cpu_percent" | "gpu_percent" | "memory_percent" | "gpu_memory_percent" | "eval_count" | "tokens_per_second";
  text: (value: number) => string;
  top: number | null; // null: what fits the largest
}

const percent = (value: number): string => `${Math.round(value)} %`;
const MINIS: readonly Mini[] = [
  { name: "CPU", field: "cpu_percent", text: percent, top: 100 },
  { name: "GPU", field: "gpu_percent", text: percent, top: 100 },
  { name: "Memory", field: "memory_percent", text: percent, top: 100 },
  { name: "VRAM", field: "gpu_memory_percent", text: percent, top: 100 },
  { name: "Output tokens", field: "eval_count", text: (value) => formatNumber(value, 0), top: null },
  { name: "Tokens/s", field: "tokens_per_second", text: (value) => formatNumber(value, 1), top: null },
];

const HOSTS: Record<string, string> = { llm_host: "the LLM's host", monitor_host: "the monitor's host" };

export function Around(props: { context: ContextOut; selected: number }): React.JSX.Element {
  const { context, selected } = props;
  const { points } = context;
  const host = points[selected]?.host ?? null;
  return (
    <div className="around">
      <h3>
        System and answers around it{" "}
        <span>{host ? `of ${HOSTS[host] ?? host}; ` : ""}the dashed line marks the sample</span>
      </h3>
      <div className="minis">
        {MINIS.map((mini) => (
          <Small key={mini.field} mini={mini} points={points} at={selected} />
        ))}
      </div>
    </div>
  );
}

function Small(props: { mini: Mini; points: readonly ObservationOut[]; at: number }): React.JSX.Element {
  const { mini, points, at } = props;
  const values = points.map((point) => point[mini.field]);
  const value = values[at] ?? null;
  const largest = Math.max(...values.map((one) => one ?? 0));
  const nothing = values.every((one) => one === null);
  return (
    <div className="mini">
      <span>
        {mini.name} <b>{value === null ? "not available" : mini.text(value)}</b>
      </span>
      {!nothing && <Sparkline values={values} top={mini.top ?? Math.max(1, 1.15 * largest)} mark={at} />}
    </div>
  );
}
