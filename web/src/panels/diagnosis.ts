// Where the time of one request went, and the one plain sentence about it, if one holds.

import type { ContextOut, ObservationOut, UsualOut } from "../api/schema";
import { formatNumber } from "../format";

export interface Part {
  key: "net" | "load" | "queue" | "prompt" | "eval";
  name: string;
  ms: number | null;
  usualMs: number | null;
}

/** The parts of a request in the order in which they happen; null where the server did not tell. */
export function partsOf(point: ObservationOut, usual: UsualOut): Part[] {
  return [
    { key: "net", name: "Network", ms: point.network_ms, usualMs: usual.network_ms },
    { key: "load", name: "Model load", ms: point.load_duration_ms, usualMs: usual.load_ms },
    { key: "queue", name: "Queue", ms: point.queue_ms, usualMs: usual.queue_ms },
    { key: "prompt", name: "Prompt evaluation", ms: point.prompt_eval_duration_ms, usualMs: usual.prompt_ms },
    { key: "eval", name: "Generation", ms: point.eval_duration_ms, usualMs: usual.eval_ms },
  ];
}

const WHY: Record<Part["key"], string> = {
  net: "The network or a proxy between LLMscope and the server was slow.",
  load: "The model was loaded from disk during this request. It had been evicted, or another num_ctx was asked for.",
  queue: "Other requests held the server's slots.",
  prompt: "The prompt took longer to evaluate.",
  eval: "Tokens came more slowly.",
};

/** The headline: which part explains at least half of the excess over the usual latency. */
export function diagnose(context: ContextOut): { headline: string; advice: string } {
  const point = context.points[context.index];
  const usual = context.baseline;
  if (!point || point.latency_ms === null || usual.latency_ms === null) {
    return { headline: "There is nothing to compare this with yet.", advice: "" };
  }
  const excess = point.latency_ms - usual.latency_ms;
  const seconds = (ms: number): string => `${formatNumber(Math.abs(ms) / 1000, 2)} s`;
  if (Math.abs(excess) < 0.05 * usual.latency_ms) {
    return {
      headline: `The whole request took ${seconds(point.latency_ms)}, about as long as usual.`,
      advice: "The pattern over several requests is what broke the rule.",
    };
  }
  const known = partsOf(point, usual).filter((p) => p.ms !== null && p.usualMs !== null);
  const change = (p: Part): number => (p.ms ?? 0) - (p.usualMs ?? 0);
  const worst = known.toSorted((a, b) => change(b) - change(a))[0];
  if (excess < 0) {
    return { headline: `${seconds(excess)} faster than usual.`, advice: "" };
  }
  if (!worst || change(worst) < 0.5 * excess) {
    return { headline: "No single phase explains the change.", advice: `The request took ${seconds(excess)} longer.` };
  }
  const tokens = tokensNote(worst.key, point, usual);
  return {
    headline: `${seconds(Math.min(change(worst), excess))} of the ${seconds(excess)} excess is ${worst.name.toLowerCase()}.`,
    advice: tokens ?? WHY[worst.key],
  };
}

/** A longer answer is not a slower one. */
function tokensNote(key: Part["key"], point: ObservationOut, usual: UsualOut): string | null {
  if (key !== "eval" || point.eval_count === null || usual.eval_count === null) return null;
  if (point.eval_count < 1.25 * usual.eval_count) return null;
  return `The answer was longer: ${point.eval_count} tokens, usually ${formatNumber(usual.eval_count, 0)}.`;
}
