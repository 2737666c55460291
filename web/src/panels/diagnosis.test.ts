import { expect, test } from "vitest";
import type { ContextOut, ObservationOut, UsualOut } from "../api/schema";
import { diagnose } from "./diagnosis";

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
