// When the chart is drawn: in an animation frame, not more often than is needed, and only what looks different.

import type uPlot from "uplot";
import type { Picture } from "./picture";

/** Runs `build` in an animation frame after it was asked for, never more often than once in `least` ms. */
export function scheduled(build: () => void, least: number): { ask: () => void; cancel: () => void } {
  let frame = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let last = -Infinity;
  const run = (): void => {
    frame = 0;
    last = performance.now();
    build();
  };
  const ask = (): void => {
    if (frame || timer !== undefined) return;
    const wait = last + least - performance.now();
    if (wait <= 0) frame = requestAnimationFrame(run);
    else {
      timer = setTimeout(() => {
        timer = undefined;
        frame = requestAnimationFrame(run);
      }, wait);
    }
  };
  const cancel = (): void => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
  return { ask, cancel };
}

/** What can be told apart of a picture of many stretches: to half a pixel. Empty for a picture that is always drawn. */
export function visible(u: uPlot, shown: Picture, width: number): string {
  if (shown.detail !== "stretches") return "";
  const [from, to] = shown.x;
  const high = u.bbox.height / (window.devicePixelRatio || 1) / (shown.y[1] - shown.y[0]);
  const ends = shown.columns.slice(1).flatMap((column) => {
    const last = column[column.length - 1] ?? null;
    return last === null ? [] : [Math.round(2 * high * last)];
  });
  return [Math.floor((2 * width * to) / (to - from)), shown.columns[0].length, ...shown.y, shown.scene.failures.length, ...ends].join();
}
