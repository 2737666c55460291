// What the page says of each rule. Which points break a rule, the server alone decides.

export type RuleName = "R1" | "R2" | "R3";
export const RULES: readonly RuleName[] = ["R1", "R2", "R3"];
export const RULE_TITLES: Record<string, string> = {
  R1: "Beyond 3σ",
  R2: "9+ on one side",
  R3: "6+ in a trend",
};

const STATES: Record<string, string> = {
  "R1 above": "Above UCL",
  "R1 below": "Below LCL",
  "R2 above": "Shifted up",
  "R2 below": "Shifted down",
  "R3 up": "Drifting up",
  "R3 down": "Drifting down",
};

/** What an open violation means, in words: "Drifting up, R3". */
export function inWords(rule: string, side: string): string {
  return `${STATES[`${rule} ${side}`] ?? "Out of control"}, ${rule}`;
}

export interface MetricText {
  title: string;
  unit: string;
  short: string;
}
export const METRICS: Record<string, MetricText> = {
  latency: { title: "Response latency", unit: "s", short: "Latency" },
  ttft: { title: "Time to first token", unit: "s", short: "First token" },
  ms_per_token: { title: "Time per output token", unit: "ms", short: "Per token" },
  queue: { title: "Queue time", unit: "s", short: "Queue" },
  load: { title: "Load time", unit: "s", short: "Load" },
  prompt_ms_per_token: { title: "Prefill per prompt token", unit: "ms", short: "Prefill" },
  tokens_per_second: { title: "Decode rate", unit: "tok/s", short: "Tokens/s" },
};

export function metricText(metric: string): MetricText {
  return METRICS[metric] ?? { title: metric, unit: "", short: metric };
}
