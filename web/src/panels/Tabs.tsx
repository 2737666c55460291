// The metrics of one series as tabs over the chart.

import { useRef } from "react";
import { METRICS, metricText } from "../rules";

export function Tabs(props: {
  metric: string;
  told: ReadonlySet<string> | null; // metrics that this server tells; null while that is not known
  alarmed: ReadonlySet<string>; // metrics with an open incident
  onMetric: (metric: string) => void;
}): React.JSX.Element {
  const { metric, told, alarmed } = props;
  const list = useRef<HTMLDivElement>(null);
  const usable = (key: string): boolean => told === null || told.has(key) || key === "failures" || key === metric;
  const keys = Object.keys(METRICS);
  const go = (event: React.KeyboardEvent): void => {
    const able = keys.filter(usable);
    const at = able.indexOf(metric);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: able.length - 1 }[event.key];
    const next = to === undefined ? undefined : able[(to + able.length) % able.length];
    if (next === undefined) return;
    event.preventDefault();
    props.onMetric(next);
    list.current?.querySelector<HTMLElement>(`[data-metric="${next}"]`)?.focus();
  };
  return (
    <div className="tabs" role="tablist" aria-label="Metric" ref={list}>
      {keys.map((key) => (
        <button
          type="button"
          role="tab"
          key={key}
          id={`tab-${key}`}
          data-metric={key}
          aria-selected={key === metric}
          aria-controls="chart-panel"
          tabIndex={key === metric ? 0 : -1}
          disabled={!usable(key)}
          title={usable(key) ? metricText(key).title : "This server does not tell it"}
          onClick={() => props.onMetric(key)}
          onKeyDown={go}
        >
          {metricText(key).short}
          {alarmed.has(key) && (
            <span className="tab-alarm">
              <span className="sr">, out of control</span>
            </span>
          )}
        </button>
      ))}
    </div>
  );
}
