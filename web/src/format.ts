// Numbers, times and durations as people read them. Absent is an em dash, never 0.

const MINUS = "\u2212";
export const ABSENT = "—";

const fixedFormats: Intl.NumberFormat[] = []; // making one costs a hundred times what using it does

function fixed(decimals: number): Intl.NumberFormat {
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return (fixedFormats[decimals] ??= new Intl.NumberFormat(undefined, options));
}

/** A fixed number of decimals with a real minus sign; an em dash for what is not known. */
export function formatNumber(value: number | null | undefined, decimals: number): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return ABSENT;
  const text = fixed(decimals).format(Math.abs(value));
  return value < 0 && Number(value.toFixed(decimals)) !== 0 ? MINUS + text : text;
}

const counts = new Intl.NumberFormat();

/** A whole number with its thousands apart. */
export const formatCount = (n: number): string => counts.format(n);

/** How many decimals show three significant digits of a typical value, between 0 and 4. */
export function decimalsFor(typical: number | null | undefined): number {
  if (typical === null || typical === undefined || !(typical > 0)) return 2;
  return Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(typical))));
}

/** Where a value sits relative to the centre line, e.g. "+2.4 σ"; an em dash when there are no limits yet. */
export function formatSigma(z: number | null | undefined): string {
  if (z === null || z === undefined || !Number.isFinite(z)) return ABSENT;
  const far = Math.abs(z).toFixed(1);
  return far === "0.0" ? "0.0 σ" : `${z < 0 ? MINUS : "+"}${far} σ`;
}

/** A signed difference, e.g. "+0.28". */
export function formatChange(value: number | null, decimals: number): string {
  if (value === null) return ABSENT;
  const text = formatNumber(value, decimals);
  return value > 0 && Number(value.toFixed(decimals)) > 0 ? `+${text}` : text;
}

/** How long, in the largest fitting unit: "14 s", "3 min", "2.5 h". */
export function formatDuration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return ABSENT;
  if (seconds < 1) return "under 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** Bytes: "4.1 MB". */
export function formatBytes(bytes: number): string {
  const [size, unit] = bytes < 1e6 ? [bytes / 1e3, "kB"] : bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${formatNumber(size, size < 100 && unit !== "kB" ? 1 : 0)} ${unit}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** Local time of day, "12:37:04". */
export function formatClock(time: string | number | null | undefined): string {
  return time === null || time === undefined ? ABSENT : clock.format(new Date(time));
}

/** Local date and time, "23 Nov 12:37:04"; the date is left out for today. */
export function formatTime(time: string | number | null | undefined, now = Date.now()): string {
  if (time === null || time === undefined) return ABSENT;
  const at = new Date(time);
  const there = new Date(now);
  const today = there.getDate() === at.getDate() && Math.abs(now - at.getTime()) < 86_400_000;
  return today ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
}

const minute = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });

/** A span, "24 Nov, 12:00 – 13:30". */
export function formatRange(from: number, to: number): string {
  return minute.formatRange(new Date(from), new Date(to));
}

/** The same moment in UTC, for titles. */
export function formatUtc(time: string | number): string {
  return `${new Date(time).toISOString().replace("T", " ").slice(0, 23)} UTC`;
}

export function formatPercent(value: number | null | undefined): string {
  return value === null || value === undefined ? "not available" : `${Math.round(value)}%`;
}
