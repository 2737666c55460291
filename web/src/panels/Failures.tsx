// The p chart of failures: the share of requests that failed in each half minute, with its limit. Shown when any did.

import type { FailuresOut, SpcOut } from "../api/schema";
import { formatNumber, formatTime } from "../format";

const WIDTH = 1000;
const HEIGHT = 90;
const SLOT_MS = 30_000;

export interface Bar {
  x: number;
  width: number;
  height: number;
  outside: boolean;
  text: string;
}

/** A bar for each half minute with failures in a span of ms; the height is the share that failed. */
export function drawFailures(failures: FailuresOut, from: number, to: number): Bar[] {
  const bars: Bar[] = [];
  failures.times_ms.forEach((time, i) => {
    const failed = failures.failed[i] ?? 0;
    const seen = failures.seen[i] ?? 0;
    if (failed === 0 || seen === 0 || time < from) return;
    const share = failed / seen;
    bars.push({
      x: ((time - from) / (to - from)) * WIDTH,
      width: Math.max(2, (SLOT_MS / (to - from)) * WIDTH - 1),
      height: share * HEIGHT,
      outside: share > (failures.ucl[i] ?? 1),
      text: `${failed} of ${seen} failed at ${formatTime(time)}`,
    });
  });
  return bars;
}

export function Failures(props: { spc: SpcOut | null; hours: number }): React.JSX.Element | null {
  const { spc, hours } = props;
  const failures = spc?.failures;
  const failed = failures?.failed.reduce((sum, count) => sum + count, 0) ?? 0;
  if (!failures || failed === 0) return null;
  const seen = failures.seen.reduce((sum, count) => sum + count, 0);
  const to = Math.max(Date.now(), failures.times_ms.at(-1) ?? 0);
  const bars = drawFailures(failures, to - hours * 3_600_000, to);
  const usual = failures.centre === null ? "" : `, usually ${formatNumber(100 * failures.centre, 1)} %`;
  return (
    <section className="card half" aria-labelledby="failures-title" data-testid="failures">
      <div className="card-head">
        <h2 id="failures-title">Failures</h2>
        <span className="sub">
          {failed.toLocaleString()} of {seen.toLocaleString()} requests failed{usual}
        </span>
      </div>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Failures in ${bars.length} half minutes, ${bars.filter((bar) => bar.outside).length} beyond the limit`}
      >
        <line x1={0} x2={WIDTH} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} className="centre" />
        {bars.map((bar) => (
          <rect
            key={bar.x}
            x={bar.x}
            y={HEIGHT - bar.height}
            width={bar.width}
            height={bar.height}
            className={bar.outside ? "outside" : ""}
          >
            <title>{bar.text}</title>
          </rect>
        ))}
      </svg>
    </section>
  );
}
