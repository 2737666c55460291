import { expect, test } from "vitest";
import type { ContextOut, ObservationOut, UsualOut } from "../api/schema";
import { diagnose, systemFacts } from "./diagnosis";

const usual = {
  latency_ms: 1660,
  network_ms: 30,
  load_ms: 50,
  queue_ms: 20,
  prompt_ms: 110,
  eval_ms: 1450,
  eval_count: 40,
} as UsualOut;
const context = (point: Partial<ObservationOut>): ContextOut =>
  ({
    index: 0,
    baseline: usual,
    points: [
      {
        latency_ms: 1660,
        network_ms: 30,
        load_duration_ms: 50,
        queue_ms: 20,
        prompt_eval_duration_ms: 110,
        eval_duration_ms: 1450,
        eval_count: 40,
        ...point,
      },
    ],
  }) as unknown as ContextOut;

test("the phase that explains most of the excess is named with its share", () => {
  const { headline } = diagnose(context({ latency_ms: 4954, load_duration_ms: 3020 }));

  expect(headline).toBe("2.97 s of the 3.29 s excess is model load.");
});

test("nothing is named when no phase explains half", () => {
  expect(diagnose(context({ latency_ms: 4000, load_duration_ms: 500 })).headline).toContain("No single phase");
});

test("a longer answer is not called a slower one", () => {
  const { advice } = diagnose(context({ latency_ms: 3000, eval_duration_ms: 2800, eval_count: 80 }));

  expect(advice).toBe("The answer was longer: 80 tokens, usually 40.");
});

test("what cannot be compared is not explained", () => {
  expect(diagnose({ ...context({}), baseline: { latency_ms: null } as UsualOut }).headline).toContain("nothing to compare");
  expect(diagnose(context({ latency_ms: 1600 })).headline).toContain("about as long as usual");
});

// -- together with the host

const QUIET = { cpu_percent: 40, gpu_percent: 78, memory_percent: 47, gpu_memory_percent: 62 };
const WORST = 10;

/** The worst point in the middle of ten quiet ones on either side; `near` is laid over those just before it. */
function among(point: Partial<ObservationOut>, near: Partial<ObservationOut> = {}, violation = {}): ContextOut {
  const { baseline, points } = context(point);
  const worst = { ...QUIET, ...points[0], ...point };
  const quiet = Array.from({ length: 21 }, (_, i) => ({ ...QUIET, ...(i >= WORST - 2 && i < WORST ? near : {}) }));
  const all = quiet.with(WORST, worst as typeof QUIET);
  return { index: WORST, baseline, points: all, violation: { metric: "latency", chart: "points", ...violation } } as unknown as ContextOut;
}

test("VRAM that had fallen before a load is told instead of a guess", () => {
  const loaded = among({ latency_ms: 4954, load_duration_ms: 3020 }, { gpu_memory_percent: 31 });

  expect(diagnose(loaded).advice).toBe(
    "VRAM use was down at 31 % just before, against 62 % in the median around it, so the model had been evicted: check keep_alive, and clients that ask for another num_ctx.",
  );
  expect(diagnose(among({ latency_ms: 4954, load_duration_ms: 3020 })).advice).toContain("It had been evicted, or another num_ctx");
});

test("a busy CPU is told with the median around it", () => {
  const busy = among({ latency_ms: 3100, eval_duration_ms: 2890, cpu_percent: 98 });

  expect(diagnose(busy).advice).toBe("Tokens came more slowly. CPU was at 98 % against 40 % in the median around it.");
});

test("an idle GPU and a full memory are told, and the usual noise is not", () => {
  expect(systemFacts(among({ gpu_percent: 16, memory_percent: 93 }), null)).toEqual([
    "The GPU was less busy: 16 % against 78 % in the median around it.",
    "Memory was at 93 % against 47 % in the median around it.",
  ]);
  expect(systemFacts(among({ cpu_percent: 60, gpu_percent: 70, memory_percent: 55 }), null)).toEqual([]);
});

test("nothing is said of a host that did not tell", () => {
  const silent = among({ latency_ms: 4954, load_duration_ms: 3020 });
  for (const point of silent.points) Object.assign(point, { cpu_percent: null, gpu_percent: null, memory_percent: null, gpu_memory_percent: null });

  expect(systemFacts(silent, "load")).toEqual([]);
});

test("a half minute is told by its level, and by its last request only where a phase explains it", () => {
  const level = { chart: "buckets", metric: "latency", peak_value: 2.02, centre: 1.66 };
  const { headline, advice } = diagnose(among({ latency_ms: 1960, eval_duration_ms: 1750 }, {}, level));

  expect(headline).toBe("The half minute's response latency was 2.02 s, 22 % above the centre line of 1.66 s.");
  expect(advice).toBe("In its last request 0.30 s of the 0.30 s excess is generation. Tokens came more slowly.");
  expect(diagnose(among({}, {}, level)).advice).toBe("");
});

test("a metric that has no parts is told by where it sits", () => {
  const slow = { metric: "ms_per_token", peak_value: 44.4, centre: 37 };

  expect(diagnose(among({}, {}, slow)).headline).toBe("Time per output token was 44.4 ms, 20 % above the centre line of 37.0 ms.");
});
