// The calibrated chart: scores of half minutes, standard normal while in control. Drawn as SVG: a point every 30 s.

import type { BucketsOut, SpcOut } from "../api/schema";
import { formatTime } from "../format";

const WIDTH = 1000;
const HEIGHT = 130;
const TOP_SCORE = 5; // further out is drawn at the edge
const GAP_MS = 95_000;

export interface Drawn {
  path: string;
  marks: { x: number; y: number; text: string }[];
}

const clamp = (score: number): number => Math.max(-TOP_SCORE, Math.min(TOP_SCORE, score));
export const scoreY = (score: number): number => HEIGHT / 2 - (clamp(score) / TOP_SCORE) * (HEIGHT / 2 - 6);

/** The line of scores in a span of ms, broken at gaps, and the points at which rules are broken. */
export function drawScores(buckets: BucketsOut, from: number, to: number): Drawn {
  let path = "";
  let last = Number.NEGATIVE_INFINITY;
  const marks: Drawn["marks"] = [];
  buckets.times_ms.forEach((time, i) => {
    const score = buckets.scores[i] ?? null;
    if (time < from || score === null) return;
    const x = ((time - from) / (to - from)) * WIDTH;
    const y = scoreY(score);
    path += `${time - last > GAP_MS ? "M" : "L"}${x.toFixed(1)},${y.toFixed(1)}`;
    last = time;
    const broken = buckets.rules[String(i)];
    if (broken?.length) marks.push({ x, y, text: `${broken.join(", ")}: ${score.toFixed(1)}σ at ${formatTime(time)}` });
  });
  return { path, marks };
}

export function HalfMinutes(props: { spc: SpcOut | null; hours: number }): React.JSX.Element | null {
  const { spc, hours } = props;
  if (!spc || spc.buckets.times_ms.length < 2) return null;
  const to = Math.max(Date.now(), spc.buckets.times_ms.at(-1) ?? 0);
  const { path, marks } = drawScores(spc.buckets, to - hours * 3_600_000, to);
  const loud = spc.marks.filter((mark) => mark.chart === "buckets" && mark.beyond_chance);
  const today = spc.marks.filter((mark) => mark.chart === "buckets").reduce((sum, mark) => sum + mark.today, 0);
  const expected = spc.marks.filter((mark) => mark.chart === "buckets").reduce((sum, mark) => sum + (mark.expected ?? 0), 0);
  return (
    <section className="card half" aria-labelledby="half-title">
      <div className="card-head">
        <h2 id="half-title">Half minutes, calibrated</h2>
        <span className="sub">
          {today} {today === 1 ? "mark" : "marks"} today, {expected.toFixed(1)} expected by chance
          {loud.length ? `; more than chance: ${loud.map((mark) => mark.rule).join(", ")}` : ""}
        </span>
      </div>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Scores of ${spc.buckets.times_ms.length} half minutes, ${marks.length} marked`}
      >
        {[-3, -2, -1, 0, 1, 2, 3].map((line) => (
          <line
            key={line}
            x1={0}
            x2={WIDTH}
            y1={scoreY(line)}
            y2={scoreY(line)}
            className={Math.abs(line) === 3 ? "limit" : line === 0 ? "centre" : "zone"}
          />
        ))}
        <path d={path} />
        {marks.map((mark) => (
          <rect key={mark.x} x={mark.x - 1.5} y={mark.y - 3} width={3} height={6}>
            <title>{mark.text}</title>
          </rect>
        ))}
      </svg>
    </section>
  );
}
