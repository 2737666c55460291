import { expect, test } from "vitest";
import type { SpcOut, ViolationOut } from "../api/schema";
import { viewOf } from "../state";
import { emptyText } from "./Log";
import { causeText, lasted } from "./LogGrid";

const violation = (changes: Partial<ViolationOut>): ViolationOut =>
  ({
    rule: "R2",
    open: false,
    count: 9,
    pattern_start: "2026-03-01T12:00:00Z",
    last_signal: "2026-03-01T12:00:40Z",
    ...changes,
  }) as ViolationOut;

test("an episode lasted from where its pattern began; an open one says how far it is", () => {
  expect(lasted(violation({}))).toBe("40 s");
  expect(lasted(violation({ open: true }))).toBe("open, 40 s");
  expect(lasted(violation({ open: true, count: 1 }))).toBe("open");
  expect(lasted(violation({ rule: "R1", count: 1 }))).toBe("1 sample");
});

test("where the time went is told beside what is usual", () => {
  expect(causeText({ part: "load", ms: 3020, usual_ms: 50 })).toEqual(["Model load 3.02 s", "(usually 0.05 s)"]);
});

test("an empty log says why in one sentence", () => {
  const view = viewOf("?provider=ollama&model=m");
  const learning = { centre: null, state: "learning", n: 3 } as unknown as SpcOut;
  const shown = { centre: null, state: "none", n: 3 } as unknown as SpcOut;
  expect(emptyText(view, null, false)).toBe("No mark in this window.");
  expect(emptyText(view, learning, true)).toBe("No mark passes these filters.");
  expect(emptyText(view, learning, false)).toContain("Rules are off");
  expect(emptyText(view, shown, false)).toContain("shown, not judged");
  expect(emptyText({ ...view, models: "all" }, learning, false)).toBe("No mark in this window.");
  expect(emptyText(viewOf(""), null, false)).toBe("No observation yet.");
});
