// Small drawings. Each rule has its own shape, so that colour never tells it alone.

import { GLYPHS } from "../glyphs";

export function Glyph(props: { rule: string; side?: string; severity: string }): React.JSX.Element {
  const fill = props.severity === "critical" ? "var(--crit-f)" : "var(--warn-f)";
  const turned = props.side === "down" ? "rotate(180deg)" : undefined;
  return (
    <svg width="12" height="12" viewBox="0 0 12 12" fill={fill} aria-hidden="true" style={{ transform: turned, flex: "none" }}>
      <path d={GLYPHS[props.rule] ?? GLYPHS["R5"]} />
    </svg>
  );
}

export function SeverityIcon(props: { severity: string; size?: number }): React.JSX.Element {
  const size = props.size ?? 13;
  return props.severity === "critical" ? (
    <svg width={size} height={size} viewBox="0 0 14 14" fill="currentColor" aria-hidden="true">
      <path d="M4.3 0h5.4L14 4.3v5.4L9.7 14H4.3L0 9.7V4.3Z" />
      <path d="M7 3.2v4.4M7 9.6v1.3" stroke="var(--surface)" strokeWidth="1.7" />
    </svg>
  ) : (
    <svg width={size} height={size} viewBox="0 0 14 14" fill="currentColor" aria-hidden="true">
      <path d="M7 0.5 14 13.2H0Z" />
      <path d="M7 4.6v4.2M7 10.3v1.3" stroke="var(--surface)" strokeWidth="1.6" />
    </svg>
  );
}

export function Brand(): React.JSX.Element {
  return (
    <svg width="28" height="28" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="var(--ink)" />
      <path
        d="M5 18h5l3-7 5 12 3-8h6"
        fill="none"
        stroke="var(--surface)"
        strokeWidth="2.6"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}

export function ThemeIcon(props: { theme: string }): React.JSX.Element {
  const paths: Record<string, React.JSX.Element> = {
    system: <path d="M8 2a6 6 0 1 0 0 12Zm0 0a6 6 0 0 1 0 12" />,
    light: <path d="M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1" />,
    dark: <path d="M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z" />,
  };
  return (
    <svg width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.5" aria-hidden="true">
      {paths[props.theme]}
    </svg>
  );
}

/** A line of readings from 0 to 100; gaps where nothing was read. */
export function Sparkline(props: {
  values: readonly (number | null)[];
  top?: number;
  mark?: number;
  area?: boolean;
}): React.JSX.Element {
  const n = Math.max(2, props.values.length);
  const top = props.top ?? 100;
  const x = (i: number): number => (100 * i) / (n - 1);
  const y = (value: number): number => 28 - 26 * Math.min(1, Math.max(0, value / top));
  let line = "";
  props.values.forEach((value, i) => {
    if (value === null) return;
    const before = props.values[i - 1];
    line += `${before === null || before === undefined ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  return (
    <svg viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true">
      {props.area && line && <path d={`${line}L100 30L0 30Z`} fill="var(--data)" opacity="0.16" />}
      <path d={line} fill="none" stroke="var(--data)" strokeWidth="1.5" vectorEffect="non-scaling-stroke" />
      {props.mark !== undefined && (
        <path
          d={`M${x(props.mark)} 0V30`}
          stroke="var(--crit-f)"
          strokeDasharray="2 2"
          strokeWidth="1.2"
          vectorEffect="non-scaling-stroke"
        />
      )}
    </svg>
  );
}
