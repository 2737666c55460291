// Where the time of one request went, and the plain sentences about it that hold.

import type { ContextOut, ObservationOut, UsualOut, ViolationOut } from "../api/schema";
import { decimalsFor, formatNumber } from "../format";
import { metricText } from "../rules";

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
const EVICTED = "so the model had been evicted: check keep_alive, and clients that ask for another num_ctx.";

export interface Diagnosis {
  headline: string;
  advice: string;
}

/** What the violation is: which part explains at least half of the excess, and what of the host moved with it. */
export function diagnose(context: ContextOut): Diagnosis {
  const { violation } = context;
  const found = violation?.chart === "buckets" ? ofHalfMinute(context) : ofRequest(context);
  const key = found.part;
  return { headline: found.headline, advice: [found.advice, ...systemFacts(context, key)].filter(Boolean).join(" ") };
}

type Found = Diagnosis & { part: Part["key"] | null };

const seconds = (ms: number): string => `${formatNumber(Math.abs(ms) / 1000, 2)} s`;

function ofRequest(context: ContextOut): Found {
  const { violation } = context;
  const point = context.points[context.index];
  const usual = context.baseline;
  const isFirst = violation?.metric === "ttft";
  if (violation && !isFirst && violation.metric !== "latency") return { ...levelText(violation), part: null };
  const took = isFirst ? point?.ttft_ms : point?.latency_ms;
  const usually = isFirst ? usual.ttft_ms : usual.latency_ms;
  if (!point || took === null || took === undefined || usually === null) {
    return { headline: "There is nothing to compare this with yet.", advice: "", part: null };
  }
  const excess = took - usually;
  const what = isFirst ? "The first token" : "The whole request";
  if (Math.abs(excess) < 0.05 * usually) {
    return {
      headline: `${what} took ${seconds(took)}, about as long as usual.`,
      advice: "The pattern over several requests is what broke the rule.",
      part: null,
    };
  }
  if (excess < 0) return { headline: `${seconds(excess)} faster than usual.`, advice: "", part: null };
  const known = partsOf(point, usual).filter((p) => p.ms !== null && p.usualMs !== null && !(isFirst && p.key === "eval"));
  const change = (p: Part): number => (p.ms ?? 0) - (p.usualMs ?? 0);
  const worst = known.toSorted((a, b) => change(b) - change(a))[0];
  if (!worst || change(worst) < 0.5 * excess) {
    const advice = `${isFirst ? what : "The request"} took ${seconds(excess)} longer.`;
    return { headline: "No single phase explains the change.", advice, part: null };
  }
  const tokens = tokensNote(worst.key, point, usual);
  return {
    headline: `${seconds(Math.min(change(worst), excess))} of the ${seconds(excess)} excess is ${worst.name.toLowerCase()}.`,
    advice: tokens ?? (worst.key === "load" && vramFell(context) ? "" : WHY[worst.key]),
    part: worst.key,
  };
}

/** A half minute has a level; its last request may say where the time went. */
function ofHalfMinute(context: ContextOut): Found {
  const level = levelText(context.violation);
  if (context.violation.metric !== "latency" && context.violation.metric !== "ttft") return { ...level, part: null };
  const { headline, advice, part } = ofRequest(context);
  if (part === null) return { ...level, part: null };
  return { headline: level.headline, advice: `In its last request ${headline} ${advice}`.trim(), part };
}

/** Where a value that has no parts sits: "Time per output token was 44.4 ms, 20 % above the centre line of 37.1 ms." */
function levelText(violation: ViolationOut): Diagnosis {
  const { title, unit } = metricText(violation.metric);
  const decimals = decimalsFor(violation.centre);
  const show = (value: number): string => `${formatNumber(value, decimals)} ${unit}`;
  const whose = violation.chart === "buckets" ? `The half minute's ${title.toLowerCase()}` : title;
  const { peak_value: value, centre } = violation;
  const share = centre > 0 ? ` ${formatNumber((100 * Math.abs(value - centre)) / centre, 0)} %` : "";
  const side = value < centre ? "below" : "above";
  return { headline: `${whose} was ${show(value)},${share} ${side} the centre line of ${show(centre)}.`, advice: "" };
}

/** A longer answer is not a slower one. */
function tokensNote(key: Part["key"], point: ObservationOut, usual: UsualOut): string | null {
  if (key !== "eval" || point.eval_count === null || usual.eval_count === null) return null;
  if (point.eval_count < 1.25 * usual.eval_count) return null;
  return `The answer was longer: ${point.eval_count} tokens, usually ${formatNumber(usual.eval_count, 0)}.`;
}

// -- what of the host moved together with it

const NEAR = 3; // samples before, in which a model is unloaded
const SWING = 25; // percentage points that are not the usual noise of a load

type Reading = "cpu_percent" | "gpu_percent" | "memory_percent" | "gpu_memory_percent";

function middleOf(context: ContextOut, field: Reading): number | null {
  const sorted = context.points
    .filter((_, i) => i !== context.index)
    .map((point) => point[field])
    .filter((value) => value !== null && value !== undefined)
    .toSorted((a, b) => a - b);
  return sorted.length < 5 ? null : (sorted[Math.floor(sorted.length / 2)] ?? null);
}

const pair = (value: number, middle: number): string => `${Math.round(value)} % against ${Math.round(middle)} % in the median around it`;

/** Facts of the host at the worst point that differ from the points around it; only those that hold. */
export function systemFacts(context: ContextOut, part: Part["key"] | null): string[] {
  const point = context.points[context.index];
  if (!point) return [];
  const facts: string[] = [];
  const vram = vramFell(context);
  if (part === "load" && vram) {
    facts.push(`VRAM use was down at ${Math.round(vram.low)} % just before, against ${Math.round(vram.middle)} % in the median around it, ${EVICTED}`);
  }
  const cpu = middleOf(context, "cpu_percent");
  if (cpu !== null && (point.cpu_percent ?? 0) >= Math.max(85, cpu + SWING)) {
    facts.push(`CPU was at ${pair(point.cpu_percent ?? 0, cpu)}.`);
  }
  const gpu = middleOf(context, "gpu_percent");
  if (gpu !== null && point.gpu_percent !== null && point.gpu_percent !== undefined) {
    if (point.gpu_percent >= Math.max(90, gpu + SWING)) facts.push(`GPU was at ${pair(point.gpu_percent, gpu)}.`);
    else if (point.gpu_percent <= gpu - SWING) facts.push(`The GPU was less busy: ${pair(point.gpu_percent, gpu)}.`);
  }
  const memory = middleOf(context, "memory_percent");
  if (memory !== null && (point.memory_percent ?? 0) >= Math.max(85, memory + 10)) {
    facts.push(`Memory was at ${pair(point.memory_percent ?? 0, memory)}.`);
  }
  return facts;
}

/** The lowest VRAM use at and just before the worst point, if it had fallen; a model that is unloaded frees it. */
function vramFell(context: ContextOut): { low: number; middle: number } | null {
  const middle = middleOf(context, "gpu_memory_percent");
  if (middle === null) return null;
  const near = context.points
    .slice(Math.max(0, context.index - NEAR), context.index + 1)
    .map((point) => point.gpu_memory_percent)
    .filter((value) => value !== null && value !== undefined);
  const low = Math.min(...near);
  return low <= middle - 10 ? { low, middle } : null;
}
