// Judges what is stored by a phase that would begin at a moment, without beginning it.

import { useEffect, useState } from "react";
import { cancelBacktest, getBacktest, startBacktest } from "../../api/client";
import type { BacktestOut } from "../../api/schema";
import type { Preview } from "./words";

const SETTLE_MS = 400; // of typing a moment
const POLL_MS = 500;

export interface Previewing {
  state: "none" | "running" | "done" | "failed";
  share: number | null; // judged so far; null before the first number
  preview: Preview | null;
  problem: string;
}

const NONE: Previewing = { state: "none", share: null, preview: null, problem: "" };

/** The preview from a moment on; cancelled when the moment changes or nobody looks. Null asks for none. */
export function usePreview(seriesId: number, metric: string, since: number | null): Previewing {
  const [told, setTold] = useState<Previewing>(NONE);
  useEffect(() => {
    if (since === null) {
      setTold(NONE);
      return undefined;
    }
    let stopped = false;
    let running: number | null = null;
    let timer = 0;
    const tell = (next: Previewing): void => {
      if (!stopped) setTold(next);
    };
    const failed = (problem: string): void => tell({ ...NONE, state: "failed", problem });
    const follow = (job: BacktestOut): void => {
      running = job.state === "running" ? job.id : null;
      if (stopped) {
        if (running !== null) void cancelBacktest(running).catch(() => undefined);
        return;
      }
      if (job.state === "running") {
        tell({ ...NONE, state: "running", share: job.total ? job.done / job.total : null });
        timer = window.setTimeout(() => ask(getBacktest(job.id)), POLL_MS);
      } else if (job.state === "done" && job.result) {
        tell({ ...NONE, state: "done", preview: job.result as unknown as Preview });
      } else failed(job.error ?? "The preview was stopped.");
    };
    const ask = (asked: Promise<BacktestOut>): void => {
      asked.then(follow).catch((reason: Error) => failed(reason.message));
    };
    tell({ ...NONE, state: "running" });
    // what is not named is as the server judges
    timer = window.setTimeout(() => ask(startBacktest({ series_id: seriesId, metric, since: new Date(since).toISOString() })), SETTLE_MS);
    return () => {
      stopped = true;
      clearTimeout(timer);
      if (running !== null) void cancelBacktest(running).catch(() => undefined);
    };
  }, [seriesId, metric, since]);
  return told;
}
