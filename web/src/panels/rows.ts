// Which rows of a long list are drawn, and where the keys lead in it.

const OVERSCAN = 8; // rows beyond the edges, so that a step of the wheel shows no gap

/** The rows to draw: from the first in view to past the last, and the row that has the keyboard, wherever it is. */
export function drawn(first: number, inView: number, total: number, active: number): number[] {
  const start = Math.max(0, Math.min(first, total) - OVERSCAN);
  const stop = Math.min(total, first + inView + OVERSCAN);
  const rows = Array.from({ length: Math.max(0, stop - start) }, (_, i) => start + i);
  if (active >= stop && active < total) rows.push(active);
  else if (active >= 0 && active < start) rows.unshift(active);
  return rows;
}

/** The row that a key leads to from another; null when it is not a key that moves. */
export function led(key: string, from: number, inView: number, total: number): number | null {
  const page = Math.max(1, inView - 1);
  const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -total, End: total };
  const step = steps[key];
  if (step === undefined || total === 0) return null;
  return Math.max(0, Math.min(total - 1, from + step));
}

/** How far to scroll, at least, so that a row is wholly in view. */
export function revealed(row: number, rowHeight: number, scrolled: number, height: number): number {
  const top = row * rowHeight;
  if (top < scrolled) return top;
  return Math.max(scrolled, top + rowHeight - height);
}
