// Which span of time is shown: the usual windows, and any other back to the first observation.

import { lazy, memo, Suspense, useId, useState } from "react";
import { formatDuration, formatRange } from "../format";
import type { Range } from "../state";

const CustomRange = lazy(async () => ({ default: (await import("./CustomRange")).CustomRange }));

const WINDOWS: readonly (readonly [number, string, string])[] = [
  [1, "1h", "1 hour"],
  [6, "6h", "6 hours"],
  [24, "24h", "24 hours"],
  [168, "7d", "7 days"],
  [720, "30d", "30 days"],
];

export const Ranges = memo(function Ranges(props: { range: Range; first: string | null; onRange: (range: Range) => void }): React.JSX.Element {
  const { range } = props;
  const [asking, setAsking] = useState(false);
  const label = useId();
  const own = !("hours" in range) || !WINDOWS.some(([hours]) => hours === range.hours);
  return (
    <div className="field wide">
      <span className="lab" id={label}>
        Time window
      </span>
      <div className="seg ranges" role="group" aria-labelledby={label}>
        {WINDOWS.map(([hours, text, title]) => (
          <button
            type="button"
            key={hours}
            aria-pressed={"hours" in range && range.hours === hours}
            title={title}
            onClick={() => props.onRange({ hours })}
          >
            {text}
          </button>
        ))}
        <button type="button" aria-pressed={own} aria-haspopup="dialog" title="From one moment to another" onClick={() => setAsking(true)}>
          <span aria-hidden="true">…</span>
          <span className="sr">Custom</span>
        </button>
      </div>
      {own && (
        <span className="range-text">{"hours" in range ? formatDuration(range.hours * 3600) : formatRange(range.from, range.to)}</span>
      )}
      {asking && (
        <Suspense>
          <CustomRange {...props} onClose={() => setAsking(false)} />
        </Suspense>
      )}
    </div>
  );
});
