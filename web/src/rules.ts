// What the page says of each rule. Which points break a rule, the server alone decides.

export type RuleName = "R1" | "R2" | "R3" | "R4" | "R5" | "R6" | "R7" | "R8";
export const RULES: readonly RuleName[] = ["R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8"];
export const RULE_TITLES: Record<string, string> = {
  R1: "Beyond 3σ",
  R2: "9+ on one side",
  R3: "6+ in a trend",
  R4: "14+ up and down",
  R5: "2 of 3 beyond 2σ",
  R6: "4 of 5 beyond 1σ",
  R7: "15+ within 1σ",
  R8: "8+ beyond 1σ",
};

const STATES: Record<string, string> = {
  "R1 above": "Above UCL",
  "R1 below": "Below LCL",
  "R2 above": "Shifted up",
  "R2 below": "Shifted down",
  "R3 up": "Drifting up",
  "R3 down": "Drifting down",
  "R4 either": "Oscillating",
  "R5 above": "High",
  "R5 below": "Low",
  "R6 above": "Rather high",
  "R6 below": "Rather low",
  "R7 either": "Hugging the centre",
  "R8 either": "Two levels",
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
/** In the order of the tabs. */
export const METRICS: Record<string, MetricText> = {
  latency: { title: "Response latency", unit: "s", short: "Latency" },
  ttft: { title: "Time to first token", unit: "s", short: "First token" },
  ms_per_token: { title: "Time per output token", unit: "ms", short: "Per token" },
  queue: { title: "Queue time", unit: "s", short: "Queue" },
  load: { title: "Load time", unit: "s", short: "Load" },
  prompt_ms_per_token: { title: "Prefill per prompt token", unit: "ms", short: "Prefill" },
  failures: { title: "Failures", unit: "%", short: "Failures" },
  tokens_per_second: { title: "Decode rate", unit: "tok/s", short: "Tokens/s" },
};

export function metricText(metric: string): MetricText {
  return METRICS[metric] ?? { title: metric, unit: "", short: metric };
}

/** A budget in words: "1 a week". */
export function budgetText(perDay: number | null): string {
  if (perDay === null) return "no detectors";
  for (const [period, days] of [
    ["day", 1],
    ["week", 7],
    ["month", 30],
  ] as const) {
    const times = perDay * days;
    if (times >= 0.99) return `${Number(times.toPrecision(3))} a ${period}`;
  }
  return `${Number((perDay * 30).toPrecision(2))} a month`;
}
