// Colours of the canvas, read from the page's tokens once a theme.

const NAMES = [
  "surface",
  "surface-3",
  "line",
  "ink",
  "ink-2",
  "ink-3",
  "data",
  "data-raw",
  "cl",
  "ucl",
  "lcl",
  "zone-a",
  "zone-b",
  "zone-c",
  "crit-f",
  "warn-f",
  "info-f",
] as const;

export type Palette = Record<(typeof NAMES)[number], string>;

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as Palette;
}
