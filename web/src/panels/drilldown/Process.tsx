// The control limits as they were when the violation was found.

import type { ViolationOut } from "../../api/schema";
import { decimalsFor, formatCount, formatNumber } from "../../format";
import { metricText } from "../../rules";

export function Process(props: { violation: ViolationOut }): React.JSX.Element {
  const { violation } = props;
  const { unit } = metricText(violation.metric);
  const decimals = decimalsFor(violation.centre);
  const isHalfMinute = violation.chart === "buckets";
  const number = (value: number | null, more = 0): string => formatNumber(value, decimals + more);
  return (
    <>
      <h3>
        Process at the time{" "}
        <span>
          phase {violation.phase}, {violation.provisional ? "provisional" : "locked"}
        </span>
      </h3>
      <dl className="kv process">
        <dt>{isHalfMinute ? "Centre line, sigma of a level" : "Centre line, sigma"}</dt>
        <dd>
          {number(violation.centre)}, {number(violation.sigma, 1)} {unit}
        </dd>
        <dt>UCL / LCL</dt>
        <dd>
          {number(violation.ucl)} / {number(violation.lcl)} {unit}
        </dd>
        <dt>Baseline samples</dt>
        <dd>{formatCount(violation.n)}</dd>
        {violation.mean !== null && (
          <>
            <dt>Last 60: mean, std dev</dt>
            <dd>
              {number(violation.mean)}, {number(violation.std, 1)} {unit}
            </dd>
          </>
        )}
        <dt>{isHalfMinute ? "Half minutes that signalled" : "Samples that signalled"}</dt>
        <dd>{formatCount(violation.count)}</dd>
      </dl>
    </>
  );
}
